//! What a benchmark runs on.

use std::{path::PathBuf, sync::Arc};

use clap::ValueEnum;
use thredcore::{
    Ports,
    memory::{MemoryEventQ, MemoryEventQConfig, MemoryMessageQ, MemoryStorage},
    port::{EventQ, MessageQ, Storage},
};
use thredcore_mongo::Archived;
use thredcore_redb::{RedbBackends, RedbConfig};

use super::{Failure, observe::Observed};
use crate::backend::{Purpose, Queues, Servers, ServersPlace, Threds};

/// Where threds are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    /// In this process.
    #[default]
    Memory,
    /// In the files of a directory; each accepted event and each commit is on the disk.
    Embedded,
    /// On Redis.
    Redis,
    /// In MongoDB.
    Mongo,
}

/// What carries events and messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Queue {
    /// This process.
    Memory,
    /// The directory of the embedded store.
    Embedded,
    /// Redis.
    Redis,
    /// RabbitMQ.
    Amqp,
}

impl Store {
    pub(crate) fn name(self) -> &'static str {
        ["memory", "embedded", "redis", "mongo"][self as usize]
    }

    /// The queue that goes with it.
    pub(crate) fn queue(self) -> Queue {
        match self {
            Self::Memory => Queue::Memory,
            Self::Embedded => Queue::Embedded,
            Self::Redis => Queue::Redis,
            Self::Mongo => Queue::Amqp,
        }
    }
}

impl Queue {
    pub(crate) fn name(self) -> &'static str {
        ["memory", "embedded", "redis", "amqp"][self as usize]
    }
}

/// Where the servers and directories are.
#[derive(Clone, Debug)]
pub(crate) struct Sites {
    pub(crate) store: Store,
    pub(crate) queue: Queue,
    /// Whether the past goes to MongoDB, behind a store that is not there itself.
    pub(crate) archive: bool,
    /// The parent of the embedded store's directory.
    pub(crate) directory: PathBuf,
    pub(crate) redis: Option<String>,
    pub(crate) amqp: Option<String>,
    pub(crate) mongo: Option<String>,
    /// Parts that servers spread the work over.
    pub(crate) partitions: Option<u16>,
}

impl Sites {
    /// The servers that are needed, if any.
    fn servers(&self) -> Result<Option<ServersPlace>, Failure> {
        let Self { store, queue, archive, .. } = self;
        if *archive && *store != Store::Redis {
            return Err("--archive goes with --store redis; MongoDB archives by itself".into());
        }
        if (*store, *queue) == (Store::Mongo, Queue::Redis) {
            return Err("with Redis and MongoDB the threds are on Redis: \
                        use --store redis --archive, or --queue amqp"
                .into());
        }
        let need = |needed: bool, url: &Option<String>, otherwise: &'static str| match (needed, url)
        {
            (false, _) => Ok(None),
            (true, Some(url)) => Ok(Some(url.clone())),
            (true, None) => Err(otherwise),
        };
        let on_redis = *store == Store::Redis || *queue == Queue::Redis;
        let in_mongo = *store == Store::Mongo || *archive;
        let redis = need(on_redis, &self.redis, WHICH_REDIS)?;
        let amqp = need(*queue == Queue::Amqp, &self.amqp, WHICH_RABBITMQ)?;
        let mongo = need(in_mongo, &self.mongo, WHICH_MONGODB)?;
        let any = redis.is_some() || amqp.is_some() || mongo.is_some();
        if !any && self.partitions.is_some() {
            return Err(
                "--partitions goes with a store or queue on servers; leave it out, or take \
                        --store redis or mongo, or --queue redis or amqp"
                    .into(),
            );
        }
        Ok(any.then(|| ServersPlace {
            redis,
            amqp,
            mongo,
            namespace: format!("bench-{}", thredlib::new_event_id()),
            replicas: 0,
            partitions: self.partitions,
            throwaway: true,
        }))
    }
}

const WHICH_REDIS: &str = "which Redis? say --redis redis://HOST:PORT, or set REDIS_URL; \
                           `scripts/services up redis` starts one";
const WHICH_RABBITMQ: &str = "which RabbitMQ? say --amqp amqp://HOST:PORT, or set AMQP_URL; \
                              `scripts/services up rabbitmq` starts one";
const WHICH_MONGODB: &str = "which MongoDB? say --mongo mongodb://HOST:PORT, or set MONGODB_URL; \
                             `scripts/services up mongodb` starts one";

/// A backend of any kind, open.
pub(super) struct Backend {
    /// Those of each engine.
    pub(super) ports: Vec<Ports>,
    pub(super) storage: Arc<Observed>,
    /// Batches of events that the client may hand over at one time.
    pub(super) depth: usize,
    redb: Option<(RedbBackends, tempfile::TempDir)>,
    served: Option<Served>,
}

/// What is on servers.
struct Served {
    servers: Servers,
    threds: Option<Threds>,
    queues: Vec<Queues>,
}

/// Events that wait in the queue at the most.
const QUEUED: usize = 2_048;
/// A door that waits for a disk or a server is kept busy by so many batches.
const DEPTH: usize = 8;

