//! Threds on Redis: storage, queues, sessions and patterns of thredcore.

mod check;
mod config;
mod connection;
mod error;
mod keys;
mod listener;
mod queue;

pub use config::{RedisConfig, Wait};
pub use connection::{Connection, Dedicated, Request, Script};
pub use error::Error;
pub use keys::Tag;
pub use queue::{RedisEventQ, RedisEventQConfig, RedisMessageQ, RedisMessageQConfig};
