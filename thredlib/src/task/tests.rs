mod properties;

use serde_json::{Value, json};

use super::*;

fn task(op: &str, params: Value) -> Value {
    json!([{ "op": op, "params": params }])
}

fn get(matcher: Value) -> Value {
    task("get", json!({ "type": "t", "matcher": matcher }))
}

fn update(values: Value) -> Value {
    task("update", json!({ "type": "t", "matcher": {}, "values": values }))
}

fn error(tasks: &Value) -> String {
    match TaskList::from_value(tasks) {
        Ok(list) => panic!("{tasks} was read as {list:?}"),
        Err(error) => error.to_string(),
    }
}

fn op(tasks: Value) -> Op {
    let list = TaskList::from_value(&tasks).unwrap_or_else(|error| panic!("{error}: {tasks}"));
    list.groups()[0].tasks()[0].op.clone()
}

fn matcher(value: Value) -> Matcher {
    match op(get(value)) {
        Op::Get(query) => query.target.matcher,
        other => panic!("{other:?}"),
    }
}

fn nested(depth: usize, leaf: Value, wrap: impl Fn(Value) -> Value) -> Value {
    (0..depth).fold(leaf, |inner, _| wrap(inner))
}

#[test]
fn every_operation_is_read() {
    let tasks = json!([
        { "op": "put", "name": "first", "params": { "type": "t", "values": [{ "id": "a" }, {}] }, "x": 1 },
        { "op": "getOne", "params": { "type": "t" } },
        { "op": "get", "params": { "type": "t", "matcher": null, "selector": {}, "collector": {} } },
        { "op": "update", "params": { "type": "t", "matcher": {}, "values": {} } },
        [
            { "op": "upsert", "params": { "type": "t", "matcher": { "id": "a" }, "values": {} } },
            { "op": "replace", "params": { "type": "t", "matcher": {}, "values": { "id": "b" } } },
            { "op": "delete", "params": { "type": "t", "matcher": {} } }
        ],
        { "op": "count", "params": { "type": "t" } },
        { "op": "run", "name": "p", "options": { "timeout": 5 } }
    ]);
    let list = TaskList::from_value(&tasks).unwrap();
    assert!(matches!(&list.groups()[4], TaskGroup::Transaction(tasks) if tasks.len() == 3));
    let ops: Vec<_> =
        list.groups().iter().flat_map(TaskGroup::tasks).map(|t| t.op.name()).collect();
    let names = ["put", "getOne", "get", "update", "upsert", "replace", "delete", "count", "run"];
    assert_eq!(ops, names);
    assert_eq!(list.groups()[0].tasks()[0].name.as_deref(), Some("first"));
    assert_eq!(list.groups()[6].tasks()[0].options["timeout"], 5);
    let writes = list.groups().iter().flat_map(TaskGroup::tasks).map(|t| t.op.writes());
    assert_eq!(writes.filter(|writes| *writes).count(), 6);
}

