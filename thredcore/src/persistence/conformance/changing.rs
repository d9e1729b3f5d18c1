//! Put, update, upsert, replace, delete.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Case, Persistence};

pub(super) async fn check(persistence: &Arc<dyn Persistence>) {
    putting(persistence).await;
    times(persistence).await;
    updates(persistence).await;
    refused_updates(persistence).await;
    updating_many(persistence).await;
    upserting(persistence).await;
    replacing(persistence).await;
}

async fn putting(persistence: &Arc<dyn Persistence>) {
    let case = Case::new(persistence);
    let record =
        json!({ "id": "a", "n": 1, "deep": { "z": [null, { "text": "$set" }], "a": -0.5 } });
    assert_eq!(case.run("put", json!({ "values": record })).await, json!("a"));
    assert_eq!(case.record("a").await, record);

    let many = json!([{ "id": "b", "n": 2 }, { "n": 3 }, { "id": "b", "m": 4 }]);
    let ids = case.run("put", json!({ "values": many })).await;
    let made = ids[1].as_str().expect("an id is made for a record without one").to_owned();
    assert_eq!(ids, json!(["b", made, "b"]));
    assert_eq!(case.record("b").await, json!({ "id": "b", "m": 4 }), "the later one overwrites");
    assert_eq!(case.record(&made).await, json!({ "id": made, "n": 3 }));
    assert_eq!(case.run("put", json!({ "values": [] })).await, json!([]));
    assert_eq!(case.run("count", json!({})).await, json!(3));
}

async fn times(persistence: &Arc<dyn Persistence>) {
    let case = Case::new(persistence);
    let tasks = |at: i64, op: &str, params: Value| {
        (format!("{}-{op}-{at}", case.record_type), at, json!([case.task(op, params)]))
    };
    let steps = [
        (tasks(1, "put", json!({ "values": { "id": "a", "created": 77, "modified": 78 } })), 1, 1),
        (tasks(2, "update", json!({ "matcher": {}, "values": { "n": 1, "created": 77 } })), 1, 2),
        (tasks(3, "put", json!({ "values": { "id": "a", "n": 2 } })), 1, 3),
        (tasks(4, "replace", json!({ "matcher": { "n": 2 }, "values": { "n": 3 } })), 1, 4),
        (tasks(5, "upsert", json!({ "matcher": { "id": "a" }, "values": { "n": 4 } })), 1, 5),
        (tasks(6, "delete", json!({ "matcher": {} })), 0, 0),
        (tasks(7, "upsert", json!({ "matcher": { "id": "a" }, "values": {} })), 7, 7),
    ];
    for ((key, at, tasks), created, modified) in steps {
        case.list(&key, at, tasks).await.unwrap_or_else(|error| panic!("{error}: {key}"));
        if created > 0 {
            let selector = json!({ "include": ["created", "modified"] });
            let found = case.run("getOne", json!({ "selector": selector })).await;
            let expected = json!({ "id": "a", "created": created, "modified": modified });
            assert_eq!(found, expected, "{key}");
        }
    }
}

