//! Who waits for unbound events.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use thredlib::ThredId;

use super::keys::{KeyHash, Sorted};
use crate::state::{PatternKey, ThredState, WaitKey};

/// The threds that wait for unbound events, by the keys that they are found by.
#[derive(Debug)]
pub struct WaitIndex {
    /// By the last byte of the keys; the tables go by the first ones.
    shards: Box<[Mutex<Shard>]>,
}

type Shard = HashMap<WaitKey, Sorted<ThredId>, KeyHash>;

/// So many that two commits rarely meet at one.
const SHARDS: usize = 64;

impl Default for WaitIndex {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl WaitIndex {
    fn shard(&self, key: &WaitKey) -> &Mutex<Shard> {
        &self.shards[usize::from(key.as_bytes()[15]) % SHARDS]
    }

    /// Whether a commit from one state (`None`: there was none) to another may change the index.
    pub fn is_concerned(old: Option<&ThredState>, new: &ThredState) -> bool {
        new.is_listening() || old.is_some_and(ThredState::is_listening)
    }

    /// Moves a thred from the keys that it waited under to those that it waits under now.
    ///
    /// Whoever looks meanwhile may find it under the old keys beside the new ones, never under none.
    pub fn update(&self, old: Option<&ThredState>, new: &ThredState) {
        let (old, waits) = (old.map_or(&[][..], keys), keys(new));
        for key in waits.iter().filter(|key| old.binary_search(key).is_err()) {
            let mut threds = self.shard(key).lock();
            match threds.get_mut(key) {
                Some(threds) => threds.insert(new.id.clone()),
                None => _ = threds.insert(*key, Sorted::One(new.id.clone())),
            }
        }
        for key in old.iter().filter(|key| waits.binary_search(key).is_err()) {
            let mut threds = self.shard(key).lock();
            if threds.get_mut(key).is_some_and(|threds| threds.remove(&new.id)) {
                threds.remove(key);
            }
        }
    }

    /// The threds that wait under any of the keys, each once, sorted: the first `limit` after one
    /// of them.
    pub fn threds(&self, keys: &[WaitKey], after: Option<&ThredId>, limit: usize) -> Vec<ThredId> {
        let mut threds = Vec::new();
        for key in keys {
            if let Some(under) = self.shard(key).lock().get(key) {
                threds.extend(under.after(after).take(limit).cloned());
            }
        }
        if keys.len() > 1 {
            threds.sort_unstable();
            threds.dedup();
            threds.truncate(limit);
        }
        threds
    }
}

/// What a thred waits under: sorted.
fn keys(state: &ThredState) -> &[WaitKey] {
    if state.is_listening() { &state.waits } else { &[] }
}

/// The pattern revisions that threds wait for unbound events in, with their number.
#[derive(Debug, Default)]
pub struct ListeningPatterns(BTreeMap<PatternKey, u64>);

impl ListeningPatterns {
    /// Counts a thred that has begun to wait, and no longer one that has ceased to.
    pub fn update(&mut self, old: Option<&ThredState>, new: &ThredState) {
        let (was, is) = (old.is_some_and(ThredState::is_listening), new.is_listening());
        if is && !was {
            *self.0.entry((*new.pattern).clone()).or_default() += 1;
        } else if was
            && !is
            && let Some(threds) = self.0.get_mut(&*new.pattern)
        {
            *threds -= 1;
            if *threds == 0 {
                self.0.remove(&*new.pattern);
            }
        }
    }

    /// The revisions, sorted.
    pub fn keys(&self) -> Vec<PatternKey> {
        self.0.keys().cloned().collect()
    }
}
