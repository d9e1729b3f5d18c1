//! Where threds and queues are kept, and how that is opened.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use thredcore_redb::{RedbBackends, RedbError};
use thredcore_redis::{
    Connection, RedisConfig, RedisDirectory, RedisEventQ, RedisEventQConfig, RedisMessageQ,
    RedisMessageQConfig, RedisStorage,
};

use super::{Backends, Kind, RedisBackends};
use crate::query::Unanswered;

/// Where threds and queues are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this process; gone with it.
    Memory,
    /// In files of one directory, owned by one process.
    Directory(PathBuf),
    /// On Redis, shared with others.
    Redis(RedisPlace),
}

/// Which part of which servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedisPlace {
    pub(crate) url: String,
    pub(crate) namespace: String,
    /// How many replicas must have a write before it counts; 0 for none.
    pub(crate) replicas: usize,
}

/// A store that cannot be opened: place, reason and remedy.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct OpenError {
    text: String,
    /// Whether another process has it open.
    pub(crate) in_use: bool,
}

impl OpenError {
    fn because(error: &(dyn std::error::Error + 'static)) -> Self {
        Self { text: Unanswered::because(error).0, in_use: false }
    }
}

impl Place {
    /// Whether a directory holds a store; of the others that is not known before they are opened.
    pub(crate) fn exists(&self) -> bool {
        match self {
            Self::Memory | Self::Redis(_) => true,
            Self::Directory(directory) => directory.join("threds.redb").exists(),
        }
    }

    /// The directory, if it is one.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Opens it; a directory is made when there is none.
    pub(crate) async fn open(&self) -> Result<Backends, OpenError> {
        let kind = match self {
            Self::Memory => return Ok(Backends::memory()),
            Self::Directory(directory) => Kind::Embedded(open_directory(directory).await?),
            Self::Redis(place) => {
                let opened = open_redis(place).await;
                Kind::Redis(opened.map_err(|error| OpenError::because(&error))?)
            }
        };
        Ok(Backends { kind })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Directory(directory) => write!(f, "{}", directory.display()),
            // The URL may hold a password.
            Self::Redis(place) => write!(f, "redis, namespace {}", place.namespace),
        }
    }
}

async fn open_directory(directory: &Path) -> Result<RedbBackends, OpenError> {
    let directory = directory.to_owned();
    // After a crash the file is repaired, which takes its time.
    let opened = tokio::task::spawn_blocking(move || RedbBackends::open(directory)).await;
    match opened {
        Ok(opened) => opened.map_err(|error| OpenError {
            in_use: matches!(error, RedbError::InUse { .. }),
            ..OpenError::because(&error)
        }),
        Err(panic) => Err(OpenError::because(&panic)),
    }
}

async fn open_redis(place: &RedisPlace) -> Result<RedisBackends, thredcore_redis::Error> {
    const REPLICAS_LIMIT: Duration = Duration::from_secs(1);
    let mut config = RedisConfig::new(&*place.url).namespace(&*place.namespace);
    if place.replicas > 0 {
        config = config.wait(place.replicas, REPLICAS_LIMIT);
    }
    let connection = Connection::open(config).await?;
    let events = RedisEventQConfig::default();
    Ok(RedisBackends {
        storage: RedisStorage::on(connection.clone()).await?,
        event_q: Arc::new(RedisEventQ::open(connection.clone(), events).await?),
        message_q: Arc::new(RedisMessageQ::new(connection.clone(), RedisMessageQConfig::default())),
        directory: Arc::new(RedisDirectory::new(connection)),
    })
}
