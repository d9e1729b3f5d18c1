use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Builder, View, build::Built};

fn read(text: &str) -> Built {
    Builder::read_object(&mut serde_json::Deserializer::from_str(text)).unwrap()
}

fn compact(value: &Value) -> Built {
    let mut builder = Builder::new();
    builder.copy(value.into());
    builder.finish().unwrap()
}

#[test]
fn a_compact_value_reads_and_writes_as_any_other() {
    let text = r#"{"a":[1,-2,0.5,-0.0,1e300,18446744073709551615,-9223372036854775808],"":null,"t":"\u00e4\n","o":{"x":true,"y":{}}}"#;
    let Built::Compact(read) = read(text) else { panic!("an ordinary object") };
    let expected: Value = serde_json::from_str(text).unwrap();
    assert_eq!(read.root().to_value(), expected);
    assert_eq!(
        serde_json::to_string(&read.root()).unwrap(),
        serde_json::to_string(&expected).unwrap()
    );
    assert_eq!(
        read.root().get("o").and_then(|o| o.get("x")).map(View::to_value),
        Some(true.into())
    );
    assert!(read.root().get("z").is_none());
}

#[test]
fn of_two_members_with_one_name_the_later_one_counts_at_the_place_of_the_earlier() {
    let Built::Value(value) = read(r#"{"o":{"a":1,"b":2,"a":3}}"#) else { panic!("irregular") };
    assert_eq!(value.to_string(), r#"{"o":{"a":3,"b":2}}"#);
}

#[test]
fn an_object_with_many_members_is_searched_by_a_hash() {
    let map: Map<_, _> = (0..32).map(|n| (n.to_string(), json!(n))).collect();
    let mut value = Value::from(map);
    assert!(matches!(compact(&value), Built::Compact(_)));
    value["32"] = json!(32);
    assert!(matches!(compact(&value), Built::Value(same) if same == value));
}

#[test]
fn what_is_taken_back_leaves_no_trace() {
    let mut builder = Builder::new();
    let mut object = builder.open();
    builder.member(&mut object, "a");
    builder.null();
    let (mark, before) = (builder.mark(), object);
    builder.member(&mut object, "gone");
    builder.undo(mark);
    object = before;
    builder.member(&mut object, "b");
    builder.bool(true);
    builder.close_object(object);
    assert_eq!(builder.finish().unwrap().into_value(), json!({ "a": null, "b": true }));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 40, |inner| {
        let members = prop::collection::vec(("[a-d]{0,2}", inner.clone()), 0..40);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
            members.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_is_lost_on_the_way(value in any_value(), name in "[a-d]{1,2}") {
        let text = json!({ "v": value }).to_string();
        let read = read(&text).into_value();
        prop_assert_eq!(read.to_string(), text);
        let copied = compact(&value);
        prop_assert_eq!(copied.into_value().to_string(), value.to_string());
        if let Built::Compact(compact) = compact(&value) {
            let named = compact.root().named(&name).map(View::to_value);
            prop_assert_eq!(named.as_ref(), crate::value_named(&value, &name));
            prop_assert_eq!(serde_json::to_string(&compact.root()).unwrap(), value.to_string());
        }
    }
}
