//! How long each stage of an event's way takes, on average.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use parking_lot::{Mutex, MutexGuard};
use thredlib::ThredId;

/// Follows threds that are moved by one event each, while it watches.
#[derive(Debug, Default)]
pub(super) struct Stages {
    watching: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// When the load of a thred began.
    loading: HashMap<ThredId, Instant>,
    committed: HashMap<ThredId, Instant>,
    transition: Mean,
    routing: Mean,
}

/// Means, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StageMeans {
    /// From loading a thred, or from its first commit, until the commit is confirmed.
    pub(crate) transition: f64,
    /// From there until the receiver of its message has it.
    pub(crate) routing: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn add(&mut self, since: Instant) {
        self.sum += since.elapsed().as_secs_f64() * 1e6;
        self.count += 1.0;
    }

    fn value(self) -> f64 {
        self.sum / self.count.max(1.0)
    }
}

impl Stages {
    /// Begins to watch.
    pub(super) fn watch(&self) {
        *self.seen() = Seen::default();
        self.watching.store(true, Ordering::Relaxed);
    }

    /// Ends it, and tells what was seen.
    pub(super) fn means(&self) -> StageMeans {
        self.watching.store(false, Ordering::Relaxed);
        let seen = std::mem::take(&mut *self.seen());
        StageMeans { transition: seen.transition.value(), routing: seen.routing.value() }
    }

    /// Threds are being loaded.
    pub(super) fn loading(&self, ids: &[ThredId]) {
        if self.watching.load(Ordering::Relaxed) {
            let (now, mut seen) = (Instant::now(), self.seen());
            seen.loading.extend(ids.iter().map(|id| (id.clone(), now)));
        }
    }

    /// A thred has been committed, by a call that began then.
    pub(super) fn committed(&self, id: &ThredId, since: Instant) {
        if self.watching.load(Ordering::Relaxed) {
            let mut seen = self.seen();
            let since = seen.loading.remove(id).unwrap_or(since);
            seen.transition.add(since);
            seen.committed.insert(id.clone(), Instant::now());
        }
    }

    /// The message of a thred has come.
    pub(super) fn received(&self, id: &ThredId) {
        if self.watching.load(Ordering::Relaxed) {
            let mut seen = self.seen();
            if let Some(since) = seen.committed.remove(id) {
                seen.routing.add(since);
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock()
    }
}
