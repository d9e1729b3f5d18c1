//! The pattern format as tables: which fields an object has and what each one holds.
//!
//! The tables say what [`PatternModel`](crate::PatternModel) reads, in a form that lets one walk
//! report every mistake; a test holds them against the model's schema.

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Any JSON, or JSON that another check looks at.
    Any,
    /// A text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number, 0 or more; says of what.
    Count(&'static str),
    /// One of some words.
    Word(&'static [&'static str]),
    /// A text or a list of texts.
    Texts,
    /// An expression, as text or as an object that names its language.
    Expression,
    /// An object with these fields.
    Object(&'static Shape),
    /// A transition: its name alone or an object.
    NameOr(&'static Shape),
    /// A list of objects with these fields.
    List(&'static Shape),
    /// An object with any fields.
    Map,
}

/// A field of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) need: Need,
}

/// Whether a field has to be there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Need {
    /// It may be left out or be null.
    Optional,
    /// It may be left out, but not be null.
    NotNull,
    /// It has to be there; the text shows how to write it.
    Required(&'static str),
}

/// An object of the format.
#[derive(Debug)]
pub(super) struct Shape {
    /// What it is called in messages, with its article.
    pub(super) what: &'static str,
    pub(super) fields: &'static [Field],
    /// Whether authors may add fields of their own.
    pub(super) open: bool,
}

const fn optional(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, need: Need::Optional }
}

const fn required(name: &'static str, kind: Kind, example: &'static str) -> Field {
    Field { name, kind, need: Need::Required(example) }
}

const INPUTS: &[&str] = &["default", "forward", "local"];

pub(super) static PATTERN: Shape = Shape {
    what: "a pattern",
    open: false,
    fields: &[
        required("name", Kind::Text, r#""name": "My Pattern""#),
        optional("id", Kind::Text),
        optional("description", Kind::Text),
        optional("version", Kind::Any),
        optional("expressionLanguage", Kind::Word(&["jsonata", "jsonpath"])),
        optional("instanceInterval", Kind::Count("milliseconds")),
        optional("maxInstances", Kind::Count("threds")),
        optional("broadcastAllowed", Kind::Flag),
        optional("echoResponses", Kind::Flag),
        optional("meta", Kind::Object(&META)),
        required("reactions", Kind::List(&REACTION), r#""reactions": [ … ]"#),
    ],
};

static META: Shape =
    Shape { what: "`meta`", open: true, fields: &[optional("active", Kind::Flag)] };

pub(super) static REACTION: Shape = Shape {
    what: "a reaction",
    open: false,
    fields: &[
        optional("name", Kind::Text),
        optional("description", Kind::Text),
        optional("allowedSources", Kind::Texts),
        optional("permissions", Kind::Object(&PERMISSIONS)),
        optional("allowUnboundEvents", Kind::Flag),
        optional("onError", Kind::Word(&["report", "match"])),
        optional("expiry", Kind::Object(&EXPIRY)),
        required(
            "condition",
            Kind::Object(&CONDITION),
            r#""condition": { "type": "filter", "xpr": "…" }"#,
        ),
    ],
};

static PERMISSIONS: Shape =
    Shape { what: "`permissions`", open: false, fields: &[optional("allowedRoles", Kind::Texts)] };

static EXPIRY: Shape = Shape {
    what: "an expiry",
    open: false,
    fields: &[
        required("interval", Kind::Count("milliseconds"), r#""interval": 60000"#),
        optional("transition", Kind::NameOr(&TRANSITION)),
    ],
};

pub(super) static CONDITION: Shape = Shape {
    what: "a condition",
    open: false,
    fields: &[
        required("type", Kind::Word(&["filter", "and", "or"]), r#""type": "filter""#),
        optional("description", Kind::Text),
        optional("xpr", Kind::Expression),
        Field { name: "operands", kind: Kind::List(&CONDITION), need: Need::NotNull },
        optional("onTrue", Kind::Object(&CONSEQUENT)),
        optional("transform", Kind::Object(&TRANSFORM)),
        optional("publish", Kind::Object(&PUBLISH)),
        optional("transition", Kind::NameOr(&TRANSITION)),
        optional("spawn", Kind::Object(&SPAWN)),
    ],
};

static CONSEQUENT: Shape = Shape {
    what: "a consequent",
    open: false,
    fields: &[optional("xpr", Kind::Expression), optional("setLocal", Kind::Map)],
};

static TRANSFORM: Shape = Shape {
    what: "a transform",
    open: false,
    fields: &[
        optional("description", Kind::Text),
        optional("eventDataTemplate", Kind::Any),
        optional("templateXpr", Kind::Expression),
        optional("meta", Kind::Object(&TRANSFORM_META)),
    ],
};

static TRANSFORM_META: Shape = Shape {
    what: "the `meta` of a transform",
    open: true,
    fields: &[optional("reXpr", Kind::Expression)],
};

static PUBLISH: Shape = Shape {
    what: "a publish",
    open: false,
    fields: &[
        optional("name", Kind::Text),
        optional("description", Kind::Text),
        required("to", Kind::Any, r#""to": "$thred""#),
        optional("onPublish", Kind::Object(&CONSEQUENT)),
    ],
};

static TRANSITION: Shape = Shape {
    what: "a transition",
    open: false,
    fields: &[
        optional("name", Kind::Text),
        optional("description", Kind::Text),
        optional("input", Kind::Word(INPUTS)),
        optional("localName", Kind::Text),
    ],
};

static SPAWN: Shape = Shape {
    what: "a spawn",
    open: false,
    fields: &[
        required("names", Kind::Texts, r#""names": ["other_pattern"]"#),
        optional("input", Kind::Word(INPUTS)),
        optional("type", Kind::Word(&["child", "sibling"])),
        optional("localName", Kind::Text),
        optional("context", Kind::Flag),
    ],
};

#[cfg(all(test, feature = "schema"))]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn tables_say_what_the_schema_says() {
        let schema = crate::schema::pattern_schema();
        compare(&PATTERN, &schema);
        for (shape, name) in [
            (&META, "PatternMeta"),
            (&REACTION, "ReactionModel"),
            (&PERMISSIONS, "PermissionsModel"),
            (&EXPIRY, "ExpiryModel"),
            (&CONDITION, "ConditionModel"),
            (&CONSEQUENT, "ConsequentModel"),
            (&TRANSFORM, "TransformModel"),
            (&TRANSFORM_META, "TransformMeta"),
            (&PUBLISH, "PublishModel"),
            (&SPAWN, "SpawnModel"),
        ] {
            compare(shape, &schema["$defs"][name]);
        }
        compare(&TRANSITION, &schema["$defs"]["TransitionModel"]["anyOf"][1]);
    }

    fn compare(shape: &Shape, schema: &Value) {
        let known: Vec<&str> = shape.fields.iter().map(|field| field.name).collect();
        let described: Vec<&str> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(known, described, "{}", shape.what);
        let needed = shape.fields.iter().filter(|f| matches!(f.need, Need::Required(_)));
        let needed: Vec<&str> = needed.map(|field| field.name).collect();
        let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        assert_eq!(needed, required.iter().map(|r| r.as_str().unwrap()).collect::<Vec<_>>());
    }
}
