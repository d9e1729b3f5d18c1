//! Engine.
pub mod memory;
pub mod port;
pub mod state;
