//! Where a store stands between two versions, and who keeps it there.

use std::{sync::OnceLock, time::Duration};

use serde::{Deserialize, Serialize};

use super::{FormatError, Formats};

/// The version of a store, and whether it can be raised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreFormat {
    /// The version that the store has.
    pub format: u32,
    /// The newest that this program reads.
    pub newest: u32,
    /// The newest that each process reads that works on the store; empty where a store belongs to one
    /// process.
    pub processes: Vec<u32>,
}

impl StoreFormat {
    /// Whether the store is of an older version than this program.
    pub fn is_open(&self) -> bool {
        self.format < self.newest
    }

    /// How many processes would not read the store any more if it were upgraded.
    pub fn older_processes(&self) -> usize {
        self.processes.iter().filter(|newest| **newest < self.newest).count()
    }
}

/// What a process on a shared store does to be reckoned with: it notes now and then which versions it
/// reads, and finds out whether the store has left it behind.
#[derive(Debug, Default)]
pub struct Attendance(OnceLock<FormatError>);

impl Attendance {
    /// How often a process notes that it is there.
    pub const EVERY: Duration = Duration::from_secs(10);
    /// How long a process counts as there after its last note: some may get lost.
    pub const LASTS: Duration = Duration::from_secs(60);

    /// Takes in which version the store has by now: one that this program does not read ends its work.
    pub fn found(&self, formats: Formats, format: u64) {
        if let Err(problem) = formats.check(format)
            && self.0.set(problem).is_ok()
        {
            tracing::error!(%problem, "the store was upgraded while this process was away; it stops");
        }
    }

    /// Whether the store can still be worked on.
    ///
    /// # Errors
    /// It has a version that this program does not read.
    pub fn check(&self) -> Result<(), FormatError> {
        self.0.get().map_or(Ok(()), |problem| Err(*problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_processes_keep_a_store_from_being_upgraded() {
        let store = StoreFormat { format: 2, newest: 3, processes: vec![3, 2, 4, 2] };
        assert!(store.is_open());
        assert_eq!(store.older_processes(), 2);
        assert!(!StoreFormat { format: 3, ..store }.is_open());
    }

    #[test]
    fn a_store_that_left_the_process_behind_ends_its_work() {
        let attendance = Attendance::default();
        attendance.found(Formats::new(2, 3), 3);
        assert_eq!(attendance.check(), Ok(()));
        attendance.found(Formats::new(2, 3), 4);
        assert!(attendance.check().unwrap_err().is_newer());
    }
}
