//! The match index: which conditions an event may meet, without trying them all.
//!
//! From each condition it is derived what an event must be like ([`Requirement`]); the index then
//! answers from the event's own fields. What nothing can be derived from is always a candidate, so
//! the index leaves out no condition that trying would find to match, or to fail.

use std::collections::HashMap;

use thredlib::{
    Event,
    expr::{Field, Requirement, Scalar},
    json::View,
};

use super::{Condition, Kind, Reaction, SourceRule};
use crate::hash::FastHash;

/// Finds the reactions, by their numbers, that an event may match.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// Those that nothing could be derived from.
    always: Vec<u32>,
    by_type: Lists<Box<str>>,
    by_source: Lists<Box<str>>,
    by_value: HashMap<Box<str>, Values, FastHash>,
    /// The lengths of the names in `by_value`, a bit for each: most names in an event are passed
    /// over without a look at them.
    lengths: u64,
}

/// The numbers of reactions by what they ask for, ascending.
type Lists<K> = HashMap<K, Vec<u32>, FastHash>;

/// What reactions ask of the values of one name.
#[derive(Clone, Debug, Default)]
struct Values {
    texts: Lists<Box<str>>,
    others: Lists<Scalar>,
}

/// An event that equals one of these is a candidate; `None`: every event is.
type Keys<'r> = Option<Vec<(&'r Field, &'r Scalar)>>;

impl Index {
    /// An index of reactions in this order.
    pub fn new<'p>(reactions: impl IntoIterator<Item = &'p Reaction>) -> Self {
        let requirements: Vec<_> = reactions.into_iter().map(requirement_of).collect();
        let mut uses: HashMap<(&Field, &Scalar), usize, FastHash> = HashMap::default();
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
                self.lengths |= length_bit(name);
                let values = self.by_value.entry(name.clone()).or_default();
                match scalar {
                    Scalar::Text(text) => values.texts.entry(text.clone()).or_default(),
                    other => values.others.entry(other.clone()).or_default(),
                }
            }
        }
    }

    /// The numbers of the reactions that an event may match, ascending, each once.
    pub fn candidates(&self, event: &Event) -> Candidates<'_> {
        fn of<'i>(lists: &'i Lists<Box<str>>, text: &str) -> &'i [u32] {
            lists.get(text).map_or(&[], Vec::as_slice)
        }
        let mut by_value = Vec::new();
        if self.lengths != 0
            && let Some(values) = event.view(&["content", "values"])
        {
            self.search(values, &mut by_value);
            by_value.sort_unstable();
            by_value.dedup();
        }
        let by_type = of(&self.by_type, &event.event_type);
        let by_source = of(&self.by_source, event.source.id.as_str());
        Candidates { lists: [&self.always, by_type, by_source], by_value: by_value.into_iter() }
    }

    /// Looks at every field of the values, the first of a name or not: a few candidates too many
    /// cost less than to search for each name.
    fn search(&self, values: View<'_>, found: &mut Vec<u32>) {
        match values {
            View::Object(members) => {
                for (key, value) in members.iter() {
                    if self.lengths & length_bit(key) != 0
                        && let Some(wanted) = self.by_value.get(key)
                    {
                        found.extend(wanted.of(value).into_iter().flatten());
                    }
                    self.search(value, found);
                }
            }
            View::Array(items) => items.iter().for_each(|item| self.search(item, found)),
            _ => {}
        }
    }
}

impl Values {
    fn of(&self, value: View<'_>) -> Option<&Vec<u32>> {
        match value {
            View::Text(text) => self.texts.get(text),
            other => self.others.get(&Scalar::of(other)?),
        }
    }
}

/// The bit that stands for the length of a name.
fn length_bit(name: &str) -> u64 {
    1 << name.len().min(63)
}

/// The numbers of the reactions that an event may match; see [`Index::candidates`]. Allocates
/// only when a value of the event is asked for by some reaction.
#[derive(Clone, Debug)]
pub struct Candidates<'i> {
    lists: [&'i [u32]; 3],
    by_value: std::vec::IntoIter<u32>,
}

impl Iterator for Candidates<'_> {
    type Item = u32;

    /// Merges the ascending lists.
    fn next(&mut self) -> Option<u32> {
        let by_value = self.by_value.as_slice().first();
        let heads = self.lists.iter().map(|list| list.first()).chain([by_value]);
        let least = *heads.flatten().min()?;
        for list in &mut self.lists {
            if let Some((&head, rest)) = list.split_first()
                && head == least
            {
                *list = rest;
            }
        }
        if self.by_value.as_slice().first() == Some(&least) {
            self.by_value.next();
        }
        Some(least)
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

fn count<'r>(
    requirement: &'r Requirement,
    uses: &mut HashMap<(&'r Field, &'r Scalar), usize, FastHash>,
) {
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
    uses: &HashMap<(&'r Field, &'r Scalar), usize, FastHash>,
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
