//! The part of the threds that one lock guards, and what they have yet to publish.

use std::{
    borrow::Borrow,
    collections::{HashMap, HashSet},
    hash::{Hash, Hasher},
    sync::Arc,
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
    pub(super) outboxes: HashMap<ThredId, Vec<Unpublished>, FastHash>,
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

/// An entry of a commit that is not published yet; shared with the history.
#[derive(Debug)]
pub(super) struct Unpublished {
    commit: Arc<Commit>,
    place: usize,
}

impl Unpublished {
    /// All entries of a commit.
    pub(super) fn all(commit: &Arc<Commit>) -> impl Iterator<Item = Self> {
        (0..commit.outbox.len()).map(|place| Self { commit: commit.clone(), place })
    }

    pub(super) fn entry(&self) -> &OutboxEntry {
        &self.commit.outbox[self.place]
    }
}

impl Shard {
    pub(super) fn state(&self, id: &ThredId) -> Option<&Arc<ThredState>> {
        self.threds.get(id.as_str()).map(|by_id| &by_id.0)
    }

    /// The entries of a thred, oldest first.
    pub(super) fn outbox(&self, id: &ThredId) -> Vec<OutboxEntry> {
        let entries = self.outboxes.get(id).into_iter().flatten();
        entries.map(|unpublished| unpublished.entry().clone()).collect()
    }

    /// Removes entries; returns what can be freed once the lock is.
    pub(super) fn clear(&mut self, id: &ThredId, published: &[MessageId]) -> Vec<Unpublished> {
        let Some(outbox) = self.outboxes.get_mut(id) else { return vec![] };
        let in_order = outbox.iter().map(|unpublished| &unpublished.entry().id);
        if in_order.eq(published) {
            return self.outboxes.remove(id).unwrap_or_default();
        }
        let published: HashSet<_> = published.iter().collect();
        let cleared = outbox.extract_if(.., |one| published.contains(&one.entry().id)).collect();
        if outbox.is_empty() {
            self.outboxes.remove(id);
        }
        cleared
    }
}
