//! Engine.
pub mod port;
pub mod state;
