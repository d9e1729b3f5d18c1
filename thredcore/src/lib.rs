//! Engine.
pub mod agent;
#[cfg(feature = "conformance")]
pub mod conformance;
mod engine;
mod hash;
pub mod memory;
pub mod pattern;
pub mod persistence;
pub mod port;
pub mod state;
pub mod testing;
pub mod thred;
pub use engine::*;
