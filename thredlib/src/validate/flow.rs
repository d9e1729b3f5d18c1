//! How threds move between the reactions of a pattern.

use std::collections::HashMap;

use super::{
    Spot,
    conditions::{Directives, collect},
    finding::Findings,
    tree::{Node, Pattern, Reaction},
    words::{did_you_mean, listed, quoted},
};
use crate::{ConditionType, transition_name};

const RESERVED: [&str; 3] =
    [transition_name::NEXT, transition_name::TERMINATE, transition_name::NO_TRANSITION];

/// Reaction names and the targets of transitions.
pub(super) fn check_names(pattern: &Pattern, findings: &mut Findings) {
    let mut first: HashMap<&str, usize> = HashMap::new();
    for reaction in &pattern.reactions {
        own_name(reaction, findings);
        if let Some(earlier) = first.get(reaction.name.as_str()) {
            duplicate(reaction, *earlier, findings);
        } else {
            first.insert(&reaction.name, reaction.index);
        }
    }
    let conditions = pattern.conditions();
    let matched = conditions.iter().filter_map(|(_, condition)| condition.transition.clone());
    let expired = pattern
        .reactions
        .iter()
        .filter_map(|reaction| running_expiry(&reaction.node)?.get("transition"));
    for transition in matched.chain(expired) {
        let Some(name) = target_name(&transition) else { continue };
        if !RESERVED.contains(&name) && !first.contains_key(name) {
            unknown_target(pattern, &transition, name, findings);
        }
    }
}

fn own_name(reaction: &Reaction, findings: &mut Findings) {
    let Some(name) = reaction.node.text("name") else { return };
    let path = reaction.node.path.key("name");
    if name.is_empty() {
        let message = format!("the empty name is replaced by {}", quoted(&reaction.name));
        findings.warning("empty-name", &path, message, "name the reaction, or remove the name");
    } else if name.starts_with('$') {
        let message = format!("the reaction's name {} starts with `$`", quoted(name));
        let help = format!("rename it: `$` is reserved, as in {}", listed(RESERVED));
        findings.warning("reserved-name", &path, message, help);
    }
}

fn duplicate(reaction: &Reaction, earlier: usize, findings: &mut Findings) {
    let written = reaction.node.text("name").is_some_and(|name| !name.is_empty());
    let path = if written { reaction.node.path.key("name") } else { reaction.node.path.clone() };
    let message =
        format!("reaction {earlier} is called {} too, counted from 0", quoted(&reaction.name));
    let help = if written {
        "rename one of the two, and the transitions that mean it"
    } else {
        "name this reaction: left out, its name is made from the pattern's and its index"
    };
    findings.error("duplicate-reaction", &path, message, help);
}

fn unknown_target(pattern: &Pattern, transition: &Node, name: &str, findings: &mut Findings) {
    let all = || format!("the reactions are {}", listed(pattern.names()));
    let help = did_you_mean(name, pattern.names().chain(RESERVED), all);
    let path = if transition.value.is_string() {
        transition.path.clone()
    } else {
        transition.path.key("name")
    };
    let message = format!("no reaction is called {}", quoted(name));
    findings.error("unknown-reaction", &path, message, help).at(Spot::Value);
}

/// Reactions that no thred gets to, and chains that never end. Only for a pattern without errors:
/// an unknown transition would make everything behind it look out of reach.
pub(super) fn check_routes(pattern: &Pattern, findings: &mut Findings) {
    let routes = Routes::new(pattern);
    let reached = routes.reached();
    for reaction in pattern.reactions.iter().filter(|reaction| !reached[reaction.index]) {
        let path = match reaction.node.get("name") {
            Some(name) => name.path,
            None => reaction.node.path.clone(),
        };
        let message = format!("no transition leads to reaction {}", quoted(&reaction.name));
        let help = "point a transition at it, or remove it";
        findings.warning("unreachable-reaction", &path, message, help);
    }
    forward_cycles(pattern, &routes, findings);
}

/// Where a transition leads.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    Reaction(usize),
    End,
}

struct Routes<'p, 'v> {
    pattern: &'p Pattern<'v>,
    by_name: HashMap<&'p str, usize>,
}

impl<'p, 'v> Routes<'p, 'v> {
    fn new(pattern: &'p Pattern<'v>) -> Self {
        let by_name = pattern.reactions.iter().map(|r| (r.name.as_str(), r.index)).collect();
        Self { pattern, by_name }
    }

