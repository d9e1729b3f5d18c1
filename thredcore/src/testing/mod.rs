//! Testing patterns and engines: virtual time, step by step.

mod bed;
mod clock;

pub use bed::{Bed, BedBuilder, BedError};
pub use clock::ManualClock;
