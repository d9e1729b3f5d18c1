//! Patterns that the programs under test run.

/// Greets whoever says hello.
pub(crate) const HELLO: &str = r#"{ "name": "Hello", "reactions": [
  { "name": "greet", "condition": {
    "type": "filter", "xpr": "$event.type = 'hello'",
    "transform": { "eventDataTemplate": { "title": "$xpr('Hello, ' & $event.source.id)" } },
    "publish": { "to": "$xpr($event.source.id)" } } }
] }"#;

/// Asks, and says so when nobody has answered.
pub(crate) const LATE: &str = r#"{ "name": "Late", "reactions": [
  { "name": "ask", "condition": {
    "type": "filter", "xpr": "$event.type = 'late'",
    "onTrue": { "setLocal": { "asked": "$xpr($event)" } },
    "transform": { "eventDataTemplate": { "title": "asked" } }, "publish": { "to": "ann" } } },
  { "name": "wait",
    "expiry": { "interval": 700, "transition": { "name": "late", "input": "local", "localName": "asked" } },
    "condition": { "type": "filter", "xpr": "false" } },
  { "name": "late", "condition": {
    "type": "filter", "xpr": "true",
    "transform": { "eventDataTemplate": { "title": "too late" } }, "publish": { "to": "ann" } } }
] }"#;

/// Fails on each event of its type.
pub(crate) const FAILING: &str = r#"{ "name": "Failing", "reactions": [
  { "name": "fail", "condition": {
    "type": "filter", "xpr": "$event.type = 'fail'",
    "transform": { "eventDataTemplate": { "title": "$xpr($number('x'))" } },
    "publish": { "to": "ann" } } }
] }"#;
