//! Which partitions are this process's.
//!
//! Consumers announce themselves in a set, again and again: one request for all of their partitions.
//! Of P partitions and N consumers each takes P/N, the first ones one more; whoever has more gives up
//! the rest, as soon as nothing of it is at hand.
//!
//! A partition has the name of its owner, and keeps it until the owner gives it up, or another consumer
//! finds that the owner is not in the set any more and puts its own name there. The scripts of the
//! items refuse whoever is not the owner.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures::future::join_all;
use redis::Value;

use super::{Shared, partition::Partition};
use crate::{
    Error, Request,
    queue::{
        lightly,
        scripts::{ACQUIRE, JOIN, RELEASE, STILL},
    },
};

impl Shared {
    /// Says that this process is there, and takes and gives up partitions; until the task is ended.
    pub(super) async fn hold_partitions(self: Arc<Self>) {
        let beat = self.config.lease / 3;
        let mut next = Instant::now();
        let mut sweep = Instant::now();
        loop {
            let mut soon = beat;
            if let Err(error) = self.look_after(&mut soon).await {
                tracing::warn!(%error, "cannot hold partitions of the event queue");
            }
            let now = Instant::now();
            if sweep <= now || self.unheard.swap(false, Ordering::AcqRel) {
                // Whoever rang may not have been heard.
                self.partitions.iter().for_each(Partition::rouse);
                sweep = now + self.config.sweep;
            }
            next = (next + beat).max(now);
            let until = next.min(now + soon.max(Duration::from_millis(5)));
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = self.look.notified() => {}
            }
        }
    }

    /// One round. `soon` becomes the time after which another one is of use.
    async fn look_after(&self, soon: &mut Duration) -> Result<(), Error> {
        let (place, consumers, until) = self.join(soon).await?;
        let all = self.partitions.len();
        let share = all / consumers + usize::from(place < all % consumers);
        self.give_up_beyond(share, soon).await;
        self.take_up_to(share, place * all / consumers, until, soon).await
    }

    /// Says that this consumer is there; the answer is its place among how many, and until when it
    /// counts as there.
    async fn join(&self, soon: &mut Duration) -> Result<(usize, usize, Instant), Error> {
        // Counted from before the server does, so that it ends here first.
        let until = Instant::now() + self.config.lease;
        let request = lightly(&self.tag, &JOIN, &[&*self.consumers]).arg((
            &self.name,
            self.lease_ms(),
            &self.channel,
        ));
        let (place, consumers, left, was_forgotten): (usize, usize, u64, u8) =
            self.connection.ask(request).await?;
        if was_forgotten == 1 {
            self.look_whether_owner().await;
        }
        for partition in &self.partitions {
            let mut state = partition.state.lock();
            if let Some(tenure) = &mut state.tenure {
                tenure.until = until;
            }
        }
        // What came meanwhile can be had again.
        self.partitions.iter().for_each(|partition| partition.changed.notify_waiters());
        // Less than a beat only if one of them has missed its own.
        *soon = (*soon).min(Duration::from_millis(left));
        Ok((place, consumers.max(1), until))
    }

    /// Ends the tenures that are another's by now: it was taken for gone.
    async fn look_whether_owner(&self) {
        let tenures = self.partitions.iter().filter_map(|partition| {
            let token = partition.tenure()?.token;
            Some(async move {
                let keys = [&*partition.owner];
                let request = lightly(&partition.items.tag, &STILL, &keys).arg(&token);
                // Without an answer it is given up: nothing is lost by that.
                if !matches!(self.connection.ask::<Value>(request).await, Ok(Value::Int(_))) {
                    partition.end(&token);
                }
            })
        });
        join_all(tenures).await;
    }

    /// Stops fetching from what is too much, and gives it up when nothing of it is at hand.
    async fn give_up_beyond(&self, share: usize, soon: &mut Duration) {
        let now = Instant::now();
        let mut owned = 0;
        let mut releases = vec![];
        for partition in &self.partitions {
            let mut state = partition.state.lock();
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
        let request = lightly(&partition.items.tag, &RELEASE, &[&*partition.owner])
            .arg((&token, &self.channel));
        if let Err(error) = self.connection.ask::<Value>(request).await {
            tracing::debug!(%error, partition = partition.number, "another will find it free");
        }
    }

    /// Takes what is free, from another place for each consumer.
    async fn take_up_to(
        &self,
        share: usize,
        from: usize,
        until: Instant,
        soon: &mut Duration,
    ) -> Result<(), Error> {
        let (mut others, mut owned) = (vec![], 0);
        for number in 0..self.partitions.len() {
            let partition = &self.partitions[(from + number) % self.partitions.len()];
            match partition.state.lock().tenure {
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
            for taken in
                join_all(some.into_iter().map(|partition| self.acquire(partition, until))).await
            {
                match taken? {
                    None => owned += 1,
                    Some(free_in) => *soon = (*soon).min(free_in),
                }
            }
        }
        Ok(())
    }

    /// Takes a partition, or says after which time it may be free.
    async fn acquire(
        &self,
        partition: &Partition,
        until: Instant,
    ) -> Result<Option<Duration>, Error> {
        let token = format!("{}:{}", self.name, self.tenures());
        let ask = async |gone: &str| {
            let request = lightly(&partition.items.tag, &ACQUIRE, &[&*partition.owner]);
            self.connection.ask::<String>(request.arg(&token).arg(gone)).await
        };
        let mut holder = ask("").await?;
        if holder != token {
            // Whoever holds it was in the set before.
            let name = holder.rsplit_once(':').map_or(&*holder, |(name, _)| name);
            let mut command = redis::cmd("ZSCORE");
            command.arg(&self.consumers).arg(name);
            let request = Request::read(&self.tag, command);
            let is_there = self.connection.ask::<Option<f64>>(request).await?.is_some();
            if name == self.name || !is_there {
                holder = ask(&holder).await?;
            } else {
                // It may not know that it does: a server has lost its last writes.
                self.remind(partition, &holder).await?;
            }
        }
        if holder != token {
            return Ok(Some(self.config.lease / 3));
        }
        tracing::debug!(partition = partition.number, "took a partition");
        partition.begin(token, until);
        Ok(None)
    }

    /// Tells the owner of a partition that it is.
    async fn remind(&self, partition: &Partition, holder: &str) -> Result<(), Error> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(&self.channel).arg(format!("{} {holder}", partition.number));
        self.connection.ask::<i64>(Request::read(&self.tag, command)).await.map(drop)
    }

    /// Gives a partition up that this process does not know to be its own.
    pub(super) async fn reminded(&self, text: &str) {
        let Some((number, holder)) = text.split_once(' ') else { return };
        let is_own = holder.rsplit_once(':').is_some_and(|(name, _)| name == self.name);
        let partition = number.parse().ok().and_then(|number: usize| self.partitions.get(number));
        let Some(partition) = partition.filter(|_| is_own) else { return };
        if partition.tenure().is_none_or(|tenure| tenure.token != holder) {
            self.release(partition, holder.to_owned()).await;
        }
    }

    fn lease_ms(&self) -> u64 {
        u64::try_from(self.config.lease.as_millis()).unwrap_or(u64::MAX)
    }
}
