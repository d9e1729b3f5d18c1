//! Names and values that look like operators are data.

use std::sync::Arc;

use serde_json::{Value, json};
use thredcore::{
    conformance::{run, samples::published},
    persistence::{Persistence, TaskContext, execute_list},
    port::{
        Committed, Directory, FixedDirectory, Lease, LeaseStore, LimitStore, Reservation, Reserved,
        ThredQuery, ThredStore,
    },
    state::{PatternKey, ThredState},
};
use thredcore_mongo::{MongoDirectory, MongoPersistence, MongoStorage, User};
use thredlib::{ParticipantId, task::TaskList};

use crate::samples::{commit, thred, with_message};
use crate::server::{Dropped, config, connect};

const OPERATORS: [&str; 6] = ["$where", "$gt", "$$ROOT", "$v", "{\"$ne\": null}", "a.$b"];

#[test]
fn ids_that_look_like_operators_are_ids() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        for id in OPERATORS {
            let state = ThredState { participants: vec![id.into()], ..thred(id) };
            let first = with_message(with_message(commit(state.clone()), id, 5), "other", 5);
            let answers = storage.commit(&[first.clone(), commit(thred(&format!("{id}/2")))]).await;
            assert!(answers.into_iter().all(|it| it.expect("a commit") == Committed::Applied));
            assert_eq!(storage.commit(&[first]).await.remove(0).unwrap(), Committed::Duplicate);

            storage.clear_outbox(&[published(id, &[id])]).await.expect("clear");
            let left = storage.load(&[id.into()]).await.expect("load").remove(0).expect("a thred");
            assert_eq!(left.outbox.len(), 1, "{id}: just the named entry is cleared");
            assert_eq!(*left.state, state);

            let query = ThredQuery { participant: Some(id.into()), ..ThredQuery::default() };
            let page = storage.threds(&query).await.expect("query");
            assert_eq!(page.threds.len(), 1, "{id} takes part in one thred");

            let lease = Lease { name: id.into(), owner: id.into(), until: 10 };
            assert!(storage.acquire(&lease, 1).await.expect("a lease"));
            let other = Lease { owner: "other".into(), ..lease };
            assert!(!storage.acquire(&other, 1).await.expect("a lease"));

            let place = Reservation {
                pattern: id.into(),
                thred: id.into(),
                max_instances: 1,
                interval: 0,
                now: 1,
            };
            assert_eq!(storage.reserve(&place).await.expect("a place"), Reserved::Granted);
            let second = Reservation { thred: "other".into(), ..place };
            assert_eq!(storage.reserve(&second).await.expect("a place"), Reserved::Full);
        }
    });
}

#[test]
fn numbers_beyond_those_of_bson_survive() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        let locals = json!({ "big": u64::MAX, "small": i64::MIN, "half": 0.1, "$where": 1 });
        let Value::Object(locals) = locals else { unreachable!() };
        let pattern = Arc::new(PatternKey { id: "sample".into(), revision: u64::MAX });
        let state = ThredState { locals: Arc::new(locals), pattern, ..thred("a") };
        let answer = storage.commit(&[commit(state.clone())]).await.remove(0);
        assert_eq!(answer.expect("a commit"), Committed::Applied);
        let loaded = storage.load(&["a".into()]).await.expect("load").remove(0).expect("a thred");
        assert_eq!(*loaded.state, state);
        assert_eq!(
            serde_json::to_string(&*loaded.state).unwrap(),
            serde_json::to_string(&state).unwrap(),
            "byte for byte"
        );
        assert_eq!(loaded.state.pattern.revision, u64::MAX);
    });
}

async fn execute(store: &dyn Persistence, key: &str, tasks: Value) -> Vec<Value> {
    let list = TaskList::from_value(&tasks).expect("tasks");
    let done = execute_list(store, &list, &TaskContext { key, now: 1 }).await;
    done.unwrap_or_else(|error| panic!("{error}: {:?}", error.source))
}

