//! Ended threds, in the order of their ending.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use thredlib::ThredId;

use crate::state::ThredState;

/// Which threds have ended, and which of them are beyond the number to be kept.
#[derive(Debug)]
pub(super) struct Ending {
    /// By partition.
    threds: Box<[Mutex<Ended>]>,
    /// How many have ended.
    count: AtomicU64,
    /// How many are to be kept: the latest of all partitions.
    keep: u64,
}

/// Each with the number of its ending. With the state at hand nobody has to look for it.
type Ended = VecDeque<(u64, Arc<ThredState>)>;

impl Ending {
    pub(super) fn new(partitions: u16, keep: usize) -> Self {
        Self {
            threds: (0..partitions).map(|_| Mutex::default()).collect(),
            count: AtomicU64::new(0),
            keep: keep as u64,
        }
    }

    /// A thred has ended.
    pub(super) fn push(&self, partition: u16, state: Arc<ThredState>) {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.threds[usize::from(partition)].lock().push_back((number, state));
    }

    /// Looks at the threds of a partition beyond the number to be kept, oldest end first.
    pub(super) fn surplus<T: Default>(
        &self,
        partition: u16,
        look: impl FnOnce(&mut dyn Iterator<Item = &Arc<ThredState>>) -> T,
    ) -> T {
        let Some(threds) = self.threds.get(usize::from(partition)) else { return T::default() };
        let end = self.count.load(Ordering::Relaxed).saturating_sub(self.keep);
        let threds = threds.lock();
        look(&mut threds.iter().take_while(|(number, _)| *number < end).map(|(_, state)| state))
    }

    /// Threds of a partition are forgotten.
    pub(super) fn remove<'t>(&self, partition: u16, ids: impl Iterator<Item = &'t ThredId>) {
        let mut threds = self.threds[usize::from(partition)].lock();
        // Nearly always they are the first ones, in their order.
        let mut ids = ids.peekable();
        while let Some((_, first)) = threds.front()
            && ids.next_if(|id| **id == first.id).is_some()
        {
            threds.pop_front();
        }
        if ids.peek().is_some() {
            let ids: HashSet<_> = ids.collect();
            threds.retain(|(_, state)| !ids.contains(&state.id));
        }
    }

    /// All ended threds of a partition.
    pub(super) fn all(&self, partition: u16) -> Vec<ThredId> {
        let threds = self.threds[usize::from(partition)].lock();
        threds.iter().map(|(_, state)| state.id.clone()).collect()
    }
}
