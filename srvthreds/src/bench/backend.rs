//! What a benchmark runs on.

use std::{path::PathBuf, sync::Arc};

use clap::ValueEnum;
use thredcore::{
    Ports,
    memory::{MemoryEventQ, MemoryEventQConfig, MemoryMessageQ, MemoryStorage},
    port::{EventQ, MessageQ},
};
use thredcore_redb::{RedbBackends, RedbConfig};
use thredcore_redis::{
    Connection, RedisConfig, RedisEventQ, RedisEventQConfig, RedisMessageQ, RedisMessageQConfig,
    RedisStorage, Request, Script, Tag,
};

use super::{Failure, observe::Observed};

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
}

impl Store {
    pub(crate) fn name(self) -> &'static str {
        ["memory", "embedded", "redis"][self as usize]
    }

    /// The queue that goes with it.
    pub(crate) fn queue(self) -> Queue {
        match self {
            Self::Memory => Queue::Memory,
            Self::Embedded => Queue::Embedded,
            Self::Redis => Queue::Redis,
        }
    }
}

impl Queue {
    pub(crate) fn name(self) -> &'static str {
        ["memory", "embedded", "redis"][self as usize]
    }
}

/// Where the servers and directories are.
#[derive(Clone, Debug)]
pub(crate) struct Sites {
    pub(crate) store: Store,
    pub(crate) queue: Queue,
    /// The parent of the embedded store's directory.
    pub(crate) directory: PathBuf,
    pub(crate) redis: Option<String>,
}

/// A backend of any kind, open.
pub(super) struct Backend {
    /// Those of each engine.
    pub(super) ports: Vec<Ports>,
    pub(super) storage: Arc<Observed>,
    /// Batches of events that the client may hand over at one time.
    pub(super) depth: usize,
    redb: Option<(RedbBackends, tempfile::TempDir)>,
    redis: Option<Connection>,
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
        let redis = match (sites.store, sites.queue) {
            (Store::Redis, _) | (_, Queue::Redis) => Some(redis(sites).await?),
            _ => None,
        };
        let storage: Arc<dyn thredcore::port::Storage> = match sites.store {
            Store::Memory => Arc::new(MemoryStorage::default()),
            Store::Embedded => redb.as_ref().ok_or("no directory")?.0.storage.clone(),
            Store::Redis => {
                Arc::new(RedisStorage::on(redis.clone().ok_or("no connection")?).await?)
            }
        };
        let storage = Arc::new(Observed::new(storage));
        let mut queues: Vec<(Arc<dyn EventQ>, Arc<dyn MessageQ>)> = vec![];
        for _ in 0..engines {
            queues.push(match (sites.queue, queues.first()) {
                // These are consumers of their own.
                (Queue::Redis, _) => {
                    let connection = redis.clone().ok_or("no connection")?;
                    let events =
                        RedisEventQ::open(connection.clone(), RedisEventQConfig::default());
                    let messages = RedisMessageQ::new(connection, RedisMessageQConfig::default());
                    (Arc::new(events.await?), Arc::new(messages))
                }
                (_, Some(shared)) => shared.clone(),
                (Queue::Memory, None) => {
                    // What waits in the queue has left the processor's caches when its turn comes.
                    let config = MemoryEventQConfig::default().capacity(QUEUED);
                    (Arc::new(MemoryEventQ::new(config)), Arc::new(MemoryMessageQ::default()))
                }
                (Queue::Embedded, None) => {
                    let redb = &redb.as_ref().ok_or("no directory")?.0;
                    (redb.event_q.clone(), redb.message_q.clone())
                }
            });
        }
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
            redis,
        })
    }

    /// Processor time that the server has taken until now, seconds; `None` without a server.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub(super) async fn server_cpu_seconds(&self) -> Result<Option<f64>, Failure> {
        let Some(redis) = &self.redis else { return Ok(None) };
        let script = Script::new("return redis.call('INFO', 'cpu')");
        let request = Request::asking_script(&Tag::new("bench", "server"), &script, &[]);
        let info: String = redis.ask(request).await?;
        let used = info.lines().filter_map(|line| line.split_once(':'));
        let used = used.filter(|(name, _)| matches!(*name, "used_cpu_user" | "used_cpu_sys"));
        Ok(Some(used.filter_map(|(_, seconds)| seconds.trim().parse::<f64>().ok()).sum()))
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
        if let Some(redis) = self.redis {
            redis.remove_namespace().await?;
        }
        Ok(())
    }
}

async fn redb(sites: &Sites) -> Result<(RedbBackends, tempfile::TempDir), Failure> {
    let directory = tempfile::Builder::new().prefix("thred-bench-").tempdir_in(&sites.directory)?;
    let path = directory.path().to_owned();
    let config = RedbConfig::default();
    let open = tokio::task::spawn_blocking(move || RedbBackends::open_with(path, config));
    Ok((open.await??, directory))
}

async fn redis(sites: &Sites) -> Result<Connection, Failure> {
    let url = sites.redis.clone().ok_or(
        "which Redis? say --redis redis://HOST:PORT, or set REDIS_URL; \
         `scripts/services up redis` starts one",
    )?;
    let namespace = format!("bench-{}", thredlib::new_event_id());
    // How durable the server is, is what is measured, not what is asked for.
    let config = RedisConfig::new(url).namespace(namespace).durable(false);
    Ok(Connection::open(config).await?)
}
