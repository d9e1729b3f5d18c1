//! Who may move a thred and who gets its messages.

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::{
    finding::Findings,
    tree::{Node, Pattern},
    words::{kind_of, quoted},
};

/// Bytes that a compiled `/regex/` may take; far above what names of sources need.
const REGEX_BYTES: usize = 1024 * 1024;

pub(super) fn check(pattern: &Pattern, findings: &mut Findings) {
    for reaction in &pattern.reactions {
        for source in reaction.node.get("allowedSources").iter().flat_map(Node::one_or_many) {
            allowed_source(&source, findings);
        }
        let permissions = reaction.node.get("permissions");
        let roles = permissions.as_ref().and_then(|node| node.get("allowedRoles"));
        no_restriction(reaction.node.get("allowedSources").as_ref(), "source", findings);
        no_restriction(roles.as_ref(), "role", findings);
    }
    for (_, condition) in pattern.conditions() {
        let Some(publish) = &condition.publish else { continue };
        if publish.text("name") == Some("") {
            let help = "name it, or remove the name";
            let path = publish.path.key("name");
            findings.warning("empty-name", &path, "the name of the publish is empty", help);
        }
        match publish.get("to") {
            Some(to) => recipients(&to, findings),
            None if publish.value.get("to").is_some() => nobody(&publish.path.key("to"), findings),
            None => {}
        }
    }
}

/// An empty list restricts nothing, though it looks as if it allowed nobody.
fn no_restriction(list: Option<&Node>, what: &str, findings: &mut Findings) {
    let Some(list) = list else { return };
    if list.value.as_array().is_some_and(Vec::is_empty) {
        let message = format!("an empty list of {what}s allows everyone");
        let help = format!("name the {what}s, or leave the field out to allow everyone");
        findings.warning("allows-everyone", &list.path, message, help);
    }
}

/// Whether a regex occurs in every id without having been written to do so.
fn is_of_nothing(source: &str, regex: &Regex) -> bool {
    source.trim() != ".*" && regex.is_match("") && regex.is_match("\u{1}")
}

fn allowed_source(source: &Node, findings: &mut Findings) {
    let Some(text) = source.value.as_str() else { return };
    if text.is_empty() {
        let help = "write a participant, `@group` or `/regex/`, or remove it";
        findings.warning("empty-address", &source.path, "an empty text allows no source", help);
        return;
    }
    let Some(rest) = text.strip_prefix('/') else { return };
    let Some(regex) = rest.strip_suffix('/') else {
        let message = format!("{} is taken for a participant's id, not for a regex", quoted(text));
        let help = "end a regex with `/`, without flags; it ignores case anyway";
        findings.warning("unfinished-regex", &source.path, message, help);
        return;
    };
    let built = RegexBuilder::new(regex).case_insensitive(true).size_limit(REGEX_BYTES).build();
    match built {
        Err(error) => {
            let message = format!("{} is no regex: {}", quoted(text), reason(&error));
            let help = "mend the regex; look-around and back-references are not supported, so \
                        that matching takes linear time";
            findings.error("bad-regex", &source.path, message, help);
        }
        Ok(built) if is_of_nothing(regex, &built) => {
            let message = format!("{} occurs in every id and so allows everyone", quoted(text));
            let help = "write what the ids have in common, or `/.*/` to allow everyone";
            findings.warning("allows-everyone", &source.path, message, help);
        }
        Ok(_) => {}
    }
}

/// The last line of the regex crate's drawing, which says what is wrong.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

fn recipients(to: &Node, findings: &mut Findings) {
    match to.value {
        Value::String(text) if text.trim().is_empty() => {
            let help = "write an address, as `$thred` or `@group`, or remove it";
            findings.warning("empty-address", &to.path, "an empty address reaches nobody", help);
        }
        Value::String(_) => {}
        Value::Array(items) if items.is_empty() => nobody(&to.path, findings),
        // The list is flattened, so lists may stand in lists.
        Value::Array(_) => to.items().for_each(|item| recipients(&item, findings)),
        Value::Object(map) if map.contains_key("$xpr") => {
            let message = "`to` takes an expression as text, not as a `$xpr` key";
            let help = r#"write `"$xpr(…)"`"#;
            findings.error("bad-address", &to.path, message, help);
        }
        other => {
            let message = format!("an address is a text, not {}", kind_of(other));
            let help = "write a participant, a service, `@group`, `$thred`, `*` or `$xpr(…)`";
            findings.error("bad-address", &to.path, message, help);
        }
    }
}

fn nobody(path: &super::JsonPath, findings: &mut Findings) {
    let help = "add an address, as `$thred`, or remove the publish";
    findings.warning("no-recipients", path, "the message goes to nobody", help);
}
