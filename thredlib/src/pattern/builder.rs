//! Builds pattern models in Rust, as a JSON file would say them.

use serde_json::Value;

use super::{
    ConditionModel, ConditionType, ConsequentModel, ExpiryModel, InputKind, OnError, OneOrMany,
    PatternMeta, PatternModel, PermissionsModel, PublishModel, ReactionModel, SpawnModel,
    TransformModel, TransitionModel, XprModel,
};

/// Builds a [`PatternModel`].
///
/// ```
/// use serde_json::json;
/// use thredlib::{ConditionBuilder, PatternBuilder, ReactionBuilder};
///
/// let pattern = PatternBuilder::new("greeting")
///     .reaction(ReactionBuilder::new("greet").condition(
///         ConditionBuilder::filter("$event.type = 'org.example.hello'")
///             .transform(json!({ "title": "$xpr('Hello, ' & $event.source.id)" }))
///             .publish(json!("$xpr($event.source.id)"))
///             .transition("$terminate"),
///     ))
///     .build();
/// assert_eq!(pattern.id(), "greeting");
/// ```
#[derive(Clone, Debug)]
#[must_use = "call `build` to get the pattern"]
pub struct PatternBuilder(PatternModel);

impl PatternBuilder {
    /// A pattern with a name and no reactions.
    pub fn new(name: impl Into<String>) -> Self {
        Self(PatternModel { name: name.into(), ..PatternModel::default() })
    }

    /// Sets the id instead of deriving it from the name.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.0.id = Some(id.into());
        self
    }

    /// Says what the pattern is for.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.0.description = Some(text.into());
        self
    }

    /// Most threds at one time; 0 for no limit.
    pub fn max_instances(mut self, limit: u64) -> Self {
        self.0.max_instances = Some(limit);
        self
    }

    /// Least time between two starts, in milliseconds; 0 for no limit.
    pub fn instance_interval(mut self, ms: u64) -> Self {
        self.0.instance_interval = Some(ms);
        self
    }

    /// Lets participants broadcast to each other.
    pub fn broadcast_allowed(mut self) -> Self {
        self.0.broadcast_allowed = Some(true);
        self
    }

    /// Relays the answer of one participant to the others.
    pub fn echo_responses(mut self) -> Self {
        self.0.echo_responses = Some(true);
        self
    }

    /// Stores the pattern without matching events against it.
    pub fn inactive(mut self) -> Self {
        self.0.meta = Some(PatternMeta { active: Some(false), ..PatternMeta::default() });
        self
    }

    /// Adds a reaction; the first one is the entry point.
    pub fn reaction(mut self, reaction: ReactionBuilder) -> Self {
        self.0.reactions.push(reaction.0);
        self
    }

    /// The finished pattern.
    pub fn build(self) -> PatternModel {
        self.0
    }
}

/// Builds a [`ReactionModel`].
#[derive(Clone, Debug)]
#[must_use = "give it to `PatternBuilder::reaction`"]
pub struct ReactionBuilder(ReactionModel);

