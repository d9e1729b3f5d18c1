//! Dead letters that the broker drops: they are counted, not kept.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lapin::options::BasicAckOptions;
use tokio::{
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::{AmqpError, consuming::Consuming, letter, link::Link, topology::Topology};

/// Counts the dead letters that were dropped for their age or for want of room.
#[derive(Default)]
pub(crate) struct Dropped {
    count: Arc<AtomicU64>,
    counting: OnceLock<Counting>,
}

struct Counting(AbortHandle);

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Dropped {
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Starts to count, if that was not done before.
    pub(crate) fn start(&self, topology: &Arc<Topology>, link: &Arc<Link>) {
        self.counting.get_or_init(|| {
            let (topology, link, count) = (topology.clone(), link.clone(), self.count.clone());
            let task = tokio::spawn(async move {
                const PAUSE: Duration = Duration::from_secs(5);
                loop {
                    match consume(&topology, &link, &count).await {
                        Err(AmqpError::Closed) => return,
                        Ok(false) => return,
                        Ok(true) => {}
                        Err(error) => {
                            tracing::debug!(%error, "dropped dead letters are not counted");
                        }
                    }
                    sleep(PAUSE).await;
                }
            });
            Counting(task.abort_handle())
        });
    }
}

/// Counts until the channel is lost; says whether there is anything to count.
async fn consume(
    topology: &Topology,
    link: &Arc<Link>,
    count: &AtomicU64,
) -> Result<bool, AmqpError> {
    // As many at a time share one warning.
    const TOGETHER: u16 = 256;
    const A_MOMENT: Duration = Duration::from_millis(500);
    if !topology.dropped().await? {
        return Ok(false);
    }
    let channel = link.channel().await?;
    let queue = topology.names().dropped_queue()?;
    let mut consuming = Consuming::start(link, channel.clone(), queue, TOGETHER).await?;
    while let Some(first) = consuming.next().await {
        let mut last = first?;
        let mut dropped = 1;
        while dropped < u64::from(TOGETHER)
            && let Ok(Some(next)) = timeout(A_MOMENT, consuming.next()).await
        {
            last = next?;
            dropped += 1;
        }
        count.fetch_add(dropped, Ordering::Relaxed);
        let last_id = letter::key(&last);
        tracing::warn!(dropped, last_id, "dead letters were dropped: too old, or too many");
        let options = BasicAckOptions { multiple: true };
        link.answered(channel.basic_ack(last.delivery_tag, options)).await?;
    }
    Ok(true)
}
