//! Topics that nobody uses any more.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use thredlib::Topic;
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep},
};

use crate::{
    AmqpError, declare::Declaring, message_q::Topics, names::short, topics::TopicList,
    topology::Topology,
};

/// Removes topics that have neither consumers nor messages for a time.
///
/// The broker could do that itself (`x-expires`), but it does not ask whether messages wait. So a
/// topic is cut off from the exchange first, which its publishers notice, and looked at once more;
/// a lock keeps them from making it again in between.
pub(crate) struct Idle(AbortHandle);

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What was published before a topic was cut off is there after so long.
const UNDER_WAY: Duration = Duration::from_secs(1);

impl Idle {
    pub(crate) fn start(
        topology: Arc<Topology>,
        list: Arc<TopicList>,
        topics: Arc<RwLock<Topics>>,
        expiry: Duration,
    ) -> Self {
        let task = tokio::spawn(async move {
            let mut idle: HashMap<Topic, Instant> = HashMap::new();
            loop {
                sleep((expiry / 4).max(Duration::from_millis(100))).await;
                match sweep(&topology, &list, &topics, expiry, &mut idle).await {
                    Err(AmqpError::Closed) => return,
                    Err(error) => tracing::debug!(%error, "idle topics are not removed"),
                    Ok(()) => {}
                }
            }
        });
        Self(task.abort_handle())
    }
}

async fn sweep(
    topology: &Arc<Topology>,
    list: &TopicList,
    used: &RwLock<Topics>,
    expiry: Duration,
    idle: &mut HashMap<Topic, Instant>,
) -> Result<(), AmqpError> {
    let topics = list.all().await?;
    idle.retain(|topic, _| topics.contains_key(topic));
    let mut declaring = Declaring::on(&topology.link);
    for (topic, delays) in topics {
        let is_used_here = !used.read().let_go(&topic);
        if is_used_here
            || !is_unused(&mut declaring, topology, &topic, delays.iter().copied()).await?
        {
            idle.remove(&topic);
            continue;
        }
        let since = *idle.entry(topic.clone()).or_insert_with(Instant::now);
        if since.elapsed() >= expiry {
            remove(&mut declaring, topology, list, &topic, delays.iter().copied()).await?;
            idle.remove(&topic);
        }
    }
    declaring.end().await;
    Ok(())
}

/// Whether nobody consumes a topic and nothing waits there; also when there is no such topic.
async fn is_unused(
    declaring: &mut Declaring,
    topology: &Topology,
    topic: &Topic,
    delays: impl IntoIterator<Item = u32>,
) -> Result<bool, AmqpError> {
    let used = |found: Option<(u64, u32)>| found.is_some_and(|found| found != (0, 0));
    let names = topology.names();
    if used(declaring.look(&names.message_queue(topic)?).await?) {
        return Ok(false);
    }
    for minutes in delays {
        if used(declaring.look(&names.delay_queue(topic, minutes)?).await?) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn remove(
    declaring: &mut Declaring,
    topology: &Arc<Topology>,
    list: &TopicList,
    topic: &Topic,
    delays: impl IntoIterator<Item = u32> + Clone,
) -> Result<(), AmqpError> {
    let names = topology.names();
    let (queue, key) = (names.message_queue(topic)?, short(topic.as_str())?);
    let exchange = names.message_exchange()?;
    let lock = topology.lock_topics().await?;
    let removing = async {
        declaring.unbind(&queue, &exchange, &key).await?;
        sleep(UNDER_WAY).await;
        if !is_unused(declaring, topology, topic, delays.clone()).await? {
            return declaring.bind(&queue, &exchange, &key).await;
        }
        for minutes in delays {
            declaring.delete(&names.delay_queue(topic, minutes)?).await?;
        }
        let lost = declaring.delete(&queue).await?;
        if lost > 0 {
            tracing::error!(%topic, lost, "messages went with a topic that was removed as idle");
        }
        declaring.delete(&names.topic_tries_queue(topic)?).await?;
        topology.forget_topic(topic);
        tracing::info!(%topic, "a topic without consumers and messages was removed");
        list.remove(topic).await
    };
    let removed = removing.await;
    lock.release().await;
    removed
}
