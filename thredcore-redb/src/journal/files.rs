//! What the writer alone knows of the file.

use std::collections::HashSet;

use crate::{runs::Runs, segments::Segments};

/// Read again from the file after a failed write.
pub(super) struct Files {
    pub(super) states: Segments,
    pub(super) steps: Segments,
    pub(super) events: Segments,
    pub(super) messages: Segments,
    /// Steps with a part of the outbox published or parked.
    pub(super) partly: HashSet<u64>,
    pub(super) receipts: Runs,
    pub(super) recorded: Runs,
    /// The last step about an event that changed nothing.
    pub(super) last_unmoved: u64,
}

/// The step before the first one of a thred.
pub(super) const NO_STEP: u64 = 0;
