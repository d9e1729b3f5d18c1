//! Reads scenario documents.

use std::path::Path;

use serde_json::{Value, json};
use thredlib::validate::{kind_of, nearest};

use super::{
    duration::parse_duration,
    instant::parse_instant,
    matcher::operator,
    model::{
        Action, MessageExpectation, PatternSource, Scenario, Step, ThredExpectation, ThredName,
    },
    reader::{Fields, Wrong, boolean, count, list, only_true, text, wrong},
};
use crate::port::Directory;

/// Midnight of 2026-01-01, UTC.
const DEFAULT_START: i64 = 1_767_225_600_000;

pub(super) fn read_scenario(document: Value, base: &Path) -> Result<Scenario, Wrong> {
    const KEYS: &[&str] = &[
        "name",
        "description",
        "patterns",
        "groups",
        "roles",
        "services",
        "sessions",
        "startTime",
        "seed",
        "allowUnclaimedMessages",
        "steps",
    ];
    let mut fields = Fields::of(document, "$", KEYS)?;
    fields.read("description", text)?;
    Ok(Scenario {
        name: fields.require("name", text)?,
        patterns: fields
            .require("patterns", |value, at| list(value, at, |v, at| pattern(v, at, base)))?,
        directory: directory(&mut fields)?,
        start_time: fields
            .read("startTime", |v, at| parse_instant(&v).or_else(|e| wrong(at, e)))?
            .unwrap_or(DEFAULT_START),
        seed: fields.read("seed", count)?.unwrap_or(0),
        allow_unclaimed_messages: fields.read("allowUnclaimedMessages", boolean)?.unwrap_or(false),
        steps: fields.require("steps", |value, at| list(value, at, step))?,
    })
}

fn pattern(value: Value, at: &str, base: &Path) -> Result<PatternSource, Wrong> {
    match value {
        Value::String(path) => Ok(PatternSource::File(base.join(path))),
        Value::Object(_) => Ok(PatternSource::Inline(value)),
        other => wrong(
            at,
            format!("this is {}, write a path to a pattern file or a pattern", kind_of(&other)),
        ),
    }
}

fn directory(fields: &mut Fields<'_>) -> Result<Directory, Wrong> {
    let mut model = json!({});
    for key in ["groups", "roles", "services", "sessions"] {
        if let Some(value) = fields.take(key) {
            let at = fields.at(key);
            match key {
                "groups" | "roles" => members(&value, &at)?,
                "services" => drop(list(value.clone(), &at, text)?),
                _ => drop(list(value.clone(), &at, session)?),
            }
            model[key] = value;
        }
    }
    serde_json::from_value(model).or_else(|error| wrong("$", error.to_string()))
}

fn members(value: &Value, at: &str) -> Result<(), Wrong> {
    let Value::Object(lists) = value else {
        let message =
            format!("this is {}, write an object of lists of participants", kind_of(value));
        return wrong(at, message);
    };
    lists.iter().try_for_each(|(name, members)| {
        list(members.clone(), &format!("{at}.{name}"), text).map(drop)
    })
}

fn session(value: Value, at: &str) -> Result<(), Wrong> {
    if value.is_string() {
        return Ok(());
    }
    let mut fields = Fields::of(value, at, &["participant", "node"])?;
    fields.require("participant", text)?;
    fields.require("node", text).map(drop)
}

const ACTIONS: &[&str] = &[
    "send",
    "advance",
    "restart",
    "expectMessage",
    "expectMessages",
    "expectNoMessage",
    "expectThred",
    "expectThreds",
    "expectLog",
    "expectDeadLetter",
];

/// What may stand beside an action.
const ANNOTATIONS: &[&str] = &["as", "starts", "comment"];

fn step(value: Value, at: &str) -> Result<Step, Wrong> {
    let written = value.clone();
    let keys = [ACTIONS, ANNOTATIONS].concat();
    let mut fields = Fields::of(value, at, &keys)?;
    fields.read("comment", text)?;
    let present: Vec<_> =
        ACTIONS.iter().copied().filter(|action| written.get(action).is_some()).collect();
    let &[name] = &*present else {
        let message = match &*present {
            [] => format!("the step does nothing; write one of {}", ACTIONS.join(", ")),
            several => format!("the step does several things ({}); split it", several.join(", ")),
        };
        return wrong(at, message);
    };
    let label = fields.read("as", label)?;
    if label.is_some() && !matches!(name, "send" | "expectMessage") {
        return wrong(&fields.at("as"), "only `send` and `expectMessage` can be named; drop `as`");
    }
    let starts = fields.read("starts", names)?;
    if starts.is_some() && name != "send" {
        return wrong(&fields.at("starts"), "only `send` starts threds; drop `starts`");
    }
    let here = fields.at(name);
    let value = fields.take(name).unwrap_or_default();
    Ok(Step { action: action(name, value, &here, starts)?, label, written })
}

