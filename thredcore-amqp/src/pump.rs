//! Consuming a queue, again after each failure.

use std::sync::Arc;

use lapin::{message::Delivery, types::AMQPValue};
use thredlib::Topic;
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Duration, Instant, sleep},
};

use crate::{
    AmqpError,
    cargo::Cargo,
    consuming::Consuming,
    dead_letters::DeadLetters,
    inflow::{Ask, Held, Inflow},
    link::Link,
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
    Topic(Topic),
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
        Self(tokio::spawn(works.run(asks)).abort_handle())
    }
}

impl<T: Cargo> Works<T> {
    async fn run(self, mut asks: mpsc::UnboundedReceiver<Ask>) {
        let mut failures = 0;
        loop {
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
    async fn consume(&self, asks: &mut mpsc::UnboundedReceiver<Ask>) -> Result<(), AmqpError> {
        let mut forgotten = self.topology.forgotten();
        match &self.source {
            Source::Partitions => self.topology.events().await?,
            Source::Topic(topic) => self.topology.topics(&[topic]).await?,
        }
        let channel = self.link.channel().await?;
        let queue = self.inflow.queue.clone();
        let mut consumer = Consuming::start(channel.clone(), queue.clone(), self.prefetch).await?;
        self.inflow.opened(channel);
        loop {
            tokio::select! {
                biased;
                delivery = consumer.next() => match delivery {
                    Some(delivery) => self.take_in(delivery?).await,
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
                _ = forgotten.changed() => {
                    consumer.end().await;
                    return Ok(());
                }
            }
        }
    }

    async fn take_in(&self, delivery: Delivery) {
        let tag = delivery.delivery_tag;
        let origin = match &self.source {
            Source::Partitions => "",
            Source::Topic(topic) => topic.as_str(),
        };
        let error = match T::read(origin, &delivery.data) {
            Ok(payload) => {
                return self.inflow.came(tag, Some(Held::new(tag, payload, returns(&delivery))));
            }
            Err(error) => error,
        };
        self.inflow.came(tag, None);
        let reason = format!("cannot be read: {error}");
        tracing::warn!(reason, queue = self.inflow.queue.as_str(), "an item is dead-lettered");
        let attempts = returns(&delivery).saturating_add(1);
        let bury = self.dead.bury(delivery.data, "", origin, &reason, attempts);
        let done = match bury.await {
            Ok(()) => self.inflow.drop_unread(tag).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "it stays in its queue until this process lets go of it");
        }
    }
}

/// How often an item went back to its queue.
fn returns(delivery: &Delivery) -> u32 {
    let headers = delivery.properties.headers().as_ref();
    let count = headers.and_then(|headers| headers.inner().get("x-delivery-count"));
    match count.and_then(integer) {
        Some(count) => u32::try_from(count).unwrap_or(u32::MAX),
        // A classic queue does not count, but it tells.
        None => u32::from(delivery.redelivered),
    }
}

pub(crate) fn integer(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(value) => Some(value.into()),
        AMQPValue::ShortShortUInt(value) => Some(value.into()),
        AMQPValue::ShortInt(value) => Some(value.into()),
        AMQPValue::ShortUInt(value) => Some(value.into()),
        AMQPValue::LongInt(value) => Some(value.into()),
        AMQPValue::LongUInt(value) => Some(value.into()),
        AMQPValue::LongLongInt(value) => Some(value),
        AMQPValue::Timestamp(value) => i64::try_from(value).ok(),
        _ => None,
    }
}
