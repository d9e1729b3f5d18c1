//! Filters that compare something of the event with a local, the locals, and events that nearly
//! have what those ask for.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};
use thredlib::{
    ConditionModel, ConditionType, Event, PatternModel, ReactionModel, TransitionModel, XprModel,
    expr::Locals,
};

use super::{SCALARS, jsonata, jsonpath};
use crate::arbitrary::{KINDS, SOURCES};

/// The names of locals.
const LOCALS: [&str; 3] = ["l", "m", "\u{fc}ber"];

/// What an event says, in JSONata.
const OF_EVENT: [&str; 20] = [
    "$valueNamed('k')",
    "$valueNamed('m')",
    "$valueNamed('k', $event)",
    "$values.k",
    "$values.k.m",
    "$values[0].k",
    "$values.k[0]",
    "$values.k[]",
    "$content.values.m",
    "$data.content.values.k",
    "event.data.content.values.k",
    "$event.data.content.values.m",
    "$event.source.id",
    "$event.type",
    "($valueNamed('k'))",
    "$valueNamed('k') & ''",
    "$string($valueNamed('k'))",
    "$number($valueNamed('k')) + 1",
    "-$valueNamed('k')",
    "($valueNamed('k') ? 'ann' : 1)",
];

/// What cannot be told from the event alone.
const OF_MORE: [&str; 8] = [
    "$thredId",
    "$local('m')",
    "$millis()",
    "context.locals.m",
    "$.event.type",
    "$string()",
    "$uppercase($local('m'))",
    "($x := $valueNamed('k'); $x)",
];

/// What a thred remembers, in JSONata.
const OF_LOCALS: [&str; 6] = [
    "$local('l')",
    "$local('m')",
    "$local('\u{fc}ber')",
    "$local('l').m",
    "$local('l').m.k",
    "($local('m'))",
];

/// Patterns whose reactions listen and compare events with locals.
pub fn correlated_patterns(most: usize) -> impl Strategy<Value = Vec<PatternModel>> {
    vec(vec(condition(), 1..=2), 1..=most).prop_map(|patterns| {
        let named = |(index, conditions): (usize, Vec<ConditionModel>)| PatternModel {
            name: format!("p{index}"),
            reactions: conditions.into_iter().map(reaction).collect(),
            ..PatternModel::default()
        };
        patterns.into_iter().enumerate().map(named).collect()
    })
}

fn reaction(condition: ConditionModel) -> ReactionModel {
    let transition = Some(TransitionModel::to("$noTransition"));
    ReactionModel {
        allow_unbound_events: Some(true),
        condition: ConditionModel { transition, ..condition },
        ..ReactionModel::default()
    }
}

fn condition() -> impl Strategy<Value = ConditionModel> {
    let xpr = prop_oneof![
        3 => correlated_jsonata().prop_map(XprModel::Text),
        1 => correlated_jsonpath().prop_map(|jsonpath| XprModel::Jsonpath { jsonpath }),
    ];
    let filter = xpr.prop_map(|xpr| ConditionModel { xpr: Some(xpr), ..ConditionModel::default() });
    filter.prop_recursive(2, 4, 2, |inner| {
        let kind = prop_oneof![Just(ConditionType::And), Just(ConditionType::Or)];
        (kind, vec(inner, 1..=2)).prop_map(|(condition_type, operands)| ConditionModel {
            condition_type,
            operands,
            ..ConditionModel::default()
        })
    })
}

/// A JSONata filter that most often compares the event with a local.
fn correlated_jsonata() -> impl Strategy<Value = String> {
    let event = || prop_oneof![9 => select(&OF_EVENT[..]), 1 => select(&OF_MORE[..])];
    let local = || select(&OF_LOCALS[..]);
    let test = prop_oneof![
        4 => (event(), local()).prop_map(|(event, local)| format!("{event} = {local}")),
        2 => (event(), local()).prop_map(|(event, local)| format!("{local} = {event}")),
        3 => (event(), local()).prop_map(|(event, local)| format!("{event} in {local}")),
        1 => (event(), local()).prop_map(|(event, local)| format!("{local} in {event}")),
        1 => (select(&SCALARS[..]), local()).prop_map(|(scalar, local)| format!("{local} = {scalar}")),
        1 => (event(), local()).prop_map(|(event, local)| format!("{event} != {local}")),
    ];
    test.prop_recursive(3, 6, 2, |inner| {
        let two = || (inner.clone(), inner.clone());
        prop_oneof![
            4 => two().prop_map(|(a, b)| format!("({a}) and ({b})")),
            3 => two().prop_map(|(a, b)| format!("({a}) or ({b})")),
            2 => (jsonata(), inner.clone()).prop_map(|(a, b)| format!("({a}) and ({b})")),
            1 => (inner.clone(), jsonata()).prop_map(|(a, b)| format!("({a}) or ({b})")),
            1 => inner.clone().prop_map(|a| format!("$not({a})")),
            2 => inner.clone().prop_map(|a| format!("$setLocal('l', $valueNamed('k')) and ({a})")),
        ]
    })
}

