//! What is this backend's own, on a real server.

mod archive;
mod engine;
mod faults;
mod hostile;
mod idle;
mod indexes;
mod opening;
mod parked;
mod private;
mod receipts;
mod samples;
#[path = "../server/mod.rs"]
mod server;
mod sizes;
mod unreadable;
