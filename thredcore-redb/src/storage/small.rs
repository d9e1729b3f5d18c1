//! Places, leases and patterns.

use std::{ops::Bound, sync::atomic::Ordering};

use async_trait::async_trait;
use thredcore::{
    port::{
        Lease, LeaseStore, LimitStore, PatternStore, PortError, Reservation, Reserved,
        StoredPattern,
    },
    state::PatternKey,
};
use thredlib::{PatternId, ThredId};

use super::{RedbStorage, texts};
use crate::{
    journal::{Outcome, What},
    json,
    segments::Body,
};

#[async_trait]
impl LimitStore for RedbStorage {
    async fn reserve(&self, reservation: &Reservation) -> Result<Reserved, PortError> {
        match self.journal.write("reserve", What::Reserve(reservation.clone())).await? {
            Outcome::Reserved(reserved) => Ok(reserved),
            _ => Ok(Reserved::Full),
        }
    }

    async fn release(&self, places: &[(PatternId, ThredId)]) -> Result<(), PortError> {
        self.journal.write("release", What::Release(places.to_vec())).await.map(drop)
    }

    async fn reserved(
        &self,
        pattern: &PatternId,
        after: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<ThredId>, PortError> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let small = self.journal.shared.small.lock();
        let Some(places) = small.places.get(pattern) else { return Ok(vec![]) };
        let behind = places.threds.range::<ThredId, _>((start, Bound::Unbounded));
        Ok(behind.take(limit).cloned().collect())
    }
}

#[async_trait]
impl LeaseStore for RedbStorage {
    async fn acquire(&self, lease: &Lease, now: i64) -> Result<bool, PortError> {
        let outcome = self.journal.write("acquire a lease", What::Acquire(lease.clone(), now));
        Ok(matches!(outcome.await?, Outcome::Held(true)))
    }

    async fn give_back(&self, name: &str, owner: &str) -> Result<(), PortError> {
        let what = What::GiveBack { name: name.to_owned(), owner: owner.to_owned() };
        self.journal.write("give back a lease", what).await.map(drop)
    }

    async fn leases(&self, prefix: &str, now: i64) -> Result<Vec<Lease>, PortError> {
        Ok(self.journal.shared.small.lock().leases.running(prefix, now))
    }
}

#[async_trait]
impl PatternStore for RedbStorage {
    async fn put_pattern(&self, pattern: StoredPattern) -> Result<(), PortError> {
        let body = json::to_vec(&*pattern.model).map(Body::new);
        let body = body.map_err(texts::unwritable("store a pattern"))?;
        self.journal.write("store a pattern", What::PutPattern(pattern, body)).await.map(drop)
    }

    async fn remove_pattern(&self, id: &PatternId) -> Result<(), PortError> {
        self.journal.write("remove a pattern", What::RemovePattern(id.clone())).await.map(drop)
    }

    async fn patterns(&self) -> Result<Vec<StoredPattern>, PortError> {
        Ok(self.journal.shared.small.lock().patterns.current())
    }

    async fn pattern(&self, key: &PatternKey) -> Result<Option<StoredPattern>, PortError> {
        Ok(self.journal.shared.small.lock().patterns.get(key))
    }

    async fn listening_patterns(&self) -> Result<Vec<PatternKey>, PortError> {
        Ok(self.journal.shared.kinds.lock().listening())
    }

    async fn patterns_version(&self) -> Result<u64, PortError> {
        Ok(self.journal.shared.patterns_version.load(Ordering::Acquire))
    }
}
