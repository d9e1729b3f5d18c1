//! Agents: what handles messages to services.

mod runner;

pub use runner::{AgentConfig, AgentRunner, RunningAgent};
