use std::time::Duration;

use crate::queue::DEAD_LETTERS_TIME;

/// Limits of a [`RedisMessageQ`](super::RedisMessageQ).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RedisMessageQConfig {
    /// With so many messages on a topic it is full: 65,536.
    pub capacity: usize,
    /// After how long a consumer that is not heard of counts as dead, and others get what it had
    /// at hand: 10 s. It does not matter how long a message is worked on: consumers are heard
    /// three times in that time.
    pub visibility: Duration,
    /// How often topics are looked at for messages of which there was no word: 30 s. A word may be
    /// lost between the nodes of a cluster.
    pub sweep: Duration,
    /// How long a message waits before it goes to the dead letters as
    /// [`EXPIRED`](super::RedisMessageQ::EXPIRED): without end.
    pub message_ttl: Option<Duration>,
    /// How long a topic stays that has neither messages nor consumers nor dead letters: for good.
    pub idle_expiry: Option<Duration>,
    /// How large a message with its topic may be as JSON: 64 MiB.
    pub max_item_bytes: usize,
    /// How long dead letters are kept: 30 days.
    pub dead_letters_time: Duration,
    /// How many bytes of dead letters are kept, of all topics together: 256 MiB. With more the oldest is
    /// dropped, within a second; so is one whose time is over. Each is counted
    /// ([`dropped_dead_letters`](super::RedisMessageQ::dropped_dead_letters)), with a warning.
    pub dead_letters_bytes: u64,
}

impl Default for RedisMessageQConfig {
    fn default() -> Self {
        Self {
            capacity: 65_536,
            visibility: Duration::from_secs(10),
            sweep: Duration::from_secs(30),
            message_ttl: None,
            idle_expiry: None,
            max_item_bytes: 64 << 20,
            dead_letters_time: DEAD_LETTERS_TIME,
            dead_letters_bytes: 256 << 20,
        }
    }
}

impl RedisMessageQConfig {
    /// Sets how many messages wait on a topic before it is full; at least 1.
    #[must_use]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages.max(1);
        self
    }

    /// Sets after how long a silent consumer counts as dead; at least 100 ms.
    #[must_use]
    pub fn visibility(mut self, visibility: Duration) -> Self {
        self.visibility = visibility.max(Duration::from_millis(100));
        self
    }

    /// Sets how often topics are looked at without word of something; at least 100 ms.
    #[must_use]
    pub fn sweep(mut self, sweep: Duration) -> Self {
        self.sweep = sweep.max(Duration::from_millis(100));
        self
    }

    /// Sets how long a message waits before it goes to the dead letters.
    #[must_use]
    pub fn message_ttl(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.message_ttl = time.into();
        self
    }

    /// Sets how long a topic stays that has nothing and nobody.
    #[must_use]
    pub fn idle_expiry(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.idle_expiry = time.into();
        self
    }

    /// Sets how large an item may be; at most 256 MiB.
    #[must_use]
    pub fn max_item_bytes(mut self, bytes: usize) -> Self {
        self.max_item_bytes = bytes.min(256 << 20);
        self
    }

    /// Sets how long dead letters are kept.
    #[must_use]
    pub fn dead_letters_time(mut self, time: Duration) -> Self {
        self.dead_letters_time = time;
        self
    }

    /// Sets how many bytes of dead letters are kept.
    #[must_use]
    pub fn dead_letters_bytes(mut self, bytes: u64) -> Self {
        self.dead_letters_bytes = bytes;
        self
    }
}
