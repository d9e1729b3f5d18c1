//! What is found by an index, and not by looking at everything.

use mongodb::bson::{Bson, Document, doc};
use thredcore::{
    conformance::{
        run,
        samples::{applied, commit, key, wait_key},
    },
    port::{RecordStore, ThredQuery, ThredStore, Timer},
    state::ThredState,
};
use thredcore_mongo::MongoStorage;

use crate::samples::thred;
use crate::server::{Dropped, client, config, connect};

const MANY: usize = 2_000;

/// How many documents and index keys the last queries have looked at, as the profiler tells.
async fn looked_at(database: &mongodb::Database) -> (i64, i64) {
    let profile = database.collection::<Document>("system.profile");
    let mut cursor = profile.find(doc! { "op": { "$in": ["query", "command"] } }).await.unwrap();
    let (mut documents, mut keys) = (0, 0);
    while cursor.advance().await.unwrap() {
        let entry = cursor.deserialize_current().unwrap();
        let number = |name| match entry.get(name) {
            Some(Bson::Int32(number)) => i64::from(*number),
            Some(Bson::Int64(number)) => *number,
            _ => 0,
        };
        documents += number("docsExamined");
        keys += number("keysExamined");
    }
    (documents, keys)
}

#[test]
fn look_ups_read_what_they_find() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        let states = (0..MANY).map(|number| {
            let few = number % 200 == 0;
            let name = if few { "few" } else { "many" };
            ThredState {
                waits: [wait_key(name)].into_iter().collect(),
                participants: vec![name.into()],
                reaction: name.into(),
                expires_at: Some(number as i64),
                ..thred(&format!("thred {number}"))
            }
        });
        let states: Vec<_> = states.map(|state| std::sync::Arc::new(commit(state))).collect();
        for batch in states.chunks(500) {
            applied(storage.commit(batch).await);
        }
        storage.flush().await;
        let database = client(&config).await;
        let profile = async |level: i32| {
            database.run_command(doc! { "profile": level }).await.expect("a profiler");
        };
        let all = ThredQuery::default();
        let queries = [
            ThredQuery { key: Some(wait_key("few")), ..all.clone() },
            ThredQuery { participant: Some("few".into()), ..all.clone() },
            ThredQuery {
                pattern: Some("sample".into()),
                reaction: Some("few".into()),
                ..all.clone()
            },
        ];
        profile(2).await;
        for query in queries {
            assert_eq!(storage.threds(&query).await.unwrap().threds.len(), 10);
        }
        assert_eq!(storage.waiting(&[wait_key("few")], None, 99).await.unwrap().len(), 10);
        let after = Timer { at: 1_000, thred_id: "thred 1000".into(), entry: 1 };
        assert_eq!(storage.due(0, 1_009, Some(&after), 99).await.unwrap().timers.len(), 9);
        assert_eq!(storage.recorded(&[key("x"), key("y")]).await.unwrap(), [false; 2]);
        assert_eq!(storage.history(&"thred 7".into(), None, 9).await.unwrap().len(), 1);
        assert_eq!(storage.receipts(0, &[key("x")]).await.unwrap(), [None]);
        assert!(storage.parked_topics().await.unwrap().is_empty());
        profile(0).await;
        let (documents, keys) = looked_at(&database).await;
        assert!(documents < 60 && keys < 300, "{documents} documents, {keys} keys");

        database.collection::<Document>("system.profile").drop().await.expect("a drop");
        profile(2).await;
        assert_eq!(storage.counts().await.unwrap().iter().map(|it| it.threds).sum::<u64>(), 2_000);
        profile(0).await;
        let (documents, _) = looked_at(&database).await;
        assert!(
            documents < 10,
            "threds are counted by an index alone, not by {documents} documents"
        );
    });
}
