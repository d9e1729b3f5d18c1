//! The storage: threds, records, places, leases and patterns.
//!
//! Everything of a partition is under one hash tag and changes in one script. A thred costs one
//! field of a hash, one member of the index of places, and one of the index of participants for each
//! of them; what is empty costs nothing.

use std::sync::Arc;

use thredcore::{port::PortError, state::partition_of};

mod leases;
mod limits;
mod outbox;
mod patterns;
mod quarantine;
mod query;
mod record;
mod records;
mod settle;
mod text;
mod threds;
mod writes;

pub use patterns::PatternChanges;
use record::Place;
use writes::Part;

use crate::{
    config::RedisConfig,
    connection::{Connection, Request},
    error::Error,
    gather::Gathering,
    keys::{PartitionKeys, SharedKeys, Tag},
};

/// A [`Storage`](thredcore::port::Storage) on Redis; cheap to clone.
#[derive(Clone, Debug)]
pub struct RedisStorage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Connection,
    partitions: Box<[PartitionKeys]>,
    /// What waits to be written, by partition.
    writes: Box<[Gathering<Part>]>,
    settles: Box<[Gathering<settle::Part>]>,
    shared: SharedKeys,
    ended_per_partition: usize,
    steps_per_partition: usize,
    generation: settle::Generation,
}

impl RedisStorage {
    /// Connects, and looks whether the servers are fit; see [`Connection::open`].
    ///
    /// # Errors
    /// What is wrong, and what mends it.
    pub async fn open(config: RedisConfig) -> Result<Self, Error> {
        Self::on(Connection::open(config).await?).await
    }

    /// A storage over a connection that others use too.
    ///
    /// # Errors
    /// The namespace was made with another number of partitions, or the server cannot be reached.
    pub async fn on(connection: Connection) -> Result<Self, Error> {
        let config = connection.config();
        let namespace = &*config.namespace;
        let partitions = config.partitions.max(1);
        let meta = Tag::new(namespace, "meta");
        let mut command = redis::cmd("SET");
        command.arg(meta.key("partitions")).arg(partitions).arg("NX").arg("GET");
        let before: Option<u16> = connection.ask(Request::write(&meta, command)).await?;
        if let Some(before) = before.filter(|before| *before != partitions) {
            return Err(Error::Config(format!(
                "the namespace `{namespace}` has {before} partitions, not {partitions}; \
                 ask for {before}, or take another namespace"
            )));
        }
        let share = |total: usize| total.div_ceil(usize::from(partitions));
        Ok(Self(Arc::new(Inner {
            partitions: (0..partitions).map(|it| PartitionKeys::new(namespace, it)).collect(),
            writes: (0..partitions).map(|_| Gathering::default()).collect(),
            settles: (0..partitions).map(|_| Gathering::default()).collect(),
            generation: settle::Generation::default(),
            shared: SharedKeys::new(namespace),
            ended_per_partition: share(config.ended_threds),
            steps_per_partition: share(config.history_steps),
            connection,
        })))
    }

    /// The connection that it uses.
    pub fn connection(&self) -> &Connection {
        &self.0.connection
    }

    fn partition_of(&self, key: &str) -> usize {
        usize::from(partition_of(key, self.0.partitions.len() as u16))
    }

    /// How many threds there are at each place, by partition.
    async fn places(&self, operation: &'static str) -> Result<Vec<Vec<(Place, u64)>>, PortError> {
        let request = |keys: &PartitionKeys| {
            let mut command = redis::cmd("HGETALL");
            command.arg(&keys.counts);
            Request::read(&keys.tag, command)
        };
        let requests: Vec<_> = self.0.partitions.iter().map(request).collect();
        let found: Vec<Vec<(String, u64)>> = self.all(operation, &requests).await?;
        let place = |(text, count): (String, u64)| Some((Place::parse(&text)?, count));
        let found = found.into_iter();
        Ok(found.map(|counts| counts.into_iter().filter_map(place).collect()).collect())
    }

    /// Sends requests that succeed together or not at all for the caller.
    async fn all<T: redis::FromRedisValue>(
        &self,
        operation: &'static str,
        requests: &[Request],
    ) -> Result<Vec<T>, PortError> {
        let answers = self.0.connection.send(requests).await.into_iter();
        let read = |answer: Result<redis::Value, Error>| {
            T::from_redis_value(answer?).map_err(|error| Error::Malformed(error.to_string()))
        };
        answers.map(read).collect::<Result<_, _>>().map_err(|error| error.of(operation))
    }

    async fn one<T: redis::FromRedisValue>(
        &self,
        operation: &'static str,
        request: Request,
    ) -> Result<T, PortError> {
        self.0.connection.ask(request).await.map_err(|error| error.of(operation))
    }
}

/// Makes a script of a file.
macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: std::sync::LazyLock<$crate::connection::Script> =
            std::sync::LazyLock::new(|| {
                $crate::connection::Script::new(include_str!(concat!("../scripts/", $file)))
            });
    };
}
use script;
