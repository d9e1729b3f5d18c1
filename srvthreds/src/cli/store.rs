//! The store that a command asks.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Outcome, diagnostics::printable};
use crate::{
    backend::{Backends, OpenError, PartFormat, Place, Purpose, ServersPlace},
    query::{Queries, Unanswered},
};

/// Which store is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// The directory of an embedded store. The `srvthreds run` that works on it is asked; without
    /// one the files are opened.
    #[arg(long, value_name = "DIR", required_unless_present = ServerArgs::ANY)]
    #[arg(conflicts_with = ServerArgs::ANY)]
    data: Option<PathBuf>,

    #[command(flatten)]
    servers: ServerArgs,
}

/// A store on servers. A URL that holds a password is better given by its variable: a command line
/// can be seen by others.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new(Self::ANY).multiple(true))]
pub(crate) struct ServerArgs {
    /// Redis servers, as redis://user:password@host:port/db, with all but the host left out where it
    /// is usual; rediss:// for TLS; redis+sentinel://host:port,host:port/name;
    /// redis+cluster://host:port,host:port. Keeps the threds, and carries events and messages unless
    /// --amqp is given.
    #[arg(long, value_name = "URL", env = "SRVTHREDS_REDIS", hide_env_values = true)]
    #[arg(group = Self::ANY)]
    redis: Option<String>,

    /// RabbitMQ's nodes, as amqp://user:password@host:port/vhost, several with commas between them;
    /// amqps:// for TLS. Carries events and messages; --redis or --mongo keeps the threds.
    #[arg(long, value_name = "URL", env = "SRVTHREDS_AMQP", hide_env_values = true)]
    #[arg(group = Self::ANY)]
    amqp: Option<String>,

    /// MongoDB, a replica set, as mongodb://user:password@host:port/database?replicaSet=name. Keeps
    /// the history, ended threds, users and records; without --redis the threds too.
    #[arg(long, value_name = "URL", env = "SRVTHREDS_MONGO", hide_env_values = true)]
    #[arg(group = Self::ANY)]
    mongo: Option<String>,

    /// What all keys on Redis, exchanges and queues of RabbitMQ begin with, and what the database in
    /// MongoDB is called unless the URL says; several deployments can share servers. `thredcore` unless
    /// given.
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,

    /// How many parts the work is spread over, the same for all processes, for good; more than
    /// engines. 16 unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    partitions: Option<u16>,
}

impl std::fmt::Debug for ServerArgs {
    /// Without the URLs, which may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerArgs")
            .field("namespace", &self.namespace)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

impl ServerArgs {
    /// The group of the arguments that name a server; one of them at least means a store there.
    pub(crate) const ANY: &str = "server";

    /// The argument that names RabbitMQ.
    pub(crate) const AMQP: &str = "amqp";

    /// Whether a server is named.
    pub(crate) fn any(&self) -> bool {
        self.redis.is_some() || self.amqp.is_some() || self.mongo.is_some()
    }

    /// Why the arguments make no sense, when one that goes with servers is given without any.
    pub(crate) fn check(&self) -> Result<(), String> {
        let without_servers = |given: bool| given && !self.any();
        if without_servers(self.partitions.is_some()) {
            return Err(needs_servers(
                "--partitions",
                "it spreads the work over processes, and without servers there is one",
            ));
        }
        if without_servers(self.namespace.is_some()) {
            return Err(needs_servers(
                "--namespace",
                "it tells deployments on the same servers apart",
            ));
        }
        Ok(())
    }

    /// The place, if one is meant.
    pub(crate) fn place(&self, replicas: usize) -> Option<Place> {
        const NAMESPACE: &str = "thredcore";
        if !self.any() {
            return None;
        }
        let Self { redis, amqp, mongo, namespace, partitions } = self;
        Some(Place::Servers(ServersPlace {
            redis: redis.clone(),
            amqp: amqp.clone(),
            mongo: mongo.clone(),
            namespace: namespace.as_deref().unwrap_or(NAMESPACE).to_owned(),
            replicas,
            partitions: *partitions,
            throwaway: false,
        }))
    }
}

/// That an argument goes with servers, and none is named.
pub(crate) fn needs_servers(argument: &str, why: &str) -> String {
    format!("{argument} goes with --redis, --amqp or --mongo: {why}; name servers or leave it out")
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
        self.run(async {
            let asked = self.open().await?;
            let result = work(&asked).await;
            if let Some(backends) = &asked.opened {
                backends.close().await;
            }
            result
        })
    }

