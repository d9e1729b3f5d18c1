//! What several consumers make of one queue: sharing, dying, being paused, being cut off.

mod broken;
mod events;
mod messages;
mod process;
#[path = "../servers/mod.rs"]
mod servers;
