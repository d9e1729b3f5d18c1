//! JSON Schemas (draft 2020-12) of what the library reads and writes.
//!
//! They say what a document may look like, for editors and other programs;
//! [`validate`](crate::validate) also says whether it makes sense.

use schemars::{Schema, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::PatternModel;

/// The schema of a pattern file, generated from [`PatternModel`].
pub fn pattern_schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let generated = generator.into_root_schema_for::<PatternModel>().to_value();
    let mut schema = json!({
        "$schema": DRAFT,
        "$id": "urn:thredlib:pattern",
        "title": "Pattern",
        "description": generated["description"],
        "examples": [example_pattern()],
    });
    for (key, value) in generated.as_object().into_iter().flatten() {
        if schema.get(key).is_none() {
            schema[key] = value.clone();
        }
    }
    needed_fields(&mut schema["$defs"]["ConditionModel"]);
    schema
}

/// The schema of an event.
pub fn event_schema() -> Value {
    let mut schema = json!({ "$schema": DRAFT, "$id": "urn:thredlib:event" });
    for (key, value) in event().as_object().into_iter().flatten() {
        schema[key] = value.clone();
    }
    schema["examples"] = json!([example_event()]);
    schema
}

/// The schema of a message.
pub fn message_schema() -> Value {
    json!({
        "$schema": DRAFT,
        "$id": "urn:thredlib:message",
        "title": "Message",
        "description": "An event addressed to recipients.",
        "type": "object",
        "properties": {
            "id": text("Stable id; a message that is sent again carries the same one."),
            "event": { "$ref": "#/$defs/Event" },
            "to": {
                "description": "Participants or services that it is for.",
                "type": "array",
                "items": { "type": "string" }
            },
            "timestamp": time("When it was made")
        },
        "required": ["id", "event", "to", "timestamp"],
        "$defs": { "Event": event() }
    })
}

/// Lets a transition be its name alone. Fields of the object stay where they are, in an `anyOf`.
pub(crate) fn or_name(schema: &mut Schema) {
    let description = schema.remove("description");
    let object = std::mem::take(schema).to_value();
    let name = "The name alone: `$next`, `$terminate`, `$noTransition` or a reaction's.";
    schema.insert("description".to_owned(), description.unwrap_or_default());
    schema.insert("anyOf".to_owned(), json!([text(name), object]));
}

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A filter has an expression; `and` and `or` have operands.
fn needed_fields(condition: &mut Value) {
    let when = |kinds: Value, field: &str, then: Value| {
        json!({
            "if": { "properties": { "type": { "enum": kinds } }, "required": ["type"] },
            "then": { "required": [field], "properties": { field: then } }
        })
    };
    condition["allOf"] = json!([
        when(json!(["filter"]), "xpr", json!(true)),
        when(json!(["and", "or"]), "operands", json!({ "minItems": 1 })),
    ]);
}

fn event() -> Value {
    json!({
        "title": "Event",
        "description": "Something that happened. Without a `thredId` it may start threds; with one it is bound to that thred. Fields that are not described here are kept.",
        "type": "object",
        "properties": {
            "id": text("Unique; an event delivered twice under one id has one effect."),
            "type": text("Dotted name of what happened."),
            "thredId": text_or_null("The thred that the event is bound to."),
            "re": text_or_null("The id of the event that this one answers."),
            "source": {
                "description": "Who or what the event comes from.",
                "type": "object",
                "properties": {
                    "id": text("The participant, device or service."),
                    "name": text_or_null("Its name for people."),
                    "uri": text_or_null("Where more is to be found about it.")
                },
                "required": ["id"]
            },
            "timestamp": time_or_null("When it happened"),
            "time": time_or_null("Another name of `timestamp`, on input: when it happened"),
            "data": {
                "description": "The payload.",
                "type": ["object", "null"],
                "properties": {
                    "title": { "description": "For people, in a line." },
                    "description": { "description": "For people, at length." },
                    "display": { "description": "How to show it, as `{ \"uri\": … }`." },
                    "advice": { "description": "How to answer it, as `{ eventType, title, template }`." },
                    "content": {
                        "description": "What the event says: `values` (an object or a list of objects), `valuesType`, `tasks`, `items`, `resources`, `error`."
                    },
                    "error": { "description": "Makes this an error event: `{ message, code, cause }`." }
                }
            },
            "trace": {
                "description": "The trace that the event belongs to, as `{ traceId, spanId, parentSpanId, baggage }`; copied to every event derived from it."
            }
        },
        "required": ["id", "type", "source"]
    })
}

fn text(description: &str) -> Value {
    json!({ "description": description, "type": "string" })
}

fn text_or_null(description: &str) -> Value {
    json!({ "description": description, "type": ["string", "null"] })
}

fn time(what: &str) -> Value {
    let description = format!("{what}, in milliseconds since the Unix epoch.");
    json!({ "description": description, "type": "integer" })
}

fn time_or_null(what: &str) -> Value {
    let mut schema = time(what);
    schema["type"] = json!(["integer", "null"]);
    schema["minimum"] = 0.into();
    schema
}

fn example_pattern() -> Value {
    json!({
        "name": "Greeting",
        "reactions": [{
            "name": "greet",
            "condition": {
                "type": "filter",
                "xpr": "$event.type = 'org.example.hello'",
                "transform": { "eventDataTemplate": { "title": "$xpr('Hello, ' & $event.source.id)" } },
                "publish": { "to": "$xpr($event.source.id)" },
                "transition": "$terminate"
            }
        }]
    })
}

fn example_event() -> Value {
    json!({
        "id": "e1",
        "type": "org.example.hello",
        "source": { "id": "ann" },
        "timestamp": 1767225600000_i64,
        "data": { "title": "Hello", "content": { "values": { "language": "en" } } }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_what_they_show() {
        let report = crate::validate::validate(&example_pattern());
        assert!(report.findings().is_empty(), "{report}");
        assert!(serde_json::from_value::<crate::Event>(example_event()).is_ok());
    }

    #[test]
    fn objects_are_open_and_fields_described() {
        let schema = pattern_schema();
        assert!(!schema.to_string().contains("\"additionalProperties\":false"));
        for (name, part) in schema["$defs"].as_object().unwrap() {
            for (field, schema) in part["properties"].as_object().into_iter().flatten() {
                assert!(schema.get("description").is_some(), "{name}.{field}");
            }
        }
    }
}
