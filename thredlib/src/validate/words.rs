//! Words for people: names in quotes, kinds of value, the name that was probably meant.

use serde_json::Value;

/// Names are compared and shown up to this many characters; a hostile one must not cost more.
const LONGEST: usize = 60;

/// A name from the document between back quotes, short.
pub(super) fn quoted(name: &str) -> String {
    let mut text = String::from("`");
    text.extend(name.chars().take(LONGEST));
    if name.chars().nth(LONGEST).is_some() {
        text.push('…');
    }
    text.push('`');
    text
}

/// Writes control characters as escapes.
pub(super) fn escape_control(text: &mut String) {
    if text.contains(char::is_control) {
        let escaped = |c: char| {
            let escape = c.is_control().then(|| c.escape_default());
            escape.into_iter().flatten().chain((!c.is_control()).then_some(c))
        };
        *text = text.chars().flat_map(escaped).collect();
    }
}

/// Names in quotes with commas between them, as many as fit on a line.
pub(super) fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    const MOST: usize = 8;
    let mut names = names.into_iter();
    let mut list: Vec<String> = names.by_ref().take(MOST).map(quoted).collect();
    if names.next().is_some() {
        list.push("…".to_owned());
    }
    list.join(", ")
}

/// What kind of JSON a value is.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The known name that a misspelt one most resembles, when one is near enough.
pub fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let wanted = folded(name);
    let allowed = (wanted.len() / 3).max(1);
    known
        .into_iter()
        .take(200)
        .map(|candidate| (candidate, folded(candidate)))
        .filter(|(_, folded)| folded.len().abs_diff(wanted.len()) <= allowed)
        .map(|(candidate, folded)| (distance(&wanted, &folded), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?`, or else the remedy given.
pub(super) fn did_you_mean<'n>(
    name: &str,
    known: impl IntoIterator<Item = &'n str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    match nearest(name, known) {
        Some(near) => format!("did you mean {}?", quoted(near)),
        None => otherwise(),
    }
}

fn folded(name: &str) -> Vec<char> {
    let plain = name.chars().filter(|c| !matches!(c, '_' | '-' | ' '));
    plain.flat_map(char::to_lowercase).take(LONGEST).collect()
}

/// Optimal string alignment: insertions, deletions, replacements and swapped neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, &ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &cb) in b.iter().enumerate() {
            let mut least =
                (above[j] + usize::from(ca != cb)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && ca == b[j - 1] && a[i - 1] == cb {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name() {
        let known = ["review", "approve", "$terminate"];
        assert_eq!(nearest("reveiw", known), Some("review"));
        assert_eq!(nearest("Approve", known), Some("approve"));
        assert_eq!(nearest("$termiante", known), Some("$terminate"));
        assert_eq!(nearest("ship", known), None);
    }

    #[test]
    fn control_characters_become_escapes() {
        let mut text = "a\u{1b}[31m\n".to_owned();
        escape_control(&mut text);
        assert_eq!(text, "a\\u{1b}[31m\\n");
    }

    #[test]
    fn quotes_are_short() {
        assert!(quoted(&"x".repeat(1000)).chars().count() < 70);
    }
}
