//! Computing a thred's state again from its history.

use std::sync::Arc;

use thredlib::expr::Scope;

use super::{Input, Outcome, StepError, World, react, spawn, start};
use crate::{
    pattern::Pattern,
    port::{Command, Commit, History, LogRecord},
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
    /// Other decisions follow than those recorded: the pattern, the patterns to spawn, the
    /// directory, the seed or the limits are not those of then.
    #[error("the step to version {version} decides otherwise than recorded")]
    Diverged {
        /// The version that the step leads to.
        version: u64,
        /// What had been decided.
        recorded: Vec<LogRecord>,
        /// What is decided now; nothing when no change follows.
        computed: Vec<LogRecord>,
    },
}

/// Computes a thred's state again from its whole history, oldest step first, and compares every
/// step's decisions with the recorded ones.
///
/// The pattern must be the revision that the thred runs, and `world` the one of then: its
/// directory, the patterns that were spawned, seed and limits. Its `now` is not used, each step has
/// its own time.
///
/// # Errors
/// At the first step that is missing, fails or comes out differently.
pub fn replay(
    pattern: &Pattern,
    history: &[History],
    world: &World<'_>,
) -> Result<ThredState, ReplayError> {
    let mut state: Option<Arc<ThredState>> = None;
    for step in history {
        let version = state.as_ref().map_or(1, |state| state.version + 1);
        if step.version != version {
            return Err(ReplayError::Gap { version });
        }
        let Some(now) = step.log.first().map(|record| record.timestamp) else {
            return Err(ReplayError::Incomplete { version });
        };
        let then = World { now, ..*world };
        let commit = again(pattern, state.as_deref(), step, &then)?
            .map_err(|source| ReplayError::Failed { version, source })?;
        let computed = commit.as_ref().map_or(&[][..], |commit| &commit.log);
        match commit {
            Some(commit) if commit.log == step.log => state = Some(commit.state),
            _ => {
                let (recorded, computed) = (step.log.clone(), computed.to_vec());
                return Err(ReplayError::Diverged { version, recorded, computed });
            }
        }
    }
    state.map(Arc::unwrap_or_clone).ok_or(ReplayError::Gap { version: 1 })
}

/// The commit of one step; `None` when nothing follows.
fn again(
    pattern: &Pattern,
    state: Option<&ThredState>,
    step: &History,
    world: &World<'_>,
) -> Result<Result<Option<Commit>, StepError>, ReplayError> {
    Ok(match (state, step.command.as_deref(), &step.event) {
        (None, Some(Command::Start(order)), _) => spawn(pattern, order, world).map(Some),
        (None, None, Some(event)) => {
            start(pattern, &mut Scope::new(event.clone(), world.now, world.seed), world)
        }
        (Some(state), command, event) => {
            let input = match (command, event) {
                (Some(command), _) => Input::Command(command),
                (None, Some(event)) if event.thred_id.is_some() => Input::Bound(event),
                (None, Some(event)) => Input::Offered(event),
                (None, None) => return Err(ReplayError::Incomplete { version: step.version }),
            };
            react(pattern, state, input, world).map(|outcome| match outcome {
                Outcome::Commit(commit) => Some(commit),
                _ => None,
            })
        }
        (None, ..) => return Err(ReplayError::Incomplete { version: step.version }),
    })
}
