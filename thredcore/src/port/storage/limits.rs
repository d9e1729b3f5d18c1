//! Places and leases.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thredlib::{PatternId, ThredId};

use crate::port::error::PortError;

/// Keeps who takes up a pattern's places: sets of threds, not counters.
#[async_trait]
pub trait LimitStore: Send + Sync {
    /// Takes a place for a thred; a thred that has one already keeps it, whatever the limits. The
    /// time of the last place stays when that is given back.
    ///
    /// # Errors
    /// Whether the place was taken is unknown; asking again is safe.
    async fn reserve(&self, reservation: &Reservation) -> Result<Reserved, PortError>;

    /// Gives places back. What is not there (any more) is ignored.
    ///
    /// # Errors
    /// Some may still be taken.
    async fn release(&self, places: &[(PatternId, ThredId)]) -> Result<(), PortError>;

    /// The threds that take up places of a pattern, in the order of their ids: the first `limit`
    /// after one of them.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn reserved(
        &self,
        pattern: &PatternId,
        after: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<ThredId>, PortError>;
}

/// A place for a thred among its pattern's instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The pattern.
    pub pattern: PatternId,
    /// The thred.
    pub thred: ThredId,
    /// Most places; 0 for no limit.
    pub max_instances: u64,
    /// Least time since the last place was taken, in milliseconds; 0 for none.
    pub interval: u64,
    /// The time, milliseconds since the Unix epoch.
    pub now: i64,
}

/// Whether there was a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The thred has a place.
    Granted,
    /// All places are taken.
    Full,
    /// The last place was taken too short a time ago.
    TooSoon,
}

/// Keeps leases: they save wasted work and name who wants to hear of something, for a while.
/// Nothing is ever correct only because of a lease.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// Takes or renews a lease until a time (milliseconds since the Unix epoch), unless somebody
    /// else holds it at `now`; says whether it is held. At its `until` it has run out.
    ///
    /// # Errors
    /// Whether it is held is unknown.
    async fn acquire(&self, lease: &Lease, now: i64) -> Result<bool, PortError>;

    /// Gives a lease back, if this owner holds it.
    ///
    /// # Errors
    /// It may be held until it runs out.
    async fn give_back(&self, name: &str, owner: &str) -> Result<(), PortError>;

    /// The leases that run at a time and whose names start so.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn leases(&self, prefix: &str, now: i64) -> Result<Vec<Lease>, PortError>;
}

/// A right to something for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// What it is a right to.
    pub name: String,
    /// Who holds it.
    pub owner: String,
    /// When it runs out, milliseconds since the Unix epoch.
    pub until: i64,
}
