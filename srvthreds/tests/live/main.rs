//! `srvthreds run` on a store, and the commands that look at it, as programs.

#![cfg(unix)]

mod commands;
mod drain;
mod freezer;
mod frozen;
mod idle;
mod once;
mod program;
mod reload;
mod restart;
#[path = "../samples/mod.rs"]
mod samples;
mod servers;
mod upgrade;