fn action(
    name: &str,
    value: Value,
    at: &str,
    starts: Option<Vec<String>>,
) -> Result<Action, Wrong> {
    Ok(match name {
        "send" => Action::Send { event: event(value, at)?, starts },
        "advance" => Action::Advance(parse_duration(&value).or_else(|e| wrong(at, e))?),
        "restart" => only_true(value, at).map(|()| Action::Restart)?,
        "expectMessage" => Action::ExpectMessage(message(value, at)?),
        "expectMessages" => Action::ExpectMessages(list(value, at, message)?),
        "expectNoMessage" => only_true(value, at).map(|()| Action::ExpectNoMessage)?,
        "expectThred" => Action::ExpectThred(thred(value, at)?.into()),
        "expectThreds" => threds(value, at)?,
        "expectLog" => Action::ExpectLog(log_record(value, at)?),
        _ => Action::ExpectDeadLetter(record(
            value,
            at,
            &["event", "command", "reason", "attempts", "at"],
        )?),
    })
}

fn label(value: Value, at: &str) -> Result<String, Wrong> {
    let name = text(value, at)?;
    if name.is_empty() || name.contains('.') {
        return wrong(at, format!("`{name}` cannot be referred to; write a name without dots"));
    }
    Ok(name)
}

fn names(value: Value, at: &str) -> Result<Vec<String>, Wrong> {
    match value {
        Value::Array(_) => list(value, at, label),
        one => Ok(vec![label(one, at)?]),
    }
}

fn event(value: Value, at: &str) -> Result<Value, Wrong> {
    match value.get("type") {
        Some(Value::String(_)) => Ok(value),
        _ if !value.is_object() => {
            wrong(at, format!("this is {}, write an event", kind_of(&value)))
        }
        Some(_) => wrong(&format!("{at}.type"), "write a text, as \"org.example.request\""),
        None => wrong(at, "`type` is missing; an event has one, as \"org.example.request\""),
    }
}

fn message(value: Value, at: &str) -> Result<MessageExpectation, Wrong> {
    let mut fields = Fields::of(value, at, &["to", "event"])?;
    Ok(MessageExpectation {
        to: fields.read("to", |value, at| match value {
            Value::String(one) => Ok(json!([one])),
            Value::Array(_) | Value::Object(_) => Ok(value),
            other => {
                wrong(at, format!("this is {}, write a list of participants", kind_of(&other)))
            }
        })?,
        event: fields.read("event", expectation)?,
    })
}

fn thred(value: Value, at: &str) -> Result<ThredExpectation, Wrong> {
    const KEYS: &[&str] = &[
        "ref",
        "id",
        "pattern",
        "reaction",
        "status",
        "locals",
        "participants",
        "parent",
        "children",
    ];
    let mut fields = Fields::of(value, at, KEYS)?;
    let thred = match (fields.read("ref", text)?, fields.take("id")) {
        (Some(name), None) => ThredName::Ref(name),
        (None, Some(id)) => ThredName::Id(id),
        (None, None) => return wrong(at, "which thred? write `ref` with its name, or `id`"),
        _ => return wrong(at, "`ref` and `id` both say which thred; keep one"),
    };
    Ok(ThredExpectation {
        thred,
        pattern: fields.read("pattern", expectation)?,
        reaction: fields.read("reaction", expectation)?,
        status: fields.read("status", |value, at| match value.as_str() {
            Some(status @ ("active" | "finished" | "terminated")) => Ok(status.to_owned()),
            _ => wrong(at, format!("{value} is no status; write active, finished or terminated")),
        })?,
        locals: fields.read("locals", expectation)?,
        participants: fields.read("participants", expectation)?,
        parent: fields.read("parent", expectation)?,
        children: fields.read("children", count)?,
    })
}

fn threds(value: Value, at: &str) -> Result<Action, Wrong> {
    if value.is_object() {
        let mut fields = Fields::of(value, at, &["pattern", "count"])?;
        let pattern = fields.read("pattern", text)?;
        return Ok(Action::ExpectThreds { pattern, count: fields.require("count", count)? });
    }
    Ok(Action::ExpectThreds { pattern: None, count: count(value, at)? })
}

fn log_record(value: Value, at: &str) -> Result<Value, Wrong> {
    const KEYS: &[&str] =
        &["type", "event", "thredId", "patternId", "from", "to", "timestamp", "detail"];
    record(value, at, KEYS)
}

/// An expectation of a record whose fields are known.
fn record(value: Value, at: &str, keys: &[&str]) -> Result<Value, Wrong> {
    Fields::of(value.clone(), at, keys)?;
    expectation(value, at)
}

