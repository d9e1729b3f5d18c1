use std::time::Duration;

use crate::queue::DEAD_LETTERS_TIME;

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
    /// How long partitions stay their owner's when nothing is heard of the owner any more: 5 s.
    /// An owner is heard three times in that time, with one request for all of its partitions.
    pub lease: Duration,
    /// How often partitions are looked at for items of which there was no word: 30 s. A word may be
    /// lost between the nodes of a cluster.
    pub sweep: Duration,
    /// How large an item may be as JSON: 64 MiB.
    pub max_item_bytes: usize,
    /// How long dead letters are kept: 30 days.
    pub dead_letters_time: Duration,
    /// How many bytes of dead letters are kept, of all partitions together: 256 MiB. With more the
    /// oldest is dropped, within a second; so is one whose time is over. Each is counted
    /// ([`dropped_dead_letters`](super::RedisEventQ::dropped_dead_letters)), with a warning.
    pub dead_letters_bytes: u64,
}

impl Default for RedisEventQConfig {
    fn default() -> Self {
        Self {
            partitions: 16,
            capacity: 65_536,
            room_refresh: Duration::from_millis(50),
            lease: Duration::from_secs(5),
            sweep: Duration::from_secs(30),
            max_item_bytes: 64 << 20,
            dead_letters_time: DEAD_LETTERS_TIME,
            dead_letters_bytes: 256 << 20,
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

    /// Sets how often partitions are looked at without word of something; at least 100 ms.
    #[must_use]
    pub fn sweep(mut self, sweep: Duration) -> Self {
        self.sweep = sweep.max(Duration::from_millis(100));
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
