//! Servers that processes share: which does what, and how they are reached.

use std::{sync::Arc, time::Duration};

use thredcore::{
    persistence::Persistence,
    port::{AddressResolver, EventQ, MessageQ, Storage},
};
use thredcore_amqp::{AmqpConfig, AmqpQueues, Declare};
use thredcore_mongo::{
    Archived, Mongo, MongoArchive, MongoConfig, MongoDirectory, MongoPersistence, MongoStorage,
};
use thredcore_redis::{
    Connection, RedisConfig, RedisDirectory, RedisEventQ, RedisEventQConfig, RedisMessageQ,
    RedisMessageQConfig, RedisStorage, Request, Script, Tag,
};

use super::{OpenError, PartFormat};

/// Which part of which servers. With RabbitMQ, that carries events and messages; else Redis does.
/// With Redis, that keeps the threds, and MongoDB their past; else MongoDB keeps both.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ServersPlace {
    pub(crate) redis: Option<String>,
    pub(crate) amqp: Option<String>,
    pub(crate) mongo: Option<String>,
    /// What all that is stored is called by.
    pub(crate) namespace: String,
    /// How many replicas of Redis must have a write before it counts; 0 for none.
    pub(crate) replicas: usize,
    /// How many parts the work is spread over; `None`: as many as the adapters take.
    pub(crate) partitions: Option<u16>,
    /// Whether all of it is removed in the end: then a Redis that may lose what it has will do, and
    /// the database in MongoDB is called by the namespace whatever the URL says.
    pub(crate) throwaway: bool,
}

impl std::fmt::Display for ServersPlace {
    /// Without the URLs, which may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let servers = [(&self.redis, "redis"), (&self.amqp, "rabbitmq"), (&self.mongo, "mongodb")];
        let servers = servers.into_iter().filter(|(url, _)| url.is_some());
        let servers: Vec<_> = servers.map(|(_, name)| name).collect();
        write!(f, "{}, namespace {}", servers.join(" + "), self.namespace)
    }
}

impl std::fmt::Debug for ServersPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServersPlace({self})")
    }
}

/// What servers are connected to for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To work on them; what is missing is made.
    Run,
    /// To look at what is there, as it is.
    Look,
}

/// How long steps are gathered for the archive behind Redis: a larger portion keeps the machine busy
/// for longer at a time, which events that come meanwhile notice.
const LINGER: Duration = Duration::from_millis(50);

/// Connections to the servers of a place.
#[derive(Clone)]
pub(crate) struct Servers {
    redis: Option<Connection>,
    mongo: Option<Mongo>,
    amqp: Option<AmqpConfig>,
    place: ServersPlace,
    purpose: Purpose,
}

/// The threds on the servers, opened.
#[derive(Clone)]
pub(crate) enum Threds {
    Redis(RedisStorage),
    /// With its past in MongoDB.
    Archived(RedisStorage, Arc<Archived>),
    Mongo(Arc<MongoStorage>),
}

/// The queues of one process, opened.
#[derive(Clone)]
pub(crate) enum Queues {
    Redis(Arc<RedisEventQ>, Arc<RedisMessageQ>),
    Amqp(AmqpQueues),
}

impl Servers {
    /// Connects to Redis and MongoDB.
    pub(crate) async fn connect(place: &ServersPlace, purpose: Purpose) -> Result<Self, OpenError> {
        let place = place.clone();
        let mut this = Self { redis: None, mongo: None, amqp: None, place, purpose };
        let place = &this.place;
        let create = purpose == Purpose::Run;
        if let Some(url) = &place.amqp {
            let config = AmqpConfig::new(url).map_err(OpenError::of)?;
            let config = config.namespace(&*place.namespace);
            let config = config.declare(if create { Declare::Yes } else { Declare::No });
            this.amqp = Some(match place.partitions {
                Some(partitions) => config.partitions(partitions),
                None => config,
            });
        }
        if let Some(url) = &place.redis {
            let redis = redis(url, place, create).await.map_err(OpenError::of)?;
            let archived = archive(&redis, place).await?.is_some();
            if archived && place.mongo.is_none() {
                return Err(OpenError::because_of(
                    "the past of these threds is archived in MongoDB; add --mongo URL, \
                     or take another --namespace",
                ));
            }
            this.redis = Some(redis);
            if !archived && !create {
                // Whatever is there is not of these threds.
                return Ok(this);
            }
        }
        if let Some(url) = &place.mongo {
            let mut config = if place.throwaway {
                MongoConfig::new(url).database(&*place.namespace)
            } else {
                MongoConfig::new(url).default_database(&*place.namespace)
            };
            if place.redis.is_some() {
                config = config.linger(LINGER);
            }
            let mongo = Mongo::connect(config.create(create)).await;
            this.mongo = Some(mongo.map_err(OpenError::of)?);
        }
        Ok(this)
    }

