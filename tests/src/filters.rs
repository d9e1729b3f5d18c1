//! Random patterns that ask for much at their entry, and events that nearly are what they ask for:
//! what a match index must tell apart.
//!
//! The scalars are those that languages disagree on: `1`, `1.0` and `'1'`, `0` and `-0`, the empty
//! text, null.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};
use thredcore::{port::Directory, state::Consumed};
use thredlib::{
    ConditionModel, ConditionType, Event, EventKey, OneOrMany, PatternModel, ReactionModel,
    TransitionModel, XprModel,
};

use crate::arbitrary::{KINDS, SOURCES};

mod correlated;

pub use correlated::{correlated_event, correlated_patterns, locals};

/// The names of values; one of them empty, one not ASCII.
const NAMES: [&str; 4] = ["k", "m", "", "\u{fc}ber"];

/// Scalars as JSONata writes them; JSONPath writes them the same way.
const SCALARS: [&str; 12] =
    ["1", "1.0", "0", "-0", "2", "'1'", "''", "'ann'", "'\u{fc}'", "true", "false", "null"];

/// `allowedSources`.
const ALLOWED: [&[&str]; 8] = [
    &["ann"],
    &["ann", "bob"],
    &["@ops"],
    &["$crew"],
    &["/^A/"],
    &["cat", "/nn$/"],
    &["cat", "@ops"],
    &[""],
];

/// What a thred's inbox keeps of an event.
pub fn consumed(event: &Event) -> Consumed {
    Consumed::new(EventKey::of(event.source.id.as_str(), event.id.as_str()), 0, 0)
}

/// Who there is: `@ops` and `$ops` are groups or roles.
pub fn directory() -> Directory {
    let mut directory = Directory::new();
    directory.add_group("ops", ["ann"]).add_role("crew", ["bob"]);
    directory
}

/// Patterns with ids of their own whose reactions all listen to unbound events.
pub fn listening_patterns(most: usize) -> impl Strategy<Value = Vec<PatternModel>> {
    vec(vec(reaction(), 1..=3), 1..=most).prop_map(|patterns| {
        let patterns = patterns.into_iter().enumerate();
        patterns
            .map(|(index, reactions)| PatternModel {
                name: format!("p{index}"),
                reactions,
                ..PatternModel::default()
            })
            .collect()
    })
}

fn reaction() -> impl Strategy<Value = ReactionModel> {
    let list = select(&ALLOWED[..]);
    let allowed = list.prop_map(|list| OneOrMany::Many(list.iter().map(|&s| s.into()).collect()));
    (condition(), prop::option::of(allowed)).prop_map(|(condition, allowed_sources)| {
        ReactionModel {
            allowed_sources,
            allow_unbound_events: Some(true),
            condition: ConditionModel {
                transition: Some(TransitionModel::to("$noTransition")),
                ..condition
            },
            ..ReactionModel::default()
        }
    })
}

fn condition() -> impl Strategy<Value = ConditionModel> {
    let xpr = prop_oneof![
        3 => jsonata().prop_map(XprModel::Text),
        1 => jsonpath().prop_map(|jsonpath| XprModel::Jsonpath { jsonpath }),
    ];
    let filter = xpr.prop_map(|xpr| ConditionModel { xpr: Some(xpr), ..ConditionModel::default() });
    filter.prop_recursive(2, 6, 3, |inner| {
        let kind = prop_oneof![Just(ConditionType::And), Just(ConditionType::Or)];
        (kind, vec(inner, 1..=3)).prop_map(|(condition_type, operands)| ConditionModel {
            condition_type,
            operands,
            ..ConditionModel::default()
        })
    })
}

/// A JSONata filter; some fail on some events.
pub fn jsonata() -> impl Strategy<Value = String> {
    let kind = || select(&KINDS[..]).prop_map(|kind| format!("'org.example.{kind}'"));
    let scalar = || select(&SCALARS[..]);
    let value = || select(&NAMES[..]).prop_map(|name| format!("$valueNamed('{name}')"));
    let source = || select(&SOURCES[..]);
    let test = prop_oneof![
        3 => kind().prop_map(|kind| format!("$event.type = {kind}")),
        1 => kind().prop_map(|kind| format!("{kind} = event.type")),
        1 => (kind(), kind()).prop_map(|(a, b)| format!("$event.type in [{a}, {b}]")),
        1 => kind().prop_map(|kind| format!("$event.type != {kind}")),
        1 => scalar().prop_map(|scalar| format!("$event.type = {scalar}")),
        2 => source().prop_map(|source| format!("$event.source.id = '{source}'")),
        1 => source().prop_map(|source| format!("$event.source.id in ['{source}', 'ann']")),
        4 => (value(), scalar()).prop_map(|(value, scalar)| format!("{value} = {scalar}")),
        1 => (value(), scalar()).prop_map(|(value, scalar)| format!("{scalar} = {value}")),
        2 => (value(), scalar(), scalar()).prop_map(|(v, a, b)| format!("{v} in [{a}, {b}]")),
        1 => scalar().prop_map(|scalar| format!("$values.k = {scalar}")),
        1 => (value(), value()).prop_map(|(a, b)| format!("{a} = {b}")),
        // These fail on some events.
        1 => value().prop_map(|value| format!("$contains({value}, 'nn')")),
        1 => value().prop_map(|value| format!("{value} > 1")),
        1 => value().prop_map(|value| format!("$number({value}) = 1")),
        1 => value().prop_map(|value| format!("$event = {value}")),
        1 => (value(), value()).prop_map(|(a, b)| format!("$local('n') = {a} or $local('n') = {b}")),
        1 => value().prop_map(|value| format!("$setLocal('n', {value})")),
        1 => scalar().prop_map(str::to_owned),
    ];
    test.prop_recursive(3, 8, 2, |inner| {
        let two = || (inner.clone(), inner.clone());
        prop_oneof![
            3 => two().prop_map(|(a, b)| format!("({a}) and ({b})")),
            3 => two().prop_map(|(a, b)| format!("({a}) or ({b})")),
            1 => two().prop_map(|(a, b)| format!("({a}) ? ({b}) : false")),
            1 => two().prop_map(|(a, b)| format!("({a}; {b})")),
            1 => inner.clone().prop_map(|a| format!("$not({a})")),
            1 => inner.clone().prop_map(|a| format!("$boolean({a})")),
            1 => inner.clone().prop_map(|a| format!("($x := 1; {a})")),
        ]
    })
}

