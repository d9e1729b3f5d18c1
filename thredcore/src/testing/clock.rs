//! A clock that tests set.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::port::Clock;

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows a time, milliseconds since the Unix epoch.
    pub fn new(now: i64) -> Self {
        Self(AtomicI64::new(now))
    }

    /// Shows another time, never an earlier one.
    pub fn set(&self, now: i64) {
        self.0.fetch_max(now, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}
