use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::{
    super::{Expression, Scope},
    Jsonata,
};
use crate::{
    Event, ExprLimits,
    expr::{Field, Requirement, Scalar},
};

fn compiled(source: &str) -> Jsonata {
    Jsonata::compile(source, &ExprLimits::default()).unwrap()
}

/// Every scalar and shape that comparisons tell apart, few enough that random ones often meet.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..4_i64).prop_map(Value::from),
        (9_007_199_254_740_991..9_007_199_254_740_995_u64).prop_map(Value::from),
        prop_oneof![Just(json!(u64::MAX)), Just(json!(-9_007_199_254_740_993_i64))],
        prop_oneof![Just(0.5), Just(2.0), Just(-0.0), Just(1e300), Just(9.1e18)]
            .prop_map(Value::from),
        prop_oneof![Just(""), Just("a"), Just("b"), Just("2")].prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::vec((key(), inner), 0..3)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just("c")].prop_map(str::to_owned)
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((key(), value()), 0..4).prop_map(|entries| entries.into_iter().collect())
}

fn scope() -> impl Strategy<Value = Scope> {
    let kind = prop_oneof![Just("a"), Just("b")];
    (kind, value(), object(), object(), any::<bool>()).prop_map(
        |(kind, values, advice, locals, full)| {
            let mut event = Event::builder(kind, "a").id("e").values(values);
            if full {
                event = event.re("a").thred("b").timestamp(2).data_field("advice", advice.into());
            }
            let mut scope = Scope::new(Arc::new(event.build()), 2, 7);
            scope.enter_thred("b".into(), Arc::new(locals));
            scope
        },
    )
}

fn expression() -> impl Strategy<Value = String> {
    let place = prop_oneof![
        Just("$event.type"),
        Just("event.source.id"),
        Just("$event.source"),
        Just("$event.re"),
        Just("$event.time"),
        Just("$event.data.content.values"),
        Just("$data"),
        Just("$content"),
        Just("$values"),
        Just("$advice"),
        Just("$thredId"),
        Just("$outboundEvent"),
        Just("$valueNamed('a')"),
        Just("$valueNamed('b', $event)"),
        Just("$local('a')"),
        Just("$isResponseFor('a')"),
        Just("$millis()"),
    ];
    let path = (place, prop::collection::vec(key(), 0..3)).prop_map(|(place, keys)| {
        keys.into_iter().fold(place.to_owned(), |path, key| format!("{path}.{key}"))
    });
    let literals =
        ["2", "0", "2.5", "'a'", "'2'", "''", "true", "false", "null", "1e300", "[]", "{}"];
    let literal = prop::sample::select(literals.to_vec()).prop_map(str::to_owned);
    let leaf = prop_oneof![3 => path, 2 => literal];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operator = prop_oneof![
            Just("="), Just("!="), Just("<"), Just("<="), Just(">"), Just(">="), Just("and"),
            Just("or"), Just("&"), Just("+"), Just("-"), Just("*"), Just("/"), Just("in"),
        ];
        let function = prop_oneof![Just("$not"), Just("$boolean"), Just("$exists"), Just("-")];
        let side = inner.clone();
        prop_oneof![
            4 => (inner.clone(), operator, side).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            1 => (function, inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            1 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("{a} ? {b} : {c}")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} in ['a', 2, null, {b}]")),
            1 => inner.clone().prop_map(|a| format!("{a} in ['a', 2, null, true]")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{'a': {a}, 'b': {b}}}")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("($setLocal('a', {a}); {b})")),
            1 => inner.prop_map(|a| format!("$string({a})")),
        ]
    })
}

