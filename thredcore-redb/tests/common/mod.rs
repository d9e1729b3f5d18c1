//! What several test files and the benchmark use.

pub(crate) mod samples;

#[allow(dead_code)]
pub(crate) mod disk;
