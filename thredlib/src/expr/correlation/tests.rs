use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{Event, ExprLimits, ExpressionLanguage, expr};

fn correlations(language: ExpressionLanguage, xpr: &str) -> Correlations {
    expr::compile(language, xpr, &ExprLimits::default()).unwrap().correlations()
}

fn jsonata(xpr: &str) -> Correlations {
    correlations(ExpressionLanguage::Jsonata, xpr)
}

/// The number of correlations of each alternative.
fn shape(correlations: &Correlations) -> Vec<usize> {
    correlations.alternatives().map(<[_]>::len).collect()
}

/// Equalities of as many locals, joined by an operator.
fn joined(operator: &str, count: usize) -> String {
    let parts: Vec<_> = (0..count).map(|n| format!("$values.x = $local('l{n}')")).collect();
    format!("({})", parts.join(operator))
}

#[test]
fn alternatives_and_what_they_hold_are_bounded() {
    let alternatives = |count| shape(&jsonata(&joined(" or ", count)));
    assert_eq!(alternatives(Correlations::MAX_ALTERNATIVES), [1; Correlations::MAX_ALTERNATIVES]);
    assert!(alternatives(Correlations::MAX_ALTERNATIVES + 1).is_empty());
    let together = |count| shape(&jsonata(&joined(" and ", count)));
    assert_eq!(together(Correlations::MAX_TOGETHER), [Correlations::MAX_TOGETHER]);
    assert_eq!(together(Correlations::MAX_TOGETHER + 1), [Correlations::MAX_TOGETHER]);
    let product =
        |a, b| shape(&jsonata(&format!("{} and {}", joined(" or ", a), joined(" or ", b))));
    assert_eq!(product(2, 4), [2; 8]);
    // Too many together: the side with fewer.
    assert_eq!(product(3, 4), [1; 3]);
    assert_eq!(product(4, 3), [1; 3]);
    assert_eq!(product(3, 3), [1; 3]);
}

#[test]
fn both_languages_say_the_same() {
    let pairs = [
        ("$event.source.id = $local('l')", "$[?$.event.source.id == $.local.l]"),
        ("$values.x.y = $local('l').z", "$[?$.local.l.z == $.values.x.y]"),
        ("$local('l') = 1", "$[?$.local.l == 1]"),
    ];
    let values =
        [json!(1), json!(1.0), json!("1"), json!(true), Value::Null, json!([1]), json!({ "z": 1 })];
    for (text, query) in pairs {
        let [a, b] = [jsonata(text), correlations(ExpressionLanguage::Jsonpath, query)];
        let [a, b] = [&a, &b].map(|known| known.alternatives().next().unwrap()[0].clone());
        for value in &values {
            let locals = serde_json::from_value(json!({ "l": value })).unwrap();
            assert_eq!(a.of_locals(&locals), b.of_locals(&locals), "{text}: {value}");
            let event = Event::builder("t", "s").values(json!({ "x": { "y": value } })).build();
            let scope = &mut Scope::new(Arc::new(event), 0, 0);
            assert_eq!(a.of_event(scope), b.of_event(scope), "{text}: {value}");
        }
    }
}

#[test]
fn the_event_alone_says_its_value() {
    let values = json!({ "a": "A", "n": 2.0, "list": [{ "x": 7 }], "none": null });
    let event = Arc::new(Event::builder("t", "s").values(values).build());
    let of_event = |side: &str| {
        let known = jsonata(&format!("{side} = $local('l')"));
        let first = known.alternatives().next().map(|together| together[0].clone());
        first.map(|correlation| correlation.of_event(&mut Scope::new(event.clone(), 0, 0)))
    };
    let text = |text: &str| Some(Ok(Some(Scalar::Text(text.into()))));
    assert_eq!(of_event("$values.a"), text("A"));
    assert_eq!(of_event("$lowercase($valueNamed('a')) & '/' & $values.n"), text("a/2"));
    assert_eq!(of_event("($values.a = 'A' ? 'x' : 'y')"), None);
    assert_eq!(of_event("($values.a ? 'x' : 'y')"), text("x"));
    assert_eq!(of_event("$values.list[0].x"), Some(Ok(Some(Scalar::number(7.0)))));
    assert_eq!(of_event("$values.list.x"), Some(Ok(Some(Scalar::number(7.0)))));
    assert_eq!(of_event("$boolean($values.n)"), Some(Ok(Some(Scalar::Bool(true)))));
    for nothing in ["$values.none", "$values.list", "$values", "$values.nothing", "$event"] {
        assert_eq!(of_event(nothing), Some(Ok(None)), "{nothing}");
    }
    assert!(matches!(of_event("-$values.a"), Some(Err(_))));
    for more in [
        "$thredId",
        "$local('m')",
        "$millis()",
        "$random()",
        "$string()",
        "$",
        "$$.event.type",
        "a",
    ] {
        assert_eq!(of_event(more), None, "{more}");
    }
}

#[test]
fn a_long_text_is_a_value_though_no_result() {
    let long = "x".repeat(ExprLimits::default().result_bytes);
    let event =
        Event::builder("t", "s").values(json!({ "list": [{ "x": long }], "y": long })).build();
    let scope = &mut Scope::new(Arc::new(event), 0, 0);
    let known = jsonata("$values.y = $local('l')");
    let [[correlation]] = &*known.0.iter().map(Vec::as_slice).collect::<Vec<_>>() else { panic!() };
    assert_eq!(correlation.of_event(scope), Ok(Some(Scalar::Text(long.into()))));
}
