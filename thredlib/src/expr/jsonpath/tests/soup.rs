//! Random queries: no panic, bounded time, and the same nodes as another implementation.

use std::time::{Duration, Instant};

use jsonpath_rust::JsonPath;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{compile, evaluate, scope};

const TOKENS: &[&str] = &[
    "$",
    "@",
    ".",
    "..",
    "[",
    "]",
    "*",
    "?",
    ":",
    ",",
    "(",
    ")",
    "!",
    "==",
    "!=",
    "<=",
    ">=",
    "<",
    ">",
    "&&",
    "||",
    " ",
    "\n",
    "a",
    "b",
    "event",
    "values",
    "'a'",
    "\"b\"",
    "'",
    "\\",
    "\\u00e9",
    "0",
    "1",
    "-1",
    "-",
    "1.5",
    "e9",
    "99999999999999999999",
    "true",
    "null",
    "length(",
    "count(",
    "value(",
    "match(",
    "search(",
    "'[a'",
    "'.*'",
    "é",
    "\u{1f600}",
    "\0",
    "[?",
    "[*]",
    "..[",
    ".a",
    "[0]",
    "[?@.a]",
    "[?$..a]",
    "..*",
];

fn document() -> Value {
    json!({
        "a": [1, 2, { "a": "aa", "b": null }, [true, [3]]],
        "b": { "a": { "a": 1.5, "b": "bb" }, "b": [] },
        "c": "ab"
    })
}

/// A query that is well-typed, over a document with the names `a`, `b` and `c`.
fn query() -> impl Strategy<Value = String> {
    let name = || prop_oneof![Just("a"), Just("b"), Just("c")];
    let step = prop_oneof![
        name().prop_map(|name| format!(".{name}")),
        name().prop_map(|name| format!("['{name}']")),
        (-3..4).prop_map(|index| format!("[{index}]")),
    ];
    let singular = (prop_oneof![Just("@"), Just("$")], prop::collection::vec(step.clone(), 0..3))
        .prop_map(|(origin, steps)| format!("{origin}{}", steps.concat()));
    let literal = prop_oneof![
        Just("1".to_owned()),
        Just("1.5".to_owned()),
        Just("'aa'".to_owned()),
        Just("null".to_owned()),
        Just("true".to_owned()),
    ];
    let operator =
        prop_oneof![Just("=="), Just("!="), Just("<"), Just("<="), Just(">"), Just(">="),];
    let plain_segment = prop_oneof![
        3 => step,
        1 => Just("[*]".to_owned()),
        1 => Just("..*".to_owned()),
        1 => name().prop_map(|name| format!("..{name}")),
        1 => (-3..4, -3..4, prop_oneof![-2..0, 1..3]).prop_map(|(a, b, c)| format!("[{a}:{b}:{c}]")),
        1 => (name(), 0..2).prop_map(|(name, index)| format!("['{name}', {index}]")),
    ];
    let segments = prop::collection::vec(plain_segment.clone(), 1..3).prop_map(|all| all.concat());
    let value = prop_oneof![
        singular.clone(),
        literal,
        singular.prop_map(|query| format!("length({query})")),
    ];
    let atom = prop_oneof![
        (value.clone(), operator, value.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        segments.prop_map(|segments| format!("@{segments}")),
        value.prop_map(|_| "match(@.a, 'a.')".to_owned()),
    ];
    let logical = atom.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} && {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.prop_map(|inner| format!("!({inner})")),
        ]
    });
    let segment =
        prop_oneof![3 => plain_segment, 2 => logical.prop_map(|filter| format!("[?{filter}]"))];
    prop::collection::vec(segment, 0..4).prop_map(|all| format!("${}", all.concat()))
}

proptest! {
    #[test]
    fn token_soup_ends_well(tokens in prop::collection::vec(prop::sample::select(TOKENS), 0..24)) {
        let source = format!("${}", tokens.concat());
        let begin = Instant::now();
        match compile(&source) {
            Ok(expression) => {
                let mut scope = scope(document());
                let _ = expression.evaluate(&mut scope);
                let _ = expression.test(&mut scope);
            }
            Err(error) => prop_assert!(error.column <= source.chars().count() + 1),
        }
        prop_assert!(begin.elapsed() < Duration::from_millis(500), "{source}");
    }

    #[test]
    fn damaged_queries_end_well(
        query in query(),
        token in prop::sample::select(TOKENS),
        at in any::<prop::sample::Index>(),
        dropped in 0..3_usize,
    ) {
        let at = at.index(query.len());
        let source: String =
            query[..at].chars().chain(token.chars()).chain(query[at..].chars().skip(dropped)).collect();
        if let Ok(expression) = compile(&source) {
            let _ = expression.evaluate(&mut scope(document()));
        }
    }

    #[test]
    fn any_text_ends_well(source in ".{0,60}") {
        let _ = compile(&source);
    }

    #[test]
    fn selects_what_another_implementation_selects(query in query()) {
        let document = document();
        let expected = document.query(&query).map(|found| found.into_iter().cloned().collect());
        let expected: Vec<Value> = expected.expect(&query);
        // Below `$.values` the document is the root.
        let seen = evaluate(&query.replace('$', "$.values"), document).unwrap();
        let seen = match seen {
            Some(Value::Array(nodes)) if !is_singular(&query) => nodes,
            other => other.into_iter().collect(),
        };
        prop_assert_eq!(sorted(seen), sorted(expected), "{}", query);
    }
}

/// The other implementation orders by selector first and by node second, unlike the RFC.
fn sorted(nodes: Vec<Value>) -> Vec<String> {
    let mut texts: Vec<_> = nodes.iter().map(Value::to_string).collect();
    texts.sort();
    texts
}

fn is_singular(query: &str) -> bool {
    !query.contains(['*', '?', ':', ',']) && !query.contains("..")
}