impl Backend {
    /// Opens what so many engines work on; empty, and gone when it is closed.
    ///
    /// # Errors
    /// When a directory cannot be made or a server cannot be reached.
    pub(super) async fn open(sites: &Sites, engines: usize) -> Result<Self, Failure> {
        let redb = match (sites.store, sites.queue) {
            (Store::Embedded, _) | (_, Queue::Embedded) => Some(redb(sites).await?),
            _ => None,
        };
        let mut served = match sites.servers()? {
            Some(place) => Some(Served::open(&place, sites, engines).await?),
            None => None,
        };
        let storage: Arc<dyn Storage> = match (&mut served, &redb) {
            (Some(Served { threds: Some(threds), .. }), _) => threds.storage(),
            (_, Some((redb, _))) if sites.store == Store::Embedded => redb.storage.clone(),
            _ => Arc::new(MemoryStorage::default()),
        };
        let storage = Arc::new(Observed::new(storage));
        let queues: Vec<(Arc<dyn EventQ>, Arc<dyn MessageQ>)> = match (&served, &redb) {
            // These are consumers of their own.
            (Some(Served { queues, .. }), _) if !queues.is_empty() => {
                queues.iter().map(|queues| (queues.event_q(), queues.message_q())).collect()
            }
            (_, Some((redb, _))) if sites.queue == Queue::Embedded => {
                vec![(redb.event_q.clone(), redb.message_q.clone()); engines]
            }
            _ => {
                // What waits in the queue has left the processor's caches when its turn comes.
                let config = MemoryEventQConfig::default().capacity(QUEUED);
                let event_q: Arc<dyn EventQ> = Arc::new(MemoryEventQ::new(config));
                vec![(event_q, Arc::new(MemoryMessageQ::default())); engines]
            }
        };
        let ports = queues.into_iter().map(|(event_q, message_q)| Ports {
            event_q,
            message_q,
            storage: storage.clone(),
            ..Ports::default()
        });
        Ok(Self {
            ports: ports.collect(),
            storage,
            depth: if sites.queue == Queue::Memory { 1 } else { DEPTH },
            redb,
            served,
        })
    }

    /// Waits until everything is where it is to be in the end.
    pub(super) async fn settle(&self) {
        if let Some(Served { threds: Some(threds), .. }) = &self.served {
            threds.flush().await;
        }
    }

    /// Whether the queues are on a server.
    pub(super) fn is_remote(&self) -> bool {
        self.served.as_ref().is_some_and(|it| !it.queues.is_empty())
    }

    /// The store without an archive.
    pub(super) fn store(&self) -> Arc<dyn Storage> {
        let redis = self.served.as_ref().and_then(|it| it.threds.as_ref()?.redis());
        match redis {
            Some(redis) => Arc::new(redis.clone()),
            None => self.storage.inner().clone(),
        }
    }

    /// The archive without a store worth the name.
    ///
    /// # Errors
    /// When MongoDB cannot be reached.
    pub(super) async fn archive(&self) -> Result<Option<Arc<Archived>>, Failure> {
        match &self.served {
            Some(Served { servers, threds: Some(Threds::Archived(..)), .. }) => {
                Ok(servers.archived(Arc::new(MemoryStorage::default())).await?)
            }
            _ => Ok(None),
        }
    }

    /// Processor time that Redis has taken until now, seconds; `None` without one.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub(super) async fn redis_cpu_seconds(&self) -> Result<Option<f64>, Failure> {
        match &self.served {
            Some(Served { servers, .. }) => Ok(servers.redis_cpu_seconds().await?),
            None => Ok(None),
        }
    }

    /// Closes and removes everything.
    ///
    /// # Errors
    /// When something stays behind.
    pub(super) async fn close(self) -> Result<(), Failure> {
        drop((self.ports, self.storage));
        if let Some((backends, directory)) = self.redb {
            backends.close().await;
            directory.close()?;
        }
        if let Some(Served { servers, threds, queues }) = self.served {
            drop(threds);
            // The client's queues are the first: they know all topics.
            for queues in queues.iter().skip(1) {
                queues.close().await;
            }
            if let Some(first) = queues.first() {
                first.remove().await?;
            }
            servers.remove().await?;
        }
        Ok(())
    }
}

impl Served {
    async fn open(place: &ServersPlace, sites: &Sites, engines: usize) -> Result<Self, Failure> {
        let servers = Servers::connect(place, Purpose::Run).await?;
        let mut threds = None;
        if matches!(sites.store, Store::Redis | Store::Mongo) {
            threds = Some(servers.threds().await?);
        }
        let mut queues = vec![];
        if matches!(sites.queue, Queue::Redis | Queue::Amqp) {
            for _ in 0..engines {
                queues.push(servers.queues().await?);
            }
        }
        Ok(Self { servers, threds, queues })
    }
}

async fn redb(sites: &Sites) -> Result<(RedbBackends, tempfile::TempDir), Failure> {
    let parent = &sites.directory;
    let refused = |error| format!("cannot make a directory in {}: {error}", parent.display());
    std::fs::create_dir_all(parent).map_err(refused)?;
    let made = tempfile::Builder::new().prefix("thred-bench-").tempdir_in(parent);
    let directory = made.map_err(refused)?;
    let path = directory.path().to_owned();
    let config = RedbConfig::default();
    let open = tokio::task::spawn_blocking(move || RedbBackends::open_with(path, config));
    Ok((open.await??, directory))
}
