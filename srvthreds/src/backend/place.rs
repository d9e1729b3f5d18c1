//! Where threds and queues are kept, and how that is opened.

use std::path::{Path, PathBuf};

use thredcore_redb::{RedbBackends, RedbConfig, RedbError};

use super::{
    Backends, Kind, PartFormat, Shared,
    servers::{Purpose, Servers, ServersPlace},
};
use crate::query::Unanswered;

/// Where threds and queues are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this process; gone with it.
    Memory,
    /// In files of one directory, owned by one process.
    Directory(PathBuf),
    /// On servers, shared with others.
    Servers(ServersPlace),
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
    /// An error with its causes.
    pub(super) fn of(error: impl std::error::Error + 'static) -> Self {
        Self { text: Unanswered::because(&error).0, in_use: false }
    }

    pub(super) fn because_of(text: &str) -> Self {
        Self { text: text.to_owned(), in_use: false }
    }
}

impl Place {
    /// The directory, if it is one.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// The format of each part of a store, without opening more than that takes.
    pub(crate) async fn formats(&self) -> Result<Vec<PartFormat>, OpenError> {
        self.stand(false).await
    }

    /// Raises the format of each part to the newest, as far as no process is at work that does not
    /// read that.
    pub(crate) async fn upgrade(&self) -> Result<Vec<PartFormat>, OpenError> {
        self.stand(true).await
    }

    async fn stand(&self, upgrade: bool) -> Result<Vec<PartFormat>, OpenError> {
        match self {
            Self::Memory => Ok(vec![]),
            Self::Directory(directory) => {
                let config = RedbConfig::default().upgrade(upgrade);
                let opened = open_directory(directory, config.create(false)).await?;
                let at = opened.format();
                opened.close().await;
                Ok(vec![PartFormat::new("directory", at)])
            }
            Self::Servers(place) => {
                let servers = Box::pin(Servers::connect(place, Purpose::Look)).await?;
                let formats = servers.formats(upgrade).await;
                servers.close().await;
                formats
            }
        }
    }

    /// Opens it: to work on it, and what is missing is made, a directory too; or as it is. A directory
    /// that was not closed in order is repaired in either case.
    pub(crate) async fn open(&self, purpose: Purpose) -> Result<Backends, OpenError> {
        let kind = match self {
            Self::Memory => return Ok(Backends::memory()),
            Self::Directory(directory) => {
                let config = RedbConfig::default().create(purpose == Purpose::Run);
                Kind::Embedded(open_directory(directory, config).await?)
            }
            // In a box: the drivers' futures are large.
            Self::Servers(place) => {
                Kind::Shared(Box::new(Box::pin(open_servers(place, purpose)).await?))
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
            Self::Servers(place) => place.fmt(f),
        }
    }
}

async fn open_servers(place: &ServersPlace, purpose: Purpose) -> Result<Shared, OpenError> {
    let servers = Servers::connect(place, purpose).await?;
    let (threds, queues) = (servers.threds().await?, servers.queues().await?);
    let directory = servers.directory();
    Ok(Shared { servers, threds, queues, directory })
}

async fn open_directory(directory: &Path, config: RedbConfig) -> Result<RedbBackends, OpenError> {
    let directory = directory.to_owned();
    // After a crash the file is repaired, which takes its time.
    let opened =
        tokio::task::spawn_blocking(move || RedbBackends::open_with(directory, config)).await;
    opened.map_err(OpenError::of)?.map_err(|error| match error {
        RedbError::InUse { .. } => OpenError { in_use: true, ..OpenError::of(error) },
        RedbError::Nothing { dir } => {
            let name = dir.display();
            OpenError::because_of(&format!(
                "there is no store in {name}; `srvthreds run --data {name}` makes one"
            ))
        }
        error => OpenError::of(error),
    })
}
