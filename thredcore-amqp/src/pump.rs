//! Consuming a queue, again after each failure.

use std::sync::Arc;

use lapin::{message::Delivery, types::ShortString};
use thredlib::Topic;
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Duration, Instant, sleep},
};

use crate::{
    AmqpError,
    cargo::Cargo,
    consuming::Consuming,
    counts::{Counts, age, returns},
    dead_letters::DeadLetters,
    delays::{self, Delays},
    inflow::{Ask, Held, Inflow, later},
    letter::{EXPIRED, Obituary, Published},
    link::Link,
    lock::Lock,
    topology::Topology,
};

/// Fills an [`Inflow`] from its queue until it is dropped.
pub(crate) struct Pump(AbortHandle);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Which queue it is.
#[derive(Clone)]
pub(crate) enum Source {
    Partitions,
    Topic(Topic, Arc<Delays>),
    /// One that others publish to, and where its dead letters go.
    Ingress(ShortString),
}

/// What a pump works with.
pub(crate) struct Works<T> {
    pub(crate) inflow: Arc<Inflow<T>>,
    pub(crate) source: Source,
    pub(crate) prefetch: u16,
    pub(crate) topology: Arc<Topology>,
    pub(crate) link: Arc<Link>,
    pub(crate) dead: Arc<DeadLetters<T>>,
}

impl Pump {
    pub(crate) fn start<T: Cargo>(works: Works<T>, asks: mpsc::UnboundedReceiver<Ask>) -> Self {
        Self(tokio::spawn(Arc::new(works).run(asks)).abort_handle())
    }
}

/// Waits until a queue is not to be consumed.
async fn unwanted(wanted: &mut watch::Receiver<bool>) {
    // What it returns is a lock.
    _ = wanted.wait_for(|wanted| !wanted).await;
}

impl<T: Cargo> Works<T> {
    async fn run(self: Arc<Self>, mut asks: mpsc::UnboundedReceiver<Ask>) {
        let mut failures = 0;
        let mut wanted = self.inflow.wanted();
        // The sender is in the inflow, which is here.
        while wanted.wait_for(|wanted| *wanted).await.is_ok() {
            let since = Instant::now();
            let end = self.consume(&mut asks).await;
            let was_of_use = self.inflow.is_active() || since.elapsed() > Duration::from_secs(1);
            self.inflow.lost();
            // Whoever asks what has come need not wait for the next channel.
            while asks.try_recv().is_ok() {}
            match end {
                Ok(()) => failures = 0,
                Err(AmqpError::Closed) => return,
                // The connection is being closed.
                Err(_) if self.inflow.is_closed() => return,
                Err(error) => {
                    failures = if was_of_use { 0 } else { failures + 1 };
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    let queue = self.inflow.queue.as_str();
                    tracing::warn!(%error, cause, queue, "a queue cannot be consumed; trying again");
                    if error.is_missing() {
                        self.topology.forget().await;
                    }
                    sleep(self.link.pause(failures)).await;
                }
            }
        }
    }

    /// Consumes until the channel is lost, or another process is to have the queue.
    async fn consume(
        self: &Arc<Self>,
        asks: &mut mpsc::UnboundedReceiver<Ask>,
    ) -> Result<(), AmqpError> {
        let mut forgotten = self.topology.forgotten();
        let _alone = self.prepare().await?;
        let channel = self.link.channel().await?;
        let queue = self.inflow.queue.clone();
        let starting = Consuming::start(&self.link, channel.clone(), queue.clone(), self.prefetch);
        let mut consumer = starting.await?;
        self.inflow.opened(channel);
        let mut wanted = self.inflow.wanted();
        let limit = self.expiry();
        let mut expiring = tokio::time::interval(limit.map_or(Duration::MAX / 2, |limit| {
            (limit / 4).clamp(Duration::from_millis(50), Duration::from_secs(30))
        }));
        loop {
            tokio::select! {
                biased;
                delivery = consumer.next() => match delivery {
                    Some(delivery) => self.take_in(delivery?),
                    None if self.inflow.is_closed() => return Err(AmqpError::Closed),
                    // Cancelled: the queue was deleted, or its node is gone.
                    None => {
                        self.topology.forget().await;
                        return Err(AmqpError::Gone(queue.to_string()));
                    }
                },
                ask = asks.recv() => match ask {
                    Some(Ask::Settle(answer)) => _ = answer.send(()),
                    Some(Ask::Release) => {
                        self.inflow.hold_back(Duration::from_secs(2)).await;
                        consumer.end().await;
                        return Ok(());
                    }
                    None => return Err(AmqpError::Closed),
                },
                _ = expiring.tick(), if limit.is_some() => self.expire(),
                () = unwanted(&mut wanted) => {
                    consumer.end().await;
                    return Ok(());
                }
                _ = forgotten.changed() => {
                    consumer.end().await;
                    return Ok(());
                }
            }
        }
    }

    /// Makes the queue. One that others publish to is consumed by one process at a time, whoever has
    /// made it and however.
    async fn prepare(&self) -> Result<Option<Lock>, AmqpError> {
        const EVERY: Duration = Duration::from_secs(1);
        match &self.source {
            Source::Partitions => self.topology.events().await?,
            Source::Topic(topic, delays) => delays.topics(&[topic]).await?,
            Source::Ingress(dead) => {
                let queue = &self.inflow.queue;
                self.topology.ingress(queue, dead).await?;
                let name = self.topology.names().lock(&format!("ingress.{queue}"))?;
                loop {
                    match Lock::take(&self.link, name.clone(), Duration::ZERO).await {
                        Err(AmqpError::Locked(_)) => sleep(EVERY).await,
                        lock => return lock.map(Some),
                    }
                }
            }
        }
        Ok(None)
    }

