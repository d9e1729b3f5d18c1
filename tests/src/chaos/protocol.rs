//! What a test and an engine process say to each other: a line of JSON each.

use serde::{Deserialize, Serialize};
use thredcore::port::Routed;
use thredlib::{Event, PatternModel};

use super::{backend::BackendSpec, backlog::Backlog};

/// What an engine process is to be: the first line that it reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeSpec {
    /// What it runs on.
    pub backend: BackendSpec,
    /// What it runs.
    pub patterns: Vec<PatternModel>,
    /// Whether the engine works, or the agent alone.
    pub engine_works: bool,
    /// The agent in the process.
    pub agent: AgentSpec,
    /// Whether that agent works from the start.
    pub agent_works: bool,
    /// Where it dies by itself.
    pub fail: Option<FailPoint>,
    /// How far the engine's clock is ahead of the machine's, milliseconds.
    pub clock_ahead: i64,
    /// How many messages may wait for a full topic; many if nothing is said.
    pub topic_quota: Option<u64>,
}

impl NodeSpec {
    /// An engine without faults, and no agent yet.
    pub fn new(backend: BackendSpec, patterns: Vec<PatternModel>, agent: AgentSpec) -> Self {
        Self {
            backend,
            patterns,
            engine_works: true,
            agent,
            agent_works: false,
            fail: None,
            clock_ahead: 0,
            topic_quota: None,
        }
    }
}

/// An agent that reports each message to the test before it acknowledges it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct AgentSpec {
    /// Whether it answers each message with an event to its thred.
    pub answers: bool,
    /// Whether it fails on every third message when it meets it first.
    pub stumbles: bool,
    /// How often it tries a message at most; many times if nothing is said.
    pub attempts: Option<u32>,
}

/// The process aborts right after the n-th call of an operation of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailPoint {
    /// The port.
    pub port: FailPort,
    /// The operation, as the port's method is called.
    pub operation: String,
    /// Which call, from 1.
    pub call: u64,
}

/// The ports of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailPort {
    /// What comes in.
    EventQ,
    /// What goes out.
    MessageQ,
    /// What is kept.
    Storage,
}

/// What a test asks of an engine process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Accept events.
    Accept {
        /// Names the answer.
        ticket: u64,
        /// The events.
        events: Vec<Event>,
    },
    /// Say what is left to do.
    Backlog {
        /// Names the answer.
        ticket: u64,
    },
    /// Start or stop the agent.
    Agent {
        /// Names the answer.
        ticket: u64,
        /// Whether it is to work.
        works: bool,
    },
}

/// What an engine process says. The end of its input makes it stop in good order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// It works.
    Ready,
    /// It is done: the events are accepted, the agent works or has stopped.
    Done {
        /// Names the request.
        ticket: u64,
    },
    /// What was asked could not be done; whether it was done in part is unknown.
    Failed {
        /// Names the request.
        ticket: u64,
        /// Why.
        error: String,
    },
    /// The agent has a message.
    Message(Routed),
    /// What is left to do.
    Backlog {
        /// Names the request.
        ticket: u64,
        /// The counts.
        backlog: Backlog,
    },
}
