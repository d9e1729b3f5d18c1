//! Where live threds are found without reading all of them.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::Arc,
};

use thredlib::{ParticipantId, ThredId};

use super::keys::Sorted;
use crate::{
    hash::FastHash,
    port::ThredQuery,
    state::{PatternKey, Status, ThredState},
};

/// A thred's place among the pages: its start and its id.
pub(super) type Place = (i64, ThredId);

/// Live threds by what is asked for most.
///
/// One that starts and ends in one commit never gets in.
#[derive(Debug, Default)]
pub(super) struct LiveIndex {
    classes: HashMap<Class, Sorted<Place>, FastHash>,
    /// By names that strangers may choose.
    participants: HashMap<ParticipantId, Sorted<Place>>,
}

/// What threds are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Class {
    pub(super) pattern: Arc<PatternKey>,
    pub(super) reaction: Arc<str>,
    pub(super) status: Status,
}

impl Class {
    fn of(state: &ThredState) -> Self {
        Self {
            pattern: state.pattern.clone(),
            reaction: state.reaction.clone(),
            status: state.status,
        }
    }

    fn is(&self, query: &ThredQuery) -> bool {
        query.pattern.as_ref().is_none_or(|id| *id == self.pattern.id)
            && query.reaction.as_ref().is_none_or(|name| *name == self.reaction)
            && (query.status.is_empty() || query.status.contains(&self.status))
    }
}

impl LiveIndex {
    /// The index of some states.
    pub(super) fn of<'s>(states: impl Iterator<Item = &'s ThredState>) -> Self {
        let mut index = Self::default();
        states.for_each(|state| index.update(None, state));
        index
    }

    /// Follows a commit from one state (`None`: there was none) to another.
    pub(super) fn update(&mut self, old: Option<&ThredState>, new: &ThredState) {
        let old = old.filter(|old| old.status.is_live());
        let new = Some(new).filter(|new| new.status.is_live());
        match (old, new) {
            (None, None) => {}
            (Some(old), Some(new)) => {
                let place = place(new);
                let same = old.status == new.status
                    && old.reaction == new.reaction
                    && old.pattern == new.pattern
                    && old.started_at == new.started_at;
                if !same {
                    remove(&mut self.classes, &Class::of(old), &self::place(old));
                    insert(&mut self.classes, Class::of(new), place.clone());
                }
                self.update_participants(old, new);
            }
            (Some(old), None) => {
                let place = place(old);
                remove(&mut self.classes, &Class::of(old), &place);
                for participant in &old.participants {
                    remove(&mut self.participants, participant, &place);
                }
            }
            (None, Some(new)) => {
                let place = place(new);
                for participant in &new.participants {
                    insert(&mut self.participants, participant.clone(), place.clone());
                }
                insert(&mut self.classes, Class::of(new), place);
            }
        }
    }

    fn update_participants(&mut self, old: &ThredState, new: &ThredState) {
        if old.participants == new.participants && old.started_at == new.started_at {
            return;
        }
        // They are few, and nearly always only join.
        for participant in &old.participants {
            if old.started_at != new.started_at || !new.participants.contains(participant) {
                remove(&mut self.participants, participant, &place(old));
            }
        }
        for participant in &new.participants {
            if old.started_at != new.started_at || !old.participants.contains(participant) {
                insert(&mut self.participants, participant.clone(), place(new));
            }
        }
    }

    /// The smallest parts of the index that hold all live threds which a query may mean.
    pub(super) fn sources(&self, query: &ThredQuery) -> Vec<&Sorted<Place>> {
        let classes = self.classes.iter().filter(|(class, _)| class.is(query));
        let classes: Vec<_> = classes.map(|(_, threds)| threds).collect();
        let Some(participant) = &query.participant else { return classes };
        let Some(threds) = self.participants.get(participant) else { return vec![] };
        let in_classes: usize = classes.iter().map(|threds| threds.len()).sum();
        if threds.len() <= in_classes { vec![threds] } else { classes }
    }

    /// How many threds there are of each class.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&Class, u64)> {
        self.classes.iter().map(|(class, threds)| (class, threds.len() as u64))
    }
}

fn place(state: &ThredState) -> Place {
    (state.started_at, state.id.clone())
}

fn insert<K: Hash + Eq, S: std::hash::BuildHasher>(
    index: &mut HashMap<K, Sorted<Place>, S>,
    key: K,
    place: Place,
) {
    match index.entry(key) {
        Entry::Occupied(threds) => threds.into_mut().insert(place),
        Entry::Vacant(vacant) => _ = vacant.insert(Sorted::One(place)),
    }
}

fn remove<K: Hash + Eq, S: std::hash::BuildHasher>(
    index: &mut HashMap<K, Sorted<Place>, S>,
    key: &K,
    place: &Place,
) {
    if index.get_mut(key).is_some_and(|threds| threds.remove(place)) {
        index.remove(key);
    }
}
