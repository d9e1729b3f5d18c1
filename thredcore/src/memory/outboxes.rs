//! The part of the threds that one lock guards, and what they have yet to publish.

use std::{
    borrow::Borrow,
    collections::{HashMap, HashSet, hash_map::Entry},
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use parking_lot::Mutex;
use thredlib::ThredId;

use super::{
    live::LiveIndex,
    parked::{Parked, can_be_parked},
};
use crate::{
    hash::FastHash,
    port::{Cleared, Commit, OutboxEntry},
    state::ThredState,
};

/// Some of the threds.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// Made when somebody asks by it for the first time, and kept up from then on: most programs that
    /// keep their threds in memory never do, and it would cost each commit.
    live: Option<LiveIndex>,
    /// Known by the id inside the state, so that an open thred costs two words here.
    pub(super) threds: HashSet<ById, FastHash>,
    pub(super) outboxes: HashMap<ThredId, Outbox, FastHash>,
    /// No entry in the outboxes was made before this time.
    oldest: Oldest,
}

/// A time that can be read without the lock: the sweep passes by what is young or empty.
#[derive(Clone, Debug)]
pub(super) struct Oldest(Arc<AtomicI64>);

impl Default for Oldest {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MAX)))
    }
}

impl Oldest {
    pub(super) fn is_before(&self, time: i64) -> bool {
        self.0.load(Ordering::Relaxed) < time
    }
}

/// A state, found by its thred's id.
#[derive(Debug)]
pub(super) struct ById {
    pub(super) state: Arc<ThredState>,
    /// The number of its last step on record.
    pub(super) last_step: u64,
}

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        self.state.id.as_str()
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.state.id.as_str().hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.state.id == other.state.id
    }
}

impl Eq for ById {}

/// What is not published yet, oldest first; shared with the history.
#[derive(Debug)]
pub(super) enum Outbox {
    /// All that one commit has put out: nearly always.
    Whole(Arc<Commit>),
    Parts(Vec<Unpublished>),
}

/// An entry of a commit.
#[derive(Debug)]
pub(super) struct Unpublished {
    commit: Arc<Commit>,
    place: u32,
    is_parked: bool,
}

impl Unpublished {
    fn all(commit: &Arc<Commit>) -> impl Iterator<Item = Self> {
        let places = 0..commit.outbox.len() as u32;
        places.map(|place| Self { commit: commit.clone(), place, is_parked: false })
    }

    pub(super) fn entry(&self) -> &OutboxEntry {
        &self.commit.outbox[self.place as usize]
    }
}

impl Outbox {
    pub(super) fn entries(&self) -> impl Iterator<Item = &OutboxEntry> {
        let (whole, parts): (&[OutboxEntry], &[Unpublished]) = match self {
            Self::Whole(commit) => (&commit.outbox, &[]),
            Self::Parts(parts) => (&[], parts),
        };
        whole.iter().chain(parts.iter().map(Unpublished::entry))
    }

    /// When the oldest entry was made that is not parked.
    pub(super) fn oldest_unparked(&self) -> Option<i64> {
        match self {
            Self::Whole(commit) => commit.outbox.iter().map(|entry| entry.at).min(),
            Self::Parts(parts) => {
                parts.iter().filter(|one| !one.is_parked).map(|one| one.entry().at).min()
            }
        }
    }

    fn parts(&mut self) -> &mut Vec<Unpublished> {
        if let Self::Whole(commit) = self {
            *self = Self::Parts(Unpublished::all(commit).collect());
        }
        match self {
            Self::Parts(parts) => parts,
            Self::Whole(_) => unreachable!("just taken apart"),
        }
    }
}

impl Shard {
    /// The threds, and where live ones are found.
    pub(super) fn threds_and_live(&mut self) -> (&HashSet<ById, FastHash>, &LiveIndex) {
        let threds = &self.threds;
        let states = || threds.iter().map(|thred| &*thred.state);
        (threds, self.live.get_or_insert_with(|| LiveIndex::of(states())))
    }