impl ReactionBuilder {
    /// A reaction with a name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(ReactionModel { name: Some(name.into()), ..ReactionModel::default() })
    }

    /// What an event must be like, and what follows.
    pub fn condition(mut self, condition: ConditionBuilder) -> Self {
        self.0.condition = condition.0;
        self
    }

    /// Offers events that carry an error to the condition, too.
    pub fn match_errors(mut self) -> Self {
        self.0.on_error = Some(OnError::Match);
        self
    }

    /// Who may move the thred here; may be called again for more.
    pub fn allowed_source(mut self, source: impl Into<String>) -> Self {
        let mut sources = self.0.allowed_sources.take().map_or(vec![], |s| s.as_slice().to_vec());
        sources.push(source.into());
        self.0.allowed_sources = Some(OneOrMany::Many(sources));
        self
    }

    /// Roles, one of which the source must hold.
    pub fn allowed_roles<T: Into<String>>(mut self, roles: impl IntoIterator<Item = T>) -> Self {
        let roles = OneOrMany::Many(roles.into_iter().map(Into::into).collect());
        self.0.permissions =
            Some(PermissionsModel { allowed_roles: Some(roles), ..PermissionsModel::default() });
        self
    }

    /// Offers events without a thred id to threds that wait here.
    pub fn allow_unbound_events(mut self) -> Self {
        self.0.allow_unbound_events = Some(true);
        self
    }

    /// After so many milliseconds the thred takes the transition.
    pub fn expiry(mut self, interval_ms: u64, transition: impl Into<String>) -> Self {
        self.0.expiry = Some(ExpiryModel {
            interval: interval_ms,
            transition: Some(TransitionModel::to(transition)),
            ..ExpiryModel::default()
        });
        self
    }
}

/// Builds a [`ConditionModel`].
#[derive(Clone, Debug)]
#[must_use = "give it to `ReactionBuilder::condition`"]
pub struct ConditionBuilder(ConditionModel);

impl ConditionBuilder {
    /// Matches when the expression is true.
    pub fn filter(xpr: impl Into<String>) -> Self {
        Self(ConditionModel { xpr: Some(XprModel::Text(xpr.into())), ..ConditionModel::default() })
    }

    /// Matches when all operands have, over one or more events.
    pub fn and(operands: impl IntoIterator<Item = ConditionBuilder>) -> Self {
        Self::of(ConditionType::And, operands)
    }

    /// Matches when one operand does.
    pub fn or(operands: impl IntoIterator<Item = ConditionBuilder>) -> Self {
        Self::of(ConditionType::Or, operands)
    }

    fn of(kind: ConditionType, operands: impl IntoIterator<Item = ConditionBuilder>) -> Self {
        Self(ConditionModel {
            condition_type: kind,
            operands: operands.into_iter().map(|operand| operand.0).collect(),
            ..ConditionModel::default()
        })
    }

    /// An expression to run on a match.
    pub fn on_true(mut self, xpr: impl Into<String>) -> Self {
        self.0.on_true.get_or_insert_with(ConsequentModel::default).xpr =
            Some(XprModel::Text(xpr.into()));
        self
    }

    /// A local to set on a match, from a template.
    pub fn set_local(mut self, name: impl Into<String>, template: Value) -> Self {
        let on_true = self.0.on_true.get_or_insert_with(ConsequentModel::default);
        on_true.set_local.get_or_insert_default().insert(name.into(), template);
        self
    }

    /// The outbound event's `data`, with `$xpr(…)` where expressions go.
    pub fn transform(mut self, template: Value) -> Self {
        self.0.transform = Some(TransformModel {
            event_data_template: Some(template),
            ..TransformModel::default()
        });
        self
    }

    /// Who gets the outbound event.
    pub fn publish(mut self, to: impl Into<Value>) -> Self {
        self.0.publish.get_or_insert_with(PublishModel::default).to = to.into();
        self
    }

    /// Remembers the outbound event's id for `$isResponseFor(name)`.
    pub fn publish_name(mut self, name: impl Into<String>) -> Self {
        self.0.publish.get_or_insert_with(PublishModel::default).name = Some(name.into());
        self
    }

    /// Where the thred goes.
    pub fn transition(mut self, name: impl Into<String>) -> Self {
        self.0.transition = Some(TransitionModel::to(name));
        self
    }

    /// Where the thred goes, with the same event applied there at once.
    pub fn forward(mut self, name: impl Into<String>) -> Self {
        self.0.transition =
            Some(TransitionModel { input: Some(InputKind::Forward), ..TransitionModel::to(name) });
        self
    }

    /// Starts threds.
    pub fn spawn(mut self, spawn: SpawnModel) -> Self {
        self.0.spawn = Some(spawn);
        self
    }
}
