//! Tests of patterns: scenarios, on a virtual clock.

pub mod scenario;
