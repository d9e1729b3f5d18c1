//! A run on RabbitMQ, Redis and MongoDB.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use thredcore::{
    Ports,
    port::{FixedDirectory, Storage, SystemClock},
};
use thredcore_amqp::{AmqpConfig, AmqpQueues, Declare};
use thredcore_mongo::{Archived, Mongo, MongoArchive, MongoConfig, MongoStorage};
use thredcore_redis::{Connection, RedisConfig, RedisStorage};

use super::{
    backend::{BackendSpec, Failure},
    patterns::directory,
};

/// Queues in RabbitMQ, threds in Redis or MongoDB, their past in MongoDB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distributed {
    /// The nodes of RabbitMQ.
    pub amqp: String,
    /// Whether exchanges and queues are there already, and nobody is to declare them.
    pub adopt: bool,
    /// How many events of a partition and how many messages of a topic a process holds.
    pub prefetch: u16,
    /// The Redis that the threds are in; without one they are in MongoDB.
    pub redis: Option<String>,
    /// MongoDB.
    pub mongo: String,
    /// What all names begin with.
    pub name: String,
}

impl Distributed {
    /// Opens all of it.
    pub(super) async fn open(&self, spec: &BackendSpec) -> Result<Ports, Failure> {
        let queues = self.queues(spec).await?;
        Ok(Ports {
            event_q: queues.event_q,
            message_q: queues.message_q,
            storage: self.storage(spec).await?,
            resolver: Arc::new(FixedDirectory::new(directory())),
            clock: Arc::new(SystemClock),
        })
    }

    /// The queues alone.
    ///
    /// # Errors
    /// What the adapter says.
    pub async fn queues(&self, spec: &BackendSpec) -> Result<AmqpQueues, Failure> {
        let declare = if self.adopt { Declare::No } else { Declare::Yes };
        let config = AmqpConfig::new(&self.amqp)?
            .namespace(&self.name)
            .declare(declare)
            .partitions(spec.partitions)
            .event_capacity(spec.events)
            .message_capacity(spec.messages)
            .event_prefetch(self.prefetch)
            .message_prefetch(self.prefetch)
            .rebalance(Duration::from_millis(spec.lease_ms))
            .pauses(Duration::from_millis(20), Duration::from_millis(200));
        Ok(AmqpQueues::connect(config).await?)
    }

    async fn storage(&self, spec: &BackendSpec) -> Result<Arc<dyn Storage>, Failure> {
        let mongo = self.connect().await?;
        let Some(redis) = &self.redis else {
            return Ok(Arc::new(MongoStorage::open(&mongo).await?));
        };
        let config = RedisConfig::new(redis)
            .namespace(&self.name)
            .partitions(spec.partitions)
            .response_limit(Duration::from_secs(1))
            .reconnect_pause(Duration::from_millis(100));
        let threds = RedisStorage::on(Connection::open(config).await?).await?;
        Ok(Arc::new(Archived::new(Arc::new(threds), MongoArchive::open(&mongo).await?)))
    }

    /// What is archived, and nothing else.
    ///
    /// # Errors
    /// When MongoDB cannot be reached.
    pub async fn archive(&self) -> Result<MongoArchive, Failure> {
        Ok(MongoArchive::open(&self.connect().await?).await?)
    }

    async fn connect(&self) -> Result<Mongo, Failure> {
        let config = MongoConfig::new(&self.mongo)
            .database(&self.name)
            .linger(Duration::from_millis(50))
            .left_behind(Duration::from_secs(1))
            .time_limit(Duration::from_secs(3))
            .selection_limit(Duration::from_secs(2));
        Ok(Mongo::connect(config).await?)
    }
}
