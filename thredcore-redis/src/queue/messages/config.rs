use std::time::Duration;

/// Limits of a [`RedisMessageQ`](super::RedisMessageQ).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RedisMessageQConfig {
    /// With so many messages on a topic, its publishers wait: 65,536.
    pub capacity: usize,
    /// After how long a consumer that is not heard of counts as dead, and others get what it had
    /// at hand: 10 s. It does not matter how long a message is worked on: consumers are heard
    /// three times in that time.
    pub visibility: Duration,
    /// The longest pause of a publisher that waits for room before it looks again: 50 ms. The
    /// pauses begin at 1 ms and double.
    pub room_pause: Duration,
    /// How many dead letters are kept for each topic: 10,000. With more the oldest is dropped,
    /// with a warning.
    pub dead_letters: usize,
}

impl Default for RedisMessageQConfig {
    fn default() -> Self {
        Self {
            capacity: 65_536,
            visibility: Duration::from_secs(10),
            room_pause: Duration::from_millis(50),
            dead_letters: 10_000,
        }
    }
}

impl RedisMessageQConfig {
    /// Sets how many messages wait on a topic before its publishers do; at least 1.
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

    /// Sets the longest pause of a publisher that waits for room; at least 1 ms.
    #[must_use]
    pub fn room_pause(mut self, pause: Duration) -> Self {
        self.room_pause = pause.max(Duration::from_millis(1));
        self
    }

    /// Sets how many dead letters are kept for each topic.
    #[must_use]
    pub fn dead_letters(mut self, letters: usize) -> Self {
        self.dead_letters = letters;
        self
    }
}