    fn target(&self, from: usize, transition: Option<&Node>) -> Target {
        let name = transition.and_then(|node| target_name(node));
        let next = match name.unwrap_or(transition_name::NEXT) {
            transition_name::NEXT => from + 1,
            transition_name::TERMINATE => return Target::End,
            transition_name::NO_TRANSITION => from,
            name => self.by_name.get(name).copied().unwrap_or(usize::MAX),
        };
        if next < self.pattern.reactions.len() { Target::Reaction(next) } else { Target::End }
    }

    fn outcomes<'r>(&self, reaction: &'r Reaction<'v>) -> Vec<Directives<'r, 'v>> {
        let mut outcomes = Vec::new();
        if let Some(condition) = &reaction.condition {
            collect(condition, Directives::default(), &mut outcomes);
        }
        outcomes
    }

    fn reached(&self) -> Vec<bool> {
        let mut reached = vec![false; self.pattern.reactions.len()];
        let mut open = vec![Target::Reaction(0)];
        while let Some(target) = open.pop() {
            let Target::Reaction(index) = target else { continue };
            let Some(seen @ false) = reached.get_mut(index) else { continue };
            *seen = true;
            let reaction = &self.pattern.reactions[index];
            let outcomes = self.outcomes(reaction);
            open.extend(outcomes.iter().map(|o| self.target(index, o.transition)));
            if let Some(expiry) = running_expiry(&reaction.node) {
                open.push(self.target(index, expiry.get("transition").as_ref()));
            }
        }
        reached
    }

    /// The reaction that certainly gets the same event at once when this one has matched it.
    fn forwarded(&self, reaction: &Reaction) -> Option<usize> {
        let condition = reaction.condition.as_ref()?;
        let transition = condition.transition.as_ref()?;
        if condition.kind != Some(ConditionType::Filter)
            || transition.text("input") != Some("forward")
        {
            return None;
        }
        match self.target(reaction.index, Some(transition)) {
            Target::Reaction(index) => Some(index),
            Target::End => None,
        }
    }
}

/// Warns of forwards in a circle where each filter is sure to match an event that the first one
/// matched: the same filter again, or one that is always true.
fn forward_cycles(pattern: &Pattern, routes: &Routes, findings: &mut Findings) {
    let mut settled = vec![false; pattern.reactions.len()];
    for start in 0..pattern.reactions.len() {
        let mut chain: Vec<usize> = Vec::new();
        let mut at = Some(start);
        while let Some(index) = at.filter(|index| !settled[*index]) {
            if let Some(position) = chain.iter().position(|seen| *seen == index) {
                if surely_endless(pattern, &chain[position..]) {
                    endless(pattern, &chain[position..], findings);
                }
                break;
            }
            chain.push(index);
            at = routes.forwarded(&pattern.reactions[index]);
        }
        chain.into_iter().for_each(|index| settled[index] = true);
    }
}

fn surely_endless(pattern: &Pattern, circle: &[usize]) -> bool {
    /// What may differ between two evaluations over the same event.
    const CHANGING: [&str; 8] =
        ["local", "Local", "isResponseFor", "thredId", "random", "now", "millis", "eval"];
    let mut filter = None;
    circle.iter().all(|index| {
        let reaction = &pattern.reactions[*index];
        let text = reaction.condition.as_ref().and_then(|condition| condition.node.text("xpr"));
        let Some(text) = text.map(str::trim) else { return false };
        let open_to_all = ["allowedSources", "permissions"]
            .iter()
            .all(|restriction| reaction.node.get(restriction).is_none());
        let steady = !CHANGING.iter().any(|name| text.contains(name));
        let same = text == "true" || *filter.get_or_insert(text) == text;
        steady && same && (circle.len() == 1 || open_to_all)
    })
}

fn endless(pattern: &Pattern, circle: &[usize], findings: &mut Findings) {
    let first = &pattern.reactions[circle[0]];
    let transition = first.condition.as_ref().and_then(|condition| condition.transition.as_ref());
    let Some(transition) = transition else { return };
    let names = circle.iter().map(|index| pattern.reactions[*index].name.as_str());
    let message = format!("the event is forwarded without end through {}", listed(names));
    let help = "wait for the next event (leave out `input`) somewhere in the circle";
    findings.warning("forward-cycle", &transition.path, message, help);
}

/// The name in a transition, if it says one.
fn target_name<'v>(transition: &Node<'v>) -> Option<&'v str> {
    transition.value.as_str().or_else(|| transition.text("name"))
}

/// An interval of 0 never expires.
fn running_expiry<'v>(reaction: &Node<'v>) -> Option<Node<'v>> {
    let expiry = reaction.get("expiry")?;
    (expiry.get("interval")?.value.as_u64() != Some(0)).then_some(expiry)
}
