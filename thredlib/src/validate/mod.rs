//! Validation of patterns: everything that is wrong with one, with the place and the remedy.
//!
//! [`validate`] and [`validate_text`] look at one pattern, [`validate_set`] also at how patterns
//! that are loaded together fit. An [error](Severity::Error) is what cannot run; what runs, but
//! hardly as it was meant, is a [warning](Severity::Warning). With a [note](Severity::Note) nothing is
//! wrong.
//!
//! | codes of errors | |
//! |---|---|
//! | `json-syntax` `wrong-type` `missing-field` `unknown-value` `bad-number` `nesting-too-deep` `malformed` | the document has not the form of a pattern |
//! | `empty-name` `no-reactions` `duplicate-reaction` `duplicate-id` | patterns and reactions without a name, or with another one's |
//! | `missing-xpr` `missing-operands` `missing-local-name` `empty-transform` `two-templates` `condition-too-large` | something lacks what it is made of, or has too much of it |
//! | `expression-syntax` `bad-regex` | a text is not of its language |
//! | `unknown-reaction` `bad-address` | a transition or message leads nowhere |
//!
//! | codes of warnings | |
//! |---|---|
//! | `unknown-field` `unused-operands` `unused-xpr` `unused-local-name` `empty-consequent` `zero-expiry` `literal-xpr` | something is there, but has no effect |
//! | `ignored-directive` `transform-without-publish` `publish-without-transform` `no-recipients` `empty-address` | no message goes out, or a directive never applies |
//! | `unknown-variable` `unset-local` `unknown-publish` `unknown-spawn` | a name that nothing has |
//! | `set-local-in-entry-filter` `outbound-event-outside-on-publish` | a name in a place where it means nothing |
//! | `unreachable-reaction` `forward-cycle` | threds never get somewhere, or never stay |
//! | `allows-everyone` | what looks like a restriction is none |
//! | `reserved-name` `empty-name` `empty-id` `unfinished-regex` | a text is taken for something else |
//!
//! | code of a note | |
//! |---|---|
//! | `wait-without-key` | each unbound event is tried on all threds that wait in a reaction |
//!
//! ```
//! use thredlib::validate::validate_text;
//!
//! let report = validate_text(r#"{ "name": "p", "reactions": [
//!     { "name": "ask",   "condition": { "type": "filter", "xpr": "true", "transition": "answr" } },
//!     { "name": "answer", "condition": { "type": "filter", "xpr": "true" } }
//! ] }"#);
//! let error = report.errors().next().unwrap();
//! assert_eq!(error.code, "unknown-reaction");
//! assert_eq!(error.path, "$.reactions[0].condition.transition");
//! assert_eq!(error.help, "did you mean `answer`?");
//! ```

mod finding;
mod path;
mod set;

mod shape;
mod structure;

mod addresses;
mod conditions;
mod expressions;
mod flow;
mod names;
mod tree;
mod variables;
mod waits;
mod words;

#[cfg(test)]
mod tests;

use serde::Deserialize;
use serde_json::Value;

pub use finding::{Finding, Report, Severity, Spot};
pub use path::JsonPath;
pub use set::{PatternSet, validate_set};
pub use words::{kind_of, nearest};

use self::{expressions::Expressions, finding::Findings, set::Surroundings, tree::Pattern};
use crate::{
    PatternId, PatternModel,
    json::text::{TextFault, lone_surrogate},
};

/// Levels of objects and lists in one another that a pattern may have.
pub const MAX_NESTING: usize = crate::MAX_DEPTH;

/// Validates a pattern. Names of other patterns are not looked at; see [`validate_set`].
pub fn validate(document: &Value) -> Report {
    check_document(document, Surroundings(None))
}

/// Validates a pattern given as JSON text.
pub fn validate_text(text: &str) -> Report {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match serde_json::from_str(text) {
        Ok(document) => validate(&document),
        Err(error) => {
            let mut findings = Findings { pattern: None, list: Vec::new() };
            let message = match lone_surrogate(text.as_bytes()) {
                Some(TextFault { path, reason, .. }) => format!("at `{path}`: {reason}"),
                None => syntax_message(&error),
            };
            let spot = syntax_spot(text, &error);
            findings
                .error("json-syntax", &JsonPath::root(), message, "mend the JSON at this place")
                .at(spot);
            Report { pattern: None, findings: findings.list, model: None }
        }
    }
}

