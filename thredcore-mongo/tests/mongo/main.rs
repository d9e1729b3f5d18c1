//! What is this backend's own, on a real server.

mod archive;
mod engine;
mod faults;
mod hostile;
mod opening;
mod private;
mod samples;
#[path = "../server/mod.rs"]
mod server;
