//! Counting what is in the queues.

use std::{sync::Arc, time::Duration};

use futures::future::try_join_all;
use lapin::{Channel, types::ShortString};
use tokio::{
    sync::{Mutex, oneshot},
    time::timeout,
};

use crate::{
    AmqpError,
    cargo::Cargo,
    inflow::{Ask, Inflow},
    link::Link,
    topology::waiting,
};

/// How much is in a queue of the broker, as far as this process can see.
///
/// What other processes have received and not acknowledged yet, at most their prefetch, is in
/// neither number: AMQP does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueDepth {
    /// The name of the queue.
    pub queue: String,
    /// What waits at the broker.
    pub waiting: usize,
    /// What this process has received and not acknowledged yet.
    pub held: usize,
}

/// Asks the broker how much waits, on a channel kept for that.
pub(crate) struct Sounding {
    link: Arc<Link>,
    channel: Mutex<Option<Channel>>,
}

impl Sounding {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self { link, channel: Mutex::new(None) }
    }

    /// How much waits in each of some queues.
    pub(crate) async fn waiting(&self, queues: &[ShortString]) -> Result<Vec<usize>, AmqpError> {
        let channel = {
            let mut place = self.channel.lock().await;
            match place.take() {
                Some(channel) if channel.status().connected() => place.insert(channel).clone(),
                _ => place.insert(self.link.channel().await?).clone(),
            }
        };
        let counted =
            try_join_all(queues.iter().map(|queue| waiting(&self.link, &channel, queue))).await;
        match counted {
            // One that does not exist closes the channel for the others.
            Err(_) if queues.len() > 1 => {
                let mut counts = Vec::with_capacity(queues.len());
                for queue in queues {
                    counts.push(Box::pin(self.waiting(std::slice::from_ref(queue))).await?);
                }
                Ok(counts.concat())
            }
            counted => counted,
        }
    }
}

impl<T: Cargo> Inflow<T> {
    /// What waits and what is held, with nothing lost on the way between: that is asked on the
    /// consumer's own channel, and counted when all that came before the answer is taken in.
    /// `None` when nothing is consumed just now.
    pub(crate) async fn depth(&self, link: &Link) -> Option<(usize, usize)> {
        const PATIENCE: Duration = Duration::from_secs(1);
        let channel = self.channel()?;
        let ready = waiting(link, &channel, &self.queue).await.ok()?;
        waiting(link, &channel, &self.queue).await.ok()?;
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Settle(answer));
        timeout(PATIENCE, answered).await.ok()?.ok()?;
        Some((ready, self.held()))
    }
}
