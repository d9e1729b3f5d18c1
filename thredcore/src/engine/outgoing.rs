//! Threds whose outboxes this engine is just publishing.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use thredlib::ThredId;
use tokio::sync::Notify;

use crate::hash::FastHash;

/// An unbound event is worked on in the partition of its source, but the answer to what it puts out
/// comes in by the partition of the thred: it may be there before the outbox is cleared. Waiting
/// for that moment saves publishing the same again.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    threds: Mutex<HashSet<ThredId, FastHash>>,
    done: Notify,
}

impl Outgoing {
    pub(super) fn begin(&self, threds: &[ThredId]) {
        if !threds.is_empty() {
            self.lock().extend(threds.iter().cloned());
        }
    }

    pub(super) fn end(&self, threds: &[ThredId]) {
        if threds.is_empty() {
            return;
        }
        let mut busy = self.lock();
        threds.iter().for_each(|thred| {
            busy.remove(thred);
        });
        drop(busy);
        self.done.notify_waiters();
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Waits until none of the threds is being published; says whether it had to wait.
    pub(super) async fn wait_for(&self, threds: &[ThredId]) -> bool {
        let mut waited = false;
        loop {
            let mut done = std::pin::pin!(self.done.notified());
            done.as_mut().enable();
            if !threds.iter().any(|thred| self.lock().contains(thred)) {
                return waited;
            }
            waited = true;
            done.await;
        }
    }

    /// Those of the threds that are not being published.
    pub(super) fn idle<'a>(
        &self,
        threds: impl Iterator<Item = &'a ThredId>,
    ) -> HashSet<ThredId, FastHash> {
        let busy = self.lock();
        threds.filter(|thred| !busy.contains(*thred)).cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<ThredId, FastHash>> {
        self.threds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
