//! Agents: what handles messages to services.

mod runner;
mod work;

pub use runner::{AgentConfig, AgentRunner, RunningAgent};
