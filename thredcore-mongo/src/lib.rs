//! Threds, archive, patterns and records of thredcore in MongoDB.
//!
//! | type | what it is |
//! |---|---|
//! | [`Mongo`] | a connection to a replica set, which all others share |
//! | [`MongoStorage`] | all storage ports of an engine: one document for each thred |
//! | [`MongoArchive`] | event records, thred logs and ended threds, for ever |
//! | [`Archived`] | any other storage with its past in the archive |
//! | [`MongoPersistence`] | the tasks of the pattern language, on records |
//! | [`MongoDirectory`] | users with groups and roles, beside what another directory knows |
//!
//! ```no_run
//! use std::sync::Arc;
//! use thredcore::{Engine, port::FixedDirectory};
//! use thredcore_mongo::{Mongo, MongoConfig, MongoDirectory, MongoStorage};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mongo = Mongo::connect(MongoConfig::new("mongodb://127.0.0.1:27017/?replicaSet=rs0")).await?;
//! let storage = MongoStorage::open(&mongo).await?;
//! let directory = MongoDirectory::open(&mongo, Arc::new(FixedDirectory::default())).await?;
//! let engine = Engine::builder().storage(Arc::new(storage)).resolver(Arc::new(directory));
//! let running = engine.build().await?.start();
//! # Ok(())
//! # }
//! ```
//!
//! Threds in Redis, or in any other storage, and their past in MongoDB:
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use thredcore::port::Storage;
//! # use thredcore_mongo::{Archived, Mongo, MongoArchive};
//! # async fn run(mongo: Mongo, redis: Arc<dyn Storage>) -> Result<(), Box<dyn std::error::Error>> {
//! let storage = Archived::new(redis, MongoArchive::open(&mongo).await?);
//! # Ok(())
//! # }
//! ```
//!
//! # What is guaranteed
//!
//! Every write is acknowledged by a majority of the servers, and journaled; every read is of what a
//! majority has. So what was acknowledged survives the loss of a server, and a new primary. After a
//! restart or a change of the primary, calls work again by themselves; those under way fail as
//! [`Unavailable`](thredcore::port::PortErrorKind::Unavailable) (not done) or
//! [`Unknown`](thredcore::port::PortErrorKind::Unknown), and the engine sends them again.
//!
//! A single server must be a replica set of one: without one MongoDB has neither transactions nor
//! majorities.

mod archive;
mod config;
mod connection;
mod directory;
mod documents;
mod error;
mod format;
mod persistence;
mod storage;
mod transaction;
mod unreadable;

pub use archive::{Archived, MongoArchive};
pub use config::MongoConfig;
pub use connection::Mongo;
pub use directory::{MongoDirectory, User};
pub use error::MongoError;
pub use persistence::MongoPersistence;
pub use storage::MongoStorage;
