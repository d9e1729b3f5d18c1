//! The log and the history: the latest steps.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use thredlib::{Event, EventId, ThredId};

use crate::port::{Command, History, LogRecord, LogType, OutboxEntry, Outgoing};

/// The latest steps of all threds, and the latest records about events that moved none.
#[derive(Debug)]
pub(super) struct Records {
    /// Each with the hash of its thred's id, so that a search reads memory in a line.
    steps: VecDeque<(u64, Arc<Step>)>,
    /// Which records of events that moved no thred are here.
    unmoved: HashSet<(EventId, LogType)>,
    limit: usize,
}

/// What a commit adds to the past.
#[derive(Debug)]
pub(super) struct Step {
    /// `None`: the event moved no thred.
    pub(super) thred: Option<ThredId>,
    pub(super) version: u64,
    pub(super) event: Option<Arc<Event>>,
    pub(super) command: Option<Arc<Command>>,
    pub(super) log: Vec<LogRecord>,
    pub(super) outbox: Vec<OutboxEntry>,
}

impl Step {
    fn history(&self) -> History {
        let messages = self.outbox.iter().filter_map(|entry| match &entry.outgoing {
            Outgoing::Message { message, .. } => Some(message.clone()),
            _ => None,
        });
        History {
            version: self.version,
            event: self.event.clone(),
            command: self.command.clone(),
            log: self.log.clone(),
            messages: messages.collect(),
        }
    }
}

impl Records {
    pub(super) fn new(limit: usize) -> Self {
        Self { steps: VecDeque::new(), unmoved: HashSet::new(), limit }
    }

    /// Adds a step; returns the one that had to go for it, to be freed once the lock is.
    pub(super) fn push(&mut self, hash: u64, step: Arc<Step>) -> Option<Arc<Step>> {
        self.steps.push_back((hash, step));
        if self.steps.len() <= self.limit {
            return None;
        }
        let (_, oldest) = self.steps.pop_front()?;
        if oldest.thred.is_none() {
            for record in &oldest.log {
                self.unmoved.remove(&(record.event.clone(), record.log_type));
            }
        }
        Some(oldest)
    }

    /// Adds a record about an event that moved no thred, unless it is here.
    pub(super) fn push_unmoved(&mut self, record: LogRecord, event: Arc<Event>) {
        if self.unmoved.insert((record.event.clone(), record.log_type)) {
            let step = Step {
                thred: None,
                version: 0,
                event: Some(event),
                command: None,
                log: vec![record],
                outbox: vec![],
            };
            self.push(0, Arc::new(step));
        }
    }

    /// The latest steps of a thred or of none, oldest first.
    pub(super) fn history(&self, thred: Option<(u64, &ThredId)>, limit: usize) -> Vec<History> {
        let meant = self.steps.iter().rev().filter(|(hash, step)| match thred {
            Some((wanted, id)) => *hash == wanted && step.thred.as_ref() == Some(id),
            None => *hash == 0 && step.thred.is_none(),
        });
        let mut latest: Vec<_> = meant.take(limit).map(|(_, step)| step.history()).collect();
        latest.reverse();
        latest
    }

    /// The latest records, oldest first.
    pub(super) fn log(&self, limit: usize) -> Vec<LogRecord> {
        let records = self.steps.iter().rev().flat_map(|(_, step)| step.log.iter().rev());
        let mut latest: Vec<_> = records.take(limit).cloned().collect();
        latest.reverse();
        latest
    }
}
