//! What the tests of this package share.

pub mod arbitrary;
pub mod filters;
