//! Messages that wait at the broker.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use thredlib::Topic;

use crate::{
    AmqpError,
    counts::Counts,
    publisher::{Parcel, Publisher},
    topics::TopicList,
    topology::Topology,
};

/// What is delayed for no more than this waits in the process.
pub(crate) const LONGEST_HERE: Duration = Duration::from_secs(60);

/// Lets messages wait at the broker, in queues for 1, 4, 16, … minutes.
///
/// A queue lets go of its messages in their order, so those in one must all wait for the same time. A
/// message goes into the queue of the longest time that is not too long for it, comes back to its
/// topic, and so on with what is left. The last minute it waits in the process. It is known from a
/// header when it is due.
pub(crate) struct Delays {
    topology: Arc<Topology>,
    publisher: Arc<Publisher>,
    list: Arc<TopicList>,
}

impl Delays {
    pub(crate) fn new(
        topology: Arc<Topology>,
        publisher: Arc<Publisher>,
        list: Arc<TopicList>,
    ) -> Self {
        Self { topology, publisher, list }
    }

    /// Makes what messages of some topics need.
    pub(crate) async fn topics(&self, topics: &[&Topic]) -> Result<(), AmqpError> {
        let new = self.topology.topics(topics).await?;
        if !new.is_empty()
            && let Err(error) = self.list.add(&new).await
        {
            tracing::warn!(%error, ?new, "topics are not in the list of topics");
        }
        Ok(())
    }

    /// Lets a message wait until it is due, or at least for a good part of that.
    ///
    /// # Errors
    /// It may or may not wait there. [`AmqpError::NotTried`]: there is no such queue.
    pub(crate) async fn wait(
        &self,
        topic: &Topic,
        parcel: Parcel,
        counts: Counts,
    ) -> Result<(), AmqpError> {
        let minutes = class(counts.due.map_or(Duration::ZERO, left));
        if !self.topology.delays(topic, minutes).await? {
            return Err(AmqpError::NotTried);
        }
        self.list.add_delay(topic, minutes).await?;
        let sent = self.publisher.publish_one(Parcel {
            exchange: "".into(),
            key: self.topology.names().delay_queue(topic, minutes)?,
            headers: Some(counts.headers()),
            ..parcel
        });
        let sent = sent.await;
        if sent.as_ref().is_err_and(AmqpError::is_missing) {
            self.topology.forget().await;
        }
        sent
    }
}

/// The largest of 1, 4, 16, … minutes, up to eleven days, that is not longer than a time.
fn class(left: Duration) -> u32 {
    const CLASSES: u32 = 8;
    let minutes = left.as_secs() / 60;
    let fits = |power: &u32| u64::from(4_u32.pow(*power)) <= minutes;
    4_u32.pow((0..CLASSES).rev().find(fits).unwrap_or(0))
}

/// How long it is until a time, milliseconds since the Unix epoch.
pub(crate) fn left(due: i64) -> Duration {
    Duration::from_millis(u64::try_from(due.saturating_sub(now())).unwrap_or(0))
}

/// How long it is since a time, milliseconds since the Unix epoch.
pub(crate) fn since(at: i64) -> Duration {
    Duration::from_millis(u64::try_from(now().saturating_sub(at)).unwrap_or(0))
}

/// When a time from now will be, milliseconds since the Unix epoch. The broker waits by the clock
/// on the wall, too, whatever the engine takes for the time.
pub(crate) fn due(delay_ms: u64) -> i64 {
    now().saturating_add(i64::try_from(delay_ms).unwrap_or(i64::MAX))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_made_up_of_powers_of_four() {
        let minutes = |minutes: u64| class(Duration::from_secs(minutes * 60));
        assert_eq!([1, 3, 4, 15, 16, 70].map(minutes), [1, 1, 4, 4, 16, 64]);
        assert_eq!(minutes(1_000_000), 16_384);
        assert_eq!(class(Duration::from_secs(61)), 1);
        // No time takes more than three turns in a queue, and not many queues.
        let mut left = Duration::from_secs(100_000 * 60);
        let mut turns = 0;
        while left > LONGEST_HERE {
            left -= Duration::from_secs(u64::from(class(left)) * 60);
            turns += 1;
        }
        assert!(turns <= 3 * 8 + 6, "{turns}");
    }
}
