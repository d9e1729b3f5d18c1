//! Whether there is room, without asking the server each time.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{RedisEventQConfig, Shared};
use crate::Error;

/// The depth as it was read last, and what was published here since then.
#[derive(Debug)]
pub(super) struct Room {
    capacity: usize,
    refresh: Duration,
    estimate: Mutex<Option<Estimate>>,
    /// Held by whoever reads the depth.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    at: Instant,
    depth: usize,
}

impl Room {
    pub(super) fn new(config: &RedisEventQConfig) -> Self {
        Self {
            capacity: config.capacity,
            refresh: config.room_refresh,
            estimate: Mutex::new(None),
            reading: tokio::sync::Mutex::new(()),
        }
    }

    /// Notes what is being published.
    pub(super) fn published(&self, items: usize) {
        if let Some(estimate) = &mut *self.estimate.lock() {
            estimate.depth += items;
        }
    }

    /// Waits until there is room, or the queue is closed.
    pub(super) async fn wait(&self, queue: &Shared) -> Result<(), Error> {
        while !queue.is_closed() {
            let seen = self.fresh();
            if seen.is_some_and(|estimate| estimate.depth < self.capacity) {
                return Ok(());
            }
            let reading = self.reading.lock().await;
            // Another may have read it while this one waited for its turn.
            if self.fresh().map(|it| it.at) == seen.map(|it| it.at) {
                let at = Instant::now();
                let depth = queue.depth().await?;
                *self.estimate.lock() = Some(Estimate { at, depth });
                if depth >= self.capacity {
                    tokio::time::sleep(self.refresh).await;
                }
            }
            drop(reading);
        }
        Ok(())
    }

    fn fresh(&self) -> Option<Estimate> {
        self.estimate.lock().filter(|estimate| estimate.at.elapsed() < self.refresh)
    }
}
