//! Leases. They save work and nothing depends on them, so they wait for no replica.

use async_trait::async_trait;
use thredcore::port::{Lease, LeaseStore, PortError};

use super::{RedisStorage, script};
use crate::connection::{Request, Script};

script!(ACQUIRE, "acquire.lua");
script!(GIVE_BACK, "give_back.lua");

impl RedisStorage {
    fn lease_call(&self, script: &Script) -> Request {
        let shared = &self.0.shared;
        let keys = [&*shared.lease_owners, &shared.lease_ends];
        Request::asking_script(&shared.leases, script, &keys)
    }
}

#[async_trait]
impl LeaseStore for RedisStorage {
    async fn acquire(&self, lease: &Lease, now: i64) -> Result<bool, PortError> {
        let request = self.lease_call(&ACQUIRE).arg(&lease.name).arg(&lease.owner);
        self.one("acquire a lease", request.arg(lease.until).arg(now)).await
    }

    async fn give_back(&self, name: &str, owner: &str) -> Result<(), PortError> {
        let request = self.lease_call(&GIVE_BACK).arg(name).arg(owner);
        self.one::<i64>("give back a lease", request).await.map(drop)
    }

    async fn leases(&self, prefix: &str, now: i64) -> Result<Vec<Lease>, PortError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(&self.0.shared.lease_owners);
        let request = Request::read(&self.0.shared.leases, command);
        let all: Vec<(String, String)> = self.one("list leases", request).await?;
        let lease = |(name, held): (String, String)| {
            let (until, owner) = held.split_once('\n')?;
            Some(Lease { name, owner: owner.to_owned(), until: until.parse().ok()? })
        };
        let meant = |lease: &Lease| lease.until > now && lease.name.starts_with(prefix);
        let mut leases: Vec<_> = all.into_iter().filter_map(lease).filter(meant).collect();
        leases.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(leases)
    }
}