    /// Opens the threds.
    pub(crate) async fn threds(&self) -> Result<Threds, OpenError> {
        match (&self.redis, &self.mongo) {
            (Some(redis), _) => {
                self.note_archive(redis).await?;
                let storage = RedisStorage::on(redis.clone()).await.map_err(OpenError::of)?;
                let archived = self.archived(Arc::new(storage.clone())).await?;
                Ok(match archived {
                    Some(archived) => Threds::Archived(storage, archived),
                    None => Threds::Redis(storage),
                })
            }
            (None, Some(mongo)) => {
                let storage = MongoStorage::open(mongo).await.map_err(OpenError::of)?;
                Ok(Threds::Mongo(Arc::new(storage)))
            }
            (None, None) => Err(OpenError::because_of(
                "RabbitMQ carries events and messages, and keeps no threds; \
                 add --redis URL or --mongo URL",
            )),
        }
    }

    /// Where one process archives, all must: another one would take the steps in outboxes, on their
    /// way to the archive, for messages that nobody reads.
    async fn note_archive(&self, redis: &Connection) -> Result<(), OpenError> {
        if self.mongo.is_none() || self.purpose == Purpose::Look {
            return Ok(());
        }
        let meta = Tag::new(&self.place.namespace, "meta");
        let script = Script::new("return redis.call('SET', KEYS[1], 'mongodb')");
        let request = Request::script(&meta, &script, &[&meta.key("archive")]);
        redis.ask::<()>(request).await.map_err(OpenError::of)
    }

    /// Puts the archive in MongoDB behind a storage.
    pub(crate) async fn archived(
        &self,
        storage: Arc<dyn Storage>,
    ) -> Result<Option<Arc<Archived>>, OpenError> {
        let Some(mongo) = &self.mongo else { return Ok(None) };
        let archive = MongoArchive::open(mongo).await.map_err(OpenError::of)?;
        Ok(Some(Arc::new(Archived::new(storage, archive))))
    }

    /// Opens the queues, as a consumer of its own.
    pub(crate) async fn queues(&self) -> Result<Queues, OpenError> {
        if let Some(config) = &self.amqp {
            let queues = AmqpQueues::connect(config.clone()).await;
            return Ok(Queues::Amqp(queues.map_err(OpenError::of)?));
        }
        let redis = self.redis.clone().ok_or_else(|| {
            OpenError::because_of(
                "MongoDB keeps threds, and carries no events; add --amqp URL or --redis URL",
            )
        })?;
        let mut config = RedisEventQConfig::default();
        if let Some(partitions) = self.place.partitions {
            config = config.partitions(partitions);
        }
        let events = RedisEventQ::open(redis.clone(), config).await;
        let messages = RedisMessageQ::new(redis, RedisMessageQConfig::default());
        Ok(Queues::Redis(Arc::new(events.map_err(OpenError::of)?), Arc::new(messages)))
    }

    /// Who has sessions, groups and roles on Redis.
    pub(crate) fn directory(&self) -> Option<Arc<RedisDirectory>> {
        Some(Arc::new(RedisDirectory::new(self.redis.clone()?)))
    }

    /// Adds the users of MongoDB to a directory.
    pub(crate) async fn with_users(
        &self,
        base: Arc<dyn AddressResolver>,
    ) -> Result<Arc<dyn AddressResolver>, OpenError> {
        let Some(mongo) = &self.mongo else { return Ok(base) };
        let users = MongoDirectory::open(mongo, base).await;
        Ok(Arc::new(users.map_err(OpenError::of)?))
    }

    /// The records of the persistence agent.
    pub(crate) async fn records(&self) -> Result<Option<Arc<dyn Persistence>>, OpenError> {
        let Some(mongo) = &self.mongo else { return Ok(None) };
        let records = MongoPersistence::open(mongo).await.map_err(OpenError::of)?;
        Ok(Some(Arc::new(records)))
    }

    /// The formats of what is stored on Redis and in MongoDB, each raised first if that is asked for
    /// and can be.
    pub(crate) async fn formats(&self, upgrade: bool) -> Result<Vec<PartFormat>, OpenError> {
        let mut formats = vec![];
        // The archive first: as long as the threds are of the format before, so may their programs be.
        if let Some(mongo) = &self.mongo {
            let at = if upgrade { mongo.upgrade().await } else { mongo.store_format().await };
            formats.push(PartFormat::new("mongodb", at.map_err(OpenError::of)?));
        }
        if let Some(redis) = &self.redis {
            let at = if upgrade { redis.upgrade().await } else { redis.store_format().await };
            formats.push(PartFormat::new("redis", at.map_err(OpenError::of)?));
        }
        Ok(formats)
    }

    /// Whether the stores can still be worked on.
    pub(crate) fn check_format(&self) -> Result<(), OpenError> {
        self.redis.as_ref().map_or(Ok(()), Connection::check_format).map_err(OpenError::of)?;
        self.mongo.as_ref().map_or(Ok(()), Mongo::check_format).map_err(OpenError::of)
    }

