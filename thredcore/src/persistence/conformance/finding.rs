//! Matchers, collectors, selectors.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Case, Persistence};

pub(super) async fn check(persistence: &Arc<dyn Persistence>) {
    matchers(persistence).await;
    patterns(persistence).await;
    sorting(persistence).await;
    paging(persistence).await;
    selecting(persistence).await;
    counting(persistence).await;
}

/// Records, each with a field `f` of another kind.
fn kinds() -> Value {
    json!([
        { "id": "bool", "f": true },
        { "id": "empty", "f": [] },
        { "id": "float", "f": 2.5 },
        { "id": "list", "f": [1, 5] },
        { "id": "missing" },
        { "id": "null", "f": null },
        { "id": "object", "f": { "a": 1, "b": { "c": "x" } } },
        { "id": "objects", "f": [{ "a": 1 }, { "a": 7, "b": { "c": "y" } }] },
        { "id": "one", "f": 1 },
        { "id": "text", "f": "one" },
        { "id": "two", "f": 2.0 }
    ])
}

async fn matchers(persistence: &Arc<dyn Persistence>) {
    let case = Case::with(persistence, kinds()).await;
    let all = 11;
    let cases = [
        (json!({ "f": 1 }), vec!["list", "one"]),
        (json!({ "f": 2 }), vec!["two"]),
        (json!({ "f": "one" }), vec!["text"]),
        (json!({ "f": true }), vec!["bool"]),
        (json!({ "f": null }), vec!["missing", "null"]),
        (json!({ "f": [1, 5] }), vec!["list"]),
        (json!({ "f": [5, 1] }), vec![]),
        (json!({ "f": [] }), vec!["empty"]),
        (json!({ "f": { "b": { "c": "x" }, "a": 1 } }), vec!["object"]),
        (json!({ "f": { "a": 1 } }), vec!["objects"]),
        (json!({ "f.a": 1 }), vec!["object", "objects"]),
        (json!({ "f.b.c": "y" }), vec!["objects"]),
        (json!({ "f.1": 5 }), vec!["list"]),
        (json!({ "f.1.a": 7 }), vec!["objects"]),
        (
            json!({ "f.b": null }),
            vec!["bool", "float", "missing", "null", "objects", "one", "text", "two"],
        ),
        (json!({ "f": { "$gt": 1 } }), vec!["float", "list", "two"]),
        (json!({ "f": { "$gte": 2, "$lt": 2.5 } }), vec!["list", "two"]),
        (json!({ "f": { "$lte": 1 } }), vec!["list", "one"]),
        (json!({ "f": { "$gt": "a" } }), vec!["text"]),
        (json!({ "f": { "$lte": true } }), vec!["bool"]),
        (json!({ "f.a": { "$gt": 1 } }), vec!["objects"]),
        (
            json!({ "f": { "$in": [1, "one", null] } }),
            vec!["list", "missing", "null", "one", "text"],
        ),
        (json!({ "f": { "$in": [] } }), vec![]),
        (
            json!({ "f": { "$not": { "$gt": 1 } } }),
            vec!["bool", "empty", "missing", "null", "object", "objects", "one", "text"],
        ),
        (
            json!({ "f": { "$not": { "$gt": 1, "$lt": 2 } } }),
            vec![
                "bool", "empty", "float", "missing", "null", "object", "objects", "one", "text",
                "two",
            ],
        ),
        (json!({ "f": { "$not": { "$ne": 1 } } }), vec!["list", "one"]),
        (json!({ "$or": [{ "f": 1 }, { "f": "one" }, { "f": 1 }] }), vec!["list", "one", "text"]),
        (json!({ "$or": [{ "f": 1 }, { "f": 2 }], "id": { "$ne": "one" } }), vec!["list", "two"]),
        (json!({ "id": "two" }), vec!["two"]),
        (json!({ "id": "two", "f": 1 }), vec![]),
        (json!({ "id": { "$in": ["two", "one", "nobody"] } }), vec!["one", "two"]),
        (json!({ "id": { "$re": "^t" } }), vec!["text", "two"]),
        (
            json!({ "created": Case::NOW, "modified": { "$lte": Case::NOW }, "f": 1 }),
            vec!["list", "one"],
        ),
    ];
    for (matcher, expected) in cases {
        assert_eq!(case.ids(matcher.clone(), json!({})).await, expected, "{matcher}");
    }
    for (matcher, opposite) in [
        (json!({ "f": { "$ne": 1 } }), json!({ "f": 1 })),
        (json!({ "f": { "$ne": null } }), json!({ "f": null })),
        (json!({ "f.a": { "$ne": 1 } }), json!({ "f.a": 1 })),
        (json!({ "f": { "$nin": [1, null] } }), json!({ "f": { "$in": [1, null] } })),
        (json!({ "f": { "$nin": [] } }), json!({ "f": { "$in": [] } })),
    ] {
        let found = case.ids(matcher.clone(), json!({})).await;
        let others = case.ids(opposite, json!({})).await;
        assert!(found.iter().all(|id| !others.contains(id)), "{matcher}");
        assert_eq!(found.len() + others.len(), all, "{matcher}");
    }
    assert_eq!(case.ids(json!({}), json!({})).await.len(), all);
    assert!(Case::new(persistence).ids(json!({}), json!({})).await.is_empty(), "types are apart");
}