/// A JSONPath filter.
pub fn jsonpath() -> impl Strategy<Value = String> {
    let scalar = || select(&SCALARS[..]);
    let place = || {
        let name = select(&NAMES[..]);
        let above = ["$.values", "$.content.values", "$.data.content.values", "$.event.data"];
        (select(above.to_vec()), name).prop_map(|(above, name)| format!("{above}['{name}']"))
    };
    let test = prop_oneof![
        3 => select(&KINDS[..]).prop_map(|kind| format!("$.event.type == 'org.example.{kind}'")),
        1 => select(&KINDS[..]).prop_map(|kind| format!("'org.example.{kind}' == $.event['type']")),
        2 => select(&SOURCES[..]).prop_map(|source| format!("$.event.source.id == '{source}'")),
        4 => (place(), scalar()).prop_map(|(place, scalar)| format!("{place} == {scalar}")),
        1 => (place(), scalar()).prop_map(|(place, scalar)| format!("{scalar} != {place}")),
        1 => scalar().prop_map(|scalar| format!("$.values[0].k == {scalar}")),
        1 => scalar().prop_map(|scalar| format!("@.type == {scalar}")),
        1 => place().prop_map(|place| format!("{place} > 1")),
        1 => place(),
        1 => Just("match($.event.type, 'org.*a')".to_owned()),
        1 => Just("count($..k) > 1".to_owned()),
    ];
    let logical = test.prop_recursive(2, 6, 2, |inner| {
        let two = || (inner.clone(), inner.clone());
        prop_oneof![
            2 => two().prop_map(|(a, b)| format!("({a}) && ({b})")),
            2 => two().prop_map(|(a, b)| format!("({a}) || ({b})")),
            1 => inner.clone().prop_map(|a| format!("!({a})")),
        ]
    });
    (logical.clone(), logical, 0..6).prop_map(|(a, b, shape)| match shape {
        0 => format!("$[?{a}, ?{b}]"),
        1 => format!("$[?{a}][?{b}]"),
        2 => format!("$..[?{a}]"),
        3 => format!("$.values[?{a}]"),
        _ => format!("$[?{a}]"),
    })
}

/// An unbound event.
pub fn event(id: &'static str) -> impl Strategy<Value = Event> {
    let kind = prop_oneof![
        8 => select(&KINDS[..]).prop_map(|kind| format!("org.example.{kind}")),
        1 => Just(String::new()),
        1 => Just("1".to_owned()),
    ];
    let source = prop_oneof![8 => select(&SOURCES[..]), 1 => Just(""), 1 => Just("\u{fc}")];
    let values = prop_oneof![1 => Just(None), 8 => values().prop_map(Some)];
    (kind, source, values).prop_map(move |(kind, source, values)| {
        let builder = Event::builder(kind, source).id(id);
        match values {
            Some(values) => builder.values(values).build(),
            None => builder.build(),
        }
    })
}

/// Values that repeat their names further down.
fn values() -> impl Strategy<Value = Value> {
    let scalars = [
        json!(1),
        json!(1.0),
        json!(0),
        json!(-0.0),
        json!(2),
        json!("1"),
        json!(""),
        json!("ann"),
        json!("\u{fc}"),
        json!(true),
        json!(false),
        Value::Null,
    ];
    select(scalars.to_vec()).prop_recursive(3, 12, 3, |inner| {
        let entries = vec((select(&NAMES[..]), inner.clone()), 0..4);
        let object = entries.prop_map(|entries| {
            let entries = entries.into_iter().map(|(name, value)| (name.to_owned(), value));
            Value::Object(entries.collect::<Map<_, _>>())
        });
        prop_oneof![3 => object, 1 => vec(inner, 0..3).prop_map(Value::Array)]
    })
}
