use std::time::Duration;

/// Limits of a [`RedisEventQ`](super::RedisEventQ).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RedisEventQConfig {
    /// How many partitions there are: 16. The number must never change for a namespace; a queue
    /// that has another one is refused.
    pub partitions: u16,
    /// With so many items in the queue it has no room for events: 65,536.
    pub capacity: usize,
    /// How long a process goes by the depth that it has read last, and what it published itself
    /// since then: 50 ms. The capacity may be exceeded by what all the others publish in that
    /// time.
    pub room_refresh: Duration,
    /// How long a partition stays its owner's when nothing is heard of the owner any more: 5 s.
    /// It is renewed three times in that time.
    pub lease: Duration,
    /// How many dead letters are kept for each partition: 10,000. With more the oldest is dropped,
    /// with a warning.
    pub dead_letters: usize,
}

impl Default for RedisEventQConfig {
    fn default() -> Self {
        Self {
            partitions: 16,
            capacity: 65_536,
            room_refresh: Duration::from_millis(50),
            lease: Duration::from_secs(5),
            dead_letters: 10_000,
        }
    }
}

impl RedisEventQConfig {
    /// Sets the number of partitions; at least 1.
    #[must_use]
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = partitions.max(1);
        self
    }

    /// Sets how many items leave no room for events; at least 1.
    #[must_use]
    pub fn capacity(mut self, items: usize) -> Self {
        self.capacity = items.max(1);
        self
    }

    /// Sets how long a read depth is gone by.
    #[must_use]
    pub fn room_refresh(mut self, refresh: Duration) -> Self {
        self.room_refresh = refresh;
        self
    }

    /// Sets how long a partition stays a silent owner's; at least 100 ms.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_millis(100));
        self
    }

    /// Sets how many dead letters are kept for each partition.
    #[must_use]
    pub fn dead_letters(mut self, letters: usize) -> Self {
        self.dead_letters = letters;
        self
    }
}