async fn patterns(persistence: &Arc<dyn Persistence>) {
    let case = Case::with(
        persistence,
        json!([
            { "id": "a", "name": "Ångström 12" },
            { "id": "b", "name": ["x", "say $1.50"] },
            { "id": "c", "name": 12 },
            { "id": "d" }
        ]),
    )
    .await;
    let cases = [
        ("^ån.+ \\d+$", vec!["a"]),
        ("STRÖM", vec!["a"]),
        ("\\$1\\.5", vec!["b"]),
        ("", vec!["a", "b"]),
        ("^12", vec![]),
    ];
    for (pattern, expected) in cases {
        let matcher = json!({ "name": { "$re": pattern } });
        assert_eq!(case.ids(matcher, json!({})).await, expected, "{pattern}");
    }
    let others = json!({ "name": { "$not": { "$re": "å|say" } } });
    assert_eq!(case.ids(others, json!({})).await, ["c", "d"]);
}

async fn sorting(persistence: &Arc<dyn Persistence>) {
    let case = Case::with(persistence, kinds()).await;
    let by = |field: &str, desc: bool| json!({ "sort": [{ "field": field, "desc": desc }] });
    assert_eq!(
        case.ids(json!({}), by("f", false)).await,
        [
            "empty", "missing", "null", "list", "one", "two", "float", "text", "objects", "object",
            "bool"
        ]
    );
    assert_eq!(
        case.ids(json!({ "f": { "$ne": { "a": 1 } } }), by("f", true)).await,
        ["bool", "object", "text", "list", "float", "two", "one", "missing", "null", "empty"]
    );
    let people = json!([
        { "id": "1", "name": "Zoe", "age": 30 },
        { "id": "2", "name": "adam", "age": 30 },
        { "id": "3", "name": "Adam", "age": 41 },
        { "id": "4", "name": "Bea", "at": { "city": "Rome" } }
    ]);
    let case = Case::with(persistence, people).await;
    assert_eq!(case.ids(json!({}), by("name", false)).await, ["3", "4", "1", "2"]);
    assert_eq!(case.ids(json!({}), by("age", true)).await, ["3", "1", "2", "4"]);
    assert_eq!(case.ids(json!({}), by("at.city", true)).await, ["4", "1", "2", "3"]);
    assert_eq!(case.ids(json!({}), by("id", true)).await, ["4", "3", "2", "1"]);
    let two = json!({ "sort": [{ "field": "age", "desc": true }, { "field": "name" }] });
    assert_eq!(case.ids(json!({}), two).await, ["3", "1", "2", "4"]);
    let first = json!({ "collector": by("age", true), "selector": { "include": ["name"] } });
    assert_eq!(case.run("getOne", first).await, json!({ "id": "3", "name": "Adam" }));
}

async fn paging(persistence: &Arc<dyn Persistence>) {
    let records: Vec<_> = (0..9).map(|i| json!({ "id": i.to_string(), "n": i % 2 })).collect();
    let case = Case::with(persistence, records.into()).await;
    let sort = json!([{ "field": "n" }]);
    let page = json!({ "sort": sort, "skip": 3, "limit": 3 });
    assert_eq!(case.ids(json!({}), page).await, ["6", "8", "1"]);
    assert_eq!(case.ids(json!({}), json!({ "limit": 2 })).await, ["0", "1"]);
    assert_eq!(case.ids(json!({}), json!({ "limit": 0, "skip": 8 })).await, ["8"]);
    assert!(case.ids(json!({}), json!({ "skip": 9 })).await.is_empty());
}

async fn selecting(persistence: &Arc<dyn Persistence>) {
    let record =
        json!({ "id": "r", "a": 1, "b": { "c": 2, "d": 3 }, "l": [{ "x": 1, "y": 2 }, 5] });
    let case = Case::with(persistence, record).await;
    let cases = [
        (json!({ "include": ["a"] }), json!({ "id": "r", "a": 1 })),
        (json!({ "include": ["b.c", "nothing"] }), json!({ "id": "r", "b": { "c": 2 } })),
        (json!({ "include": ["b", "b.c"] }), json!({ "id": "r", "b": { "c": 2, "d": 3 } })),
        (json!({ "include": ["l.x"] }), json!({ "id": "r", "l": [{ "x": 1 }] })),
        (json!({ "include": ["a"], "exclude": ["id"] }), json!({ "a": 1 })),
        (json!({ "include": ["b"], "exclude": ["b.c"] }), json!({ "id": "r", "b": { "d": 3 } })),
        (
            json!({ "exclude": ["created", "modified", "b", "l.x"] }),
            json!({ "id": "r", "a": 1, "l": [{ "y": 2 }, 5] }),
        ),
    ];
    for (selector, expected) in cases {
        let params = json!({ "matcher": {}, "selector": selector });
        assert_eq!(case.run("getOne", params.clone()).await, expected, "{selector}");
        assert_eq!(case.run("get", params).await, json!([expected]), "{selector}");
    }
    assert_eq!(case.run("getOne", json!({ "matcher": { "id": "other" } })).await, Value::Null);
}

async fn counting(persistence: &Arc<dyn Persistence>) {
    let case = Case::with(persistence, kinds()).await;
    assert_eq!(case.run("count", json!({ "matcher": { "f": 1 } })).await, json!(2));
    assert_eq!(case.run("count", json!({})).await, json!(11));
    assert_eq!(case.run("delete", json!({ "matcher": { "f": 1 } })).await, json!(2));
    assert_eq!(case.run("delete", json!({ "matcher": { "f": 1 } })).await, json!(0));
    assert_eq!(case.run("count", json!({ "matcher": {} })).await, json!(9));
    assert_eq!(case.run("delete", json!({ "matcher": {} })).await, json!(9));
}