fn check_document(document: &Value, surroundings: Surroundings) -> Report {
    let pattern_id = pattern_id(document);
    let mut findings = Findings { pattern: pattern_id.clone(), list: Vec::new() };
    if nests_too_deep(document) {
        let message = format!("the document nests more than {MAX_NESTING} levels deep");
        let help = "split the pattern, or flatten its conditions";
        findings.error("nesting-too-deep", &JsonPath::root(), message, help);
        return Report { pattern: pattern_id, findings: findings.list, model: None };
    }
    structure::check(document, &mut findings);
    let pattern = Pattern::new(document);
    pattern_itself(&pattern, &mut findings);
    conditions::check(&pattern, &mut findings);
    addresses::check(&pattern, &mut findings);
    flow::check_names(&pattern, &mut findings);
    let expressions = Expressions::of(&pattern);
    expressions.check(pattern.language, &mut findings);
    names::check(&pattern, &expressions, surroundings, &mut findings);
    surroundings.check(&pattern, &mut findings);
    let mut model = None;
    if !findings.has_errors() {
        flow::check_routes(&pattern, &mut findings);
        waits::check(&pattern, &mut findings);
        model = read(document, &mut findings);
    }
    let positions = path::positions(document, findings.list.iter().map(|finding| &finding.path));
    let mut order: Vec<usize> =
        findings.list.iter().map(|finding| positions[finding.path.as_str()]).collect();
    drop(positions);
    let mut placed: Vec<(usize, Finding)> = order.drain(..).zip(findings.list).collect();
    placed.sort_by_key(|(position, finding)| (*position, column(finding)));
    let findings = placed.into_iter().map(|(_, finding)| finding).collect();
    Report { pattern: pattern_id, findings, model }
}

fn column(finding: &Finding) -> usize {
    match finding.spot {
        Spot::Char(column) => column,
        _ => 0,
    }
}

fn pattern_itself(pattern: &Pattern, findings: &mut Findings) {
    let node = &pattern.node;
    let has_id = node.text("id").is_some_and(|id| !id.is_empty());
    if node.text("name") == Some("") {
        let path = node.path.key("name");
        if has_id {
            findings.warning("empty-name", &path, "the pattern's name is empty", "name it");
        } else {
            let message = "the pattern's name is empty, so that it has no id";
            findings.error("empty-name", &path, message, "name the pattern");
        }
    }
    if node.text("id") == Some("") {
        let help = "write an id, or remove the field";
        let message = "the empty id is replaced by one made from the name";
        findings.warning("empty-id", &node.path.key("id"), message, help);
    }
    if let Some(list) = node.get("reactions").filter(|list| list.value == &Value::Array(vec![])) {
        let message = "a pattern needs at least one reaction";
        findings.error("no-reactions", &list.path, message, "add the reaction that starts a thred");
    }
}

/// The model. What the checks let through must load; should the two ever disagree, this says so.
fn read(document: &Value, findings: &mut Findings) -> Option<PatternModel> {
    PatternModel::deserialize(document)
        .map_err(|error| {
            let message = format!("this is no pattern: {error}");
            let help = "compare it with the pattern's JSON Schema";
            findings.error("malformed", &JsonPath::root(), message, help);
        })
        .ok()
}

/// The id as [`PatternModel::id`] gives it, also for a document that is no pattern yet.
fn pattern_id(document: &Value) -> Option<PatternId> {
    let text = |key| document.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let model = PatternModel {
        name: text("name").unwrap_or_default().to_owned(),
        id: text("id").map(str::to_owned),
        ..PatternModel::default()
    };
    Some(model.id()).filter(|id| !id.as_str().is_empty())
}

/// Looks without recursion: a document made in memory may nest without bound.
fn nests_too_deep(document: &Value) -> bool {
    let mut open = vec![(document, 1)];
    while let Some((value, depth)) = open.pop() {
        if depth > MAX_NESTING {
            return true;
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => open.extend(map.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    false
}

fn syntax_spot(text: &str, error: &serde_json::Error) -> Spot {
    // The parser counts bytes.
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let before = error.column().saturating_sub(1);
    let column = 1 + line.char_indices().take_while(|(at, _)| *at < before).count();
    Spot::Text { line: error.line().max(1), column }
}

/// The message without its position, which the finding has as numbers.
fn syntax_message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    format!("this is no JSON: {}", &text[..end])
}
