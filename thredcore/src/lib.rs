//! Engine.
pub mod persistence;
pub mod port;
pub mod state;
