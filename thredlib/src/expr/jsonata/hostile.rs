//! Tests with texts that nobody would write in good faith.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use serde_json::json;

use super::super::{Scope, compile};
use crate::{Event, ExprLimits, ExpressionLanguage};

/// Debug builds, and machines that do other things too.
const PATIENCE: Duration = Duration::from_secs(1);

#[rustfmt::skip]
const TOKENS: &[&str] = &[
    "$event", "$values", "$data", "$x", "$", "$$", "event", "a", "b", "`c d`", "'s'", "\"t\"",
    "1", "0", "2.5", "1e9", "-", "+", "*", "**", "/", "%", "=", "!=", "<", ">=", "and", "or",
    "in", "&", ".", "..", "?", ":", "?:", "??", ":=", "~>", "(", ")", "[", "]", "{", "}", ",",
    ";", "^", "|", "#$i", "@$v", "true", "null", "function($x){", "function($x, $y){", "$map(",
    "$reduce(", "$string(", "$pad(", "$join(", "$split(", "$replace(", "$match(", "$sort(",
    "$local('l')", "$setLocal('l', ", "$valueNamed('a')", "$now()", "$string", "$sum", "/x+/",
    "/[a-z]/i", "[1..9]", "(", ")", "(", ")",
];

fn event() -> Arc<Event> {
    let values = json!({ "a": [{ "b": 1 }, { "b": "x" }], "b": { "a": null }, "c d": [[1, 2], 3] });
    Arc::new(Event::builder("a", "b").id("e").timestamp(1).values(values).build())
}

fn survives(source: &str) {
    let start = Instant::now();
    if let Ok(expression) = compile(ExpressionLanguage::Jsonata, source, &ExprLimits::default()) {
        let mut scope = Scope::new(event(), 0, 1);
        let _ = expression.evaluate(&mut scope);
        let _ = expression.test(&mut scope);
        let _ = expression.requirement();
    }
    let shown: String = source.chars().take(200).collect();
    assert!(start.elapsed() < PATIENCE, "{:?} for {shown}", start.elapsed());
}

proptest! {
    #[test]
    fn any_tokens(tokens in prop::collection::vec(prop::sample::select(TOKENS), 1..24)) {
        survives(&tokens.join(" "));
        survives(&tokens.concat());
    }

    #[test]
    fn any_text(source in ".{0,40}") {
        survives(&source);
    }
}

#[test]
fn deep_and_long_texts() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{'a':", "}"),
        ("-", ""),
        ("$not(", ")"),
        ("function($x){", "}"),
        ("a[", "]"),
        ("1?", ":2"),
        ("a.(", ")"),
        ("a^(", ")"),
        ("$map(a,", ")"),
        ("/* ", ""),
        ("'", ""),
        ("|a|", "|"),
        ("`", ""),
        ("/", ""),
        ("(?", ")"),
    ] {
        for count in [10, 150, 500, 1_100, 5_000, 20_000] {
            survives(&format!("{}1{}", open.repeat(count), close.repeat(count)));
            survives(&open.repeat(count));
        }
    }
    for link in [
        "+1", ".a", "&'a'", "[0]", " and 1", "?1:2", "~>$f", ":=1", " or a.b", ";1", ",1", "[]",
        "^(a)", "{'a':1}", "(1)", "#$i.a", "@$v.a", ".%",
    ] {
        for count in [10, 150, 500, 1_100, 8_000] {
            survives(&format!("a{}", link.repeat(count)));
            survives(&format!("(a{})", link.repeat(count)));
        }
    }
}
