//! A group that has been written.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use thredcore::{
    port::{Commit, LogType},
    state::ThredState,
};
use thredlib::ThredId;

use super::{Op, What};
use crate::{
    index::Place,
    outboxes::{Entry, Unpublished},
    queue::{Item, Tried},
    shared::Shared,
    storage::texts::Header,
};

/// What it has changed.
#[derive(Default)]
pub(super) struct Written {
    pub(super) threds: HashMap<ThredId, Changed>,
    /// The commits with outboxes and their steps, in order.
    pub(super) entries: Vec<(u64, Arc<Commit>)>,
    /// The orders of new items of the event queue, in the order of the operations.
    pub(super) published: Vec<u64>,
    /// What was recorded of events that changed nothing.
    pub(super) unmoved: Vec<LogType>,
    /// Ended threds that are gone, with who took part in them.
    pub(super) forgotten: HashMap<ThredId, Vec<u64>>,
    /// Threds that could not be read and are gone.
    pub(super) moved_out: Vec<Header>,
    /// Threds whose states are elsewhere now.
    pub(super) moved: Vec<(ThredId, u64)>,
    pub(super) patterns_version: u64,
    /// Whether anything is on the disk beside what the segments hold.
    pub(super) is_dirty: bool,
}

/// A thred that has changed.
pub(super) struct Changed {
    pub(super) before: Option<Arc<ThredState>>,
    pub(super) state: Arc<ThredState>,
    pub(super) at: Place,
}

impl Written {
    /// Makes visible what is durable now.
    pub(super) fn show(self, shared: &Shared, ops: &mut [Op]) {
        for (id, place) in self.moved {
            shared.shard(&id).lock().index.move_to(&id, place);
        }
        let mut entries: HashMap<ThredId, Vec<Unpublished>> = HashMap::new();
        for (step, commit) in self.entries {
            let id = commit.state.id.clone();
            let made = commit.outbox.iter().cloned();
            let made = made.map(|entry| Unpublished { step, entry: Entry::Whole(entry) });
            entries.entry(id).or_default().extend(made);
        }
        for (id, changed) in self.threds {
            let made = entries.remove(&id).unwrap_or_default();
            shared.update(changed.before.as_deref(), &changed.state, changed.at, made);
        }
        for (id, participants) in self.forgotten {
            shared.forget(&id, &participants);
        }
        for header in self.moved_out {
            shared.forget_unreadable(&header);
        }
        shared.patterns_version.store(self.patterns_version, Ordering::Release);
        self.unmoved.into_iter().for_each(|decision| shared.unmoved(decision));
        let mut orders = self.published.into_iter();
        for op in ops.iter_mut() {
            match &mut op.what {
                What::Publish { items, at, .. } => {
                    let at = *at;
                    let items = std::mem::take(items).into_iter().zip(orders.by_ref());
                    shared.events.add(items.map(|((payload, _), order)| Item {
                        payload,
                        order,
                        at,
                        tried: Tried::default(),
                    }));
                }
                What::Buried { queue, letters, .. } => {
                    shared.dead(*queue).written(letters.iter().map(|letter| letter.number));
                }
                _ => {}
            }
        }
    }
}
