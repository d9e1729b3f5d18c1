//! Patterns as they stand in JSON files.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

#[cfg(feature = "schema")]
use schemars::JsonSchema;

use crate::PatternId;

/// Reserved names of transitions.
pub mod transition_name {
    /// The reaction after this one.
    pub const NEXT: &str = "$next";
    /// The end of the thred.
    pub const TERMINATE: &str = "$terminate";
    /// No change of reaction.
    pub const NO_TRANSITION: &str = "$noTransition";
}

/// A workflow: a state machine of reactions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PatternModel {
    /// What the pattern is called.
    pub name: String,
    /// Unique id; from the name, lower case with underscores for spaces, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What the pattern is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The author's version, a text or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Value>,
    /// The language of the pattern's expressions: JSONata when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression_language: Option<ExpressionLanguage>,
    /// Least time between two starts of a thred, in milliseconds. 0 or absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_interval: Option<u64>,
    /// Most threds at one time. 0 or absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_instances: Option<u64>,
    /// Whether participants may send a broadcast to each other through the thred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broadcast_allowed: Option<bool>,
    /// Whether an answer of one participant is relayed to the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo_responses: Option<bool>,
    /// What is known about the pattern, as whether it is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<PatternMeta>,
    /// The states; the first one is the entry point.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub reactions: Vec<ReactionModel>,
    /// Fields that this library does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub extra: Map<String, Value>,
}

impl PatternModel {
    /// The id: as written, or else from the name.
    ///
    /// ```
    /// use thredlib::PatternModel;
    /// let model = PatternModel { name: "UAV Detection".into(), ..Default::default() };
    /// assert_eq!(model.id(), "uav_detection");
    /// ```
    pub fn id(&self) -> PatternId {
        match &self.id {
            Some(id) if !id.is_empty() => PatternId::from(id.as_str()),
            _ => PatternId::new(self.name.to_lowercase().replace(' ', "_")),
        }
    }

    /// Whether events are matched against it.
    pub fn is_active(&self) -> bool {
        self.meta.as_ref().and_then(|meta| meta.active).unwrap_or(true)
    }

    /// The name of a reaction: as written, or else `{pattern name}_{index}`.
    pub fn reaction_name(&self, index: usize) -> String {
        match self.reactions.get(index).and_then(|reaction| reaction.name.as_deref()) {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => format!("{}_{index}", self.name),
        }
    }
}

/// A language that expressions are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ExpressionLanguage {
    /// JSONata 2.
    #[default]
    Jsonata,
    /// JSONPath, RFC 9535.
    Jsonpath,
}

/// What is known about a pattern.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PatternMeta {
    /// `false`: stored, but no event is matched against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// Anything else.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One state of a pattern.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReactionModel {
    /// Unique in the pattern; `{pattern name}_{index}` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the state is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who may move the thred here: participant ids, `$group`, `@group` or `/regex/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_sources: Option<OneOrMany>,
    /// Roles, one of which the source must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<PermissionsModel>,
    /// Whether events without a thred id are offered to threds that wait here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_unbound_events: Option<bool>,
    /// What happens to a bound event that carries an error; it is reported when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// What happens when nothing moves the thred for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<ExpiryModel>,
    /// What an event must be like, and what follows.
    pub condition: ConditionModel,
    /// Fields that this library does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub extra: Map<String, Value>,
}

/// What happens to a bound event that carries an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// It is reported to the participants.
    #[default]
    Report,
    /// It is offered to the condition like any other event, and reported if it does not match.
    Match,
}

/// A text or a list of texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(untagged)]
pub enum OneOrMany {
    /// A single text.
    One(String),
    /// A list of texts.
    Many(Vec<String>),
}

impl OneOrMany {
    /// The texts as a list.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Who may move a thred.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PermissionsModel {
    /// Roles, one of which the source must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_roles: Option<OneOrMany>,
    /// Fields that this library does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub extra: Map<String, Value>,
}

/// What happens when nothing moves the thred for a while.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ExpiryModel {
    /// Milliseconds from entering the reaction.
    pub interval: u64,
    /// Where the thred goes then; the reaction after this one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<TransitionModel>,
    /// Fields that this library does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub extra: Map<String, Value>,
}

/// What an event must be like, and what follows when it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConditionModel {
    /// `filter`, `and` or `or`.
    #[serde(rename = "type")]
    pub condition_type: ConditionType,
    /// What the condition is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Of a filter: matches when this is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xpr: Option<XprModel>,
    /// Of `and` and `or`: the conditions below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operands: Vec<ConditionModel>,
    /// Runs when the condition has matched, before the transform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_true: Option<ConsequentModel>,
    /// Builds the outbound event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<TransformModel>,
    /// Says who gets the outbound event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishModel>,
    /// Where the thred goes; the next reaction when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<TransitionModel>,
    /// Threds to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spawn: Option<SpawnModel>,
    /// Fields that this library does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub extra: Map<String, Value>,
}

