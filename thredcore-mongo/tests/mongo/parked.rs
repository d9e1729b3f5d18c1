//! Messages whose topic is full hold up nothing else of their thred.

use mongodb::bson::{Document, doc};
use thredcore::{
    conformance::{
        run,
        samples::{parked, published},
    },
    port::{Committed, ThredStore},
};
use thredcore_mongo::MongoStorage;

use crate::samples::{commit, next, thred, with_message};
use crate::server::{Dropped, client, config, connect};

#[test]
fn parked_messages_take_no_room_in_the_outbox() {
    run(async {
        let config = config().outbox_limit(2);
        let _guard = Dropped(config.clone());
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        let mut state = thred("a");
        for number in 0..9 {
            let step = with_message(commit(state.clone()), &format!("m{number}"), 5);
            assert_eq!(storage.commit(&[step]).await.remove(0).unwrap(), Committed::Applied);
            storage.clear_outbox(&[parked("a", &[&format!("m{number}")])]).await.unwrap();
            state = next(&state);
        }
        let loaded = storage.load(&["a".into()]).await.unwrap().remove(0).expect("a thred");
        let ids: Vec<_> = loaded.outbox.iter().map(|entry| entry.id.to_string()).collect();
        let expected: Vec<_> = (0..9).map(|number| format!("m{number}")).collect();
        assert_eq!(ids, expected, "in the order of making");
        let all: Vec<_> = expected.iter().map(String::as_str).collect();
        storage.clear_outbox(&[published("a", &all)]).await.unwrap();
        let threds = client(&config).await.collection::<Document>("threds");
        let marked = doc! { "parked": { "$exists": true } };
        assert_eq!(threds.count_documents(marked).await.unwrap(), 0, "nothing is parked any more");
    });
}

#[test]
fn parked_messages_of_a_thred_that_is_gone_are_found() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        let step = with_message(commit(thred("a")), "m", 5);
        assert_eq!(storage.commit(&[step]).await.remove(0).unwrap(), Committed::Applied);
        storage.clear_outbox(&[parked("a", &["m"])]).await.unwrap();
        let threds = client(&config).await.collection::<Document>("threds");
        threds.delete_one(doc! { "_id": "a" }).await.unwrap();
        let topic = "org.wt.session".into();
        let found = storage.parked_outboxes(0, &topic, 9).await.unwrap();
        assert_eq!((found.len(), found[0].entries.len()), (1, 1));
        storage.clear_outbox(&[published("a", &["m"])]).await.unwrap();
        assert!(storage.parked_topics().await.unwrap().is_empty());
    });
}
