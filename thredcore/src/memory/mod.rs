//! Backends that keep everything in the process: fast, and gone with it.
//!
//! They are also the model that the other backends are measured against: the conformance suite
//! runs on them first.

use std::{sync::Arc, time::Duration};

mod dead_letters;
mod ending;
mod event_q;
mod keys;
mod lane;
mod live;
mod message_q;
mod outboxes;
mod parked;
mod places;
mod query;
mod receipts;
mod records;
mod revisions;
mod storage;
mod tally;
mod topics;
mod waiting;

#[cfg(test)]
mod tests;

pub use dead_letters::Buried;
pub use event_q::{MemoryEventQ, MemoryEventQConfig, redriven};
pub use lane::Kept;
pub use message_q::{MemoryMessageQ, MemoryMessageQConfig};
pub use query::Pager;
pub use receipts::Receipts;
pub use storage::{MemoryStorage, MemoryStorageConfig};
pub use tally::Tally;
pub use waiting::{ListeningPatterns, WaitIndex};

/// How long dead letters are kept, and their receipts: 30 days.
const DEAD_LETTERS_TIME: Duration = Duration::from_secs(30 * 24 * 3600);

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
