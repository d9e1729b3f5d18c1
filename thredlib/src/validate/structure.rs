//! Whether the document has the form of a pattern: types, required and unknown fields.

use serde_json::{Map, Value};

use super::{
    JsonPath, Spot,
    finding::Findings,
    shape::{CONDITION, Kind, Need, PATTERN, REACTION, Shape},
    words::{did_you_mean, kind_of, listed, nearest, quoted},
};

/// Walks the whole document against the [tables](super::shape).
pub(super) fn check(document: &Value, findings: &mut Findings) {
    object(&PATTERN, document, &JsonPath::root(), findings);
}

fn object(shape: &'static Shape, value: &Value, path: &JsonPath, findings: &mut Findings) {
    let Value::Object(map) = value else {
        wrong_type(&format!("{} is an object", shape.what), value, path, findings);
        return;
    };
    unknown_fields(shape, map, path, findings);
    for known in shape.fields {
        match (map.get(known.name), known.need) {
            (None, Need::Required(example)) => {
                let message = format!("{} needs the field `{}`", shape.what, known.name);
                findings.error("missing-field", path, message, format!("add {}", code(example)));
            }
            (None, _) | (Some(Value::Null), Need::Optional) => {}
            (Some(value), _) => {
                field(known.name, known.kind, value, &path.key(known.name), findings)
            }
        }
    }
}

fn field(name: &str, kind: Kind, value: &Value, path: &JsonPath, findings: &mut Findings) {
    let mut expect = |what: &str, holds: bool| {
        if !holds {
            wrong_type(&format!("`{name}` is {what}"), value, path, findings);
        }
        holds
    };
    match kind {
        Kind::Any => {}
        Kind::Text => _ = expect("a text", value.is_string()),
        Kind::Flag => _ = expect("`true` or `false`", value.is_boolean()),
        Kind::Map => _ = expect("an object", value.is_object()),
        Kind::Count(unit) => {
            if expect(&format!("a number of {unit}"), value.is_number()) && !value.is_u64() {
                let message = format!("`{name}` is a whole number of {unit}, not {value}");
                let help = "write a number without sign, fraction or exponent";
                findings.error("bad-number", path, message, help);
            }
        }
        Kind::Word(words) => {
            if expect(&format!("one of {}", listed(words.iter().copied())), value.is_string()) {
                word(name, words, value, path, findings);
            }
        }
        Kind::Texts => texts(name, value, path, findings),
        Kind::Expression => expression(name, value, path, findings),
        Kind::Object(shape) => object(shape, value, path, findings),
        Kind::NameOr(_) if value.is_string() => {}
        Kind::NameOr(shape) => object(shape, value, path, findings),
        Kind::List(shape) => {
            if expect("a list", value.is_array()) {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    object(shape, item, &path.index(index), findings);
                }
            }
        }
    }
}

fn word(name: &str, words: &[&str], value: &Value, path: &JsonPath, findings: &mut Findings) {
    let text = value.as_str().unwrap_or_default();
    if words.contains(&text) {
        return;
    }
    let all = || listed(words.iter().copied());
    let help = did_you_mean(text, words.iter().copied(), || format!("it is one of {}", all()));
    findings.error("unknown-value", path, format!("{} is no `{name}`", quoted(text)), help);
}

fn texts(name: &str, value: &Value, path: &JsonPath, findings: &mut Findings) {
    match value {
        Value::String(_) => {}
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate().filter(|(_, item)| !item.is_string()) {
                let what = format!("each item of `{name}` is a text");
                wrong_type(&what, item, &path.index(index), findings);
            }
        }
        _ => wrong_type(&format!("`{name}` is a text or a list of texts"), value, path, findings),
    }
}

fn expression(name: &str, value: &Value, path: &JsonPath, findings: &mut Findings) {
    const LANGUAGES: [&str; 2] = ["jsonpath", "jsonata"];
    let Value::Object(map) = value else {
        if !value.is_string() {
            wrong_type(&format!("`{name}` is an expression"), value, path, findings);
        }
        return;
    };
    let Some(language) = LANGUAGES.into_iter().find(|language| map.contains_key(*language)) else {
        let message = format!("`{name}` does not name the language of its expression");
        let help = r#"write a text, or `{ "jsonpath": "…" }` or `{ "jsonata": "…" }`"#;
        findings.error("missing-field", path, message, help);
        return;
    };
    if !map[language].is_string() {
        let what = format!("`{language}` is a text");
        wrong_type(&what, &map[language], &path.key(language), findings);
    }
    for extra in map.keys().filter(|key| key.as_str() != language) {
        let message = format!("{} means nothing here", quoted(extra));
        let help = format!("leave only `{language}`");
        findings.warning("unknown-field", &path.key(extra), message, help).at(Spot::Key);
    }
}

fn unknown_fields(
    shape: &'static Shape,
    map: &Map<String, Value>,
    path: &JsonPath,
    findings: &mut Findings,
) {
    let names = || shape.fields.iter().map(|field| field.name);
    for key in map.keys().filter(|key| names().all(|name| name != key.as_str())) {
        // Keys such as "$schema" and "//" are how authors leave notes to tools and each other.
        if key.starts_with(['$', '/', '_', '#']) || key == "comment" {
            continue;
        }
        let near = nearest(key, names().filter(|name| !map.contains_key(*name)));
        let help = match (misplaced(shape, key), near) {
            (Some(help), _) => help.to_owned(),
            (None, Some(near)) => format!("did you mean {}?", quoted(near)),
            (None, None) if shape.open => continue,
            (None, None) => format!("{} has {}", shape.what, listed(names())),
        };
        let message = format!("{} has no field {}; it is kept but unused", shape.what, quoted(key));
        findings.warning("unknown-field", &path.key(key), message, help).at(Spot::Key);
    }
}

/// What to do with a field that belongs one level up or down.
fn misplaced(shape: &'static Shape, key: &str) -> Option<&'static str> {
    let has = |shape: &Shape| shape.fields.iter().any(|field| field.name == key);
    if std::ptr::eq(shape, &REACTION) && has(&CONDITION) {
        Some("move it into the reaction's `condition`")
    } else if std::ptr::eq(shape, &CONDITION) && has(&REACTION) {
        Some("move it out of the condition, into the reaction")
    } else {
        None
    }
}

fn wrong_type(expected: &str, value: &Value, path: &JsonPath, findings: &mut Findings) {
    let message = format!("{expected}, not {}", kind_of(value));
    findings.error("wrong-type", path, message, remedy(expected, value));
}

fn remedy(expected: &str, value: &Value) -> String {
    match value {
        Value::Null => "give it a value or leave the field out".to_owned(),
        Value::Number(n) if expected.contains("text") => format!("write it in quotes: \"{n}\""),
        Value::String(s) if expected.contains("number") && s.parse::<u64>().is_ok() => {
            format!("write it without quotes: {s}")
        }
        Value::String(s) if expected.contains("`true`") && (s == "true" || s == "false") => {
            format!("write it without quotes: {s}")
        }
        Value::Object(_) if expected.contains("list") => "put it in a list: `[ … ]`".to_owned(),
        _ => "change it to what is expected".to_owned(),
    }
}

fn code(example: &str) -> String {
    format!("`{example}`")
}