async fn updates(persistence: &Arc<dyn Persistence>) {
    let cases = [
        (
            json!({ "a": 1, "b": 2 }),
            json!({ "b": { "x": 1 }, "c": null }),
            json!({ "a": 1, "b": { "x": 1 }, "c": null }),
        ),
        (
            json!({ "a": { "b": 1 } }),
            json!({ "a.c": 2, "d.e": 3 }),
            json!({ "a": { "b": 1, "c": 2 }, "d": { "e": 3 } }),
        ),
        (
            json!({ "a": [1, { "b": 2 }] }),
            json!({ "a.0": 9, "a.1.b": 8 }),
            json!({ "a": [9, { "b": 8 }] }),
        ),
        (json!({ "a": [1] }), json!({ "a.3": 4 }), json!({ "a": [1, null, null, 4] })),
        (json!({}), json!({ "a.0": 1 }), json!({ "a": { "0": 1 } })),
        (json!({ "a": 1 }), json!({ "a": "$b" }), json!({ "a": "$b" })),
        (
            json!({ "n": 1 }),
            json!({ "$inc": { "n": 2, "m": 5, "o.p": -1 } }),
            json!({ "n": 3, "m": 5, "o": { "p": -1 } }),
        ),
        (json!({ "n": 1 }), json!({ "$inc": { "n": 0.5 } }), json!({ "n": 1.5 })),
        (json!({ "n": 3 }), json!({ "$mul": { "n": -2, "m": 5 } }), json!({ "n": -6, "m": 0 })),
        (
            json!({ "n": 3, "m": 3 }),
            json!({ "$min": { "n": 2, "m": 4, "o": 1 } }),
            json!({ "n": 2, "m": 3, "o": 1 }),
        ),
        (
            json!({ "n": 3, "m": 3 }),
            json!({ "$max": { "n": 2, "m": 4, "o": 1 } }),
            json!({ "n": 3, "m": 4, "o": 1 }),
        ),
        (
            json!({ "n": "a", "m": null }),
            json!({ "$max": { "n": 9, "m": 9 } }),
            json!({ "n": "a", "m": 9 }),
        ),
        (
            json!({ "l": [1] }),
            json!({ "$add": { "l": 1.0, "m": 2 } }),
            json!({ "l": [1], "m": [2] }),
        ),
        (
            json!({ "l": [{ "b": 1, "a": 2 }] }),
            json!({ "$add": { "l": { "a": 2, "b": 1 } } }),
            json!({ "l": [{ "a": 2, "b": 1 }] }),
        ),
        (json!({ "l": [1] }), json!({ "$add": { "l": [1] } }), json!({ "l": [1, [1]] })),
        (
            json!({ "l": [1] }),
            json!({ "$push": { "l": 1, "m.n": "x" } }),
            json!({ "l": [1, 1], "m": { "n": ["x"] } }),
        ),
        (
            json!({ "l": [1, 2, 1.0, [1]] }),
            json!({ "$remove": { "l": 1, "m": 1 } }),
            json!({ "l": [2, [1]] }),
        ),
        (
            json!({ "l": [1, 5, "5"] }),
            json!({ "$remove": { "l": { "$gte": 2 } } }),
            json!({ "l": [1, "5"] }),
        ),
        (
            json!({ "l": [{ "id": "x", "n": 1 }, { "id": "y" }, 3] }),
            json!({ "$remove": { "l": { "id": "x" } } }),
            json!({ "l": [{ "id": "y" }, 3] }),
        ),
        (json!({}), json!({ "$now": { "seen.at": true } }), json!({ "seen": { "at": Case::NOW } })),
        (
            json!({ "a": 1 }),
            json!({ "b": 2, "$inc": { "a": 1 }, "$push": { "l": 1 }, "id": "other" }),
            json!({ "a": 2, "b": 2, "l": [1] }),
        ),
        (json!({ "a": 1 }), json!({}), json!({ "a": 1 })),
    ];
    for (mut before, values, mut after) in cases {
        let case = Case::new(persistence);
        before["id"] = "r".into();
        case.run("put", json!({ "values": before })).await;
        let params = json!({ "matcher": { "id": "r" }, "values": values });
        after["id"] = "r".into();
        assert_eq!(case.run("update", params).await, json!(1), "{values}");
        assert_eq!(case.record("r").await, after, "{values}");
    }
}

async fn refused_updates(persistence: &Arc<dyn Persistence>) {
    let before =
        json!({ "id": "r", "text": "x", "null": null, "list": [1], "big": i64::MAX, "o": {} });
    let case = Case::with(persistence, before.clone()).await;
    for values in [
        json!({ "$inc": { "text": 1 } }),
        json!({ "$mul": { "null": 1 } }),
        json!({ "$inc": { "big": 1 } }),
        json!({ "$push": { "text": 1 } }),
        json!({ "$add": { "null": 1 } }),
        json!({ "$remove": { "o": 1 } }),
        json!({ "text.a": 1 }),
        json!({ "null.a": 1 }),
        json!({ "list.a": 1 }),
        json!({ "list.0.a": 1 }),
        json!({ "new": 1, "$inc": { "list.0.a": 1 } }),
    ] {
        case.refused("update", json!({ "matcher": {}, "values": values })).await;
        assert_eq!(case.record("r").await, before, "{values}");
    }
}

