//! Engine.
pub mod pattern;
pub mod port;
pub mod state;
pub mod testing;
pub mod thred;
