//! Threds whose outboxes this engine is just publishing.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use thredlib::ThredId;
use tokio::sync::Notify;

use super::Engine;
use crate::hash::FastHash;

/// An unbound event is worked on in the partition of its source, but the answer to what it puts out
/// comes in by the partition of the thred: it may be there before the outbox is cleared. Waiting
/// for that moment saves publishing the same again.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    state: Mutex<State>,
    done: Notify,
}

/// Threds that are being published; they no longer are when this is dropped, also by a panic.
#[derive(Debug)]
pub(super) struct Publishing {
    engine: Engine,
    threds: Vec<ThredId>,
}

impl Engine {
    /// Notes that the outboxes of these threds are being published.
    pub(super) fn publishing(&self, threds: Vec<ThredId>) -> Publishing {
        self.0.outgoing.begin(&threds);
        Publishing { engine: self.clone(), threds }
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.engine.0.outgoing.end(&self.threds);
    }
}

#[derive(Debug, Default)]
struct State {
    /// How many workers are at it, by thred.
    busy: HashMap<ThredId, u32, FastHash>,
    /// How often something has been published to its end.
    ended: u64,
}

impl Outgoing {
    fn begin(&self, threds: &[ThredId]) {
        if !threds.is_empty() {
            let mut state = self.state.lock();
            for thred in threds {
                *state.busy.entry(thred.clone()).or_default() += 1;
            }
        }
    }

    fn end(&self, threds: &[ThredId]) {
        if threds.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        for thred in threds {
            if let Some(count) = state.busy.get_mut(thred) {
                *count -= 1;
                if *count == 0 {
                    state.busy.remove(thred);
                }
            }
        }
        state.ended += 1;
        drop(state);
        self.done.notify_waiters();
    }

    pub(super) fn count(&self) -> usize {
        self.state.lock().busy.len()
    }

    /// How often something has been published to its end.
    pub(super) fn ended(&self) -> u64 {
        self.state.lock().ended
    }

    /// Waits until none of the threds is being published; says whether anything has been published
    /// to its end `since` then: what was read of the threds meanwhile may be out of date.
    pub(super) async fn wait_for(&self, threds: &[ThredId], since: u64) -> bool {
        loop {
            let mut done = std::pin::pin!(self.done.notified());
            done.as_mut().enable();
            {
                let state = self.state.lock();
                if !threds.iter().any(|thred| state.busy.contains_key(thred)) {
                    return state.ended != since;
                }
            }
            done.await;
        }
    }

    /// Those of the threds that are not being published.
    pub(super) fn idle<'a>(
        &self,
        threds: impl Iterator<Item = &'a ThredId>,
    ) -> HashSet<ThredId, FastHash> {
        let state = self.state.lock();
        threds.filter(|thred| !state.busy.contains_key(*thred)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_ends_while_it_is_read_is_noticed() {
        let (outgoing, thred) = (Outgoing::default(), [ThredId::from("a")]);
        outgoing.begin(&thred);
        let since = outgoing.ended();
        assert!(outgoing.wait_for(&thred, since).now_or_never().is_none());
        outgoing.end(&thred);
        assert!(outgoing.wait_for(&thred, since).await);
        assert!(!outgoing.wait_for(&thred, outgoing.ended()).await);
    }
}
