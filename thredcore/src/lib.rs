//! Engine.
pub mod port;
pub mod state;
pub mod testing;
