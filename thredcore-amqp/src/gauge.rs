//! How full a queue is, without asking each time.

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// A depth that was measured, and what was published since.
#[derive(Debug, Default)]
pub(crate) struct Gauge(Mutex<Option<(usize, Instant)>>);

/// A measurement is good for so long.
const FRESH: Duration = Duration::from_millis(250);

impl Gauge {
    /// The depth, if it was measured just now.
    pub(crate) fn depth(&self) -> Option<usize> {
        let (depth, at) = (*self.0.lock())?;
        (at.elapsed() < FRESH).then_some(depth)
    }

    pub(crate) fn measured(&self, depth: usize) {
        *self.0.lock() = Some((depth, Instant::now()));
    }

    pub(crate) fn added(&self, count: usize) {
        if let Some((depth, _)) = &mut *self.0.lock() {
            *depth += count;
        }
    }
}
