//! Patterns that are loaded together.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{
    JsonPath, Report, check_document,
    finding::Findings,
    pattern_id,
    tree::{Node, Pattern},
    words::{did_you_mean, listed, quoted},
};

/// Patterns that are validated together: their ids must differ, and each name that one of them
/// spawns must be another's id or name.
#[derive(Debug)]
pub struct PatternSet<'v> {
    patterns: Vec<(&'v str, &'v Value)>,
    /// Who was first to have an id.
    owners: HashMap<String, usize>,
    /// Ids and names, in the order of the patterns.
    names: Vec<String>,
    known: HashSet<String>,
    spawned_with_context: HashSet<&'v str>,
}

impl<'v> PatternSet<'v> {
    /// Takes documents, each with a word for people on where it comes from, as a file name.
    pub fn new(patterns: impl IntoIterator<Item = (&'v str, &'v Value)>) -> Self {
        let patterns: Vec<_> = patterns.into_iter().collect();
        let mut owners = HashMap::new();
        let mut names = Vec::new();
        let mut spawned_with_context = HashSet::new();
        for (index, (_, document)) in patterns.iter().enumerate() {
            if let Some(id) = pattern_id(document) {
                owners.entry(id.as_str().to_owned()).or_insert(index);
            }
            names.extend(called(document));
            for (spawn, name) in spawned(document) {
                if spawn.get("context").is_some_and(|context| context.value == true) {
                    spawned_with_context.extend(name.value.as_str());
                }
            }
        }
        let known = names.iter().cloned().collect();
        Self { patterns, owners, names, known, spawned_with_context }
    }

    /// How many patterns there are.
    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Validates one of the patterns, given the others.
    ///
    /// # Panics
    /// When there is no pattern of that index.
    pub fn validate(&self, index: usize) -> Report {
        check_document(self.patterns[index].1, Surroundings(Some((self, index))))
    }
}

/// Validates patterns that are loaded together; see [`PatternSet`]. The reports come in the order
/// of the patterns.
pub fn validate_set<'v>(patterns: impl IntoIterator<Item = (&'v str, &'v Value)>) -> Vec<Report> {
    let set = PatternSet::new(patterns);
    (0..set.len()).map(|index| set.validate(index)).collect()
}

/// The set that a pattern is validated in, if any, and which of the set it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'s>(pub(super) Option<(&'s PatternSet<'s>, usize)>);

impl Surroundings<'_> {
    /// Whether another pattern starts threds of this one with its own locals.
    pub(super) fn gives_locals(self, document: &Value) -> bool {
        let Some((set, _)) = self.0 else { return false };
        called(document).iter().any(|name| set.spawned_with_context.contains(name.as_str()))
    }

    pub(super) fn check(self, pattern: &Pattern, findings: &mut Findings) {
        let Some((set, index)) = self.0 else { return };
        if let Some(id) = &findings.pattern
            && let Some(owner) = set.owners.get(id.as_str()).filter(|owner| **owner != index)
        {
            let message =
                format!("the id {} is taken by {}", quoted(id.as_str()), set.patterns[*owner].0);
            let help = "give one of the two another `id`, or remove it";
            findings.error("duplicate-id", &own_name(pattern), message, help);
        }
        for (_, name) in spawned(pattern.node.value) {
            let Some(text) = name.value.as_str().filter(|text| !text.is_empty()) else { continue };
            if !set.known.contains(text) {
                let all = || {
                    format!("the known ones are {}", listed(set.names.iter().map(String::as_str)))
                };
                let help = did_you_mean(text, set.names.iter().map(String::as_str), all);
                let message = format!("no pattern has the id or name {}", quoted(text));
                findings.warning("unknown-spawn", &name.path, message, help);
            }
        }
    }
}

/// What a spawn can call a pattern: its id, and its name when it differs.
fn called(document: &Value) -> Vec<String> {
    let id = pattern_id(document).map(|id| id.as_str().to_owned());
    let name = document.get("name").and_then(Value::as_str).map(str::to_owned);
    let other_name = name.filter(|name| id.as_ref() != Some(name));
    id.into_iter().chain(other_name).collect()
}

/// The spawns of a pattern with each name that they start.
fn spawned(document: &Value) -> Vec<(Node<'_>, Node<'_>)> {
    if super::nests_too_deep(document) {
        return Vec::new();
    }
    let mut spawned = Vec::new();
    let pattern = Pattern::new(document);
    for (_, condition) in pattern.conditions() {
        let Some(spawn) = &condition.spawn else { continue };
        for name in spawn.get("names").iter().flat_map(Node::one_or_many) {
            spawned.push((spawn.clone(), name));
        }
    }
    spawned
}

/// Where to point for a pattern as a whole.
fn own_name(pattern: &Pattern) -> JsonPath {
    let named = ["id", "name"].into_iter().find_map(|key| pattern.node.get(key));
    named.map_or_else(JsonPath::root, |node| node.path)
}
