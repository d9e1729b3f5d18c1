//! Looking through a queue without taking anything out of it, except what is to go.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};

use crate::{
    AmqpError,
    link::Link,
    lock::Lock,
    topology::{close, waiting},
};

/// Looks through a queue from its front, as far as it is asked for.
///
/// Everything is consumed, and given back by closing the channel. What comes back goes behind all that
/// had come back before: so the rest of the queue is fetched, too, if it is not looked at, and all of it
/// comes back in its order. A consumer gets so many and no more; when it has them another one is added,
/// for four times as many, so that little waits in this process. None of them may be free to get what
/// another one gives back: so who is going to remove something has one that gets all, as far as that
/// goes. A lock keeps two who look from seeing half of it each.
pub(crate) struct Browsing {
    link: Arc<Link>,
    queue: ShortString,
    open: Option<Open>,
    /// How many the last consumer still gets.
    granted: usize,
    next_grant: u16,
    /// How many are left to be looked at: what is added meanwhile is not.
    left: usize,
    /// How many there were at first.
    total: usize,
    removed: usize,
}

struct Open {
    channel: Channel,
    /// All of them stay until the channel is closed: to cancel one would spoil the order.
    consumers: Vec<Consumer>,
    lock: Lock,
}

impl Open {
    /// Gives back what was not removed, and waits until it is there again.
    async fn end(self, link: &Arc<Link>, queue: &ShortString, stay: usize) {
        close(link, self.channel).await;
        drop(self.consumers);
        if let Ok(channel) = link.channel().await {
            let until = Instant::now() + Duration::from_secs(2);
            while waiting(link, &channel, queue).await.is_ok_and(|count| count < stay)
                && Instant::now() < until
            {
                sleep(Duration::from_millis(2)).await;
            }
            close(link, channel).await;
        }
        self.lock.release().await;
    }
}

impl Drop for Browsing {
    fn drop(&mut self) {
        // Without a runtime the connection is at its end, too.
        if let Some(open) = self.open.take()
            && let Ok(runtime) = Handle::try_current()
        {
            let rest = Self {
                link: self.link.clone(),
                queue: self.queue.clone(),
                open: Some(open),
                ..*self
            };
            runtime.spawn(rest.end());
        }
    }
}

/// What somebody looks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Reading,
    Removing,
}

impl Purpose {
    fn first_grant(self) -> u16 {
        match self {
            Self::Reading => 256,
            Self::Removing => u16::MAX,
        }
    }
}

/// How long the next message may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

impl Browsing {
    /// Starts to look; `None` when the queue is empty.
    pub(crate) async fn start(
        link: &Arc<Link>,
        queue: &ShortString,
        lock: ShortString,
        purpose: Purpose,
    ) -> Result<Option<Self>, AmqpError> {
        let lock = match Lock::take(link, lock, PATIENCE).await {
            Err(AmqpError::Locked(_)) => return Err(AmqpError::Busy(queue.to_string())),
            lock => lock?,
        };
        let channel = link.channel().await?;
        let left = waiting(link, &channel, queue).await?;
        if left == 0 {
            close(link, channel).await;
            lock.release().await;
            return Ok(None);
        }
        Ok(Some(Self {
            link: link.clone(),
            queue: queue.clone(),
            open: Some(Open { channel, consumers: Vec::new(), lock }),
            granted: 0,
            next_grant: purpose.first_grant(),
            left,
            total: left,
            removed: 0,
        }))
    }

    /// The next message; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Delivery>, AmqpError> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.granted == 0 {
            self.add_consumer().await?;
        }
        let Some(consumer) = self.open.as_mut().and_then(|open| open.consumers.last_mut()) else {
            return Ok(None);
        };
        let Ok(next) = timeout(PATIENCE, consumer.next()).await else {
            return Err(AmqpError::Busy(self.queue.to_string()));
        };
        let delivery = next.ok_or_else(|| AmqpError::Gone(self.queue.to_string()))??;
        self.granted -= 1;
        self.left -= 1;
        Ok(Some(delivery))
    }

    async fn fetch_the_rest(&mut self) -> Result<(), AmqpError> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    async fn add_consumer(&mut self) -> Result<(), AmqpError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let prefetch = self.next_grant.min(u16::try_from(self.left).unwrap_or(u16::MAX));
        let qos = open.channel.basic_qos(prefetch, BasicQosOptions { global: false });
        self.link.answered(qos).await?;
        // What they hold goes back in the order of their names.
        let tag = format!("look-{:04}", open.consumers.len()).into();
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consuming = open.channel.basic_consume(self.queue.clone(), tag, options, arguments);
        open.consumers.push(self.link.answered(consuming).await?);
        self.granted = usize::from(prefetch);
        self.next_grant = self.next_grant.saturating_mul(4);
        Ok(())
    }

    /// Removes messages, once: after that there are no next ones. A channel passes on some thirty acknowledgements to a quorum queue and
    /// keeps the others until those have taken effect; closing it forgets them.
    pub(crate) async fn remove(&mut self, mut tags: Vec<u64>) -> Result<(), AmqpError> {
        const AT_ONCE: usize = 16;
        const A_MOMENT: Duration = Duration::from_millis(20);
        // Consumers would get more for them, and not in turn.
        self.fetch_the_rest().await?;
        let Some(Open { channel, .. }) = &self.open else { return Ok(()) };
        tags.sort_unstable();
        // The first messages up to where one stays, which is nearly always all, take one.
        let first = tags.iter().zip(1..).take_while(|(tag, number)| **tag == *number).count();
        if let Some(last) = first.checked_sub(1) {
            let ack = channel.basic_ack(tags[last], BasicAckOptions { multiple: true });
            self.link.answered(ack).await?;
        }
        for some in tags[first..].chunks(AT_ONCE) {
            for tag in some {
                let ack = channel.basic_ack(*tag, BasicAckOptions { multiple: false });
                self.link.answered(ack).await?;
            }
            waiting(&self.link, channel, &self.queue).await?;
            sleep(A_MOMENT).await;
        }
        self.removed += tags.len();
        Ok(())
    }

    /// Gives back what was not removed, and waits until it is there again.
    pub(crate) async fn end(mut self) {
        if let Err(error) = self.fetch_the_rest().await {
            tracing::debug!(%error, "a queue may have lost its order");
        }
        let stay = self.total - self.removed;
        if let Some(open) = self.open.take() {
            open.end(&self.link, &self.queue, stay).await;
        }
    }
}
