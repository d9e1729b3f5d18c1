//! The patterns in use.

use std::{collections::HashMap, sync::Arc};

use thredlib::{Event, PatternId, expr::Scope};

use super::{Pattern, index::Index};
use crate::{
    hash::FastHash,
    state::{PatternKey, WaitKey},
};

/// The patterns that the engine knows, as one immutable value: replaced whole when a pattern
/// changes, so that every event meets one consistent set.
#[derive(Clone, Debug, Default)]
pub struct Library {
    current: Arc<Current>,
    /// Every revision that is known, older ones included.
    revisions: HashMap<Arc<PatternKey>, Arc<Pattern>, FastHash>,
    /// The revisions and reactions that may hold threds which wait for unbound events.
    listening: Vec<(Arc<Pattern>, usize)>,
    listening_index: Index,
}

/// The current revision of each pattern.
#[derive(Debug, Default)]
struct Current {
    by_id: HashMap<PatternId, Arc<Pattern>, FastHash>,
    by_name: HashMap<Arc<str>, PatternId, FastHash>,
    /// The active ones, sorted by id: the order in which an event starts threds.
    entries: Vec<Arc<Pattern>>,
    index: Index,
}

impl Library {
    /// Of these current revisions, and older ones that threds still run.
    pub fn new(
        current: impl IntoIterator<Item = Arc<Pattern>>,
        older: impl IntoIterator<Item = Arc<Pattern>>,
    ) -> Self {
        let current = Current::new(current);
        let revisions = older.into_iter().chain(current.by_id.values().cloned());
        Self::of(revisions.collect(), Arc::new(current))
    }

    fn of(revisions: Vec<Arc<Pattern>>, current: Arc<Current>) -> Self {
        let revisions: HashMap<_, _, _> =
            revisions.into_iter().map(|pattern| (pattern.key.clone(), pattern)).collect();
        let mut listening: Vec<_> = revisions
            .values()
            .flat_map(|pattern| {
                let reactions = pattern.reactions.iter().enumerate();
                let waiting = reactions.filter(|(_, reaction)| reaction.allow_unbound);
                waiting.map(|(index, _)| (pattern.clone(), index))
            })
            .collect();
        listening.sort_by(|(a, i), (b, j)| (&a.key, i).cmp(&(&b.key, j)));
        let waiting = listening.iter().map(|(pattern, index)| &pattern.reactions[*index]);
        let listening_index = Index::new(waiting);
        Self { current, revisions, listening, listening_index }
    }

    /// The same with more revisions that threds still run; the current ones stay.
    #[must_use]
    pub fn with_older(&self, older: impl IntoIterator<Item = Arc<Pattern>>) -> Self {
        let revisions = self.revisions.values().cloned().chain(older);
        Self::of(revisions.collect(), self.current.clone())
    }

    /// The same without the older revisions that are not to be kept.
    #[must_use]
    pub fn without_older(&self, keep: impl Fn(&Pattern) -> bool) -> Self {
        let is_current = |pattern: &Pattern| {
            self.current(&pattern.key.id).is_some_and(|current| current.key == pattern.key)
        };
        let revisions = self.revisions.values();
        let kept = revisions.filter(|pattern| is_current(pattern) || keep(pattern)).cloned();
        Self::of(kept.collect(), self.current.clone())
    }

    /// The current revision of a pattern.
    pub fn current(&self, id: &PatternId) -> Option<&Arc<Pattern>> {
        self.current.by_id.get(id)
    }

    /// The current revisions, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Pattern>> {
        self.current.by_id.values()
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
        let by_id = &self.current.by_id;
        by_id.get(id_or_name).or_else(|| by_id.get(self.current.by_name.get(id_or_name)?))
    }

    /// The patterns that an unbound event may start a thred of, in order.
    pub fn entries(&self) -> &[Arc<Pattern>] {
        &self.current.entries
    }

    /// The patterns that this unbound event may start a thred of, in order.
    pub fn candidates(&self, event: &Event) -> impl Iterator<Item = &Arc<Pattern>> {
        let numbers = self.current.index.candidates(event);
        numbers.filter_map(|number| self.current.entries.get(number as usize))
    }

    /// The reactions in which threds may wait for unbound events, in order.
    pub fn all_listening(&self) -> &[(Arc<Pattern>, usize)] {
        &self.listening
    }

    /// The reactions in which threds may wait for this unbound event, in order.
    pub fn listening(&self, event: &Event) -> impl Iterator<Item = &(Arc<Pattern>, usize)> {
        let numbers = self.listening_index.candidates(event);
        numbers.filter_map(|number| self.listening.get(number as usize))
    }

    /// Where to look for the threds that may wait for this unbound event, in the order of
    /// [`listening`](Self::listening). A thred may be filed under several of the keys.
    pub fn awaited(&self, event: &Arc<Event>) -> Vec<Awaited> {
        let mut scope = Scope::new(event.clone(), 0, 0);
        let listening = self.listening(event).map(|(pattern, reaction)| {
            let keys = pattern.reactions[*reaction].waits.keys_of_event(&mut scope);
            Awaited { pattern: pattern.clone(), reaction: *reaction, keys }
        });
        listening.collect()
    }
}

/// Where threds may wait for an unbound event: see [`Library::awaited`].
#[derive(Clone, Debug)]
pub struct Awaited {
    /// The revision that they run.
    pub pattern: Arc<Pattern>,
    /// The number of the reaction that they wait in.
    pub reaction: usize,
    /// The keys that they may be filed under: sorted, each once, the reaction's any-key included.
    pub keys: Vec<WaitKey>,
}

impl Current {
    fn new(patterns: impl IntoIterator<Item = Arc<Pattern>>) -> Self {
        let by_id: HashMap<_, _, _> =
            patterns.into_iter().map(|pattern| (pattern.key.id.clone(), pattern)).collect();
        let by_name = by_id.values().map(|p| (p.name.clone(), p.key.id.clone())).collect();
        let mut entries: Vec<_> = by_id.values().filter(|p| p.active).cloned().collect();
        entries.sort_by(|a, b| a.key.id.cmp(&b.key.id));
        let index = Index::new(entries.iter().map(|pattern| pattern.entry()));
        Self { by_id, by_name, entries, index }
    }
}
