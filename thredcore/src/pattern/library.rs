//! The patterns in use.

use std::{collections::HashMap, sync::Arc};

use thredlib::{Event, PatternId};

use super::{Pattern, index::Index};
use crate::state::PatternKey;

/// The patterns that the engine knows, as one immutable value: replaced whole when a pattern
/// changes, so that every event meets one consistent set.
#[derive(Clone, Debug, Default)]
pub struct Library {
    /// The current revision of each pattern.
    current: HashMap<PatternId, Arc<Pattern>>,
    by_name: HashMap<Arc<str>, PatternId>,
    /// Every revision that is known, older ones included.
    revisions: HashMap<PatternKey, Arc<Pattern>>,
    /// The current, active patterns, sorted by id: the order in which an event starts threds.
    entries: Vec<Arc<Pattern>>,
    entry_index: Index,
    /// The revisions and reactions that may hold threds which wait for unbound events.
    listening: Vec<(Arc<Pattern>, usize)>,
    listening_index: Index,
}

impl Library {
    /// Of these current revisions, and older ones that threds still run.
    pub fn new(
        current: impl IntoIterator<Item = Arc<Pattern>>,
        older: impl IntoIterator<Item = Arc<Pattern>>,
    ) -> Self {
        let current: HashMap<_, _> =
            current.into_iter().map(|pattern| (pattern.key.id.clone(), pattern)).collect();
        let mut entries: Vec<_> = current.values().filter(|p| p.active).cloned().collect();
        entries.sort_by(|a, b| a.key.id.cmp(&b.key.id));
        let revisions: HashMap<_, _> = (older.into_iter().chain(current.values().cloned()))
            .map(|pattern| ((*pattern.key).clone(), pattern))
            .collect();
        let mut listening: Vec<_> = revisions
            .values()
            .flat_map(|pattern| {
                let reactions = pattern.reactions.iter().enumerate();
                let waiting = reactions.filter(|(_, reaction)| reaction.allow_unbound);
                waiting.map(|(index, _)| (pattern.clone(), index))
            })
            .collect();
        listening.sort_by(|(a, i), (b, j)| (&a.key, i).cmp(&(&b.key, j)));
        let by_name = current.values().map(|p| (p.name.clone(), p.key.id.clone())).collect();
        let entry_index = Index::new(entries.iter().map(|pattern| pattern.entry()));
        let waiting = listening.iter().map(|(pattern, index)| &pattern.reactions[*index]);
        let listening_index = Index::new(waiting);
        Self { current, by_name, revisions, entries, entry_index, listening, listening_index }
    }

    /// The current revision of a pattern.
    pub fn current(&self, id: &PatternId) -> Option<&Arc<Pattern>> {
        self.current.get(id)
    }

    /// The current revisions, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Pattern>> {
        self.current.values()
    }

    /// One revision.
    pub fn revision(&self, key: &PatternKey) -> Option<&Arc<Pattern>> {
        self.revisions.get(key)
    }

    /// Every revision that is known.
    pub fn revisions(&self) -> impl Iterator<Item = &Arc<Pattern>> {
        self.revisions.values()
    }

    /// The pattern of an id or a name, as `spawn` writes it.
    pub fn find(&self, id_or_name: &str) -> Option<&Arc<Pattern>> {
        self.current.get(id_or_name).or_else(|| self.current.get(self.by_name.get(id_or_name)?))
    }

    /// The patterns that an unbound event may start a thred of, in order.
    pub fn entries(&self) -> &[Arc<Pattern>] {
        &self.entries
    }

    /// The patterns that this unbound event may start a thred of, in order.
    pub fn candidates(&self, event: &Event) -> impl Iterator<Item = &Arc<Pattern>> {
        let numbers = self.entry_index.candidates(event).into_iter();
        numbers.filter_map(|number| self.entries.get(number as usize))
    }

    /// The reactions in which threds may wait for this unbound event.
    pub fn listening(&self, event: &Event) -> impl Iterator<Item = &(Arc<Pattern>, usize)> {
        let numbers = match self.listening.is_empty() {
            true => Vec::new(),
            false => self.listening_index.candidates(event),
        };
        numbers.into_iter().filter_map(|number| self.listening.get(number as usize))
    }
}
