//! What the tests of this package share.

pub mod arbitrary;
pub mod chaos;
pub mod evidence;
pub mod filters;
pub mod rig;
pub mod seed;
pub mod stored;
pub mod story;
