//! `srvthreds run` on a store, and the commands that look at it, as programs.

#![cfg(unix)]

#[path = "../../../thredcore-amqp/tests/support/broker.rs"]
#[allow(dead_code, reason = "it is that of another crate's tests")]
mod broker;
mod commands;
mod drain;
mod freezer;
mod frozen;
mod idle;
mod ingress;
mod missing;
mod once;
mod program;
mod reload;
mod restart;
#[path = "../samples/mod.rs"]
mod samples;
mod servers;
mod upgrade;
