//! What the writer alone knows of the file.

use std::collections::{HashSet, VecDeque};

use thredcore::port::LogType;
use thredlib::{EventId, ThredId};

use crate::segments::Segments;

/// Read again from the file after a failed write.
pub(super) struct Files {
    pub(super) states: Segments,
    pub(super) steps: Segments,
    pub(super) events: Segments,
    pub(super) messages: Segments,
    /// Steps with a part of the outbox published.
    pub(super) partly: HashSet<u64>,
    pub(super) unmoved: Unmoved,
    /// Ended threds, in the order of their ending.
    pub(super) ended: VecDeque<ThredId>,
}

/// Events that moved no thred: the latest known records, and the last step.
#[derive(Default)]
pub(super) struct Unmoved {
    known: HashSet<(EventId, LogType)>,
    order: VecDeque<(EventId, LogType)>,
    pub(super) last: u64,
}

impl Unmoved {
    /// How many records are told from new ones: the latest 100,000.
    pub(super) const KNOWN: usize = 100_000;

    pub(super) fn new(last: u64) -> Self {
        Self { last, ..Self::default() }
    }

    /// Says whether it is new.
    pub(super) fn insert(&mut self, event: &EventId, decision: LogType) -> bool {
        let key = (event.clone(), decision);
        if !self.known.insert(key.clone()) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > Self::KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// The step before the first one of a thred.
pub(super) const NO_STEP: u64 = 0;
