//! The log and the history: the latest steps.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use thredlib::{Event, EventId, ThredId};

use crate::port::{Commit, History, LogRecord, LogType};

/// The latest steps of all threds, and the latest records about events that moved none.
#[derive(Debug)]
pub(super) struct Records {
    /// Each with the hash of its thred's id, so that a search reads memory in a line.
    steps: VecDeque<(u64, Step)>,
    /// Which records of events that moved no thred are here.
    unmoved: HashSet<(EventId, LogType)>,
    limit: usize,
}

/// A step of the past.
#[derive(Debug)]
pub(super) enum Step {
    /// A thred changed.
    Commit(Arc<Commit>),
    /// An event moved no thred.
    Unmoved(LogRecord, Arc<Event>),
}

impl Step {
    fn thred(&self) -> Option<&ThredId> {
        match self {
            Self::Commit(commit) => Some(&commit.state.id),
            Self::Unmoved(..) => None,
        }
    }

    fn log(&self) -> &[LogRecord] {
        match self {
            Self::Commit(commit) => &commit.log,
            Self::Unmoved(record, _) => std::slice::from_ref(record),
        }
    }

    fn history(&self) -> History {
        match self {
            Self::Commit(commit) => commit.history(),
            Self::Unmoved(record, event) => History::unmoved(record.clone(), event.clone()),
        }
    }
}

impl Records {
    pub(super) fn new(limit: usize) -> Self {
        Self { steps: VecDeque::new(), unmoved: HashSet::new(), limit }
    }

    /// Adds a step; returns the one that had to go for it, to be freed once the lock is.
    pub(super) fn push(&mut self, hash: u64, step: Step) -> Option<Step> {
        self.steps.push_back((hash, step));
        if self.steps.len() <= self.limit {
            return None;
        }
        let (_, oldest) = self.steps.pop_front()?;
        if let Step::Unmoved(record, _) = &oldest {
            self.unmoved.remove(&(record.event.clone(), record.log_type));
        }
        Some(oldest)
    }

    /// Adds a record about an event that moved no thred, unless it is here; says whether it did.
    pub(super) fn push_unmoved(&mut self, record: LogRecord, event: Arc<Event>) -> bool {
        let new = self.unmoved.insert((record.event.clone(), record.log_type));
        if new {
            self.push(0, Step::Unmoved(record, event));
        }
        new
    }

    /// The latest steps of a thred or of none, oldest first.
    pub(super) fn history(&self, thred: Option<(u64, &ThredId)>, limit: usize) -> Vec<History> {
        let meant = self.steps.iter().rev().filter(|(hash, step)| match thred {
            Some((wanted, id)) => *hash == wanted && step.thred() == Some(id),
            None => *hash == 0 && step.thred().is_none(),
        });
        let mut latest: Vec<_> = meant.take(limit).map(|(_, step)| step.history()).collect();
        latest.reverse();
        latest
    }

    /// The latest records, oldest first.
    pub(super) fn log(&self, limit: usize) -> Vec<LogRecord> {
        let records = self.steps.iter().rev().flat_map(|(_, step)| step.log().iter().rev());
        let mut latest: Vec<_> = records.take(limit).cloned().collect();
        latest.reverse();
        latest
    }
}
