//! Transactions, positions of results, redelivery.

use std::sync::Arc;

use futures::future::join_all;
use serde_json::{Value, json};
use thredlib::new_event_id;

use super::{Case, Persistence};

pub(super) async fn check(persistence: &Arc<dyn Persistence>) {
    positions(persistence).await;
    atomicity(persistence).await;
    redelivery(persistence).await;
    redelivery_after_failure(persistence).await;
    concurrency(persistence).await;
    unknown_procedure(persistence).await;
}

fn new_key() -> String {
    new_event_id().to_string()
}

async fn list(case: &Case, key: &str, tasks: Value) -> Vec<Value> {
    let text = tasks.to_string();
    case.list(key, Case::NOW, tasks).await.unwrap_or_else(|error| panic!("{error}: {text}"))
}

async fn positions(persistence: &Arc<dyn Persistence>) {
    let case = Case::new(persistence);
    let put = |id: &str| case.task("put", json!({ "values": { "id": id } }));
    let count = || case.task("count", json!({}));
    let tasks = json!([put("a"), [count(), put("b"), count()], [], count(), [put("c")]]);
    let results = list(&case, &new_key(), tasks).await;
    assert_eq!(results, [json!("a"), json!([1, "b", 2]), json!([]), json!(2), json!(["c"])]);
    assert!(list(&case, &new_key(), json!([])).await.is_empty());
}

async fn atomicity(persistence: &Arc<dyn Persistence>) {
    let case =
        Case::with(persistence, json!([{ "id": "a", "n": 1 }, { "id": "b", "n": "x" }])).await;
    let by = |id: &str| json!({ "matcher": { "id": id }, "values": { "$inc": { "n": 1 } } });
    let tasks = json!([
        case.task("put", json!({ "values": { "id": "before" } })),
        [
            case.task("update", by("a")),
            case.task("put", json!({ "values": { "id": "c" } })),
            case.task("delete", json!({ "matcher": { "id": "before" } })),
            case.task("replace", json!({ "matcher": { "id": "a" }, "values": {} })),
            case.task("update", by("b"))
        ],
        case.task("put", json!({ "values": { "id": "after" } }))
    ]);
    let error = case.list(&new_key(), Case::NOW, tasks).await.expect_err("`n` is a text");
    assert_eq!(error.path, "tasks[1][4]");
    assert!(!error.source.is_retryable());
    assert_eq!(case.ids(json!({}), json!({})).await, ["a", "b", "before"]);
    assert_eq!(case.record("a").await, json!({ "id": "a", "n": 1 }));
}

async fn redelivery(persistence: &Arc<dyn Persistence>) {
    let case = Case::new(persistence);
    let change = json!({ "matcher": { "id": "a" },
        "values": { "$inc": { "n": 1 }, "$push": { "l": 1 }, "$mul": { "m": 2 } } });
    let tasks = json!([
        case.task("put", json!({ "values": { "made": true } })),
        case.task("upsert", change),
        [
            case.task("get", json!({ "matcher": { "id": "a" } })),
            case.task("delete", json!({ "matcher": { "made": true } }))
        ],
        case.task("count", json!({}))
    ]);
    let key = new_key();
    let first = case.list(&key, Case::NOW, tasks.clone()).await.expect("the first time");
    let again = case.list(&key, Case::NOW + 5, tasks.clone()).await.expect("the second time");
    assert_eq!(first, again);
    assert_eq!(case.record("a").await, json!({ "id": "a", "n": 1, "l": [1], "m": 0 }));
    assert_eq!(case.run("count", json!({})).await, json!(1));

    let other = list(&case, &new_key(), tasks).await;
    assert_ne!(first[0], other[0], "another key makes another record");
    assert_eq!(case.record("a").await["n"], 2);
}

/// What came before the failed group is not done again when the list is.
async fn redelivery_after_failure(persistence: &Arc<dyn Persistence>) {
    let case = Case::with(persistence, json!({ "id": "a", "n": 0, "t": "text" })).await;
    let inc = |field: &str| {
        case.task("update", json!({ "matcher": {}, "values": { "$inc": { field: 1 } } }))
    };
    let (key, tasks) = (new_key(), json!([inc("n"), inc("t")]));
    for _ in 0..2 {
        let error = case.list(&key, Case::NOW, tasks.clone()).await.expect_err("`t` is a text");
        assert_eq!(error.path, "tasks[1]");
    }
    assert_eq!(case.record("a").await["n"], 1);
    case.run("update", json!({ "matcher": {}, "values": { "t": 1 } })).await;
    assert_eq!(list(&case, &key, tasks).await, [json!(1), json!(1)]);
    assert_eq!(case.record("a").await, json!({ "id": "a", "n": 1, "t": 2 }));
}

async fn concurrency(persistence: &Arc<dyn Persistence>) {
    let case = Case::with(persistence, json!({ "id": "a", "n": 0 })).await;
    let keys: Vec<_> = (0..8).map(|_| new_key()).collect();
    let inc =
        json!([case.task("update", json!({ "matcher": {}, "values": { "$inc": { "n": 1 } } }))]);
    // Each key twice, all at once; a conflict between transactions may be reported as retryable.
    join_all(keys.iter().chain(&keys).map(|key| async {
        while let Err(error) = case.list(key, Case::NOW, inc.clone()).await {
            assert!(error.source.is_retryable(), "{error}");
        }
    }))
    .await;
    assert_eq!(case.record("a").await["n"], 8);
}

async fn unknown_procedure(persistence: &Arc<dyn Persistence>) {
    let case = Case::new(persistence);
    let tasks = json!([{ "op": "run", "name": new_key(), "params": { "values": {} } }]);
    let error = case.list(&new_key(), Case::NOW, tasks).await.expect_err("nobody knows it");
    assert!(!error.source.is_retryable(), "{error}");
}