    /// Puts a state in the place of the one before, and gives that.
    pub(super) fn replace(
        &mut self,
        state: Arc<ThredState>,
        last_step: u64,
    ) -> Option<Arc<ThredState>> {
        let old = self.threds.replace(ById { state: state.clone(), last_step });
        let old = old.map(|old| old.state);
        if let Some(live) = &mut self.live {
            live.update(old.as_deref(), &state);
        }
        old
    }

    pub(super) fn state(&self, id: &ThredId) -> Option<&Arc<ThredState>> {
        self.threds.get(id.as_str()).map(|by_id| &by_id.state)
    }

    /// Whether a thred has ended and published all that it had to.
    pub(super) fn is_done(&self, id: &ThredId) -> bool {
        let ended = self.state(id).is_some_and(|state| !state.status.is_live());
        ended && !self.outboxes.contains_key(id)
    }

    /// The entries of a thred, oldest first.
    pub(super) fn outbox(&self, id: &ThredId) -> Vec<OutboxEntry> {
        self.outboxes.get(id).into_iter().flat_map(Outbox::entries).cloned().collect()
    }

    /// Adds what a commit puts out.
    pub(super) fn put_out(&mut self, commit: &Arc<Commit>) {
        let oldest = commit.outbox.iter().map(|entry| entry.at).min();
        self.oldest.0.fetch_min(oldest.unwrap_or(i64::MAX), Ordering::Relaxed);
        match self.outboxes.entry(commit.state.id.clone()) {
            Entry::Vacant(place) => _ = place.insert(Outbox::Whole(commit.clone())),
            Entry::Occupied(outbox) => {
                outbox.into_mut().parts().extend(Unpublished::all(commit));
            }
        }
    }

    /// Removes published entries and parks others; returns what can be freed once the lock is.
    pub(super) fn clear<'p>(
        &mut self,
        cleared: &Cleared,
        parked: impl Fn() -> &'p Mutex<Parked>,
    ) -> Option<Outbox> {
        let id = &cleared.thred;
        let Entry::Occupied(mut outbox) = self.outboxes.entry(id.clone()) else { return None };
        let is_whole = matches!(outbox.get(), Outbox::Whole(_));
        let gone =
            if is_whole && outbox.get().entries().map(|entry| &entry.id).eq(&cleared.published) {
                outbox.remove()
            } else {
                let published: HashSet<_> = cleared.published.iter().collect();
                let to_park: HashSet<_> = cleared.parked.iter().collect();
                let parts = outbox.get_mut().parts();
                let gone: Vec<_> =
                    parts.extract_if(.., |one| published.contains(&one.entry().id)).collect();
                for one in gone.iter().filter(|one| one.is_parked) {
                    parked().lock().remove(id, one.entry());
                }
                for one in parts.iter_mut().filter(|one| to_park.contains(&one.entry().id)) {
                    if !one.is_parked && can_be_parked(one.entry()) {
                        one.is_parked = true;
                        parked().lock().insert(id, one.entry());
                    }
                }
                if parts.is_empty() {
                    outbox.remove();
                }
                Outbox::Parts(gone)
            };
        if self.outboxes.is_empty() {
            self.oldest.0.store(i64::MAX, Ordering::Relaxed);
        }
        Some(gone)
    }

    /// The outboxes of a partition with unparked entries made before a time, with that of the
    /// oldest.
    pub(super) fn pending(
        &self,
        made_before: i64,
        is_meant: impl Fn(&ThredId) -> bool,
        into: &mut Vec<(i64, ThredId)>,
    ) {
        let mut oldest = i64::MAX;
        for (id, outbox) in &self.outboxes {
            let Some(at) = outbox.oldest_unparked() else { continue };
            oldest = oldest.min(at);
            if at < made_before && is_meant(id) {
                into.push((at, id.clone()));
            }
        }
        // Exact again: what was published or parked since was older, maybe.
        self.oldest.0.store(oldest, Ordering::Relaxed);
    }

    pub(super) fn oldest(&self) -> &Oldest {
        &self.oldest
    }
}
