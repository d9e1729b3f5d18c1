//! For tests of patterns, of the engine and of backends.

pub mod fault;
