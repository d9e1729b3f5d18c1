//! Sharing the partitions among engines.

use std::sync::Arc;

use lapin::types::ShortString;
use thredcore::port::Inbound;
use tokio::{
    task::AbortHandle,
    time::{Duration, sleep},
};

use crate::{
    AmqpError,
    consuming::Consuming,
    inflow::{Ask, Inflow},
    link::Link,
    queues::Wires,
    topology::peek,
};

/// Lets go of partitions when this process has more than its share.
///
/// The broker gives a queue to its first consumer and leaves it there, so the first engine would
/// have them all. Engines count each other as consumers of a queue made for that. One that has
/// more than its share closes its channels of the surplus, with nothing in hand, and lines up again
/// behind those that wait.
pub(crate) struct Balance(Option<AbortHandle>);

impl Drop for Balance {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Balance {
    pub(crate) fn start(wires: &Wires, inflows: Vec<Arc<Inflow<Inbound>>>) -> Self {
        let every = wires.config.rebalance;
        if every.is_zero() {
            return Self(None);
        }
        let (topology, link) = (wires.topology.clone(), wires.consuming.clone());
        let task = tokio::spawn(async move {
            loop {
                let end = match topology.names().engines_queue() {
                    Ok(queue) => share(&link, queue, every, &inflows).await,
                    Err(error) => Err(error),
                };
                match end {
                    Err(AmqpError::Closed) => return,
                    Err(error) => tracing::debug!(%error, "partitions are not evened out"),
                    Ok(()) => {}
                }
                sleep(every).await;
            }
        });
        Self(Some(task.abort_handle()))
    }
}

/// Evens out the partitions until the channel is lost.
async fn share(
    link: &Arc<Link>,
    queue: ShortString,
    every: Duration,
    inflows: &[Arc<Inflow<Inbound>>],
) -> Result<(), AmqpError> {
    let channel = link.channel().await?;
    let _here = Consuming::start(link, channel.clone(), queue.clone(), 1).await?;
    loop {
        sleep(every).await;
        let engines =
            link.answered(peek(&channel, queue.clone())).await?.consumer_count().max(1) as usize;
        let share = inflows.len().div_ceil(engines);
        let active: Vec<_> = inflows.iter().filter(|inflow| inflow.is_active()).collect();
        for inflow in active.iter().skip(share) {
            tracing::info!(queue = inflow.queue.as_str(), engines, "left to another engine");
            inflow.ask(Ask::Release);
        }
    }
}
