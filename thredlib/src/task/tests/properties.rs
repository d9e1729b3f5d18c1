use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::*, matcher, op, task, update};

/// Any JSON, with a liking for what tasks are made of.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "op",
        "params",
        "type",
        "values",
        "matcher",
        "selector",
        "collector",
        "include",
        "exclude",
        "sort",
        "field",
        "desc",
        "skip",
        "limit",
        "name",
        "id",
        "_id",
        "created",
        "a",
        "a.b",
        "a.0",
        "0",
        "",
        ".",
        "$or",
        "$gt",
        "$not",
        "$in",
        "$re",
        "$add",
        "$push",
        "$remove",
        "$now",
        "$inc",
        "$min",
        "$mul",
        "$where",
        "put",
        "get",
        "getOne",
        "update",
        "upsert",
        "replace",
        "delete",
        "run",
        "(a|b)*",
        "\0",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..5)
                .prop_map(|entries| entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

/// Names in a JSON value that start with `$`.
fn operators(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(operators).collect(),
        Value::Object(map) => map
            .iter()
            .flat_map(|(name, value)| {
                let own = name.starts_with('$').then(|| name.clone());
                own.into_iter().chain(operators(value))
            })
            .collect(),
        _ => vec![],
    }
}

/// JSON of few names and values, so that they meet.
fn small_json() -> impl Strategy<Value = Value> {
    let leaf = prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(1.0),
        json!(2.5),
        json!("a"),
        json!("B"),
    ]);
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(vec!["a", "b", "0"]), inner), 0..3)
                .prop_map(|entries| entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

fn small_path() -> impl Strategy<Value = String> {
    let segments = prop::collection::vec(prop::sample::select(vec!["a", "b", "0", "1"]), 1..4);
    segments.prop_map(|segments| segments.join("."))
}

fn any_test() -> impl Strategy<Value = Value> {
    let scalar = prop::sample::select(vec![json!(1), json!(2.5), json!("a"), json!(true)]);
    let comparison = prop::sample::select(vec!["$gt", "$gte", "$lt", "$lte"]);
    prop_oneof![
        small_json(),
        small_json().prop_map(|value| json!({ "$ne": value })),
        (comparison, scalar).prop_map(|(operator, operand)| json!({ operator: operand })),
        prop::collection::vec(small_json(), 0..3).prop_map(|values| json!({ "$in": values })),
        prop::collection::vec(small_json(), 0..3).prop_map(|values| json!({ "$nin": values })),
        Just(json!({ "$re": "[ab]" })),
    ]
}

fn any_change() -> impl Strategy<Value = Value> {
    let number = prop::sample::select(vec![json!(1), json!(-2), json!(0.5), json!(i64::MAX)]);
    let scalar = prop::sample::select(vec![json!(1), json!("a"), json!(false)]);
    prop_oneof![
        (small_path(), small_json()).prop_map(|(path, value)| json!({ path: value })),
        (small_path(), prop::sample::select(vec!["$add", "$push"]), small_json())
            .prop_map(|(path, operator, value)| json!({ operator: { path: value } })),
        (small_path(), prop::sample::select(vec!["$inc", "$mul"]), number)
            .prop_map(|(path, operator, value)| json!({ operator: { path: value } })),
        (small_path(), prop::sample::select(vec!["$min", "$max"]), scalar)
            .prop_map(|(path, operator, value)| json!({ operator: { path: value } })),
        (small_path(), any_test()).prop_map(|(path, test)| json!({ "$remove": { path: test } })),
        small_path().prop_map(|path| json!({ "$now": { path: true } })),
    ]
}

/// What a path leads to, spelt out: every value, lists opened as well as whole.
fn reached(value: &Value, path: &[&str]) -> Vec<Option<Value>> {
    match (value, path) {
        (Value::Array(items), []) => {
            items.iter().chain([value]).map(|value| Some(value.clone())).collect()
        }
        (_, []) => vec![Some(value.clone())],
        (Value::Object(map), [name, rest @ ..]) => {
            map.get(*name).map_or(vec![None], |value| reached(value, rest))
        }
        (Value::Array(items), [name, rest @ ..]) => {
            let objects = items.iter().filter(|item| item.is_object());
            let indexed = name.parse().ok().and_then(|index: usize| items.get(index));
            objects
                .flat_map(|item| reached(item, path))
                .chain(indexed.into_iter().flat_map(|item| reached(item, rest)))
                .collect()
        }
        _ => vec![None],
    }
}

/// Whether a test as JSON holds for what was reached.
fn holds(found: &[Option<Value>], test: &Value) -> bool {
    let operator =
        test.as_object().and_then(|map| map.iter().find(|(name, _)| name.starts_with('$')));
    let any = |accepts: &dyn Fn(&Value) -> bool| found.iter().flatten().any(accepts);
    let equals = |wanted: &Value| {
        found.iter().any(|found| match found {
            Some(found) => same(found, wanted),
            None => wanted.is_null(),
        })
    };
    let Some((operator, operand)) = operator else { return equals(test) };
    let operands = || operand.as_array().into_iter().flatten();
    let ordered = |found: &Value| {
        (compare::rank(found) == compare::rank(operand)).then(|| compare(found, operand))
    };
    match operator.as_str() {
        "$ne" => !equals(operand),
        "$in" => operands().any(equals),
        "$nin" => !operands().any(equals),
        "$gt" => any(&|found| ordered(found).is_some_and(|order| order.is_gt())),
        "$gte" => any(&|found| ordered(found).is_some_and(|order| order.is_ge())),
        "$lt" => any(&|found| ordered(found).is_some_and(|order| order.is_lt())),
        "$lte" => any(&|found| ordered(found).is_some_and(|order| order.is_le())),
        "$re" => any(&|found| {
            found.as_str().is_some_and(|text| text.to_lowercase().contains(['a', 'b']))
        }),
        other => panic!("no rule for {other}"),
    }
}

proptest! {
    #[test]
    fn hostile_tasks_are_refused_with_a_place(tasks in any_json()) {
        if let Err(error) = TaskList::from_value(&tasks) {
            prop_assert!(error.path.starts_with("tasks"), "{error}");
            prop_assert!(!error.message.is_empty() && !error.message.contains('\n'), "{error}");
        }
    }

    #[test]
    fn hostile_records_hold_no_operators(values in any_json()) {
        let read = TaskList::from_value(&task("put", json!({ "type": "t", "values": values })));
        if let Ok(list) = read
            && let Op::Put(_, records) = &list.groups()[0].tasks()[0].op
        {
            let stored = records.as_slice().iter().map(|r| Value::Object(r.stored("x", 1, 2)));
            prop_assert!(stored.flat_map(|record| operators(&record)).next().is_none());
        }
    }

    #[test]
    fn matching_is_as_spelt_out(a in small_json(), b in small_json(), path in small_path(), test in any_test()) {
        let record = json!({ "a": a, "b": b });
        let segments: Vec<_> = path.split('.').collect();
        let expected = holds(&reached(&record, &segments), &test);
        let record = record.as_object().unwrap();
        prop_assert_eq!(matcher(json!({ &path: test.clone() })).matches(record), expected);
        if !operators(&test).is_empty() {
            let opposite = matcher(json!({ &path: { "$not": test.clone() } }));
            prop_assert_eq!(opposite.matches(record), !expected);
        }
        let either = matcher(json!({ "$or": [{ &path: test }, { "id": "nobody" }] }));
        prop_assert_eq!(either.matches(record), expected);
    }

    #[test]
    fn an_update_changes_its_field_alone(a in small_json(), b in small_json(), change in any_change()) {
        let Op::Update(_, update) = op(update(change)) else { unreachable!() };
        let before = json!({ "a": a, "b": b, "id": "r" });
        let mut after = before.as_object().unwrap().clone();
        if update.apply(&mut after, 7).is_ok() {
            let changed = update.changes[0].0.segments().next().unwrap();
            for field in ["a", "b", "id"].into_iter().filter(|field| *field != changed) {
                prop_assert_eq!(after.get(field), before.get(field));
            }
            if let Change::Set(value) = &update.changes[0].1 {
                let path = update.changes[0].0.as_str();
                let equals = matcher(json!({ path: value }));
                prop_assert!(equals.matches(&after), "{after:?}");
            }
        }
    }

    #[test]
    fn what_an_upsert_creates_matches(fields in prop::collection::btree_map(small_path(), 0..3, 0..4)) {
        let wanted = fields.into_iter().map(|(path, n)| (path, json!(n))).collect::<Value>();
        let wanted = matcher(wanted);
        if let Ok(record) = wanted.seed() {
            prop_assert!(wanted.matches(&record), "{record:?}");
        }
    }

    #[test]
    fn the_order_is_total(a in any_json(), b in any_json(), c in any_json()) {
        prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        prop_assert!(same(&a, &a));
        if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
            prop_assert!(compare(&a, &c).is_le());
        }
    }
}
