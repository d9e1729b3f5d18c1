//! The log and the history: the latest steps.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use thredlib::{EventKey, ThredId};

use super::keys::KeyHash;
use crate::{
    hash::FastHash,
    port::{Commit, History, LogRecord, LogType, PortError, PortErrorKind, Unmoved, UnmovedPage},
};

/// The latest steps of all threds, and the latest records about events that changed nothing.
///
/// They are numbered. Each knows the one before it of the same thred (or the one before it of those that
/// changed nothing), so that a thred's past is read from the last step backwards, whatever else
/// has happened since; the number of the last stands with the thred.
#[derive(Debug)]
pub(super) struct Records {
    steps: VecDeque<Numbered>,
    /// The number of the first step that is kept; from 1.
    first: u64,
    limit: usize,
    /// The last step of forgotten threds, as long as it is kept.
    forgotten: HashMap<ThredId, u64, FastHash>,
    last_unmoved: u64,
    /// Which records of events that changed nothing are here: a bit for each type.
    unmoved: HashMap<EventKey, u32, KeyHash>,
}

/// In place of a number: there is no such step.
pub(super) const NONE: u64 = 0;

#[derive(Debug)]
struct Numbered {
    step: Step,
    /// The number of the step before of the same kind.
    before: u64,
}

/// A step of the past.
#[derive(Debug)]
pub(super) enum Step {
    /// A thred changed.
    Commit(Arc<Commit>),
    /// An event changed nothing.
    Unmoved(Box<Unmoved>),
}

impl Step {
    fn log(&self) -> &[LogRecord] {
        match self {
            Self::Commit(commit) => &commit.log,
            Self::Unmoved(unmoved) => std::slice::from_ref(&unmoved.record),
        }
    }
}

fn bit(log_type: LogType) -> u32 {
    1 << (log_type as u32)
}

impl Records {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            steps: VecDeque::new(),
            first: NONE + 1,
            limit,
            forgotten: HashMap::default(),
            last_unmoved: NONE,
            unmoved: HashMap::default(),
        }
    }

    /// Adds a step of a thred, whose last one was `before`. Returns its number, and the step that
    /// had to go for it, to be freed once the lock is.
    pub(super) fn push_commit(&mut self, commit: Arc<Commit>, before: u64) -> (u64, Option<Step>) {
        self.push(Step::Commit(commit), before)
    }

    /// Adds a record about an event that changed nothing, unless it is here; says whether it did.
    pub(super) fn push_unmoved(&mut self, unmoved: &Unmoved) -> bool {
        let types = self.unmoved.entry(unmoved.key).or_default();
        let bit = bit(unmoved.record.log_type);
        if *types & bit != 0 {
            return false;
        }
        *types |= bit;
        let step = Step::Unmoved(Box::new(unmoved.clone()));
        (self.last_unmoved, _) = self.push(step, self.last_unmoved);
        true
    }

    fn push(&mut self, step: Step, before: u64) -> (u64, Option<Step>) {
        self.steps.push_back(Numbered { step, before });
        let number = self.first + self.steps.len() as u64 - 1;
        if self.steps.len() <= self.limit {
            return (number, None);
        }
        let Some(Numbered { step: oldest, .. }) = self.steps.pop_front() else {
            return (number, None);
        };
        self.first += 1;
        match &oldest {
            Step::Commit(commit) => {
                let id = &commit.state.id;
                if !self.forgotten.is_empty() && self.forgotten.get(id) == Some(&(self.first - 1)) {
                    self.forgotten.remove(id);
                }
            }
            Step::Unmoved(unmoved) => {
                if let Some(types) = self.unmoved.get_mut(&unmoved.key) {
                    *types &= !bit(unmoved.record.log_type);
                    if *types == 0 {
                        self.unmoved.remove(&unmoved.key);
                    }
                }
            }
        }
        (number, Some(oldest))
    }

    /// Threds are forgotten, whose last steps had these numbers.
    pub(super) fn forget(&mut self, threds: impl IntoIterator<Item = (ThredId, u64)>) {
        let first = self.first;
        self.forgotten.extend(threds.into_iter().filter(|(_, last)| *last >= first));
    }

    /// The number of the last step of a forgotten thred.
    pub(super) fn last_of_forgotten(&self, thred: &ThredId) -> u64 {
        self.forgotten.get(thred).copied().unwrap_or(NONE)
    }

    fn step(&self, number: u64) -> Option<&Numbered> {
        self.steps.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// The steps of one kind, from a number on backwards.
    fn backwards(&self, last: u64) -> impl Iterator<Item = (u64, &Step)> {
        let mut number = last;
        std::iter::from_fn(move || {
            let Numbered { step, before } = self.step(number)?;
            Some((std::mem::replace(&mut number, *before), step))
        })
    }

    /// The latest steps of a thred that led to versions below one, in their order; `last` is the number
    /// of its last step.
    pub(super) fn history(&self, last: u64, before: Option<u64>, limit: usize) -> Vec<History> {
        let commits = self.backwards(last).filter_map(|(_, step)| match step {
            Step::Commit(commit) => Some(commit),
            Step::Unmoved(_) => None,
        });
        let meant = commits.skip_while(|commit| before.is_some_and(|v| commit.state.version >= v));
        let mut latest: Vec<_> = meant.take(limit).map(|commit| commit.history()).collect();
        latest.reverse();
        latest
    }

    /// A page of what changed nothing, up to a record before the one that the cursor names.
    pub(super) fn unmoved(
        &self,
        before: Option<&str>,
        limit: usize,
    ) -> Result<UnmovedPage, PortError> {
        let last = match before {
            None => self.last_unmoved,
            Some(cursor) => {
                let number = cursor.parse::<u64>().map_err(|_| {
                    let cause = "the cursor is not what an earlier page gave as `before`";
                    PortError::new("read records", PortErrorKind::Rejected, cause)
                })?;
                self.step(number).map_or(NONE, |step| step.before)
            }
        };
        let mut all = self.backwards(last).filter_map(|(number, step)| match step {
            Step::Unmoved(unmoved) => Some((number, unmoved)),
            Step::Commit(_) => None,
        });
        let mut page: Vec<_> = all.by_ref().take(limit).collect();
        let more = all.next().is_some();
        let before = page.last().filter(|_| more).map(|(number, _)| number.to_string());
        page.reverse();
        let records = page.into_iter().map(|(_, unmoved)| (**unmoved).clone()).collect();
        Ok(UnmovedPage { records, before })
    }

    /// Which events are on record as having changed nothing.
    pub(super) fn recorded(&self, keys: &[EventKey]) -> Vec<bool> {
        keys.iter().map(|key| self.unmoved.contains_key(key)).collect()
    }

    /// The latest records, oldest first.
    pub(super) fn log(&self, limit: usize) -> Vec<LogRecord> {
        let records = self.steps.iter().rev().flat_map(|step| step.step.log().iter().rev());
        let mut latest: Vec<_> = records.take(limit).cloned().collect();
        latest.reverse();
        latest
    }
}