/// Whether an event may meet a requirement, told the slow way.
fn meets(requirement: &Requirement, event: &Event) -> bool {
    match requirement {
        Requirement::Anything => true,
        Requirement::Nothing => false,
        Requirement::All(parts) => parts.iter().all(|part| meets(part, event)),
        Requirement::Any(parts) => parts.iter().any(|part| meets(part, event)),
        Requirement::OneOf(field, scalars) => {
            let found = match field {
                Field::Type => Some(Scalar::Text((&*event.event_type).into())),
                Field::SourceId => Some(Scalar::Text(event.source.id.as_str().into())),
                Field::ValueNamed(name) => event.value_named(name).and_then(Scalar::of),
            };
            found.is_some_and(|found| scalars.contains(&found))
        }
    }
}

fn copy(scope: &Scope) -> Scope {
    let mut copy = Scope::new(scope.event().clone(), 2, 7);
    copy.enter_thred("b".into(), scope.locals().clone());
    copy
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn native_and_interpreter_agree(source in expression(), scope in scope()) {
        let fast = compiled(&source);
        let slow = Jsonata { native: None, ..compiled(&source) };
        let (mut one, mut other) = (copy(&scope), copy(&scope));
        prop_assert_eq!(fast.evaluate(&mut one), slow.evaluate(&mut other));
        prop_assert_eq!(one.locals(), other.locals());
        let (mut one, mut other) = (copy(&scope), copy(&scope));
        prop_assert_eq!(fast.test(&mut one), slow.test(&mut other));
    }

    #[test]
    fn requirements_are_necessary(source in expression(), scope in scope()) {
        let expression = compiled(&source);
        let requirement = expression.requirement();
        if !meets(&requirement, scope.event()) {
            prop_assert_eq!(expression.test(&mut copy(&scope)), Ok(false), "{:?}", requirement);
        }
    }
}

#[track_caller]
fn needs(source: &str, expected: Requirement) {
    assert_eq!(compiled(source).requirement(), expected, "{source}");
}

fn one(field: Field, value: Value) -> Requirement {
    Requirement::OneOf(field, vec![Scalar::of(&value).unwrap()])
}

#[test]
fn requirements_are_read_off() {
    let kind = || one(Field::Type, json!("a"));
    let x = || one(Field::ValueNamed("x".into()), json!(3));
    needs("$event.type = 'a'", kind());
    needs("('a' = event.type)", kind());
    needs("$valueNamed('x') = 3", x());
    needs("$event.source.id in ['a']", one(Field::SourceId, json!("a")));
    needs("$event.type = 'a' and $valueNamed('x') = 3", Requirement::All(vec![kind(), x()]));
    needs("$event.type = 'a' or $valueNamed('x') = 3", Requirement::Any(vec![kind(), x()]));
    needs("$event.type = 'a' and $contains($valueNamed('y'), 'z')", kind());
    needs("$contains($valueNamed('y'), 'z') and $event.type = 'a'", Requirement::Anything);
    needs("$valueNamed('y') > 1 and $event.type = 'a'", Requirement::Anything);
    needs("$event.type = 'a' or $contains($valueNamed('y'), 'z')", Requirement::Anything);
    needs("$event.type != 'a'", Requirement::Anything);
    needs("$valueNamed('x') = null", Requirement::Anything);
    needs("false and $event.type = 'a'", Requirement::Nothing);
    needs("($event := {'type': 'b'}; $event.type = 'a')", Requirement::Anything);
}

/// What must never need the interpreter.
#[test]
fn typical_filters_are_native() {
    for source in [
        "$event.type = 'a.b' and $valueNamed('x') > 3",
        "$isResponseFor('q')",
        "$event.data.content.values.a.b = 'x'",
        "$setLocal('n', $valueNamed('x'))",
        "{'to': $local('who'), 'text': 'Hello ' & $valueNamed('name')}",
    ] {
        let event = Event::builder("a.b", "erp").values(json!({ "x": 5, "name": "Ada" })).build();
        let mut scope = Scope::new(Arc::new(event), 0, 0);
        compiled(source).evaluate(&mut scope).unwrap();
        assert!(scope.session.is_none(), "{source}");
    }
}
