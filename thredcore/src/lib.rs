//! Engine.
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod memory;
pub mod port;
pub mod state;
pub mod testing;
