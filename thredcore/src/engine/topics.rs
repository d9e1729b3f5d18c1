//! Topics that take no more messages for the time being.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use thredlib::Topic;

use crate::port::ParkedTopic;

/// The reason of a message that is dead-lettered because too many wait for its topic.
pub(super) const TOPIC_FULL: &str =
    "TOPIC_FULL: the topic is full, and as many messages as may wait for it do";

/// What this engine knows of full topics, so that it does not ask for each message, and tells
/// operators.
#[derive(Debug, Default)]
pub(super) struct FullTopics {
    /// Whether there are any: mostly there are none, and this is asked for each message.
    any: AtomicBool,
    topics: Mutex<HashMap<Topic, Full>>,
}

#[derive(Debug)]
struct Full {
    /// Until then the topic is taken to be full.
    until: Instant,
    pause: Duration,
    /// Whether as many messages wait for it as may.
    is_over_quota: bool,
    warned: Instant,
}

/// Whether messages for a topic are to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopicState {
    /// It has not said that it is full.
    Open,
    /// It was full a moment ago.
    Full,
    /// It is full, and no more messages may wait for it.
    OverQuota,
}

impl FullTopics {
    const FIRST_PAUSE: Duration = Duration::from_millis(50);
    const LONGEST_PAUSE: Duration = Duration::from_secs(5);
    const WARN_EVERY: Duration = Duration::from_secs(60);

    pub(super) fn state(&self, topic: &Topic) -> TopicState {
        if !self.is_any() {
            return TopicState::Open;
        }
        let full = self.topics.lock();
        match full.get(topic) {
            Some(it) if it.is_over_quota => TopicState::OverQuota,
            Some(it) if Instant::now() < it.until => TopicState::Full,
            _ => TopicState::Open,
        }
    }

    /// The topic has said that it is full.
    pub(super) fn mark(&self, topic: &Topic) {
        let now = Instant::now();
        let mut full = self.topics.lock();
        match full.get_mut(topic) {
            // One call tells it for each message.
            Some(it) if now < it.until => {}
            Some(it) => {
                it.pause = (it.pause * 2).min(Self::LONGEST_PAUSE);
                it.until = now + it.pause;
            }
            None => {
                tracing::warn!(%topic, "the topic is full; its messages wait in the outboxes");
                let pause = Self::FIRST_PAUSE;
                let it = Full { until: now + pause, pause, is_over_quota: false, warned: now };
                full.insert(topic.clone(), it);
                self.any.store(true, Ordering::Release);
            }
        }
    }

    /// The topic has taken a message: it is read.
    pub(super) fn took(&self, topic: &Topic) {
        if self.is_any()
            && let Some(it) = self.topics.lock().get_mut(topic)
        {
            it.pause = Self::FIRST_PAUSE;
        }
    }

    /// Whether it is time to try a topic again that messages are parked for. Then it counts as open
    /// until it says otherwise.
    pub(super) fn turn(&self, topic: &Topic) -> bool {
        let mut full = self.topics.lock();
        match full.get_mut(topic) {
            Some(it) if Instant::now() < it.until => false,
            Some(it) => {
                it.is_over_quota = false;
                true
            }
            None => true,
        }
    }

    /// Takes note of what waits for full topics.
    pub(super) fn note(&self, parked: Vec<ParkedTopic>, quota: u64) {
        let now = Instant::now();
        let mut full = self.topics.lock();
        full.retain(|topic, it| now < it.until || parked.iter().any(|other| other.topic == *topic));
        for ParkedTopic { topic, messages, oldest } in parked {
            let Some(it) = full.get_mut(&topic) else { continue };
            it.is_over_quota = messages >= quota;
            if now.duration_since(it.warned) >= Self::WARN_EVERY {
                it.warned = now;
                tracing::warn!(%topic, messages, oldest, "messages wait for a full topic");
            }
        }
        self.any.store(!full.is_empty(), Ordering::Release);
    }

    /// Whether messages wait for any topic.
    pub(super) fn is_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }
}
