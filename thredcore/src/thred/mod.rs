//! What an event does to a thred: pure, synchronous, total.
//!
//! Nothing here performs I/O, reads a clock or knows async. All that a decision depends on comes
//! in as arguments, and all that follows from it goes out as one [`Commit`]: equal arguments give
//! an equal outcome, so a run can be computed again from its history.

mod family;
mod react;
mod recipients;
mod relay;
mod replay;
mod step;
mod transition;
mod view;

use std::sync::Arc;

use thredlib::{ErrorCode, Event, EventError, EventKey, ExprError, ParticipantId, PatternId};

pub use react::{react, spawn, start, started_id};
pub use replay::{Replay, ReplayError, replay};
pub use view::summary;

use crate::{
    pattern::Library,
    port::{Command, Commit, Directory, Facts, LogRecord},
};

/// All that a decision depends on beside the thred, its pattern and the event.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The time, milliseconds since the Unix epoch.
    pub now: i64,
    /// Seeds `$random()`, together with the ids of the thred and the event.
    pub seed: u64,
    /// Who is behind an address.
    pub directory: &'a Directory,
    /// The patterns that may be spawned.
    pub library: &'a dyn Names,
    /// Bounds.
    pub limits: &'a ReactLimits,
    /// Who wants to hear of each change of a thred.
    pub watchers: &'a [ParticipantId],
    /// What leaves the thred's inbox: it has a receipt, or is too old to come again.
    pub settled: &'a [EventKey],
}

/// Knows patterns by id or name, as `spawn` writes them.
pub trait Names: std::fmt::Debug + Send + Sync {
    /// The pattern that an id or a name stands for.
    fn pattern_named(&self, id_or_name: &str) -> Option<PatternId>;
}

impl Names for Library {
    fn pattern_named(&self, id_or_name: &str) -> Option<PatternId> {
        self.find(id_or_name).map(|pattern| pattern.key.id.clone())
    }
}

impl Names for Facts {
    fn pattern_named(&self, id_or_name: &str) -> Option<PatternId> {
        self.patterns.get(id_or_name).cloned()
    }
}

/// What one step may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReactLimits {
    /// Events that a thred's inbox usually holds. When it has more, those that have a receipt
    /// leave it; those that have none stay, however many they are. Default 64.
    pub inbox: usize,
    /// Reactions that one event may pass through by `forward` and `local`. Default 100.
    pub chain: usize,
    /// Recipients of one publish. Default 10,000.
    pub recipients: usize,
    /// Participants of a thred. Default 100,000.
    pub participants: usize,
    /// Events with an error that are reported between two transitions; the rest go on record only.
    /// Default 8.
    pub errors: u8,
    /// Live children of a thred. Default 1,000.
    pub children: usize,
    /// Size of a thred's locals as JSON, in bytes. Default 1 MiB.
    pub locals_bytes: usize,
}

impl Default for ReactLimits {
    fn default() -> Self {
        Self {
            inbox: 64,
            chain: 100,
            recipients: 10_000,
            participants: 100_000,
            errors: 8,
            children: 1_000,
            locals_bytes: 1024 * 1024,
        }
    }
}

/// What a thred is given.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// An event that is bound to it.
    Bound(&'a Arc<Event>),
    /// An unbound event that it waits for.
    Offered(&'a Arc<Event>),
    /// A command of the engine; an [`Offer`](Command::Offer) is the unbound event in it.
    Command(&'a Command),
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// This is to be committed.
    Commit(Commit),
    /// The reaction's time is up: this is to be committed first, and then the input given again.
    ExpireFirst(Commit),
    /// Nothing changes, but this was decided about an event that is bound to the thred.
    Unmoved(Vec<LogRecord>),
    /// Nothing: it does not concern the thred, or came too late.
    Nothing,
    /// Nothing: the thred has consumed it already.
    Duplicate,
    /// Nothing: the thred has ended.
    Ended,
}

/// A step that failed; the thred keeps its state.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// An expression failed.
    #[error("reaction `{reaction}`: {source}")]
    Expression {
        /// The reaction.
        reaction: Arc<str>,
        /// What failed.
        source: ExprError,
    },
    /// A result has the wrong shape.
    #[error("reaction `{reaction}`: {what}")]
    Shape {
        /// The reaction.
        reaction: Arc<str>,
        /// What is wrong.
        what: String,
    },
    /// A chain of `forward` and `local` inputs did not end.
    #[error(
        "reaction `{reaction}`: the event passed through more than {limit} reactions, which is the \
        limit; look for a circle of transitions"
    )]
    Cycle {
        /// The reaction where it was cut.
        reaction: Arc<str>,
        /// The bound.
        limit: usize,
    },
    /// A bound was passed.
    #[error(
        "reaction `{reaction}`: more than {limit} {what}, which is the limit; spread them over \
        several threds"
    )]
    Limit {
        /// The reaction.
        reaction: Arc<str>,
        /// The bound.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
}

impl StepError {
    /// The error as an event tells it.
    pub fn to_event_error(&self) -> EventError {
        let code = match self {
            Self::Cycle { .. } => ErrorCode::TransitionCycle,
            _ => ErrorCode::StepFailed,
        };
        EventError::new(code, self.to_string())
    }
}
