//! Testing patterns and engines: virtual time, step by step.
//!
//! A [`Bed`] drives an engine from Rust; a [`scenario`] says the same as a file.

mod bed;
mod clock;
pub mod fault;
pub mod scenario;

pub use bed::{Bed, BedBuilder, BedError};
pub use clock::ManualClock;
pub use scenario::{ScenarioOutcome, run_scenario};
