//! What an idle storage costs its server.

use std::time::Duration;

use mongodb::bson::{Bson, doc};
use thredcore::conformance::run;
use thredcore_mongo::{MongoConfig, MongoStorage};

use crate::{
    private::Server,
    server::{client, connect},
};

#[test]
fn an_idle_storage_asks_seldom() {
    run(async {
        let server = Server::start();
        let config = MongoConfig::new(&server.url).database("idle");
        let _storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        let admin = client(&config).await;
        let count = async || {
            let status = admin.run_command(doc! { "serverStatus": 1 }).await.expect("a status");
            let counters = status.get_document("opcounters").expect("counters").clone();
            let number = |(_, value): (String, Bson)| match value {
                Bson::Int32(number) => i64::from(number),
                Bson::Int64(number) => number,
                _ => 0,
            };
            counters.into_iter().map(number).sum::<i64>()
        };
        let before = count().await;
        const SECONDS: i64 = 6;
        tokio::time::sleep(Duration::from_secs(SECONDS as u64)).await;
        let asked = count().await - before;
        assert!(asked <= 2 * SECONDS, "{asked} requests in {SECONDS} s");
    });
}
