//! The pattern model: a workflow as data.

mod builder;
mod model;

pub use builder::{ConditionBuilder, PatternBuilder, ReactionBuilder};
pub use model::*;
