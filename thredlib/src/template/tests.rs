use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Template;
use crate::{CompileError, Event, ExprError, ExprLimits, ExpressionLanguage, expr::Scope};

fn scope(values: Value) -> Scope {
    let event = Event::builder("org.example.order", "shop").id("e1").values(values).build();
    Scope::new(Arc::new(event), 0, 0)
}

fn compile(template: &Value) -> Result<Template, Vec<(String, CompileError)>> {
    Template::compile(template, ExpressionLanguage::Jsonpath, &ExprLimits::default())
}

fn render(template: Value, values: Value) -> Result<Option<Value>, ExprError> {
    compile(&template).unwrap().render(&mut scope(values))
}

#[track_caller]
fn gives(template: Value, values: Value, expected: Value) {
    assert_eq!(render(template, values).unwrap(), Some(expected));
}

fn refused(template: Value) -> Vec<(String, CompileError)> {
    compile(&template).unwrap_err()
}

#[test]
fn results_keep_their_type() {
    let values = json!({ "n": 1.5, "b": true, "nil": null, "list": [1, "a"], "o": { "k": {} } });
    let template = json!({
        "n": "$xpr($.values.n)", "b": "$xpr( $.values.b )", "nil": "$xpr($.values.nil)",
        "list": "$xpr($.values.list)", "o": ["$xpr($.values.o)"], "nodes": "$xpr($.values.list[*])"
    });
    let expected = json!({
        "n": 1.5, "b": true, "nil": null, "list": [1, "a"], "o": [{ "k": {} }], "nodes": [1, "a"]
    });
    gives(template, values, expected);
}

#[test]
fn both_languages_in_one_template() {
    let template =
        json!({ "$xpr": { "jsonata": "{'sum': $values.a + 1}" }, "a": "$xpr($.values.a)" });
    gives(template, json!({ "a": 2 }), json!({ "sum": 3, "a": 2 }));
    let template = json!({ "$xpr": { "jsonpath": "$.values" }, "b": "$xpr($values.a & '!')" });
    let template =
        Template::compile(&template, ExpressionLanguage::Jsonata, &ExprLimits::default()).unwrap();
    let rendered = template.render(&mut scope(json!({ "a": "x" }))).unwrap();
    assert_eq!(rendered, Some(json!({ "a": "x", "b": "x!" })));
}

#[test]
fn only_the_whole_string_is_an_expression() {
    let literal = json!([
        "x $xpr($.values)", "$xpr($.values) ", "$xpr", "$xpr(", "xpr($)",
        { "jsonpath": "$.values" }, { "jsonata": "1" }, { "$xpr2": "$" }, { "$xpr(a)": 1 }
    ]);
    let template = compile(&literal).unwrap();
    assert_eq!(template.as_literal(), Some(&literal));
    assert_eq!(template.render(&mut scope(json!({}))).unwrap(), Some(literal));
}

#[test]
fn undefined_results_drop_their_place() {
    let template = json!({
        "a": "$xpr($.values.none)", "b": [1, "$xpr($.values.none)", 2], "$xpr": "$.values.none",
        "c": { "d": "$xpr($.values.none)" }
    });
    gives(template, json!({}), json!({ "b": [1, 2], "c": {} }));
    assert_eq!(render(json!("$xpr($.values.none)"), json!({})).unwrap(), None);
}

