//! Engine.
pub mod pattern;
pub mod persistence;
pub mod port;
pub mod state;
pub mod thred;