/// A JSONPath filter that most often compares the event with a local.
fn correlated_jsonpath() -> impl Strategy<Value = String> {
    let event = || {
        select(vec![
            "$.values.k",
            "$.values['m']",
            "$.values.k.m",
            "$.values[0].k",
            "$.values.k[-1]",
            "$.event.source.id",
            "$.event.type",
            "$.event.data.content.values.k",
            "$.thredId",
            "$.local.m",
            "@.k",
            "1",
            "null",
            "'ann'",
        ])
    };
    let local = || {
        select(vec![
            "$.local.l",
            "$.local['m']",
            "$.local['\u{fc}ber']",
            "$.local.l.m",
            "$.local.l[0]",
        ])
    };
    let test = prop_oneof![
        4 => (event(), local()).prop_map(|(event, local)| format!("{event} == {local}")),
        2 => (event(), local()).prop_map(|(event, local)| format!("{local} == {event}")),
        1 => (event(), local()).prop_map(|(event, local)| format!("{event} != {local}")),
        1 => select(&KINDS[..]).prop_map(|kind| format!("$.event.type == 'org.example.{kind}'")),
    ];
    let logical = test.prop_recursive(2, 5, 2, |inner| {
        let two = || (inner.clone(), inner.clone());
        prop_oneof![
            3 => two().prop_map(|(a, b)| format!("({a}) && ({b})")),
            2 => two().prop_map(|(a, b)| format!("({a}) || ({b})")),
            1 => inner.clone().prop_map(|a| format!("!({a})")),
        ]
    });
    prop_oneof![
        8 => (logical.clone(), logical, 0..8).prop_map(|(a, b, shape)| match shape {
            0 => format!("$[?{a}, ?{b}]"),
            1 => format!("$[?{a}][?{b}]"),
            2 => format!("$..[?{a}]"),
            3 => format!("$.values[?{a}]"),
            4 => format!("$['event', ?{a}]"),
            _ => format!("$[?{a}]"),
        }),
        1 => jsonpath(),
    ]
}

/// Values that languages compare differently, or might.
fn scalar() -> impl Strategy<Value = Value> {
    select(vec![
        json!(1),
        json!(1.0),
        json!(0),
        json!(-0.0),
        json!(-1),
        json!(2),
        json!("1"),
        json!(""),
        json!("ann"),
        json!("org.example.a"),
        json!("\u{fc}"),
        json!("u\u{308}"),
        json!("true"),
        json!(true),
        json!(false),
        Value::Null,
        json!(9_007_199_254_740_992_i64),
        json!(9_007_199_254_740_993_i64),
        json!(9_007_199_254_740_992.0),
        json!(u64::MAX),
        json!(18_446_744_073_709_551_616.0),
        json!(0.1),
    ])
}

fn value(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![4 => select(vec![json!(1), json!("ann"), json!(1.0)]), 6 => scalar()];
    scalar.prop_recursive(2, 8, 3, move |inner| {
        let entries = vec((select(names), inner.clone()), 0..3);
        let object = entries.prop_map(|entries| {
            let entries = entries.into_iter().map(|(name, value)| (name.to_owned(), value));
            Value::Object(entries.collect::<Map<_, _>>())
        });
        prop_oneof![2 => object, 2 => vec(inner, 0..4).prop_map(Value::Array)]
    })
}

/// The locals of a thred; some are not set.
pub fn locals() -> impl Strategy<Value = Locals> {
    let long = (60..70_u32).prop_map(|most| json!((1..most).collect::<Vec<_>>()));
    let local = prop_oneof![20 => value(&["m", "k"]), 1 => long];
    vec((select(&LOCALS[..]), local), 0..5).prop_map(|entries| {
        let entries = entries.into_iter().map(|(name, value)| (name.to_owned(), value));
        Locals::new(entries.collect())
    })
}

/// An unbound event with values that locals hold too.
pub fn correlated_event(id: &'static str) -> impl Strategy<Value = Event> {
    let values = vec((select(&["k", "m"][..]), value(&["m", "k"])), 0..3).prop_map(|entries| {
        let entries = entries.into_iter().map(|(name, value)| (name.to_owned(), value));
        Value::Object(entries.collect::<Map<_, _>>())
    });
    let values = values.boxed();
    let values = prop_oneof![6 => values.clone(), 1 => vec(values, 0..3).prop_map(Value::Array)];
    (select(&KINDS[..]), select(&SOURCES[..]), values).prop_map(move |(kind, source, values)| {
        Event::builder(format!("org.example.{kind}"), source).id(id).values(values).build()
    })
}