#[test]
fn matchers_become_a_typed_tree() {
    let read =
        matcher(json!({ "a.b": { "$gt": 1, "$not": { "$in": [null] } }, "$or": [{ "c": 2 }, {}] }));
    let [Clause::Field { path, tests }, Clause::Or(branches)] = &*read.clauses else {
        panic!("{read:?}")
    };
    assert_eq!(path.segments().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(tests, &[Test::Gt(json!(1)), Test::Not(vec![Test::In(vec![Value::Null])])]);
    assert_eq!(branches[1], Matcher::default());
    let one = matcher(json!({ "$or": [{ "id": "x" }] }));
    assert_eq!(one.id(), Some("x"));
}

#[test]
fn only_known_operators_pass() {
    let cases = [
        (get(json!({ "$where": "1" })), "tasks[0].params.matcher.$where"),
        (get(json!({ "a": { "$exists": true } })), "tasks[0].params.matcher.a.$exists"),
        (get(json!({ "a": { "$regex": "x" } })), "tasks[0].params.matcher.a.$regex"),
        (get(json!({ "a": { "b": { "$gt": 1 } } })), "tasks[0].params.matcher.a.b.$gt"),
        (get(json!({ "a": [{ "$gt": 1 }] })), "tasks[0].params.matcher.a[0].$gt"),
        (get(json!({ "a": { "$in": [{ "$gt": 1 }] } })), "tasks[0].params.matcher.a.$in[0].$gt"),
        (get(json!({ "a": { "$not": { "$where": 1 } } })), "tasks[0].params.matcher.a.$not.$where"),
        (get(json!({ "a": { "$gt": 1, "b": 2 } })), "tasks[0].params.matcher.a.b"),
        (get(json!({ "a": { "$or": [] } })), "tasks[0].params.matcher.a.$or"),
        (get(json!({ "$gt": 1 })), "tasks[0].params.matcher.$gt"),
        (get(json!({ "$or": [{ "$and": [] }] })), "tasks[0].params.matcher.$or[0].$and"),
        (get(json!({ "a.$b": 1 })), "tasks[0].params.matcher[\"a.$b\"]"),
        (get(json!({ "a\0": 1 })), "tasks[0].params.matcher[\"a\\u0000\"]"),
        (update(json!({ "$set": { "a": 1 } })), "tasks[0].params.values.$set"),
        (update(json!({ "a": { "$inc": 1 } })), "tasks[0].params.values.a.$inc"),
        (update(json!({ "$inc": { "$a": 1 } })), "tasks[0].params.values.$inc.$a"),
        (
            update(json!({ "$push": { "a": { "$each": [1] } } })),
            "tasks[0].params.values.$push.a.$each",
        ),
        (
            update(json!({ "$remove": { "a": { "$where": 1 } } })),
            "tasks[0].params.values.$remove.a.$where",
        ),
        (
            update(json!({ "$remove": { "a": { "b": { "$x": 1 } } } })),
            "tasks[0].params.values.$remove.a.b.$x",
        ),
        (update(json!({ "a.$[].b": 1 })), "tasks[0].params.values[\"a.$[].b\"]"),
        (
            update(json!({ "a": [{ "b": { "\0": 1 } }] })),
            "tasks[0].params.values.a[0].b[\"\\u0000\"]",
        ),
        (task("put", json!({ "type": "t", "values": { "$a": 1 } })), "tasks[0].params.values.$a"),
        (
            task("put", json!({ "type": "t", "values": [{ "a": { "$b": 1 } }] })),
            "tasks[0].params.values[0].a.$b",
        ),
        (
            task("get", json!({ "type": "t", "selector": { "include": ["$a"] } })),
            "tasks[0].params.selector.include[0]",
        ),
        (
            task("get", json!({ "type": "t", "selector": { "$slice": 1 } })),
            "tasks[0].params.selector.$slice",
        ),
        (
            task("get", json!({ "type": "t", "collector": { "sort": [{ "field": "a.$b" }] } })),
            "tasks[0].params.collector.sort[0].field",
        ),
        (
            task("get", json!({ "type": "t", "collector": { "$sort": 1 } })),
            "tasks[0].params.collector.$sort",
        ),
        (task("get", json!({ "type": "t", "$x": 1 })), "tasks[0].params.$x"),
        (
            json!([[{ "op": "run", "name": "p", "params": { "values": { "$x": 1 } } }]]),
            "tasks[0][0].params.values.$x",
        ),
        (
            json!([{ "op": "count", "params": { "type": "t" }, "options": { "$x": 1 } }]),
            "tasks[0].options.$x",
        ),
        (json!([{ "op": "count", "params": { "type": "t" }, "$x": 1 }]), "tasks[0].$x"),
    ];
    for (tasks, path) in cases {
        let error = error(&tasks);
        assert!(error.starts_with(&format!("{path}: ")), "{error} should be at {path}");
    }
}

#[test]
fn texts_with_a_dollar_are_data() {
    let values = json!({ "a": "$b", "c": ["$$ROOT"] });
    let Op::Put(_, records) = op(task("put", json!({ "type": "t", "values": values }))) else {
        panic!()
    };
    assert_eq!(Value::Object(records.as_slice()[0].fields.clone()), values);
}

#[test]
fn errors_tell_the_remedy() {
    let cases = [
        (json!({}), "tasks: `tasks` is a list, not an object"),
        (json!([7]), "tasks[0]: a task is an object, not a number"),
        (
            json!([{}]),
            "tasks[0].op: a task needs an `op`: put, getOne, get, update, upsert, replace, delete, count or run",
        ),
        (task("get", json!({})), "tasks[0].params.type: a task needs the `type` of its records"),
        (task("put", json!({ "type": "t" })), "tasks[0].params.values: a task needs `values`"),
        (
            task("delete", json!({ "type": "t" })),
            "tasks[0].params.matcher: `delete` needs a `matcher`; {} stands for all records",
        ),
        (
            json!([{ "op": "run" }]),
            "tasks[0].name: `run` needs the `name` of the procedure to call",
        ),
        (
            get(json!({ "a": { "$gt": null } })),
            "tasks[0].params.matcher.a.$gt: only numbers, texts and booleans can be compared, not null",
        ),
        (
            get(json!({ "_id": 1 })),
            "tasks[0].params.matcher._id: a record's key is named `id`; write `id` in place of `_id`",
        ),
        (
            get(json!({ "a..b": 1 })),
            "tasks[0].params.matcher[\"a..b\"]: a field path has an empty segment; remove the extra dot",
        ),
        (
            get(json!({ "a": u64::MAX })),
            "tasks[0].params.matcher.a: the number does not fit 64 bits with sign; write it as a text",
        ),
        (
            update(json!({ "$inc": { "created": 1 } })),
            "tasks[0].params.values.$inc.created: `created` is kept by the store and cannot be changed",
        ),
        (
            update(json!({ "a.b": 1, "$inc": { "a": 1 } })),
            "tasks[0].params.values.$inc.a: `a` and `a.b` change the same field; make two tasks of them",
        ),
        (
            update(json!({ "a": 1, "$inc": { "a.b": 1 } })),
            "tasks[0].params.values.$inc[\"a.b\"]: `a.b` and `a` change the same field; make two tasks of them",
        ),
        (
            task("put", json!({ "type": "t", "values": { "id": 5 } })),
            "tasks[0].params.values.id: a record's `id` is a text, not a number",
        ),
        (
            task(
                "upsert",
                json!({ "type": "t", "matcher": { "id": "a" }, "values": { "id": "b" } }),
            ),
            "tasks[0].params.matcher: the matcher and the values name different ids; leave out one",
        ),
    ];
    for (tasks, expected) in cases {
        assert_eq!(error(&tasks), expected);
    }
}

#[test]
fn bad_types_are_refused() {
    for name in ["", "a$b", "a\0", ".a", "a.", "a..b", "system.users", &"x".repeat(257)] {
        error(&task("count", json!({ "type": name })));
    }
    for name in [json!(1), json!({ "$ne": 1 }), json!([])] {
        error(&task("count", json!({ "type": name })));
    }
}

#[test]
fn regular_expressions_are_linear_and_small() {
    for pattern in ["(a", "(?=x)", "(a)\\1", "(*UCP)a", "\\w{5000}", "((a{100}){100}){100}"] {
        let message = error(&get(json!({ "a": { "$re": pattern } })));
        assert!(message.starts_with("tasks[0].params.matcher.a.$re: "), "{message}");
        assert!(message.contains("regular expression") && !message.contains('\n'), "{message}");
    }
    let text = matcher(json!({ "a": { "$re": "^(a+)+$" } }));
    let record = json!({ "a": format!("{}!", "A".repeat(100_000)) });
    assert!(!text.matches(record.as_object().unwrap()));
}

#[test]
fn limits_hold() {
    let count = json!({ "op": "count", "params": { "type": "t" } });
    let limits = TaskLimits { tasks: 3, ..TaskLimits::default() };
    let read = |tasks: &Value| TaskList::from_value_within(tasks, &limits);
    assert!(read(&json!([count, [count, count], []])).is_ok());
    assert!(read(&json!([count, [count, count, count]])).is_err());
    assert!(read(&json!([[], [], [], []])).is_err());

    let or = |inner| json!({ "$or": [inner, {}] });
    assert!(TaskList::from_value(&get(nested(32, json!({}), or))).is_ok());
    error(&get(nested(33, json!({}), or)));
    let not = |inner| json!({ "$not": inner });
    let test = |depth| get(json!({ "a": nested(depth, json!({ "$gt": 1 }), not) }));
    assert!(TaskList::from_value(&test(32)).is_ok());
    error(&test(33));

    let deep = |depth| update(json!({ "a": nested(depth, json!(1), |inner| json!([inner])) }));
    assert!(TaskList::from_value(&deep(64)).is_ok());
    error(&deep(65));

    let path = |segments| get(json!({ vec!["a"; segments].join("."): 1 }));
    assert!(TaskList::from_value(&path(16)).is_ok());
    error(&path(17));

    let regexes = |n| get(json!({ "$or": vec![json!({ "a": { "$re": "x" } }); n] }));
    assert!(TaskList::from_value(&regexes(64)).is_ok());
    error(&regexes(65));

    let many = |n: usize| (0..n).map(|i| (i.to_string(), json!(1))).collect::<Value>();
    assert!(TaskList::from_value(&update(many(1000))).is_ok());
    error(&update(many(1001)));
    error(&get(json!({ "a": { "$in": vec![1; 1001] } })));
    error(&task("put", json!({ "type": "t", "values": vec![json!({}); 1001] })));
    error(&task("put", json!({ "type": "t", "values": { "id": "x".repeat(257) } })));
}

#[test]
fn counts_of_a_collector() {
    let limit = |limit: Value| task("get", json!({ "type": "t", "collector": { "limit": limit } }));
    let limit_of = |value| match op(limit(value)) {
        Op::Get(query) => query.collector.limit,
        other => panic!("{other:?}"),
    };
    assert_eq!([limit_of(json!(null)), limit_of(json!(0)), limit_of(json!(7.0))], [1000, 1000, 7]);
    assert_eq!(limit_of(json!(10_000)), 10_000);
    for bad in [json!(10_001), json!(-1), json!(1.5), json!("3"), json!(1e300)] {
        error(&limit(bad));
    }
}

#[test]
fn values_are_ordered_across_types() {
    let ordered = [
        json!(null),
        json!(i64::MIN),
        json!(-0.5),
        json!(0),
        json!(1),
        json!(1.5),
        json!(9_007_199_254_740_992_i64),
        json!(9_007_199_254_740_993_i64),
        json!(1e300),
        json!(""),
        json!("A"),
        json!("a"),
        json!({}),
        json!({ "a": 1 }),
        json!({ "b": 1 }),
        json!({ "a": "x" }),
        json!([]),
        json!([1]),
        json!([1, 2]),
        json!([2]),
        json!(false),
        json!(true),
    ];
    for (i, a) in ordered.iter().enumerate() {
        for (j, b) in ordered.iter().enumerate() {
            assert_eq!(compare(a, b), i.cmp(&j), "{a} and {b}");
        }
    }
    assert!(same(&json!([1, { "a": 2.0, "b": -0.0 }]), &json!([1.0, { "b": 0, "a": 2 }])));
    assert!(!same(&json!(9_007_199_254_740_993_i64), &json!(9_007_199_254_740_992.0)));
}

#[test]
fn following_numbers_through_lists_stays_cheap() {
    let record = json!({ "a": nested(40, json!(1), |inner| json!([{ "0": inner }])) });
    let path = format!("a{}", ".0".repeat(15));
    let wanted = matcher(json!({ path: "nothing" }));
    assert!(!wanted.matches(record.as_object().unwrap()));
}