    /// After how long a message expires.
    fn expiry(&self) -> Option<Duration> {
        match &self.source {
            Source::Topic(..) => self.topology.config.message_ttl,
            Source::Partitions | Source::Ingress(_) => None,
        }
    }

    /// The broker lets messages expire that wait there; these wait here.
    fn expire(self: &Arc<Self>) {
        let (late, generation) = self.inflow.take_expired();
        for held in late {
            tokio::spawn(self.clone().bury_late(held, generation));
        }
    }

    async fn bury_late(self: Arc<Self>, held: Held<T>, generation: u64) {
        let attempts = held.attempts_before();
        let obituary = Obituary { reason: EXPIRED.into(), attempts, ..Obituary::default() };
        match self.dead.bury(&[(held.payload.clone(), obituary)]).await {
            Ok(()) => {
                if let Err(error) = self.inflow.drop_unread(held.tag, generation).await {
                    tracing::debug!(%error, "an expired message is doubled");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "an expired message waits on");
                self.inflow.delay(held, generation, later(self.link.pause(u32::MAX)));
            }
        }
    }

    fn take_in(self: &Arc<Self>, delivery: Delivery) {
        let tag = delivery.delivery_tag;
        let origin = match &self.source {
            Source::Topic(topic, _) => topic.as_str(),
            Source::Ingress(_) => self.inflow.queue.as_str(),
            Source::Partitions => "",
        };
        let user = delivery.properties.user_id().as_ref().map(|user| user.as_str());
        let read = match &self.source {
            Source::Partitions if !self.topology.config.is_engine(user) => {
                let user = user.unwrap_or("nobody");
                Err(format!("it was sent by `{user}`, who is no engine (engine_users)"))
            }
            _ => T::read(origin, &delivery.properties, &delivery.data)
                .map_err(|error| format!("cannot be read: {error}")),
        };
        let payload = match read {
            Ok(payload) => payload,
            Err(reason) => {
                let generation = self.inflow.came(tag, None);
                tokio::spawn(self.clone().set_aside(delivery, reason, generation));
                return;
            }
        };
        // What others publish has the headers that they chose.
        let is_foreign = matches!(self.source, Source::Ingress(_));
        let counts =
            if is_foreign { Counts::default() } else { Counts::read(&delivery.properties) };
        let returned = if is_foreign && !delivery.redelivered { 0 } else { returns(&delivery) };
        let left = counts.due.map_or(Duration::ZERO, delays::left);
        let mut held = Held::new(tag, payload, returned, counts);
        if let Some(limit) = self.expiry() {
            held = held.expiring(later(limit.saturating_sub(age(&delivery.properties))));
        }
        if left.is_zero() {
            self.inflow.came(tag, Some(held));
            return;
        }
        let generation = self.inflow.came(tag, None);
        match &self.source {
            Source::Topic(topic, delays) if left > delays::LONGEST_HERE => {
                let (this, topic, delays) = (self.clone(), topic.clone(), delays.clone());
                tokio::spawn(async move {
                    this.move_on(held, counts, &topic, &delays, generation).await
                });
            }
            _ => self.inflow.delay(held, generation, later(left)),
        }
    }

    /// Lets a message wait on, in the queue of the next shorter time.
    async fn move_on(
        &self,
        held: Held<T>,
        counts: Counts,
        topic: &Topic,
        delays: &Delays,
        generation: u64,
    ) {
        let left = counts.due.map_or(Duration::ZERO, delays::left);
        let moved = match held.payload.parcel(&self.topology) {
            Ok(parcel) => delays.wait(topic, parcel, counts).await,
            Err(error) => Err(error),
        };
        let done = match moved {
            Ok(()) => self.inflow.drop_unread(held.tag, generation).await,
            Err(error) => {
                tracing::debug!(%error, "a message waits in this process");
                self.inflow.delay(held, generation, later(left));
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::debug!(%error, "a message that waits is doubled");
        }
    }

    /// Puts what is no item to the dead letters.
    async fn set_aside(self: Arc<Self>, delivery: Delivery, reason: String, generation: u64) {
        let (tag, queue) = (delivery.delivery_tag, self.inflow.queue.as_str());
        let id = delivery.properties.message_id().as_ref().map(|id| id.as_str());
        tracing::warn!(reason, queue, id, "an item is dead-lettered");
        let origin = match &self.source {
            Source::Topic(topic, _) => topic.to_string(),
            Source::Partitions | Source::Ingress(_) => String::new(),
        };
        let attempts = returns(&delivery).saturating_add(1);
        let obituary = Obituary { reason, attempts, origin, ..Obituary::default() };
        let user = delivery.properties.user_id().as_ref().map(|user| user.as_str());
        let published = Published { user, id };
        let done = match self.dead.bury_bytes(delivery.data, obituary, published).await {
            Ok(()) => self.inflow.drop_unread(tag, generation).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "it stays in its queue until this process lets go of it");
        }
    }
}