    /// Works with the place of the store.
    pub(crate) fn with_place(
        &self,
        work: impl AsyncFnOnce(Place) -> Result<Outcome, Trouble>,
    ) -> io::Result<Outcome> {
        self.run(work(self.place()))
    }

    fn place(&self) -> Place {
        let directory = || Place::Directory(self.data.clone().unwrap_or_default());
        self.servers.place(0).filter(|_| self.data.is_none()).unwrap_or_else(directory)
    }

    /// The format of each part of a store.
    pub(crate) async fn formats(&self, place: &Place) -> Result<Vec<PartFormat>, Trouble> {
        if let Some(directory) = place.directory()
            && let Some(remote) = owner(directory).await?
        {
            return Ok(remote.formats().await?);
        }
        Ok(place.formats().await?)
    }

    async fn open(&self) -> Result<Asked, Trouble> {
        match (&self.data, self.servers.place(0)) {
            (None, Some(place)) => Ok(Asked::direct(place.open(Purpose::Look).await?, true)),
            (directory, _) => open_directory(directory.as_deref().unwrap_or(Path::new(""))).await,
        }
    }

    fn run(&self, work: impl Future<Output = Result<Outcome, Trouble>>) -> io::Result<Outcome> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(async {
            self.servers.check().map_err(Trouble::Store)?;
            work.await
        });
        match outcome {
            Ok(outcome) => Ok(outcome),
            Err(Trouble::Output(error)) => Err(error),
            Err(Trouble::Store(why)) => {
                eprintln!("error: {}", printable(&why));
                Ok(Outcome::Unable)
            }
        }
    }
}

impl Asked {
    fn direct(backends: Backends, alive: bool) -> Self {
        let queries = Box::new(backends.queries());
        Self { queries, alive, opened: Some(backends) }
    }
}

/// Asks the process that owns a directory, or opens it.
async fn open_directory(directory: &Path) -> Result<Asked, Trouble> {
    let place = Place::Directory(directory.to_owned());
    if let Some(remote) = owner(directory).await? {
        return Ok(Asked { queries: remote, alive: true, opened: None });
    }
    match open_when_free(&place, Purpose::Look).await {
        Ok(backends) => Ok(Asked::direct(backends, false)),
        // A run may have begun just now.
        Err(error) if error.in_use => match owner(directory).await? {
            Some(remote) => Ok(Asked { queries: remote, alive: true, opened: None }),
            None => Err(Trouble::Store(format!(
                "{error}; a `srvthreds run` would answer here, but nobody does"
            ))),
        },
        Err(error) => Err(error.into()),
    }
}

/// Opens a store. A command that has it open lets go of it soon, and is waited for; a process that
/// answers keeps it.
pub(crate) async fn open_when_free(place: &Place, purpose: Purpose) -> Result<Backends, OpenError> {
    const PATIENCE: Duration = Duration::from_secs(3);
    const LOOK: Duration = Duration::from_millis(50);
    let since = Instant::now();
    loop {
        match place.open(purpose).await {
            Err(error) if error.in_use && since.elapsed() < PATIENCE => {
                let directory = place.directory().unwrap_or(Path::new(""));
                if !matches!(owner(directory).await, Ok(None)) {
                    return Err(error);
                }
                tokio::time::sleep(LOOK).await;
            }
            opened => return opened,
        }
    }
}

/// The process that works on a directory, if there is one that answers.
#[cfg(unix)]
async fn owner(directory: &Path) -> Result<Option<Box<dyn Queries>>, Trouble> {
    match crate::query::Remote::connect(directory).await {
        Ok(remote) => Ok(remote.map(|remote| Box::new(remote) as Box<dyn Queries>)),
        Err(error) => Err(Trouble::Store(format!(
            "cannot ask the process that works on {}: {error}; run this as its user",
            directory.display()
        ))),
    }
}

#[cfg(not(unix))]
async fn owner(_directory: &Path) -> Result<Option<Box<dyn Queries>>, Trouble> {
    Ok(None)
}
