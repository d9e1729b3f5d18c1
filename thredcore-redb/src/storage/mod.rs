//! What is kept.

mod records;
mod small;
pub(crate) mod texts;
mod threds;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use thredcore::{
    memory::Tally,
    port::{PortError, PortErrorKind, Quarantine, Unreadable},
};

use crate::{
    journal::Journal,
    quarantine::Part,
    shared::{ReadError, Shared},
};

/// A [`Storage`](thredcore::port::Storage) in a directory.
pub struct RedbStorage {
    pub(crate) journal: Arc<Journal>,
}

impl RedbStorage {
    /// What happened here since the directory was opened.
    pub fn tally(&self) -> Tally {
        self.journal.shared.tally.lock().clone()
    }

    /// How many stored things have been met that cannot be read, in the queues too, since the
    /// directory was opened.
    pub fn unreadable_met(&self) -> usize {
        self.journal.shared.unreadable.count()
    }
}

#[async_trait]
impl Quarantine for RedbStorage {
    async fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        self.journal.unreadable(Part::Storage, limit).await
    }

    async fn move_out(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        self.journal.move_out(Part::Storage, limit).await
    }
}

impl fmt::Debug for RedbStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStorage").finish_non_exhaustive()
    }
}

/// Does what takes long where it holds up nobody.
pub(crate) async fn apart<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) -> T + Send + 'static,
) -> Result<T, PortError> {
    let shared = shared.clone();
    let done = tokio::task::spawn_blocking(move || work(&shared)).await;
    done.map_err(|error| PortError::new("read", PortErrorKind::Unavailable, error))
}

/// A failed read, said by the port.
pub(crate) fn failed(operation: &'static str) -> impl Fn(ReadError) -> PortError {
    move |error| error.port(operation)
}
