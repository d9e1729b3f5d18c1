//! A group that has been written.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use thredcore::{
    memory::Kept,
    port::{Commit, Inbound},
    state::ThredState,
};
use thredlib::ThredId;

use super::{Op, What, files::Files, lock};
use crate::shared::{Head, Shared, Unpublished};

/// What it has changed.
#[derive(Default)]
pub(super) struct Written {
    pub(super) threds: HashMap<ThredId, Changed>,
    /// The commits with outboxes and their steps, in order.
    pub(super) entries: Vec<(u64, Arc<Commit>)>,
    /// The orders of new items of the event queue, in the order of the operations.
    pub(super) published: Vec<u64>,
    pub(super) newly_ended: Vec<ThredId>,
    pub(super) forgotten: Vec<ThredId>,
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
    pub(super) head: Head,
}

impl Written {
    /// Makes visible what is durable now.
    pub(super) fn show(
        self,
        shared: &Shared,
        files: &mut Files,
        ops: &mut [Op],
        new: &[(usize, Vec<bool>)],
    ) {
        for (id, place) in self.moved {
            if let Some(head) = lock(shared.shard(&id)).heads.get_mut(&id) {
                head.place = place;
            }
        }
        let mut entries: HashMap<ThredId, Vec<Unpublished>> = HashMap::new();
        for (step, commit) in self.entries {
            let id = commit.state.id.clone();
            let made = commit.outbox.iter().cloned();
            let made = made.map(|entry| Unpublished { step, entry });
            entries.entry(id).or_default().extend(made);
        }
        for (id, changed) in self.threds {
            let made = entries.remove(&id).unwrap_or_default();
            shared.update(changed.before.as_deref(), &changed.state, changed.head, made);
        }
        for id in self.forgotten {
            lock(shared.shard(&id)).heads.remove(&id);
        }
        files.ended.extend(self.newly_ended);
        shared.patterns_version.store(self.patterns_version, Ordering::Release);
        let mut orders = self.published.into_iter();
        for op in ops.iter_mut() {
            if let What::Publish { items, .. } = &mut op.what {
                let kept = |payload: Inbound, order| Kept { payload, order, attempts: 0 };
                let items = std::mem::take(items).into_iter().map(|(item, _)| item);
                shared
                    .event_q
                    .restore(items.zip(orders.by_ref()).map(|(it, order)| kept(it, order)));
            }
        }
        for (op, new) in new {
            if let What::Unmoved(records) = &ops[*op].what {
                let new = records.iter().zip(new).filter(|(_, new)| **new);
                new.for_each(|((record, ..), _)| shared.unmoved(record.log_type));
            }
        }
    }
}
