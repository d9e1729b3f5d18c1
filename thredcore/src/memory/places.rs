//! Places of patterns, and leases.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

use async_trait::async_trait;
use thredlib::{PatternId, ThredId};

use super::storage::MemoryStorage;
use crate::port::{Lease, LeaseStore, LimitStore, PortError, Reservation, Reserved};

/// Who takes up a pattern's places.
#[derive(Debug, Default)]
pub(super) struct Places {
    threds: BTreeSet<ThredId>,
    /// When the last one was taken.
    last: Option<i64>,
}

impl Places {
    fn reserve(&mut self, wanted: &Reservation) -> Reserved {
        if self.threds.contains(&wanted.thred) {
            return Reserved::Granted;
        }
        if wanted.max_instances > 0 && self.threds.len() as u64 >= wanted.max_instances {
            return Reserved::Full;
        }
        let earliest = self.last.map(|last| last.saturating_add_unsigned(wanted.interval));
        if wanted.interval > 0 && earliest.is_some_and(|earliest| wanted.now < earliest) {
            return Reserved::TooSoon;
        }
        self.threds.insert(wanted.thred.clone());
        self.last = self.last.max(Some(wanted.now));
        Reserved::Granted
    }
}

#[async_trait]
impl LimitStore for MemoryStorage {
    async fn reserve(&self, reservation: &Reservation) -> Result<Reserved, PortError> {
        let mut places = self.places.lock();
        Ok(match places.get_mut(&reservation.pattern) {
            Some(places) => places.reserve(reservation),
            None => places.entry(reservation.pattern.clone()).or_default().reserve(reservation),
        })
    }

    async fn release(&self, released: &[(PatternId, ThredId)]) -> Result<(), PortError> {
        let mut places = self.places.lock();
        for (pattern, thred) in released {
            if let Some(places) = places.get_mut(pattern) {
                places.threds.remove(thred);
            }
        }
        Ok(())
    }

    async fn reserved(
        &self,
        pattern: &PatternId,
        after: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<ThredId>, PortError> {
        let places = self.places.lock();
        let Some(places) = places.get(pattern) else { return Ok(vec![]) };
        let threds =
            places.threds.range::<ThredId, _>((after.map_or(Unbounded, Excluded), Unbounded));
        Ok(threds.take(limit).cloned().collect())
    }
}

/// Leases by name. Those that ran out go when there are twice as many as after the last time.
#[derive(Debug, Default)]
pub(super) struct Leases {
    by_name: BTreeMap<String, Lease>,
    after_last_sweep: usize,
}

impl Leases {
    const SWEEP_FROM: usize = 256;

    fn acquire(&mut self, lease: &Lease, now: i64) -> bool {
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
}

#[async_trait]
impl LeaseStore for MemoryStorage {
    async fn acquire(&self, lease: &Lease, now: i64) -> Result<bool, PortError> {
        Ok(self.leases.lock().acquire(lease, now))
    }

    async fn give_back(&self, name: &str, owner: &str) -> Result<(), PortError> {
        let mut leases = self.leases.lock();
        if leases.by_name.get(name).is_some_and(|held| held.owner == owner) {
            leases.by_name.remove(name);
        }
        Ok(())
    }

    async fn leases(&self, prefix: &str, now: i64) -> Result<Vec<Lease>, PortError> {
        let leases = self.leases.lock();
        let named = leases.by_name.range(prefix.to_owned()..).map(|(_, lease)| lease);
        let named = named.take_while(|lease| lease.name.starts_with(prefix));
        Ok(named.filter(|lease| lease.until > now).cloned().collect())
    }
}
