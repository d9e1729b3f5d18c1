//! Which partitions are this process's.
//!
//! Consumers announce themselves in a set. Of P partitions and N consumers each takes P/N, the
//! first ones one more; whoever has more gives up the rest, as soon as nothing of it is at hand.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use redis::Value;

use super::{Shared, partition::Partition};
use crate::{
    Error,
    queue::{
        lightly, lock,
        scripts::{ACQUIRE, JOIN, RELEASE, RENEW},
    },
};

impl Shared {
    /// Keeps up the leases, and takes and gives up partitions; until the task is ended.
    pub(super) async fn hold_partitions(self: Arc<Self>) {
        let beat = self.config.lease / 3;
        let mut next = Instant::now();
        loop {
            let mut soon = beat;
            if let Err(error) = self.look_after(&mut soon).await {
                tracing::warn!(%error, "cannot hold partitions of the event queue");
            }
            next = (next + beat).max(Instant::now());
            let until = next.min(Instant::now() + soon.max(Duration::from_millis(5)));
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = self.look.notified() => {}
            }
        }
    }

    /// One round. `soon` becomes the time after which another one is of use.
    async fn look_after(&self, soon: &mut Duration) -> Result<(), Error> {
        self.renew().await;
        // Whoever rang may not have been heard.
        self.partitions.iter().for_each(Partition::rouse);
        let (place, consumers) = self.join(soon).await?;
        let all = self.partitions.len();
        let share = all / consumers + usize::from(place < all % consumers);
        self.give_up_beyond(share, soon).await;
        self.take_up_to(share, place * all / consumers, soon).await
    }

    /// Says that this consumer is there; the answer is its place among how many.
    async fn join(&self, soon: &mut Duration) -> Result<(usize, usize), Error> {
        let request = lightly(&self.tag, &JOIN, &[&*self.consumers]).arg((
            &self.name,
            self.lease_ms(),
            &self.channel,
        ));
        let (place, consumers, left): (usize, usize, u64) = self.connection.ask(request).await?;
        // Less than a beat only if one of them has missed its own.
        *soon = (*soon).min(Duration::from_millis(left));
        Ok((place, consumers.max(1)))
    }

    async fn renew(&self) {
        let renewals = self.partitions.iter().filter_map(|partition| {
            let token = partition.tenure()?.token;
            Some(async move {
                // Counted from before the server does, so that it ends here first.
                let until = Instant::now() + self.config.lease;
                let request = lightly(&partition.items.tag, &RENEW, &[&*partition.lease])
                    .arg((&token, self.lease_ms()));
                match self.connection.ask::<Value>(request).await {
                    Ok(Value::Nil) => partition.end(&token),
                    Ok(_) => {
                        let mut state = lock(&partition.state);
                        let tenure = state.tenure.as_mut();
                        if let Some(tenure) = tenure.filter(|tenure| tenure.token == token) {
                            tenure.until = until;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, partition = partition.number, "not renewed");
                    }
                }
            })
        });
        join_all(renewals).await;
    }

    /// Stops fetching from what is too much, and gives it up when nothing of it is at hand.
    async fn give_up_beyond(&self, share: usize, soon: &mut Duration) {
        let now = Instant::now();
        let mut owned = 0;
        let mut releases = vec![];
        for partition in &self.partitions {
            let mut state = lock(&partition.state);
            let Some(tenure) = &state.tenure else { continue };
            let token = tenure.token.clone();
            owned += 1;
            if owned <= share {
                state.leaving = None;
                continue;
            }
            let deadline = *state.leaving.get_or_insert(now + self.config.lease);
            if state.is_at_rest() || deadline <= now {
                drop(state);
                releases.push(self.release(partition, token));
            } else {
                *soon = (*soon).min(Duration::from_millis(20));
            }
        }
        join_all(releases).await;
    }

    pub(super) async fn release(&self, partition: &Partition, token: String) {
        partition.end(&token);
        let request = lightly(&partition.items.tag, &RELEASE, &[&*partition.lease])
            .arg((&token, &self.channel));
        if let Err(error) = self.connection.ask::<Value>(request).await {
            tracing::debug!(%error, partition = partition.number, "will be free after a lease");
        }
    }

    /// Takes what is free, from another place for each consumer.
    async fn take_up_to(
        &self,
        share: usize,
        from: usize,
        soon: &mut Duration,
    ) -> Result<(), Error> {
        let (mut others, mut owned) = (vec![], 0);
        for number in 0..self.partitions.len() {
            let partition = &self.partitions[(from + number) % self.partitions.len()];
            match lock(&partition.state).tenure {
                Some(_) => owned += 1,
                None => others.push(partition),
            }
        }
        let mut others = others.into_iter();
        while owned < share {
            let some: Vec<_> = others.by_ref().take(share - owned).collect();
            if some.is_empty() {
                break;
            }
            for taken in join_all(some.into_iter().map(|partition| self.acquire(partition))).await {
                match taken? {
                    None => owned += 1,
                    Some(free_in) => *soon = (*soon).min(free_in),
                }
            }
        }
        Ok(())
    }

    /// Takes a partition, or says for how long it is another's.
    async fn acquire(&self, partition: &Partition) -> Result<Option<Duration>, Error> {
        let token = format!("{}:{}", self.name, self.tenures());
        let until = Instant::now() + self.config.lease;
        let request = lightly(&partition.items.tag, &ACQUIRE, &[&*partition.lease])
            .arg((&token, self.lease_ms()));
        if let Ok(left) = u64::try_from(self.connection.ask::<i64>(request).await?) {
            return Ok(Some(Duration::from_millis(left)));
        }
        tracing::debug!(partition = partition.number, "took a partition");
        partition.begin(token, until);
        Ok(None)
    }

    fn lease_ms(&self) -> u64 {
        u64::try_from(self.config.lease.as_millis()).unwrap_or(u64::MAX)
    }
}
