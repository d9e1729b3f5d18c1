//! Who there is, as the sessions file says it, and as the store knows it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use parking_lot::RwLock;
use thredcore::port::{AddressResolver, Directory, PortError};
use thredcore_redis::{Error, RedisDirectory};
use thredlib::{ParticipantId, Topic};

use crate::cli::{
    args::Print,
    files::{Unreadable, read_json},
};

/// The service that a run answers for itself.
pub(super) const PERSISTENCE: &str = "org.wt.persistence";
pub(super) const PERSISTENCE_NODE: &str = "org.wt.persistence1";

/// The directory of a run, which may be read again.
#[derive(Debug)]
pub(super) struct Sessions {
    path: Option<PathBuf>,
    /// Whether a persistence agent runs.
    agent: bool,
    /// What the file says.
    directory: RwLock<Arc<Directory>>,
    /// What all processes on the store go by.
    shared: OnceLock<Arc<RedisDirectory>>,
}

impl Sessions {
    /// Reads the file; without one there is nobody. The agent runs if the file lists it, or if it
    /// is wanted anyway.
    pub(super) fn read(path: Option<&Path>, agent: bool) -> Result<Self, Unreadable> {
        let mut directory = path.map(read_json::<Directory>).transpose()?.unwrap_or_default();
        let agent = agent || directory.is_service(&ParticipantId::from(PERSISTENCE));
        complete(&mut directory, agent);
        Ok(Self {
            path: path.map(Path::to_owned),
            agent,
            directory: RwLock::new(Arc::new(directory)),
            shared: OnceLock::new(),
        })
    }

    /// Goes by what the store knows from now on; what the file says is put there.
    pub(super) async fn share(&self, shared: Arc<RedisDirectory>) -> Result<(), Error> {
        if self.path.is_some() {
            shared.replace(&self.of_file()).await?;
        } else if self.agent {
            for service in [PERSISTENCE, PERSISTENCE_NODE] {
                shared.add_service(&service.into()).await?;
            }
        }
        // It is called once.
        let _ = self.shared.set(shared);
        Ok(())
    }

    /// Whether the run has a persistence agent.
    pub(super) fn agent(&self) -> bool {
        self.agent
    }

    /// The file, if there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn of_file(&self) -> Arc<Directory> {
        self.directory.read().clone()
    }

    /// The topics of all there are.
    pub(super) async fn topics(&self, print: Print) -> Result<Vec<Topic>, PortError> {
        let directory = self.directory().await?;
        let services = directory.services().into_iter().map(|id| Topic::new(id.as_arc().clone()));
        let nodes = directory.all_nodes().into_iter().cloned();
        Ok(match print {
            Print::All => nodes.chain(services).collect(),
            Print::Sessions => nodes.collect(),
            Print::None => vec![],
        })
    }

    /// Reads the file again; `None` when it says what it said before.
    pub(super) fn read_again(&self) -> Result<Option<Directory>, Unreadable> {
        let Some(path) = &self.path else { return Ok(None) };
        let mut directory: Directory = read_json(path)?;
        complete(&mut directory, self.agent);
        Ok((*self.of_file() != directory).then_some(directory))
    }

    /// Takes a directory into use.
    pub(super) async fn take(&self, directory: Directory) -> Result<(), Error> {
        if let Some(shared) = self.shared.get() {
            shared.replace(&directory).await?;
        }
        let mut known = self.directory.write();
        *known = Arc::new(directory);
        Ok(())
    }
}

fn complete(directory: &mut Directory, agent: bool) {
    if agent {
        // Its answers come from its node, which is no participant either.
        directory.add_service(PERSISTENCE).add_service(PERSISTENCE_NODE);
    }
}

#[async_trait]
impl AddressResolver for Sessions {
    async fn directory(&self) -> Result<Arc<Directory>, PortError> {
        match self.shared.get() {
            Some(shared) => shared.directory().await,
            None => Ok(self.of_file()),
        }
    }
}
