//! Opening what threds and queues are kept in.

use std::{path::PathBuf, sync::Arc};

use thredcore::{
    memory::{
        MemoryBackends, MemoryEventQ, MemoryEventQConfig, MemoryMessageQ, MemoryMessageQConfig,
    },
    port::{Delivery, EventQ, MessageQ, PortError, Routed, Storage},
};

use crate::query::Direct;

/// Where threds and queues are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this process; gone with it.
    Memory,
    /// In files of one directory, owned by this process.
    Directory(PathBuf),
    /// On a Redis server, shared with others.
    Redis(String),
}

/// A store that cannot be opened: place, reason and remedy.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct OpenError {
    text: String,
    /// Whether another process has it open.
    pub(crate) in_use: bool,
}

impl Place {
    /// Whether there may be something to open.
    pub(crate) fn exists(&self) -> bool {
        match self {
            Self::Memory | Self::Redis(_) => true,
            Self::Directory(directory) => directory.is_dir(),
        }
    }

    /// Opens it; a directory is made when there is none.
    pub(crate) async fn open(&self) -> Result<Backends, OpenError> {
        match self {
            Self::Memory => Ok(Backends::memory()),
            Self::Directory(_) | Self::Redis(_) => {
                Err(OpenError { text: "not yet".to_owned(), in_use: false })
            }
        }
    }
}

/// A store with its queues, open.
#[derive(Clone)]
pub(crate) struct Backends {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Memory(MemoryBackends),
}

impl Backends {
    /// In this process, without bounds on the queues: whoever feeds them bounds what is under way.
    pub(crate) fn memory() -> Self {
        let event_q = MemoryEventQConfig::default().capacity(usize::MAX);
        let message_q = MemoryMessageQConfig::default().capacity(usize::MAX);
        Self {
            kind: Kind::Memory(MemoryBackends {
                event_q: Arc::new(MemoryEventQ::new(event_q)),
                message_q: Arc::new(MemoryMessageQ::new(message_q)),
                storage: Arc::default(),
            }),
        }
    }

    /// Writes what is pending and lets go of the files.
    pub(crate) async fn close(&self) {}

    /// What is kept.
    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        match &self.kind {
            Kind::Memory(it) => it.storage.clone(),
        }
    }

    /// What comes in.
    pub(crate) fn event_q(&self) -> Arc<dyn EventQ> {
        match &self.kind {
            Kind::Memory(it) => it.event_q.clone(),
        }
    }

    /// What goes out.
    pub(crate) fn message_q(&self) -> Arc<dyn MessageQ> {
        match &self.kind {
            Kind::Memory(it) => it.message_q.clone(),
        }
    }

    /// Answers to what commands ask.
    pub(crate) fn queries(&self) -> Direct {
        Direct::new(self.storage(), self.event_q(), self.message_q())
    }

    /// Messages of all topics in the order of publishing, for a process that is the only one.
    pub(crate) async fn receive_any(&self, max: usize) -> Result<Vec<Delivery<Routed>>, PortError> {
        match &self.kind {
            Kind::Memory(it) => it.message_q.receive_any(max).await,
        }
    }
}
