//! JSON that is read and passed on, but not changed.
//!
//! [`View`] looks at a JSON value without a copy, whichever way it is kept: as a
//! [`Value`](serde_json::Value), or in the compact form that an event's payload has.

mod build;
mod compact;
pub(crate) mod exact;
mod read;
#[cfg(test)]
mod tests;
pub mod text;
mod view;

pub(crate) use build::{Builder, Built};
pub(crate) use compact::Compact;
pub use view::{Items, Members, Number, View};
