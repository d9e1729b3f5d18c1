//! What cannot be read is passed over, told and taken out.

use mongodb::{
    Database,
    bson::{Document, doc, oid::ObjectId},
};
use thredcore::{
    conformance::{
        run,
        samples::{parked, unmoved},
    },
    port::{
        Committed, LogType, PatternStore, Quarantine, RecordStore, Settlement, StoredPattern,
        ThredQuery, ThredStore,
    },
    state::ThredState,
};
use thredcore_mongo::MongoStorage;
use thredlib::PatternBuilder;

use crate::samples::{commit, next, thred, with_message};
use crate::server::{Dropped, client, config, connect};

async fn spoil(
    database: &Database,
    collection: &str,
    id: impl Into<mongodb::bson::Bson>,
    set: Document,
) {
    let documents = database.collection::<Document>(collection);
    let spoilt = documents.update_one(doc! { "_id": id.into() }, doc! { "$set": set }).await;
    assert_eq!(spoilt.expect("an update").matched_count, 1, "{collection}");
}

#[test]
fn one_bad_document_stops_nothing() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let mongo = connect(&config).await;
        let storage = MongoStorage::open(&mongo).await.expect("a storage");
        let database = client(&config).await;
        let expiring = |id: &str| ThredState { expires_at: Some(5), ..thred(id) };
        for id in ["a", "b", "c", "d"] {
            let step = with_message(with_message(commit(expiring(id)), "m", 5), "p", 5);
            assert_eq!(storage.commit(&[step]).await.remove(0).unwrap(), Committed::Applied);
            storage.clear_outbox(&[parked(id, &["p"])]).await.unwrap();
        }
        for id in ["one", "two"] {
            let model = PatternBuilder::new(id).id(id).build();
            storage.put_pattern(StoredPattern::new(model)).await.unwrap();
        }
        storage.flush().await;
        for id in ["e", "f"] {
            let unmoved = vec![unmoved(id, LogType::NoMatch, 1_500)];
            let settlement = Settlement { unmoved, ..Settlement::default() };
            storage.settle(0, &settlement).await.unwrap();
        }

        spoil(&database, "threds", "b", doc! { "state": "{" }).await;
        spoil(&database, "threds", "c", doc! { "outbox": 7, "by": "x" }).await;
        let foreign = doc! { "_id": ObjectId::new(), "status": "active", "started": 1_i64 };
        database.collection("threds").insert_one(foreign).await.expect("an insert");
        spoil(&database, "parked", doc! { "t": "d", "m": "p" }, doc! { "body": "{" }).await;
        spoil(&database, "history", doc! { "t": "a", "v": 1_i64 }, doc! { "body": "" }).await;
        let record = unmoved("e", LogType::NoMatch, 1_500);
        let id = doc! { "e": record.key.to_string(), "y": "NO_MATCH" };
        spoil(&database, "history", id, doc! { "body": "[]" }).await;
        let revisions = database.collection::<Document>("revisions");
        let one = doc! { "_id.p": "one" };
        revisions.update_one(one, doc! { "$set": { "model": "?" } }).await.expect("an update");

        // Also what is opened now.
        let storage = MongoStorage::open(&mongo).await.expect("a storage");
        let ids = ["a", "b", "c", "d"].map(Into::into);
        let loaded = storage.load(&ids).await.unwrap();
        assert_eq!(
            loaded.iter().map(Option::is_some).collect::<Vec<_>>(),
            [true, false, false, true]
        );
        let page = storage.threds(&ThredQuery { limit: 1, ..ThredQuery::default() }).await.unwrap();
        assert_eq!((page.threds.len(), page.next.is_some()), (1, true), "there is another page");
        let rest = ThredQuery { limit: 2, after: page.next, ..ThredQuery::default() };
        let rest = storage.threds(&rest).await.unwrap();
        let page: Vec<_> = rest.threds.iter().map(|state| state.id.to_string()).collect();
        assert_eq!(
            (page, rest.next),
            (vec!["c".to_owned(), "d".to_owned()], None),
            "c's state is sound"
        );
        assert_eq!(storage.due(0, 9, None, 9).await.unwrap().timers.len(), 4);
        let pending = storage.pending_outboxes(0, 9, 9).await.unwrap();
        let pending: Vec<_> = pending.iter().map(|it| it.thred_id.to_string()).collect();
        assert_eq!(pending.iter().filter(|id| ["a", "d"].contains(&id.as_str())).count(), 2);
        assert_eq!(storage.patterns().await.unwrap().len(), 1);
        assert_eq!(storage.unmoved(None, 9).await.unwrap().records.len(), 1);
        assert_eq!(storage.history(&"a".into(), None, 9).await.unwrap().len(), 0);
        assert_eq!(storage.history(&"d".into(), None, 9).await.unwrap().len(), 1);
        assert!(storage.log(99).await.unwrap().len() >= 3);
        storage.clean_up().await.unwrap();

        // It is there, so a new one is none; the others of the batch go on.
        let batch = [commit(thred("b")), commit(thred("c")), commit(next(&expiring("a")))];
        let answers = storage.commit(&batch).await;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap()).collect();
        assert!(matches!(answers[0], Committed::Conflict | Committed::Duplicate), "{answers:?}");
        assert_eq!(answers[1..], [Committed::Conflict, Committed::Applied]);

        let mut found: Vec<_> =
            storage.unreadable(99).await.unwrap().into_iter().map(|it| it.kind).collect();
        found.sort();
        let expected = ["message", "pattern", "step", "step", "thred", "thred", "thred"];
        assert_eq!(found, expected);
        assert_eq!(storage.unreadable(2).await.unwrap().len(), 2);
        assert_eq!(storage.move_out(99).await.unwrap().len(), 7);
        assert_eq!(storage.unreadable(99).await.unwrap(), []);
        let loaded = storage.load(&ids).await.unwrap();
        assert_eq!(loaded.iter().flatten().count(), 2, "what can be read is still there");
        let new = storage.commit(&[commit(thred("b"))]).await.remove(0);
        assert_eq!(new.unwrap(), Committed::Applied);
    });
}