#[test]
fn spread_members_take_their_place_and_later_ones_win() {
    let values = json!({ "a": 1, "b": 2 });
    let order = |template: Value| {
        let rendered = render(template, values.clone()).unwrap().unwrap();
        serde_json::to_string(&rendered).unwrap()
    };
    let spread_last = json!({ "b": "own", "c": 3, "$xpr": "$.values" });
    assert_eq!(order(spread_last), r#"{"b":2,"c":3,"a":1}"#);
    let spread_first = json!({ "$xpr": "$.values", "b": "own", "c": 3 });
    assert_eq!(order(spread_first), r#"{"a":1,"b":"own","c":3}"#);
}

#[test]
fn only_objects_are_spread() {
    for (value, said) in [
        (json!(1), "a number"),
        (json!([]), "an array"),
        (json!(null), "null"),
        (json!("$xpr($.event)"), "a text"),
    ] {
        let error = render(json!({ "$xpr": "$.values.v" }), json!({ "v": value })).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn results_are_never_evaluated() {
    let hostile = json!({
        "text": "$xpr($.event.id)",
        "$xpr": "$.event",
        "nested": [{ "$xpr": { "jsonata": "$setLocal('a', 1)" }, "x": ["$xpr($.event.type)"] }]
    });
    let template = json!({
        "whole": "$xpr($.values)", "text": "$xpr($.values.text)",
        "list": ["$xpr($.values.nested)"], "spread": { "$xpr": "$.values" }
    });
    let expected = json!({
        "whole": hostile, "text": "$xpr($.event.id)",
        "list": [hostile["nested"]], "spread": hostile
    });
    gives(template, hostile, expected);
}

#[test]
fn every_error_has_its_path() {
    let errors = refused(json!({
        "content": { "values": { "x": "$xpr($.a[)", "ok": "$xpr($.a)" } },
        "to": ["fine", "$xpr(nothing)"],
        "a b": { "$xpr": 5 },
        "s": { "$xpr": { "jsonpath": "$", "jsonata": "1" } },
        "t": { "$xpr": { "jsonata": "1 +" } },
        "two": "$xpr($.a) and $xpr($.b)"
    }));
    let paths: Vec<_> = errors.iter().map(|(path, _)| path.as_str()).collect();
    let expected = [".content.values.x", ".to[1]", "[\"a b\"].$xpr", ".s.$xpr", ".t.$xpr", ".two"];
    assert_eq!(paths, expected);
    assert_eq!((errors[0].1.column, &*errors[0].1.excerpt), (5, "$.a["));
    assert!(errors[2].1.to_string().contains("takes an expression"), "{}", errors[2].1);
    assert_eq!(refused(json!("$xpr()"))[0].0, "");
}

#[test]
fn locals_change_in_the_order_of_the_text() {
    let template = json!({
        "$xpr": { "jsonata": "($setLocal('n', 7); {})" }, "n": "$xpr($.local.n)"
    });
    gives(template, json!({}), json!({ "n": 7 }));
}

#[track_caller]
fn goes_over(template: Value, values: Value, expected: &str) {
    match render(template, values).unwrap_err() {
        ExprError::Limit { limit, .. } => assert_eq!(limit, expected),
        other => panic!("{other}"),
    }
}

#[test]
fn the_whole_result_is_limited() {
    let large = "x".repeat(100_000);
    goes_over(json!(vec!["$xpr($.values.v)"; 3]), json!({ "v": large }), "size");
    let spread: Value = (0..3).map(|n| (n.to_string(), json!({ "$xpr": "$.values" }))).collect();
    goes_over(spread, json!({ "v": large }), "size");
    let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    let levels = crate::MAX_DEPTH - 1 - 60;
    let template = (0..60).fold(json!("$xpr($.values.v)"), |inner, _| json!({ "k": inner }));
    assert!(render(template.clone(), json!({ "v": nested(levels) })).is_ok());
    goes_over(template, json!({ "v": nested(levels + 1) }), "depth");
}

#[test]
fn the_whole_work_is_limited() {
    let values: Vec<Value> = (0..300).map(|n| json!({ "a": n })).collect();
    // Each takes some milliseconds.
    let slow = "$xpr($.values[?count($.values[?@.a == -1]) == 1])";
    let begin = Instant::now();
    goes_over(json!(vec![slow; 1000]), values.into(), "steps");
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
}

#[test]
fn templates_over_the_limits_are_refused() {
    let deep = (0..500).fold(json!("$xpr($)"), |inner, _| json!([inner]));
    let errors = refused(json!({ "a": 1, "b": deep }));
    assert_eq!(errors.len(), 1);
    assert!(errors[0].0.starts_with(".b[0][0]"));
    let large = refused(json!({ "a": "$xpr($)", "b": "x".repeat(300_000), "c": ["d"] }));
    assert_eq!(large.len(), 1);
    assert!(large[0].1.message.contains("shorten"));
    assert_eq!(refused(json!("x".repeat(300_000))).len(), 1);
}

#[test]
fn parts_without_expressions_are_one_literal() {
    let template = compile(&json!({ "a": { "b": [1, { "c": 2 }] }, "x": "$xpr($.event.id)" }));
    let shown = format!("{:?}", template.unwrap());
    assert_eq!(shown.matches("Literal {").count(), 1, "{shown}");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[$xpr(). a\"é]{0,8}".prop_map(Value::from),
        "\\$xpr\\(.{0,8}".prop_filter("no expression", |s| !s.ends_with(')')).prop_map(Value::from),
    ];
    let name = "[$xpr(). a]{0,6}";
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..6)
                .prop_map(|members| members.into_iter().collect::<Value>()),
        ]
    })
}

fn has_expression(value: &Value) -> bool {
    match value {
        Value::String(s) => s.starts_with("$xpr(") && s.ends_with(')'),
        Value::Array(items) => items.iter().any(has_expression),
        Value::Object(map) => map.contains_key("$xpr") || map.values().any(has_expression),
        _ => false,
    }
}

proptest! {
    #[test]
    fn templates_without_expressions_give_themselves(template in any_json()) {
        prop_assume!(!has_expression(&template));
        let compiled = compile(&template).unwrap();
        prop_assert_eq!(compiled.as_literal(), Some(&template));
        prop_assert_eq!(compiled.render(&mut scope(json!({}))).unwrap(), Some(template));
    }

    #[test]
    fn payloads_come_through_unchanged(payload in any_json()) {
        let template = json!({ "v": "$xpr($.values.v)", "k": { "$xpr": "$.values" } });
        let expected = json!({ "v": payload, "k": { "v": payload } });
        let rendered = render(template, json!({ "v": payload })).unwrap();
        prop_assert_eq!(rendered, Some(expected));
    }

    #[test]
    fn any_template_compiles_or_says_why(template in any_json()) {
        if let Ok(compiled) = compile(&template) {
            let _ = compiled.render(&mut scope(json!({ "a": 1 })));
        }
    }
}
