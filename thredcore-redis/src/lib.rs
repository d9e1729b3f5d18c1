//! Threds on Redis: storage, queues, sessions and patterns of thredcore.
//!
//! ```no_run
//! use std::sync::Arc;
//! use thredcore::port::Storage;
//! use thredcore_redis::{RedisConfig, RedisStorage};
//!
//! # async fn example() -> Result<(), thredcore_redis::Error> {
//! let config = RedisConfig::new("redis://localhost:6379").namespace("orders");
//! let storage: Arc<dyn Storage> = Arc::new(RedisStorage::open(config).await?);
//! # Ok(())
//! # }
//! ```
//!
//! One server, a master that sentinels watch, or a cluster: the URL says which, see
//! [`RedisConfig`]. Redis 7.0 or newer.
//!
//! # What is kept, and how surely
//!
//! A commit is one Lua script, done whole or not at all; everything of a partition is under one
//! hash tag. With an append-only file, a server that is killed loses nothing that it has
//! acknowledged, and one that loses power as much as `appendfsync` allows: a second's worth with
//! `everysec`, nothing with `always`. A failover to a replica may lose the last acknowledged
//! writes, unless they [wait](RedisConfig::wait) for replicas.
//!
//! When an answer is lost, the outcome is [unknown](thredcore::port::PortErrorKind::Unknown) and
//! nothing is sent again in silence; the engine sends the same commit again, and the thred's inbox
//! tells whether it was done. That is also why this crate finds the nodes of a cluster by itself:
//! the client of the redis crate sends a command again when it has heard nothing.
//!
//! While a cluster moves a slot, the partitions in it cannot be changed until it has arrived; the
//! engine keeps trying.
//!
//! # A whole deployment
//!
//! With the queues and the directory on it, Redis is all that engines and agents share:
//!
//! ```no_run
//! # async fn example() -> Result<(), thredcore_redis::Error> {
//! use thredcore_redis::{
//!     Connection, RedisConfig, RedisDirectory, RedisEventQ, RedisMessageQ, RedisStorage,
//! };
//!
//! let storage = RedisStorage::open(RedisConfig::new("redis://localhost:6379")).await?;
//! let connection: Connection = storage.connection().clone();
//! let event_q = RedisEventQ::open(connection.clone(), Default::default()).await?;
//! let message_q = RedisMessageQ::new(connection.clone(), Default::default());
//! let directory = RedisDirectory::new(connection);
//! # Ok(())
//! # }
//! ```
//!
//! Close the queues when the program ends: their partitions and messages go to the other processes
//! at once, and not when a lease has run out. A user with restricted rights needs the keys
//! `{NAMESPACE:*` and the channels `NAMESPACE:*`.
//!
//! # Memory
//!
//! A live thred takes about 1,100 bytes, a timer, an event in its inbox, two participants and what it is
//! listed by included: each further event of its inbox 40, each further participant 140, its locals
//! what they are as JSON. [Ended threds](RedisConfig::ended_threds) take about 650. A
//! [step of history](RedisConfig::history_steps) takes its event and messages as JSON, about
//! 1,200 bytes for small ones. What is [settled](RedisConfig::receipts_capacity) is known by about 20
//! bytes for each event, when there are many.
//!
//! # When nothing happens
//!
//! A process that waits for events and for the messages of two topics sends less than two requests a
//! second, whatever the number of partitions; see [`RedisEventQ`] and [`RedisMessageQ`].

mod check;
mod config;
mod connection;
mod directory;
mod error;
mod format;
mod gather;
mod keys;
mod listener;
mod queue;
mod storage;

pub use config::{RedisConfig, Wait};
pub use connection::{Connection, Dedicated, Request, Script};
pub use directory::RedisDirectory;
pub use error::Error;
pub use keys::Tag;
pub use queue::{RedisEventQ, RedisEventQConfig, RedisMessageQ, RedisMessageQConfig};
pub use storage::{PatternChanges, RedisStorage};
