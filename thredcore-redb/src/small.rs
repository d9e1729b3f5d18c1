//! Places, leases and patterns: few enough to be held in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use thredcore::{
    port::{Lease, Reservation, Reserved, StoredPattern},
    state::PatternKey,
};
use thredlib::{PatternId, ThredId};

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Small {
    pub(crate) places: HashMap<PatternId, Places>,
    pub(crate) leases: Leases,
    pub(crate) patterns: Patterns,
}

/// Who takes up a pattern's places.
#[derive(Debug, Default)]
pub(crate) struct Places {
    pub(crate) threds: BTreeSet<ThredId>,
    /// When the last one was taken.
    pub(crate) last: Option<i64>,
}

impl Places {
    /// Takes a place; says whether that changed anything, too.
    pub(crate) fn reserve(&mut self, wanted: &Reservation) -> (Reserved, bool) {
        if self.threds.contains(&wanted.thred) {
            return (Reserved::Granted, false);
        }
        if wanted.max_instances > 0 && self.threds.len() as u64 >= wanted.max_instances {
            return (Reserved::Full, false);
        }
        let earliest = self.last.map(|last| last.saturating_add_unsigned(wanted.interval));
        if wanted.interval > 0 && earliest.is_some_and(|earliest| wanted.now < earliest) {
            return (Reserved::TooSoon, false);
        }
        self.threds.insert(wanted.thred.clone());
        self.last = self.last.max(Some(wanted.now));
        (Reserved::Granted, true)
    }
}

/// Leases by name. Those that ran out go when there are twice as many as after the last time.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    by_name: BTreeMap<String, Lease>,
    after_last_sweep: usize,
}

impl Leases {
    const SWEEP_FROM: usize = 256;

    pub(crate) fn acquire(&mut self, lease: &Lease, now: i64) -> bool {
        match self.by_name.get_mut(&lease.name) {
            Some(held) if held.owner != lease.owner && held.until > now => return false,
            Some(held) => *held = lease.clone(),
            None => _ = self.by_name.insert(lease.name.clone(), lease.clone()),
        }
        if self.by_name.len() > Self::SWEEP_FROM.max(2 * self.after_last_sweep) {
            self.by_name.retain(|_, held| held.until > now);
            self.after_last_sweep = self.by_name.len();
        }
        true
    }

    /// Says whether it was held by this owner.
    pub(crate) fn give_back(&mut self, name: &str, owner: &str) -> bool {
        let is_held = self.by_name.get(name).is_some_and(|held| held.owner == owner);
        if is_held {
            self.by_name.remove(name);
        }
        is_held
    }

    pub(crate) fn running(&self, prefix: &str, now: i64) -> Vec<Lease> {
        let named = self.by_name.range(prefix.to_owned()..).map(|(_, lease)| lease);
        let named = named.take_while(|lease| lease.name.starts_with(prefix));
        named.filter(|lease| lease.until > now).cloned().collect()
    }
}

/// All revisions of patterns, and which are current.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    all: HashMap<PatternKey, StoredPattern>,
    current: BTreeMap<PatternId, u64>,
}

impl Patterns {
    /// Takes up a revision that is not current.
    pub(crate) fn restore(&mut self, pattern: StoredPattern) {
        self.all.insert(pattern.key.clone(), pattern);
    }

    /// Makes a revision the current one; says whether it was another before.
    pub(crate) fn put(&mut self, pattern: StoredPattern) -> bool {
        let key = pattern.key.clone();
        self.all.insert(key.clone(), pattern);
        self.current.insert(key.id, key.revision) != Some(key.revision)
    }

    /// Says whether there was a current one.
    pub(crate) fn remove(&mut self, id: &PatternId) -> bool {
        self.current.remove(id).is_some()
    }

    pub(crate) fn get(&self, key: &PatternKey) -> Option<StoredPattern> {
        self.all.get(key).cloned()
    }

    pub(crate) fn current(&self) -> Vec<StoredPattern> {
        let keys = self.current.iter();
        let keys = keys.map(|(id, revision)| PatternKey { id: id.clone(), revision: *revision });
        keys.filter_map(|key| self.get(&key)).collect()
    }
}
