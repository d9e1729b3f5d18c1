//! Compiled patterns: everything that loading can settle is settled here, once.

mod compile;
mod condition;
mod directive;
mod index;
mod library;
mod source;
mod waits;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use thredlib::PatternModel;

pub use compile::LoadError;
pub use condition::{Condition, Kind, Offer, Verdict};
pub(crate) use directive::AddressError;
pub use directive::{
    Addresses, Consequent, DataSource, Directives, NextInput, Publish, Spawn, Target, Transform,
    Transition,
};
pub use index::{Candidates, Index};
pub use library::{Awaited, Library};
pub use source::SourceRule;
pub use waits::WaitRule;

use crate::{port::StoredPattern, state::PatternKey};

/// A pattern, compiled; shared by all its threds.
#[derive(Debug)]
pub struct Pattern {
    /// Its id and revision.
    pub key: Arc<PatternKey>,
    /// Its name.
    pub name: Arc<str>,
    /// Whether events are matched against it.
    pub active: bool,
    /// Most threds at one time; 0 for no limit.
    pub max_instances: u64,
    /// Least time between two starts, in milliseconds; 0 for no limit.
    pub instance_interval: u64,
    /// Whether participants may broadcast to each other.
    pub broadcast_allowed: bool,
    /// Whether answers are relayed to the other participants.
    pub echo_responses: bool,
    /// Its reactions; never empty. The first one is the entry point.
    pub reactions: Vec<Reaction>,
    /// The pattern as written.
    pub model: Arc<PatternModel>,
    /// Whether a thred has run it since the engine last looked.
    used: AtomicBool,
}

/// A reaction, compiled.
#[derive(Debug)]
pub struct Reaction {
    /// Its name, unique in the pattern.
    pub name: Arc<str>,
    /// Who may move the thred here; empty: everyone.
    pub allowed_sources: Vec<SourceRule>,
    /// Roles, one of which the source must hold; empty: none needed.
    pub allowed_roles: Vec<Box<str>>,
    /// Whether unbound events are offered to threds that wait here.
    pub allow_unbound: bool,
    /// Whether a bound event that carries an error is offered to the condition, too.
    pub match_errors: bool,
    /// What happens when nothing moves the thred for a while.
    pub expiry: Option<Expiry>,
    /// What an event must be like.
    pub condition: Condition,
    /// How the threds are filed that wait here for unbound events.
    pub waits: WaitRule,
}

/// The expiry of a reaction.
#[derive(Debug)]
pub struct Expiry {
    /// Milliseconds from entering the reaction.
    pub interval: i64,
    /// Where the thred goes then.
    pub transition: Transition,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// All findings that keep it from running, each with its place and the way to mend it.
    pub fn compile(
        stored: &StoredPattern,
        limits: &thredlib::ExprLimits,
    ) -> Result<Self, LoadError> {
        compile::compile(stored, limits)
    }

    /// Notes that a thred runs it.
    pub(crate) fn mark_used(&self) {
        // Nearly always it is: a write would take the memory from other threads.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a thred has run it since the last call, or since it was compiled.
    pub(crate) fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// The entry point.
    pub fn entry(&self) -> &Reaction {
        &self.reactions[0]
    }

    /// The index of a reaction.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.reactions.iter().position(|reaction| *reaction.name == *name)
    }

    /// Whether threds may wait for unbound events in one of its reactions.
    pub fn listens(&self) -> bool {
        self.reactions.iter().any(|reaction| reaction.allow_unbound)
    }

    /// Whether a start needs a place among the pattern's instances.
    pub fn is_limited(&self) -> bool {
        self.max_instances > 0 || self.instance_interval > 0
    }
}
