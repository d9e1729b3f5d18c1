//! What a storage has seen since it was made.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use parking_lot::Mutex;

use crate::port::LogType;

/// What a [`MemoryStorage`](super::MemoryStorage) has seen, what it no longer keeps included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Threds that were started.
    pub started: u64,
    /// Threds that have ended; the others are live.
    pub ended: u64,
    /// Events that moved no thred, by what was decided about them.
    pub unmoved: HashMap<LogType, u64>,
}

impl Tally {
    /// Threds that have not ended.
    pub fn live(&self) -> u64 {
        self.started.saturating_sub(self.ended)
    }

    /// Events about which this was decided and that moved no thred.
    pub fn of(&self, decision: LogType) -> u64 {
        self.unmoved.get(&decision).copied().unwrap_or_default()
    }
}

/// Counts while others do.
#[derive(Debug, Default)]
pub(super) struct Counters {
    started: AtomicU64,
    ended: AtomicU64,
    unmoved: Mutex<HashMap<LogType, u64>>,
}

impl Counters {
    pub(super) fn commit(&self, started: bool, ended: bool) {
        if started {
            self.started.fetch_add(1, Ordering::Relaxed);
        }
        if ended {
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn unmoved(&self, decision: LogType) {
        *self.unmoved.lock().entry(decision).or_default() += 1;
    }

    pub(super) fn tally(&self) -> Tally {
        Tally {
            // In this order, so that no thred has ended before it was started.
            ended: self.ended.load(Ordering::Relaxed),
            started: self.started.load(Ordering::Relaxed),
            unmoved: self.unmoved.lock().clone(),
        }
    }
}

/// How many consumers wait at this moment.
#[derive(Debug, Default)]
pub(super) struct Waiting(AtomicU32);

/// A consumer that waits, until this is dropped.
#[derive(Debug)]
pub(super) struct Entered<'w>(&'w Waiting);

impl Waiting {
    pub(super) fn enter(&self) -> Entered<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(self)
    }

    /// How many consumers there are: those that wait, or else one that has something in hand.
    pub(super) fn consumers(&self, has_items_out: bool) -> u32 {
        self.0.load(Ordering::Relaxed).max(u32::from(has_items_out))
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