    /// Says goodbye, to whoever hears it.
    pub(crate) async fn close(&self) {
        const MOMENT: Duration = Duration::from_millis(100);
        if let Some(mongo) = &self.mongo {
            let _ = tokio::time::timeout(MOMENT, mongo.close()).await;
        }
    }

    /// Processor time that Redis has taken until now, seconds; `None` without one.
    pub(crate) async fn redis_cpu_seconds(&self) -> Result<Option<f64>, OpenError> {
        let Some(redis) = &self.redis else { return Ok(None) };
        let script = Script::new("return redis.call('INFO', 'cpu')");
        let request = Request::asking_script(&Tag::new("bench", "server"), &script, &[]);
        let info: String = redis.ask(request).await.map_err(OpenError::of)?;
        let used = info.lines().filter_map(|line| line.split_once(':'));
        let used = used.filter(|(name, _)| matches!(*name, "used_cpu_user" | "used_cpu_sys"));
        Ok(Some(used.filter_map(|(_, seconds)| seconds.trim().parse::<f64>().ok()).sum()))
    }

    /// Deletes all that is stored on Redis and in MongoDB, if it is to be thrown away.
    pub(crate) async fn remove(&self) -> Result<(), OpenError> {
        if !self.place.throwaway {
            return Ok(());
        }
        if let Some(redis) = &self.redis {
            redis.remove_namespace().await.map_err(OpenError::of)?;
        }
        if let Some(mongo) = &self.mongo {
            mongo.drop_database().await.map_err(OpenError::of)?;
        }
        self.close().await;
        Ok(())
    }
}

/// Where the past of the threds on Redis goes, if not to Redis.
async fn archive(redis: &Connection, place: &ServersPlace) -> Result<Option<String>, OpenError> {
    let meta = Tag::new(&place.namespace, "meta");
    let script = Script::new("return redis.call('GET', KEYS[1])");
    let request = Request::asking_script(&meta, &script, &[&meta.key("archive")]);
    redis.ask(request).await.map_err(OpenError::of)
}

async fn redis(
    url: &str,
    place: &ServersPlace,
    create: bool,
) -> Result<Connection, thredcore_redis::Error> {
    const REPLICAS_LIMIT: Duration = Duration::from_secs(1);
    let mut config = RedisConfig::new(url).namespace(&*place.namespace).durable(!place.throwaway);
    config = config.create(create);
    if let Some(partitions) = place.partitions {
        config = config.partitions(partitions);
    }
    if place.mongo.is_some() {
        // The archive has it all.
        config = config.history_steps(0);
    }
    if place.replicas > 0 {
        config = config.wait(place.replicas, REPLICAS_LIMIT);
    }
    Connection::open(config).await
}

impl Threds {
    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        match self {
            Self::Redis(storage) => Arc::new(storage.clone()),
            Self::Archived(_, archived) => archived.clone(),
            Self::Mongo(storage) => storage.clone(),
        }
    }

    /// Redis, which tells of changed patterns.
    pub(crate) fn redis(&self) -> Option<&RedisStorage> {
        match self {
            Self::Redis(storage) | Self::Archived(storage, _) => Some(storage),
            Self::Mongo(_) => None,
        }
    }

    /// Waits until the archive has everything.
    pub(crate) async fn flush(&self) {
        match self {
            Self::Redis(_) => {}
            Self::Archived(_, archived) => archived.flush().await,
            Self::Mongo(storage) => storage.flush().await,
        }
    }

    /// Archives what it can within a moment; the rest stays with the threds, for whoever runs next.
    pub(crate) async fn close(&self) {
        const MOMENT: Duration = Duration::from_millis(250);
        let _ = tokio::time::timeout(MOMENT, self.flush()).await;
    }
}

impl Queues {
    pub(crate) fn event_q(&self) -> Arc<dyn EventQ> {
        match self {
            Self::Redis(event_q, _) => event_q.clone(),
            Self::Amqp(queues) => queues.event_q.clone(),
        }
    }

    pub(crate) fn message_q(&self) -> Arc<dyn MessageQ> {
        match self {
            Self::Redis(_, message_q) => message_q.clone(),
            Self::Amqp(queues) => queues.message_q.clone(),
        }
    }

    /// The queues on RabbitMQ, if they are there.
    pub(crate) fn amqp(&self) -> Option<&AmqpQueues> {
        match self {
            Self::Redis(..) => None,
            Self::Amqp(queues) => Some(queues),
        }
    }

    /// Gives back what is not acknowledged.
    pub(crate) async fn close(&self) {
        match self {
            Self::Redis(event_q, message_q) => {
                event_q.close().await;
                message_q.close().await;
            }
            Self::Amqp(queues) => queues.close().await,
        }
    }

    /// Closes them, and deletes what is in RabbitMQ.
    pub(crate) async fn remove(&self) -> Result<(), OpenError> {
        match self {
            Self::Redis(..) => self.close().await,
            Self::Amqp(queues) => queues.remove().await.map_err(OpenError::of)?,
        }
        Ok(())
    }
}
