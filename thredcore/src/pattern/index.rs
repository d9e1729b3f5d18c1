//! The match index: which conditions an event may meet, without trying them all.
//!
//! From each condition it is derived what an event must be like ([`Requirement`]); the index then
//! answers from the event's own fields. What nothing can be derived from is always a candidate, so
//! the index leaves out no condition that trying would find to match, or to fail.

use std::collections::HashMap;

use serde_json::Value;
use thredlib::{
    Event,
    expr::{Field, Requirement, Scalar},
};

use super::{Condition, Kind, Reaction, SourceRule};

/// Finds the reactions, by their numbers, that an event may match.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// Those that nothing could be derived from.
    always: Vec<u32>,
    by_type: HashMap<Box<str>, Vec<u32>>,
    by_source: HashMap<Box<str>, Vec<u32>>,
    by_value: HashMap<Box<str>, HashMap<Scalar, Vec<u32>>>,
}

/// An event that equals one of these is a candidate; `None`: every event is.
type Keys<'r> = Option<Vec<(&'r Field, &'r Scalar)>>;

impl Index {
    /// An index of reactions in this order.
    pub fn new<'p>(reactions: impl IntoIterator<Item = &'p Reaction>) -> Self {
        let requirements: Vec<_> = reactions.into_iter().map(requirement_of).collect();
        let mut uses: HashMap<(&Field, &Scalar), usize> = HashMap::new();
        for requirement in &requirements {
            count(requirement, &mut uses);
        }
        let mut index = Self::default();
        for (number, requirement) in (0..).zip(&requirements) {
            match keys(requirement, &uses) {
                None => index.always.push(number),
                Some(keys) => keys.into_iter().for_each(|(field, scalar)| {
                    let list = index.list(field, scalar);
                    if list.last() != Some(&number) {
                        list.push(number);
                    }
                }),
            }
        }
        index
    }

    fn list(&mut self, field: &Field, scalar: &Scalar) -> &mut Vec<u32> {
        let text = |scalar: &Scalar| match scalar {
            Scalar::Text(text) => text.clone(),
            // A type or a source that must equal a number: it is a text, and never does. The
            // empty text stands for that, since no accepted event has it either.
            _ => "".into(),
        };
        match field {
            Field::Type => self.by_type.entry(text(scalar)).or_default(),
            Field::SourceId => self.by_source.entry(text(scalar)).or_default(),
            Field::ValueNamed(name) => {
                let values = self.by_value.entry(name.clone()).or_default();
                values.entry(scalar.clone()).or_default()
            }
        }
    }

    /// The numbers of the reactions that an event may match, ascending.
    pub fn candidates(&self, event: &Event) -> Vec<u32> {
        let mut found = self.always.clone();
        found.extend(self.by_type.get(&*event.event_type).into_iter().flatten());
        if !self.by_source.is_empty() {
            found.extend(self.by_source.get(event.source.id.as_str()).into_iter().flatten());
        }
        if !self.by_value.is_empty()
            && let Some(values) = event.values()
        {
            self.search(values, &mut found);
        }
        if found.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
        found
    }

    /// Looks at every field of the values, the first of a name or not: a few candidates too many
    /// cost less than to search for each name.
    fn search(&self, values: &Value, found: &mut Vec<u32>) {
        match values {
            Value::Object(map) => {
                for (key, value) in map {
                    if let Some(wanted) = self.by_value.get(key.as_str())
                        && let Some(scalar) = Scalar::of(value)
                    {
                        found.extend(wanted.get(&scalar).into_iter().flatten());
                    }
                    self.search(value, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.search(item, found)),
            _ => {}
        }
    }
}

/// What an event must be like for a reaction to match it, or to make progress, or to fail.
fn requirement_of(reaction: &Reaction) -> Requirement {
    let exact: Option<Vec<_>> = reaction
        .allowed_sources
        .iter()
        .map(|rule| match rule {
            SourceRule::Exact(id) => Some(Scalar::Text(id.as_str().into())),
            SourceRule::Group(_) | SourceRule::Pattern(_) => None,
        })
        .collect();
    let source = match exact {
        Some(ids) if !ids.is_empty() => Requirement::OneOf(Field::SourceId, ids),
        _ => Requirement::Anything,
    };
    Requirement::All(vec![source, of_condition(&reaction.condition)])
}

fn of_condition(condition: &Condition) -> Requirement {
    match &condition.kind {
        Kind::Filter(xpr) => xpr.requirement(),
        // One operand is enough to start a thred, or to be remembered.
        Kind::And(operands) | Kind::Or(operands) => {
            Requirement::Any(operands.iter().map(of_condition).collect())
        }
    }
}

fn count<'r>(requirement: &'r Requirement, uses: &mut HashMap<(&'r Field, &'r Scalar), usize>) {
    match requirement {
        Requirement::Anything | Requirement::Nothing => {}
        Requirement::OneOf(field, scalars) => {
            scalars.iter().for_each(|scalar| *uses.entry((field, scalar)).or_default() += 1);
        }
        Requirement::All(all) | Requirement::Any(all) => {
            all.iter().for_each(|requirement| count(requirement, uses));
        }
    }
}

/// The keys to file a requirement under: of several that must hold together, those that the
/// fewest others share.
fn keys<'r>(
    requirement: &'r Requirement,
    uses: &HashMap<(&'r Field, &'r Scalar), usize>,
) -> Keys<'r> {
    match requirement {
        Requirement::Anything => None,
        Requirement::Nothing => Some(Vec::new()),
        Requirement::OneOf(field, scalars) => {
            Some(scalars.iter().map(|scalar| (field, scalar)).collect())
        }
        Requirement::All(all) => {
            let crowd = |keys: &Vec<_>| keys.iter().filter_map(|key| uses.get(key)).sum::<usize>();
            all.iter().filter_map(|requirement| keys(requirement, uses)).min_by_key(crowd)
        }
        Requirement::Any(any) => {
            let mut together = Vec::new();
            for requirement in any {
                together.extend(keys(requirement, uses)?);
            }
            Some(together)
        }
    }
}
