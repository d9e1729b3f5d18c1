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

use thredlib::{MessageId, ThredId};

use crate::{
    hash::FastHash,
    port::{Commit, OutboxEntry},
    state::ThredState,
};

/// Some of the threds.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// Known by the id inside the state, so that an open thred costs one pointer here.
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
pub(super) struct ById(pub(super) Arc<ThredState>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        self.0.id.as_str()
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.as_str().hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
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
    place: usize,
}

impl Unpublished {
    fn all(commit: &Arc<Commit>) -> impl Iterator<Item = Self> {
        (0..commit.outbox.len()).map(|place| Self { commit: commit.clone(), place })
    }

    fn entry(&self) -> &OutboxEntry {
        &self.commit.outbox[self.place]
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
    pub(super) fn state(&self, id: &ThredId) -> Option<&Arc<ThredState>> {
        self.threds.get(id.as_str()).map(|by_id| &by_id.0)
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

    /// Removes entries; returns what can be freed once the lock is.
    pub(super) fn clear(&mut self, id: &ThredId, published: &[MessageId]) -> Option<Outbox> {
        let Entry::Occupied(mut outbox) = self.outboxes.entry(id.clone()) else { return None };
        let cleared = if outbox.get().entries().map(|entry| &entry.id).eq(published) {
            outbox.remove()
        } else {
            let published: HashSet<_> = published.iter().collect();
            let parts = outbox.get_mut().parts();
            let cleared = parts.extract_if(.., |one| published.contains(&one.entry().id)).collect();
            if parts.is_empty() {
                outbox.remove();
            }
            Outbox::Parts(cleared)
        };
        if self.outboxes.is_empty() {
            self.oldest.0.store(i64::MAX, Ordering::Relaxed);
        }
        Some(cleared)
    }

    pub(super) fn oldest(&self) -> &Oldest {
        &self.oldest
    }
}
