//! An embeddable, event-driven workflow engine.
//!
//! JSON *patterns* (state machines of *reactions*) match *events*; a match starts or moves a
//! *thred* (an instance), builds outbound events from templates, and sends *messages* to
//! participants and agents. Threds are durable; what keeps them and carries the events is behind
//! the traits of [`port`], and all of it has an implementation in memory.
//!
//! ```
//! use serde_json::json;
//! use thredcore::testing::Bed;
//! use thredlib::{Event, PatternModel};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pattern: PatternModel = serde_json::from_value(json!({
//!     "name": "Leak alarm",
//!     "reactions": [{
//!         "name": "warn",
//!         "condition": {
//!             "type": "filter",
//!             "xpr": "$event.type = 'org.example.reading' and $valueNamed('litres') > 5",
//!             "transform": { "eventDataTemplate": { "title": "$xpr('Leak at ' & $event.source.id)" } },
//!             "publish": { "to": "ann" }
//!         }
//!     }]
//! }))?;
//! let mut bed = Bed::new([pattern]).await?;
//! bed.send(Event::builder("org.example.reading", "pump 7").values(json!({ "litres": 9 })).build()).await?;
//! assert_eq!(bed.take_messages()[0].event.title(), Some("Leak at pump 7"));
//! # Ok(())
//! # }
//! ```
//!
//! # The way of an event
//!
//! The modules stand in its order. It comes in by an [`EventQ`](port::EventQ), is matched against
//! the compiled [`pattern`]s, and meets a [`thred`], where [`react`](thred::react) computes what
//! follows: a pure function, whose result is one [`Commit`](port::Commit). The [`Engine`] makes it
//! durable, publishes what it puts out, and acknowledges the event. An
//! [`agent`] handles the messages sent to a service.
//!
//! # What is guaranteed
//!
//! Each event changes a thred at most once, for as long as the storage keeps
//! [receipts](port::RecordStore::retention); an accepted event is not lost, as far as the backend
//! keeps what it has accepted; a message arrives at least once, with a stable id, published
//! in the thred's order; a timer takes effect once.

pub mod format;
mod hash;
pub mod port;
pub mod state;

pub mod pattern;
pub mod thred;

mod engine;

pub mod agent;
pub mod persistence;

pub mod memory;

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod testing;

pub use engine::{
    AcceptError, Engine, EngineBuilder, EngineConfig, EngineError, FiredTimers, Ports, Principal,
    Running, Stopped,
};

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/embedding.md")]
mod embedding {}