#[test]
fn event_data_never_becomes_an_operator() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let store = MongoPersistence::open(&connect(&config).await).await.expect("records");
        let store = store.with_procedure("$eval", |argument| Ok(argument.clone()));
        let records: Vec<_> =
            OPERATORS.iter().map(|text| json!({ "id": text, "t": text })).collect();
        execute(
            &store,
            "put",
            json!([{ "op": "put", "params":
            { "type": "t", "values": records } }]),
        )
        .await;
        for text in OPERATORS {
            let by = |field: &str| json!({ "type": "t", "matcher": { field: text } });
            let tasks = json!([
                { "op": "count", "params": by("t") },
                { "op": "get", "params": by("id") },
                { "op": "update", "params": { "type": "t", "matcher": { "id": text },
                  "values": { "copy": text, "list": [text] } } },
                { "op": "run", "name": "$eval", "params": { "values": text } },
            ]);
            let done = execute(&store, text, tasks).await;
            assert_eq!(done[0], 1, "{text}");
            assert_eq!(done[1][0]["t"], text);
            assert_eq!((&done[2], &done[3]), (&json!(1), &json!(text)));
        }
        // Where an operator could be meant, none that event data brings is accepted.
        for matcher in [
            json!({ "$where": "sleep(1000)" }),
            json!({ "t": { "$where": "1" } }),
            json!({ "t": { "$gt": { "$gt": 1 } } }),
            json!({ "t": { "$eq": { "$ne": null } } }),
            json!({ "t": [{ "$ne": null }] }),
            json!({ "$expr": { "$function": {} } }),
            json!({ "a.$b": 1 }),
        ] {
            let tasks = json!([{ "op": "get", "params": { "type": "t", "matcher": matcher } }]);
            assert!(TaskList::from_value(&tasks).is_err(), "{matcher}");
        }
        // Nor does a task choose the server.
        let elsewhere = json!([{ "op": "count", "params": { "type": "t" },
            "options": { "url": "mongodb://127.0.0.1:1", "connection": "other", "database": "x" } }]);
        assert_eq!(execute(&store, "elsewhere", elsewhere).await, [json!(6)]);
    });
}

#[test]
fn records_are_sorted_by_two_lists_although_mongodb_cannot() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let store = MongoPersistence::open(&connect(&config).await).await.expect("records");
        let records = json!([
            { "id": "1", "a": [2, 3], "b": [1] },
            { "id": "2", "a": [2, 9], "b": [0] },
            { "id": "3", "a": [1], "b": [5] },
            { "id": "4", "a.b": [1], "c": { "z": 1, "a": { "y": 1, "b": 2 } } }
        ]);
        execute(
            &store,
            "put",
            json!([{ "op": "put", "params":
            { "type": "t", "values": records } }]),
        )
        .await;
        let sort = json!([{ "field": "a" }, { "field": "b" }, { "field": "a", "desc": true }]);
        let get = json!([{ "op": "get", "params": { "type": "t",
            "collector": { "sort": sort, "skip": 1 }, "selector": { "include": ["id"] } } }]);
        let found = execute(&store, "get", get).await;
        assert_eq!(found[0], json!([{ "id": "3" }, { "id": "2" }, { "id": "1" }]));
    });
}

#[test]
fn users_are_seen_by_every_directory() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let mongo = connect(&config).await;
        let mut base = Directory::new();
        base.add_service("org.wt.persistence");
        let base = Arc::new(FixedDirectory::new(base));
        let one = MongoDirectory::open(&mongo, base.clone()).await.expect("a directory");
        let other = MongoDirectory::open(&mongo, base).await.expect("a directory");
        let ann = ParticipantId::from("ann");
        one.put_user(&User::new("ann").group("ops").role("$admin")).await.expect("a user");
        let seen = other.until(|now| now.has_role(&ann, "$admin")).await.expect("users");
        assert!(seen.is_member(&ann, "ops") && seen.is_service(&"org.wt.persistence".into()));
        assert_eq!(seen.everyone(), std::slice::from_ref(&ann));
        one.put_user(&User::new("ann").group("ops")).await.expect("a user");
        other.until(|now| !now.has_role(&ann, "$admin")).await.expect("users");
        one.remove_user("ann").await.expect("gone");
        other.until(|now| now.group("ops").is_none()).await.expect("users");
    });
}
