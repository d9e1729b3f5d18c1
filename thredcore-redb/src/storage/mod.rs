//! What is kept.

mod records;
mod small;
pub(crate) mod texts;
mod threds;

use std::{fmt, sync::Arc};

use thredcore::memory::Tally;

use crate::journal::{Journal, lock};

/// A [`Storage`](thredcore::port::Storage) in a directory.
pub struct RedbStorage {
    pub(crate) journal: Arc<Journal>,
}

impl RedbStorage {
    /// What happened here since the directory was opened.
    pub fn tally(&self) -> Tally {
        lock(&self.journal.shared.tally).clone()
    }
}

impl fmt::Debug for RedbStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStorage").finish_non_exhaustive()
    }
}
