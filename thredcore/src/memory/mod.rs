//! Backends that keep everything in the process: fast, and gone with it.
//!
//! They are also the model that the other backends are measured against: the conformance suite
//! runs on them first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod event_q;
mod lane;
mod message_q;
mod outboxes;
mod places;
mod query;
mod records;
mod revisions;
mod storage;
mod tally;
mod topics;

#[cfg(test)]
mod tests;

pub use event_q::{MemoryEventQ, MemoryEventQConfig};
pub use lane::{Buried, Kept};
pub use message_q::{MemoryMessageQ, MemoryMessageQConfig};
pub use query::{Listeners, Pager};
pub use storage::{MemoryStorage, MemoryStorageConfig};
pub use tally::Tally;

/// All backends that an engine needs, in memory, with default limits.
///
/// ```
/// use thredcore::{memory::MemoryBackends, port::EventQ};
///
/// let backends = MemoryBackends::new();
/// assert_eq!(backends.event_q.partitions(), 16);
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryBackends {
    /// What comes in.
    pub event_q: Arc<MemoryEventQ>,
    /// What goes out.
    pub message_q: Arc<MemoryMessageQ>,
    /// What is kept.
    pub storage: Arc<MemoryStorage>,
}

impl MemoryBackends {
    /// Empty backends.
    pub fn new() -> Self {
        Self::default()
    }
}

/// A panic elsewhere leaves no half-made change: all writes follow their checks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