async fn updating_many(persistence: &Arc<dyn Persistence>) {
    let case = Case::with(persistence, json!([{ "id": "a" }, { "id": "b", "n": 1 }])).await;
    let update = |matcher| json!({ "matcher": matcher, "values": { "$inc": { "n": 1 } } });
    assert_eq!(case.run("update", update(json!({}))).await, json!(2));
    assert_eq!(case.run("update", update(json!({ "n": 2 }))).await, json!(1));
    assert_eq!(case.run("update", update(json!({ "n": 9 }))).await, json!(0));
    assert_eq!(case.record("a").await["n"], 1);
    assert_eq!(case.record("b").await["n"], 3);

    case.run("put", json!({ "values": { "id": "c", "n": "text" } })).await;
    case.refused("update", update(json!({}))).await;
    assert_eq!(case.record("a").await["n"], 1, "a refused task changes no record at all");
}

async fn upserting(persistence: &Arc<dyn Persistence>) {
    let case = Case::new(persistence);
    let counted = |matcher| json!({ "matcher": matcher, "values": { "x": 1, "$inc": { "n": 1 } } });
    assert_eq!(case.run("upsert", counted(json!({ "id": "a" }))).await, json!("a"));
    assert_eq!(case.run("upsert", counted(json!({ "id": "a" }))).await, json!("a"));
    assert_eq!(case.record("a").await, json!({ "id": "a", "x": 1, "n": 2 }));

    let matcher = json!({ "k": "v", "o.p": 2, "x": 5, "n": { "$gt": 4 }, "$or": [{ "q": 1 }] });
    let made = case.run("upsert", counted(matcher)).await;
    let made = made.as_str().expect("an upsert gives the id");
    let expected = json!({ "id": made, "k": "v", "o": { "p": 2 }, "x": 1, "n": 1, "q": 1 });
    assert_eq!(case.record(made).await, expected);

    let first = case.run("upsert", counted(json!({ "x": 1 }))).await;
    let firsts = std::cmp::min("a", made);
    assert_eq!(first, json!(firsts), "the first by id is changed, and it alone");

    let named = json!({ "matcher": { "k": "other" }, "values": { "id": "b" } });
    assert_eq!(case.run("upsert", named).await, json!("b"));
    assert_eq!(case.record("b").await, json!({ "id": "b", "k": "other" }));
    case.refused("upsert", json!({ "matcher": { "id": "b", "k": "no" }, "values": {} })).await;
    assert_eq!(case.record("b").await, json!({ "id": "b", "k": "other" }));
}

async fn replacing(persistence: &Arc<dyn Persistence>) {
    let case = Case::with(persistence, json!([{ "id": "a", "n": 1 }, { "id": "b", "n": 1 }])).await;
    let replace = |matcher, values| json!({ "matcher": matcher, "values": values });
    let params = replace(json!({ "n": 1 }), json!({ "m": 2 }));
    assert_eq!(case.run("replace", params).await, json!("a"));
    assert_eq!(case.record("a").await, json!({ "id": "a", "m": 2 }));
    assert_eq!(case.record("b").await, json!({ "id": "b", "n": 1 }));

    let params = replace(json!({ "id": "c", "n": 1 }), json!({ "m": 3 }));
    assert_eq!(case.run("replace", params).await, json!("c"));
    assert_eq!(case.record("c").await, json!({ "id": "c", "m": 3 }), "nothing of the matcher");

    let made = case.run("replace", replace(json!({ "n": 9 }), json!({ "m": 4 }))).await;
    assert_eq!(case.record(made.as_str().unwrap_or_default()).await["m"], 4);
    case.refused("replace", replace(json!({ "m": 3 }), json!({ "id": "x" }))).await;
    case.refused("replace", replace(json!({ "m": 99 }), json!({ "id": "a" }))).await;
    assert_eq!(case.run("count", json!({})).await, json!(4));
}
