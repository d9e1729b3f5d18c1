//! Generations of receipts: forgotten at a stroke, found by one command.

use std::time::Duration;

use thredcore::{
    conformance::{run, samples::key},
    port::{Receipt, RecordStore, Settlement},
};
use thredcore_mongo::MongoStorage;
use thredlib::EventKey;

use crate::server::{Dropped, client, config, connect};

async fn settle(storage: &MongoStorage, id: &str, now: i64) {
    let receipts = vec![(key(id), Receipt::Settled)];
    let settlement = Settlement { receipts, now, ..Settlement::default() };
    storage.settle(0, &settlement).await.expect("settle");
}

#[test]
fn old_generations_are_dropped() {
    run(async {
        let config = config().receipts_time(Duration::from_secs(100));
        let _guard = Dropped(config.clone());
        let mongo = connect(&config).await;
        let storage = MongoStorage::open(&mongo).await.expect("a storage");
        // Another process, that looks now and then.
        let other = MongoStorage::open(&mongo).await.expect("a storage");
        for step in 0..40_i64 {
            settle(&storage, &step.to_string(), step * 10_000).await;
            // What is not older than 100 s is found, by whoever asks.
            let keys: Vec<EventKey> =
                (0.max(step - 10)..=step).map(|step| key(&step.to_string())).collect();
            for storage in [&storage, &other] {
                let found = storage.receipts(0, &keys).await.expect("receipts");
                assert!(found.iter().all(Option::is_some), "step {step}: {found:?}");
            }
            settle(&other, &format!("other {step}"), step * 10_000).await;
        }
        let names = client(&config).await.list_collection_names().await.expect("names");
        let generations = names.iter().filter(|name| name.starts_with("receipts.")).count();
        assert!((2..=4).contains(&generations), "{names:?}");
        assert_eq!(storage.receipts(0, &[key("0")]).await.expect("receipts"), [None]);
    });
}

#[test]
fn the_retention_is_as_configured() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        let retention = storage.retention();
        assert_eq!(retention.time, Duration::from_secs(24 * 3_600));
        assert_eq!(retention.capacity, 20_000_000);
    });
}
