//! What follows from a match, compiled.

use std::{borrow::Cow, sync::Arc};

use serde_json::Value;
use thredlib::{
    Address, EventData, ExprError, InputKind, SpawnType, Template,
    expr::{Expression, Scope},
};

/// What follows from a match; each part may be missing.
#[derive(Clone, Debug, Default)]
pub struct Directives {
    /// Builds the outbound event.
    pub transform: Option<Arc<Transform>>,
    /// Says who gets it.
    pub publish: Option<Arc<Publish>>,
    /// Where the thred goes.
    pub transition: Option<Transition>,
    /// Threds to start.
    pub spawn: Option<Arc<Spawn>>,
}

impl Directives {
    /// These directives, each missing one taken from an outer condition.
    pub(super) fn or(self, outer: &Self) -> Self {
        Self {
            transform: self.transform.or_else(|| outer.transform.clone()),
            publish: self.publish.or_else(|| outer.publish.clone()),
            transition: self.transition.or_else(|| outer.transition.clone()),
            spawn: self.spawn.or_else(|| outer.spawn.clone()),
        }
    }
}

/// What runs on a match, for its effect on the locals.
#[derive(Debug)]
pub struct Consequent {
    /// An expression.
    pub xpr: Option<Arc<dyn Expression>>,
    /// Locals to set after it.
    pub set_local: Vec<(Box<str>, Template)>,
}

impl Consequent {
    /// Runs it; the effect is in the scope's locals.
    ///
    /// # Errors
    /// When an expression fails.
    pub fn run(&self, scope: &mut Scope) -> Result<(), ExprError> {
        if let Some(xpr) = &self.xpr {
            xpr.evaluate(scope)?;
        }
        for (name, template) in &self.set_local {
            let value = template.render(scope)?;
            scope.set_local(name, value);
        }
        Ok(())
    }
}

/// Builds the outbound event's `data`.
#[derive(Debug)]
pub struct Transform {
    /// The data.
    pub data: DataSource,
    /// The outbound event's `re`.
    pub re: Option<Arc<dyn Expression>>,
}

/// Where an outbound event's `data` comes from.
#[derive(Debug)]
pub enum DataSource {
    /// A template.
    Template(Template),
    /// An expression that gives an object.
    Expression(Arc<dyn Expression>),
}

impl DataSource {
    /// The data; `Err(None)` when the result is no object.
    pub(crate) fn build(&self, scope: &mut Scope) -> Result<EventData, Option<ExprError>> {
        let data = match self {
            Self::Template(template) => template.render_data(scope)?,
            Self::Expression(xpr) => match xpr.evaluate(scope)? {
                Some(Value::Object(map)) => Some(map.into()),
                _ => None,
            },
        };
        data.ok_or(None)
    }
}

/// Says who gets the outbound event.
#[derive(Debug)]
pub struct Publish {
    /// The name under which the thred remembers the outbound event's id.
    pub name: Option<Box<str>>,
    /// The addresses.
    pub to: Addresses,
    /// Runs before the message leaves.
    pub on_publish: Option<Consequent>,
}

/// Whom a publish names.
#[derive(Debug)]
pub enum Addresses {
    /// Always the same ones.
    Literal(Vec<Address>),
    /// What a template gives: a text or a list of them.
    Rendered(Template),
}

/// Why addresses could not be read.
#[derive(Debug)]
pub(crate) enum AddressError {
    Expression(ExprError),
    Shape(String),
}

impl From<Template> for Addresses {
    fn from(template: Template) -> Self {
        match template.as_literal().map(addresses) {
            Some(Ok(addresses)) => Self::Literal(addresses),
            _ => Self::Rendered(template),
        }
    }
}

impl Publish {
    /// The addresses, as far as they are written.
    pub(crate) fn addresses(&self, scope: &mut Scope) -> Result<Cow<'_, [Address]>, AddressError> {
        let template = match &self.to {
            Addresses::Literal(addresses) => return Ok(addresses.into()),
            Addresses::Rendered(template) => template,
        };
        let to = template.render(scope).map_err(AddressError::Expression)?;
        addresses(&to.unwrap_or_default()).map(Cow::Owned).map_err(AddressError::Shape)
    }
}

/// The addresses that a rendered `publish.to` holds, flattened.
fn addresses(to: &Value) -> Result<Vec<Address>, String> {
    let mut found = Vec::new();
    flatten(to, &mut found)?;
    Ok(found)
}

fn flatten(to: &Value, found: &mut Vec<Address>) -> Result<(), String> {
    match to {
        Value::String(text) if !text.is_empty() => found.push(Address::parse(text)),
        Value::String(_) | Value::Null => {}
        Value::Array(items) => items.iter().try_for_each(|item| flatten(item, found))?,
        other => return Err(format!("`publish.to` gives {other}, which is no address")),
    }
    Ok(())
}

/// Where a thred goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The place.
    pub target: Target,
    /// What the next reaction is given.
    pub input: NextInput,
}

impl Default for Transition {
    fn default() -> Self {
        Self { target: Target::Next, input: NextInput::Wait }
    }
}

/// The place that a transition leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The reaction after this one.
    Next,
    /// The end.
    Terminate,
    /// The same reaction, not left.
    Stay,
    /// A reaction by its index, entered anew.
    To(usize),
}

/// What the next reaction, or a spawned thred, is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextInput {
    /// Nothing: it waits.
    Wait,
    /// The same event.
    Forward,
    /// The event in a local.
    Local(Box<str>),
}

impl NextInput {
    pub(crate) fn new(kind: Option<InputKind>, local: Option<&str>) -> Self {
        match kind.unwrap_or_default() {
            InputKind::Default => Self::Wait,
            InputKind::Forward => Self::Forward,
            InputKind::Local => Self::Local(local.unwrap_or_default().into()),
        }
    }
}

/// Threds to start.
#[derive(Debug)]
pub struct Spawn {
    /// Ids or names of patterns.
    pub names: Vec<Box<str>>,
    /// What they are given first.
    pub input: NextInput,
    /// Whether they end with the thred that spawns them.
    pub spawn_type: SpawnType,
    /// Whether they start with copies of its locals and participants.
    pub context: bool,
}
