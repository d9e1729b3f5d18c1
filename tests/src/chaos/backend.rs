//! What a run stands on: the one place that knows the adapters.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use thredcore::{
    Ports,
    memory::{
        MemoryEventQ, MemoryEventQConfig, MemoryMessageQ, MemoryMessageQConfig, MemoryStorage,
        MemoryStorageConfig,
    },
    port::{FixedDirectory, SystemClock},
};

use thredcore_redb::{RedbBackends, RedbConfig};
use thredcore_redis::{
    Connection, RedisConfig, RedisEventQ, RedisEventQConfig, RedisMessageQ, RedisMessageQConfig,
    RedisStorage,
};

use super::{distributed::Distributed, patterns::directory};

/// What an adapter says.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Backends and their bounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackendSpec {
    /// Which.
    pub kind: BackendKind,
    /// Partitions of queue and storage.
    pub partitions: u16,
    /// Events that wait before producers do.
    pub events: usize,
    /// Messages of a topic that wait before engines do.
    pub messages: usize,
    /// How long a process that says nothing any more keeps its partitions, milliseconds.
    pub lease_ms: u64,
    /// The largest step that files or Redis take, bytes; what is usual if nothing is said.
    pub commit_bytes: Option<usize>,
}

/// Which backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackendKind {
    /// In the memory of the process: nothing survives it.
    Memory,
    /// Files in a directory.
    Embedded(PathBuf),
    /// A Redis server or cluster, under a prefix.
    Redis {
        /// How it is reached.
        url: String,
        /// What the keys begin with.
        prefix: String,
        /// How many replicas must have a write before it counts; 0 asks none.
        wait: usize,
    },
    /// RabbitMQ, Redis and MongoDB.
    Distributed(Distributed),
}

impl BackendSpec {
    /// Backends with bounds that no run meets by chance.
    pub fn new(kind: BackendKind) -> Self {
        Self {
            kind,
            partitions: 4,
            events: 10_000,
            messages: 100_000,
            lease_ms: 500,
            commit_bytes: None,
        }
    }

    /// Whether the engine's process alone can reach the data.
    pub fn is_private(&self) -> bool {
        matches!(self.kind, BackendKind::Memory | BackendKind::Embedded(_))
    }

    /// Whether each process sees of a queue what waits and what it holds itself, and not what
    /// others hold.
    pub fn is_distributed(&self) -> bool {
        matches!(self.kind, BackendKind::Distributed(_))
    }

    /// Opens them.
    ///
    /// # Errors
    /// What the adapter says.
    pub async fn open(&self) -> Result<Ports, Failure> {
        match &self.kind {
            BackendKind::Memory => Ok(self.memory()),
            BackendKind::Embedded(dir) => self.embedded(dir.clone()).await,
            BackendKind::Redis { url, prefix, wait } => {
                Box::pin(self.redis(url, prefix, *wait)).await
            }
            BackendKind::Distributed(distributed) => Box::pin(distributed.open(self)).await,
        }
    }

    /// Opening blocks: it may have to repair what a crash has left.
    async fn embedded(&self, dir: PathBuf) -> Result<Ports, Failure> {
        let config = RedbConfig::default()
            .partitions(self.partitions)
            .event_partitions(self.partitions)
            .event_capacity(self.events)
            .message_capacity(self.messages)
            .history_steps(HISTORY as u64)
            .ended_threds(HISTORY);
        let config = match self.commit_bytes {
            Some(bytes) => config.max_commit_bytes(bytes),
            None => config,
        };
        let opening = tokio::task::spawn_blocking(move || RedbBackends::open_with(dir, config));
        let backends = opening.await??;
        Ok(Ports {
            event_q: backends.event_q,
            message_q: backends.message_q,
            storage: backends.storage,
            resolver: Arc::new(FixedDirectory::new(directory())),
            clock: Arc::new(SystemClock),
        })
    }

    async fn redis(&self, url: &str, prefix: &str, wait: usize) -> Result<Ports, Failure> {
        let lease = Duration::from_millis(self.lease_ms);
        let mut config = RedisConfig::new(url)
            .namespace(prefix)
            .partitions(self.partitions)
            .response_limit(Duration::from_secs(1))
            .reconnect_pause(Duration::from_millis(100))
            .history_steps(HISTORY)
            .ended_threds(HISTORY);
        if let Some(bytes) = self.commit_bytes {
            config = config.max_commit_bytes(bytes);
        }
        if wait > 0 {
            config = config.wait(wait, Duration::from_millis(500));
        }
        let events = RedisEventQConfig::default()
            .partitions(self.partitions)
            .capacity(self.events)
            .lease(lease);
        let messages = RedisMessageQConfig::default().capacity(self.messages).visibility(lease);
        let connection = Connection::open(config).await?;
        Ok(Ports {
            event_q: Arc::new(RedisEventQ::open(connection.clone(), events).await?),
            message_q: Arc::new(RedisMessageQ::new(connection.clone(), messages)),
            storage: Arc::new(RedisStorage::on(connection).await?),
            resolver: Arc::new(FixedDirectory::new(directory())),
            clock: Arc::new(SystemClock),
        })
    }

    fn memory(&self) -> Ports {
        let events =
            MemoryEventQConfig::default().partitions(self.partitions).capacity(self.events);
        let messages = MemoryMessageQConfig::default().capacity(self.messages);
        let storage = MemoryStorageConfig::default()
            .partitions(self.partitions)
            .history_records(HISTORY)
            .ended_threds(HISTORY);
        Ports {
            event_q: Arc::new(MemoryEventQ::new(events)),
            message_q: Arc::new(MemoryMessageQ::new(messages)),
            storage: Arc::new(MemoryStorage::new(storage)),
            resolver: Arc::new(FixedDirectory::new(directory())),
            clock: Arc::new(SystemClock),
        }
    }
}

/// Tries until it succeeds: a server that has just been started, or is about to be, may not be able
/// to do it at first. Whoever runs an engine starts it again; this is that.
///
/// # Errors
/// The last failure, when a minute did not help.
pub async fn patiently<T, E, F>(mut attempt: impl FnMut() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: std::fmt::Debug,
{
    let begin = Instant::now();
    loop {
        match attempt().await {
            Err(error) if begin.elapsed() < Duration::from_secs(60) => {
                if std::env::var_os("THRED_CHAOS_VERBOSE").is_some() {
                    eprintln!("not opened: {error:?}");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            result => return result,
        }
    }
}

/// More steps than any run makes: the oracle reads all of them.
const HISTORY: usize = 10_000_000;