/// The kinds of condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ConditionType {
    /// One expression.
    #[default]
    Filter,
    /// All operands, remembered across events.
    And,
    /// The first operand that matches.
    Or,
}

/// An expression: a text in the pattern's language, or an object that names the language.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(untagged)]
pub enum XprModel {
    /// In the pattern's language.
    Text(String),
    /// `{"jsonpath": "…"}`.
    Jsonpath {
        /// The JSONPath query.
        jsonpath: String,
    },
    /// `{"jsonata": "…"}`.
    Jsonata {
        /// The JSONata expression.
        jsonata: String,
    },
}

impl XprModel {
    /// The language and the text, given the pattern's own language.
    pub fn resolve(&self, default: ExpressionLanguage) -> (ExpressionLanguage, &str) {
        match self {
            Self::Text(text) => (default, text),
            Self::Jsonpath { jsonpath } => (ExpressionLanguage::Jsonpath, jsonpath),
            Self::Jsonata { jsonata } => (ExpressionLanguage::Jsonata, jsonata),
        }
    }
}

impl From<&str> for XprModel {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What runs on a match, for its effect on the locals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConsequentModel {
    /// An expression, as `$setLocal('a', 1)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xpr: Option<XprModel>,
    /// Locals to set, each from a template; after `xpr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_local: Option<Map<String, Value>>,
    /// Fields that this library does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub extra: Map<String, Value>,
}

/// Builds the outbound event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TransformModel {
    /// What the transform is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The outbound event's `data`, with `$xpr(…)` where expressions go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_data_template: Option<Value>,
    /// An expression whose object is the outbound event's `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_xpr: Option<XprModel>,
    /// More about the outbound event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<TransformMeta>,
    /// Fields that this library does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub extra: Map<String, Value>,
}

/// More about the outbound event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TransformMeta {
    /// Gives the outbound event's `re`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub re_xpr: Option<XprModel>,
    /// Fields that this library does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub extra: Map<String, Value>,
}

/// Says who gets the outbound event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PublishModel {
    /// Remembers the outbound event's id for `$isResponseFor(name)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the publish is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Addresses: a text or a list, `$xpr(…)` allowed.
    pub to: Value,
    /// Runs before the message leaves, with `$outboundEvent` bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_publish: Option<ConsequentModel>,
    /// Fields that this library does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub extra: Map<String, Value>,
}

/// Where the thred goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema), schemars(transform = crate::schema::or_name))]
#[serde(rename_all = "camelCase")]
pub struct TransitionModel {
    /// `$next`, `$terminate`, `$noTransition` or a reaction's name; `$next` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the transition is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What the next reaction is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<InputKind>,
    /// The local that holds the event, with the input `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_name: Option<String>,
    /// Fields that this library does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub extra: Map<String, Value>,
}

impl TransitionModel {
    /// A transition by name that waits for the next event.
    pub fn to(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }
}

// `"transition": "$terminate"` is read as `{"name": "$terminate"}`.
impl<'de> Deserialize<'de> for TransitionModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Full {
            name: Option<String>,
            description: Option<String>,
            input: Option<InputKind>,
            local_name: Option<String>,
            #[serde(flatten)]
            extra: Map<String, Value>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Name(String),
            Full(Full),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Name(name) => Self::to(name),
            Form::Full(Full { name, description, input, local_name, extra }) => {
                Self { name, description, input, local_name, extra }
            }
        })
    }
}

/// What the next reaction is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    /// Nothing: it waits for the next event.
    #[default]
    Default,
    /// The same event, at once.
    Forward,
    /// The event stored in a local, at once.
    Local,
}

/// Threds to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SpawnModel {
    /// Ids or names of patterns.
    pub names: OneOrMany,
    /// What the new threds are given first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<InputKind>,
    /// How they belong to this thred; `child` when left out.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub spawn_type: Option<SpawnType>,
    /// The local that holds the event, with the input `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_name: Option<String>,
    /// Whether they start with copies of the locals and participants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<bool>,
    /// Fields that this library does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub extra: Map<String, Value>,
}

/// How a spawned thred belongs to the one that spawned it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SpawnType {
    /// Ends when its parent ends.
    #[default]
    Child,
    /// Lives on its own.
    Sibling,
}