/// Checks the operators of an expectation.
fn expectation(value: Value, at: &str) -> Result<Value, Wrong> {
    match (operator(&value), &value) {
        (Some((name @ ("$any" | "$absent"), argument)), _) if *argument != Value::Bool(true) => {
            return wrong(at, format!("`{name}` takes nothing but true"));
        }
        (Some(("$matches", pattern)), _) => match pattern.as_str().map(regex::Regex::new) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return wrong(at, format!("`$matches` has no regex: {error}")),
            None => return wrong(at, "`$matches` takes a text with a regular expression"),
        },
        (Some(_), _) => {}
        (None, Value::Object(object)) => {
            if let [(key, _)] = &*object.iter().collect::<Vec<_>>()
                && let Some(near) = misspelt(key)
            {
                return wrong(at, format!("unknown operator `{key}`; did you mean `{near}`?"));
            }
            for (key, item) in object {
                expectation(item.clone(), &format!("{at}.{key}"))?;
            }
        }
        (None, Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                expectation(item.clone(), &format!("{at}[{index}]"))?;
            }
        }
        _ => {}
    }
    Ok(value)
}

/// The operator that a key was probably meant to be; other keys with a dollar sign are data.
fn misspelt(key: &str) -> Option<&'static str> {
    const OPERATORS: [&str; 5] = ["$any", "$absent", "$contains", "$matches", "$ref"];
    let near = key.starts_with('$') && !OPERATORS.contains(&key);
    near.then(|| nearest(key, OPERATORS))?
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use crate::testing::scenario::{Action, PatternSource, Scenario};

    fn parse(document: &Value) -> Result<Scenario, String> {
        let path = Path::new("dir/a.scenario.json");
        Scenario::parse(&document.to_string(), path).map_err(|error| error.to_string())
    }

    fn with_step(step: Value) -> Result<Scenario, String> {
        parse(&json!({ "name": "a", "patterns": [], "steps": [step] }))
    }

    #[test]
    fn defaults_are_filled_in() {
        let scenario = parse(&json!({
            "name": "a", "patterns": ["p.pattern.json", { "name": "q" }],
            "groups": { "ops": ["ann"] }, "steps": [{ "advance": "10s" }]
        }))
        .unwrap();
        assert_eq!(scenario.start_time, 1_767_225_600_000);
        assert_eq!(scenario.patterns[0], PatternSource::File("dir/p.pattern.json".into()));
        assert_eq!(scenario.directory.everyone(), ["ann"]);
        assert!(matches!(scenario.steps[0].action, Action::Advance(10_000)));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_says_which_was_meant() {
        let error = with_step(json!({ "expectMesage": {} })).unwrap_err();
        assert_eq!(
            error,
            "dir/a.scenario.json: unknown key `expectMesage`; did you mean `expectMessage`? \
             (at $.steps[0].expectMesage)"
        );
        let error = with_step(json!({ "expectThred": { "ref": "t", "statut": "x" } })).unwrap_err();
        assert!(error.contains("did you mean `status`?"), "{error}");
        assert!(with_step(json!({ "expectMessage": { "too": [] } })).is_err());
        assert!(with_step(json!({ "expectLog": { "reaction": "a" } })).is_err());
    }

    #[test]
    fn a_step_does_one_thing() {
        let error = with_step(json!({ "advance": 1, "restart": true })).unwrap_err();
        assert!(error.contains("(advance, restart); split it"), "{error}");
        assert!(with_step(json!({ "as": "x" })).unwrap_err().contains("the step does nothing"));
        let error = with_step(json!({ "advance": 1, "as": "x" })).unwrap_err();
        assert!(error.contains("drop `as`"), "{error}");
        assert!(with_step(json!({ "expectNoMessage": false })).is_err());
    }

    #[test]
    fn starts_is_a_name_or_a_list() {
        let starts = |starts: Value| {
            let scenario = with_step(json!({ "send": { "type": "a" }, "starts": starts })).unwrap();
            let Action::Send { starts, .. } = scenario.steps[0].action.clone() else { panic!() };
            starts.unwrap()
        };
        assert_eq!(starts(json!("t1")), ["t1"]);
        assert_eq!(starts(json!(["t1", "t2"])), ["t1", "t2"]);
        assert!(starts(json!([])).is_empty());
    }

    #[test]
    fn operators_are_checked_when_the_file_is_read() {
        let with = |value: Value| {
            with_step(json!({ "expectMessage": { "event": { "data": value } } })).unwrap_err()
        };
        assert!(
            with(json!({ "$matches": "(" })).contains("at $.steps[0].expectMessage.event.data")
        );
        assert!(with(json!({ "$contain": "x" })).contains("did you mean `$contains`?"));
        assert!(with(json!({ "$absent": false })).contains("takes nothing but true"));
    }

    #[test]
    fn broken_json_says_line_and_column() {
        let error = Scenario::parse("{\n  \"name\": }", Path::new("x.json")).unwrap_err();
        assert!(error.to_string().contains("line 2 column 11"), "{error}");
    }
}
