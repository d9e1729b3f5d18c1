//! Computing a thred's state again from its history.

use std::sync::Arc;

use thredlib::expr::Scope;

use super::{Input, Outcome, ReactLimits, StepError, World, react, spawn, start};
use crate::{
    pattern::Pattern,
    port::{Command, Commit, Facts, History},
    state::ThredState,
};

/// A history that does not lead to a state again.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A step is missing: a history is whole from version 1 on.
    #[error("the step to version {version} is missing from the history")]
    Gap {
        /// The version that the missing step leads to.
        version: u64,
    },
    /// A step says neither when it was nor what came in.
    #[error("the step to version {version} says too little to be computed again")]
    Incomplete {
        /// The version that the step leads to.
        version: u64,
    },
    /// A step that had been committed fails.
    #[error("the step to version {version} fails now: {source}")]
    Failed {
        /// The version that the step leads to.
        version: u64,
        /// Why it fails.
        source: StepError,
    },
    /// A step that had been committed changes nothing.
    #[error("nothing follows now from what led to version {version}")]
    Nothing {
        /// The version that the step leads to.
        version: u64,
    },
    /// Something else follows than what is recorded: the pattern or the limits are not those of
    /// then, or the record was changed.
    #[error("the step to version {version} comes out otherwise than recorded")]
    Diverged {
        /// The version that the step leads to.
        version: u64,
        /// What is on record.
        recorded: Box<History>,
        /// What follows now.
        computed: Box<History>,
    },
}

/// A thred's history, computed again step by step.
///
/// Each step is given what it was given then: its time, its input, and the
/// [facts](crate::port::Facts) that it asked for. What remains to be supplied is the revision of
/// the pattern that the thred runs, and the limits.
#[derive(Clone, Debug)]
pub struct Replay<'a> {
    pattern: &'a Pattern,
    limits: &'a ReactLimits,
    state: Option<Arc<ThredState>>,
}

impl<'a> Replay<'a> {
    /// Begins before the first step.
    pub fn new(pattern: &'a Pattern, limits: &'a ReactLimits) -> Self {
        Self { pattern, limits, state: None }
    }

    /// The state that the steps so far lead to.
    pub fn state(&self) -> Option<&Arc<ThredState>> {
        self.state.as_ref()
    }

    /// Computes the next step of the history again, and gives what would be recorded of it now.
    ///
    /// # Errors
    /// When it is not the next step, or no commit follows from it. Nothing has changed then.
    pub fn step(&mut self, step: &History) -> Result<History, ReplayError> {
        let version = self.state.as_ref().map_or(1, |state| state.version + 1);
        if step.version != version {
            return Err(ReplayError::Gap { version });
        }
        let Some(now) = step.log.first().map(|record| record.timestamp) else {
            return Err(ReplayError::Incomplete { version });
        };
        let usual = Facts::default();
        let facts = step.facts.as_deref().unwrap_or(&usual);
        let world = World {
            now,
            seed: facts.seed,
            directory: &facts.directory,
            library: facts,
            limits: self.limits,
            watchers: &facts.watchers,
            settled: &facts.settled,
        };
        let commit = again(self.pattern, self.state.as_deref(), step, &world)?
            .map_err(|source| ReplayError::Failed { version, source })?
            .ok_or(ReplayError::Nothing { version })?;
        let history = commit.history();
        self.state = Some(commit.state);
        Ok(history)
    }
}

/// Computes a thred's state again from its whole history, oldest step first, and compares what
/// follows from every step with what is recorded of it.
///
/// The pattern must be the revision that the thred runs, and the limits those of then.
///
/// # Errors
/// At the first step that is missing, fails or comes out differently.
pub fn replay(
    pattern: &Pattern,
    history: &[History],
    limits: &ReactLimits,
) -> Result<Arc<ThredState>, ReplayError> {
    let mut replay = Replay::new(pattern, limits);
    for step in history {
        let computed = replay.step(step)?;
        if computed != *step {
            return Err(ReplayError::Diverged {
                version: step.version,
                recorded: Box::new(step.clone()),
                computed: Box::new(computed),
            });
        }
    }
    replay.state.ok_or(ReplayError::Gap { version: 1 })
}

/// The commit of one step; `None` when nothing follows.
fn again(
    pattern: &Pattern,
    state: Option<&ThredState>,
    step: &History,
    world: &World<'_>,
) -> Result<Result<Option<Commit>, StepError>, ReplayError> {
    let Some(consumed) = step.consumed else {
        return Err(ReplayError::Incomplete { version: step.version });
    };
    Ok(match (state, step.command.as_deref(), &step.event) {
        (None, Some(Command::Start(order)), _) => spawn(pattern, order, consumed, world).map(Some),
        (None, None, Some(event)) => {
            let mut scope = Scope::new(event.clone(), world.now, world.seed);
            start(pattern, &mut scope, consumed, world)
        }
        (Some(state), command, event) => {
            let input = match (command, event) {
                (Some(command), _) => Input::Command(command),
                (None, Some(event)) if event.thred_id.is_some() => Input::Bound(event),
                (None, Some(event)) => Input::Offered(event),
                (None, None) => return Err(ReplayError::Incomplete { version: step.version }),
            };
            react(pattern, state, input, consumed, world).map(|outcome| match outcome {
                Outcome::Commit(commit) => Some(commit),
                _ => None,
            })
        }
        (None, ..) => return Err(ReplayError::Incomplete { version: step.version }),
    })
}
