//! The store that a command asks.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Outcome, diagnostics::printable};
use crate::{
    backend::{Backends, OpenError, Place, RedisPlace},
    query::{Queries, Unanswered},
};

/// Which store is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// The directory of an embedded store. The `srvthreds run` that works on it is asked; without
    /// one the files are opened.
    #[arg(long, value_name = "DIR", required_unless_present = "redis", conflicts_with = "redis")]
    data: Option<PathBuf>,

    #[command(flatten)]
    redis: RedisArgs,
}

/// A store on Redis.
#[derive(Debug, clap::Args)]
pub(crate) struct RedisArgs {
    /// Redis servers: redis://[user:password@]host[:port][/db], rediss:// for TLS,
    /// redis+sentinel://host:port,host:port/name, redis+cluster://host:port,host:port.
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,

    /// What the names of all keys on Redis begin with; several deployments can share a server.
    #[arg(long, value_name = "NAME", default_value = "thredcore", requires = "redis")]
    namespace: String,
}

impl RedisArgs {
    /// The place, if one is meant.
    pub(crate) fn place(&self, replicas: usize) -> Option<Place> {
        let (url, namespace) = (self.redis.clone()?, self.namespace.clone());
        Some(Place::Redis(RedisPlace { url, namespace, replicas }))
    }
}

/// A store that can be asked.
pub(crate) struct Asked {
    pub(crate) queries: Box<dyn Queries>,
    /// Whether an engine may be at work on it.
    pub(crate) alive: bool,
    /// What this process has opened.
    opened: Option<Backends>,
}

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Its output cannot be written.
    Output(io::Error),
    /// The store does not answer.
    Store(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<Unanswered> for Trouble {
    fn from(why: Unanswered) -> Self {
        Self::Store(why.0)
    }
}

impl From<OpenError> for Trouble {
    fn from(error: OpenError) -> Self {
        Self::Store(error.to_string())
    }
}

impl StoreArgs {
    /// Opens the store, or finds who has it open, and works with it.
    pub(crate) fn ask(
        &self,
        work: impl AsyncFnOnce(&Asked) -> Result<Outcome, Trouble>,
    ) -> io::Result<Outcome> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(async {
            let asked = self.open().await?;
            let result = work(&asked).await;
            if let Some(backends) = &asked.opened {
                backends.close().await;
            }
            result
        });
        match result {
            Ok(outcome) => Ok(outcome),
            Err(Trouble::Output(error)) => Err(error),
            Err(Trouble::Store(why)) => {
                eprintln!("error: {}", printable(&why));
                Ok(Outcome::Unable)
            }
        }
    }

    async fn open(&self) -> Result<Asked, Trouble> {
        match (&self.data, self.redis.place(0)) {
            (None, Some(place)) => Ok(Asked::direct(place.open().await?, true)),
            (directory, _) => open_directory(directory.as_deref().unwrap_or(Path::new(""))).await,
        }
    }
}

impl Asked {
    fn direct(backends: Backends, alive: bool) -> Self {
        let queries = Box::new(backends.queries());
        Self { queries, alive, opened: Some(backends) }
    }
}

/// Asks the process that owns a directory, or opens it. Another command may just have it open: that
/// passes.
async fn open_directory(directory: &Path) -> Result<Asked, Trouble> {
    const PATIENCE: Duration = Duration::from_secs(3);
    const LOOK: Duration = Duration::from_millis(50);
    let place = Place::Directory(directory.to_owned());
    if !place.exists() {
        let name = directory.display();
        return Err(Trouble::Store(format!(
            "there is no store in {name}; `srvthreds run --data {name}` makes one"
        )));
    }
    let since = Instant::now();
    loop {
        #[cfg(unix)]
        match crate::query::Remote::connect(directory).await {
            Ok(Some(remote)) => {
                return Ok(Asked { queries: Box::new(remote), alive: true, opened: None });
            }
            Ok(None) => {}
            Err(error) => {
                let name = directory.display();
                return Err(Trouble::Store(format!(
                    "cannot ask the process that works on {name}: {error}; run this as its user"
                )));
            }
        }
        match place.open().await {
            Ok(backends) => return Ok(Asked::direct(backends, false)),
            Err(error) if error.in_use && since.elapsed() < PATIENCE => {
                tokio::time::sleep(LOOK).await;
            }
            Err(error) if error.in_use => {
                return Err(Trouble::Store(format!(
                    "{error}; a `srvthreds run` would answer here, but nobody does"
                )));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
