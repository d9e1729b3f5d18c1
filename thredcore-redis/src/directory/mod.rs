//! Groups, roles, services and sessions.

mod snapshot;

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::Value;
use thredcore::port::{AddressResolver, Directory, PortError};
use thredlib::{ParticipantId, Topic};
use tokio::sync::Notify;

use self::snapshot::{Snapshot, Texts};
use crate::{
    Connection, Error, Request, Script, Tag,
    listener::{Listener, Listening},
};

static PUT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/put.lua")));
static REPLACE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/replace.lua")));
static SESSION: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/session.lua")));
static READ: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/read.lua")));

/// How long it does not look again after a failure.
const FAILED: Duration = Duration::from_millis(100);

/// Who is behind an address, kept on Redis and read from memory.
///
/// A process reads all of it once and keeps it; it reads again when it is told of a change, when a
/// session may have run out, and every so often ([`refresh`](Self::refresh)) in case a notice was
/// lost. With the servers out of reach it answers what it has known last.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use thredcore::port::AddressResolver;
/// use thredcore_redis::{Connection, RedisConfig, RedisDirectory};
///
/// let connection = Connection::open(RedisConfig::new("redis://localhost")).await?;
/// let directory = RedisDirectory::new(connection);
/// directory.put_group("ops", ["ann", "bob"]).await?;
/// directory.open_session("ann", "org.wt.session1", Some(Duration::from_secs(60))).await?;
/// assert!(directory.directory().await?.is_member(&"bob".into(), "ops"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RedisDirectory {
    shared: Arc<Shared>,
    refresh: Duration,
    /// What keeps the memory up to date.
    following: Mutex<Option<Listening>>,
}

#[derive(Debug)]
struct Shared {
    connection: Connection,
    tag: Tag,
    keys: Keys,
    channel: String,
    known: Mutex<Option<Known>>,
    /// What could not be read when it was read last.
    skipped: Mutex<BTreeSet<String>>,
    /// Told when there may be something new.
    look: Notify,
}

#[derive(Debug)]
struct Keys {
    /// Hashes: name → list of participants.
    groups: String,
    roles: String,
    /// Hash: address → nothing.
    services: String,
    /// Sorted set: participant and node by when the session ends.
    sessions: String,
    /// Hash: participant and node → the version in which the session was opened.
    opened: String,
    /// Set: sessions that a whole directory brought.
    given: String,
    /// Counter of changes.
    version: String,
}

#[derive(Clone, Debug)]
struct Known {
    directory: Arc<Directory>,
    version: String,
    /// When a session may have run out.
    until: Option<Instant>,
}

impl RedisDirectory {
    /// The directory of the connection's namespace.
    pub fn new(connection: Connection) -> Self {
        let namespace = connection.config().namespace.clone();
        let tag = Tag::new(&namespace, "directory");
        let keys = Keys {
            groups: tag.key("groups"),
            roles: tag.key("roles"),
            services: tag.key("services"),
            sessions: tag.key("sessions"),
            opened: tag.key("opened"),
            given: tag.key("given"),
            version: tag.key("version"),
        };
        let shared = Shared {
            connection,
            tag,
            keys,
            channel: format!("{namespace}:directory"),
            known: Mutex::default(),
            skipped: Mutex::default(),
            look: Notify::new(),
        };
        let refresh = Duration::from_secs(5);
        Self { shared: Arc::new(shared), refresh, following: Mutex::default() }
    }

    /// Sets how often it looks for changes of which it was not told: every 5 s.
    #[must_use]
    pub fn refresh(mut self, refresh: Duration) -> Self {
        self.refresh = refresh.max(Duration::from_millis(1));
        self
    }

    /// Sets the members of a group, in order.
    ///
    /// # Errors
    /// The server cannot be reached; it may have been done.
    pub async fn put_group<P: Into<ParticipantId>>(
        &self,
        name: &str,
        members: impl IntoIterator<Item = P>,
    ) -> Result<(), Error> {
        self.shared.put(&self.shared.keys.groups, name, Some(list(members)?)).await
    }

    /// Removes a group; one that is not there is no error.
    ///
    /// # Errors
    /// The server cannot be reached; it may have been done.
    pub async fn remove_group(&self, name: &str) -> Result<(), Error> {
        self.shared.put(&self.shared.keys.groups, name, None).await
    }

    /// Sets the holders of a role, in order.
    ///
    /// # Errors
    /// The server cannot be reached; it may have been done.
    pub async fn put_role<P: Into<ParticipantId>>(
        &self,
        name: &str,
        holders: impl IntoIterator<Item = P>,
    ) -> Result<(), Error> {
        self.shared.put(&self.shared.keys.roles, name, Some(list(holders)?)).await
    }

    /// Removes a role; one that is not there is no error.
    ///
    /// # Errors
    /// The server cannot be reached; it may have been done.
    pub async fn remove_role(&self, name: &str) -> Result<(), Error> {
        self.shared.put(&self.shared.keys.roles, name, None).await
    }

    /// Adds a service: an agent's node type or node id.
    ///
    /// # Errors
    /// The server cannot be reached; it may have been done.
    pub async fn add_service(&self, address: &ParticipantId) -> Result<(), Error> {
        let value = Some(String::new());
        self.shared.put(&self.shared.keys.services, address.as_str(), value).await
    }

    /// Removes a service; one that is not there is no error.
    ///
    /// # Errors
    /// The server cannot be reached; it may have been done.
    pub async fn remove_service(&self, address: &ParticipantId) -> Result<(), Error> {
        self.shared.put(&self.shared.keys.services, address.as_str(), None).await
    }

    /// Sets all groups, roles and services to those of a directory, and opens its sessions, without
    /// an end. Sessions that an earlier call has opened and this directory does not have are closed;
    /// those that were opened otherwise stay.
    ///
    /// # Errors
    /// The server cannot be reached; it may have been done.
    pub async fn replace(&self, directory: &Directory) -> Result<(), Error> {
        let texts = Texts::of(directory)?;
        let keys = &self.shared.keys;
        let names = [
            &*keys.groups,
            &keys.roles,
            &keys.services,
            &keys.version,
            &keys.sessions,
            &keys.opened,
            &keys.given,
        ];
        let mut request = Request::script(&self.shared.tag, &REPLACE, &names).arg((
            &self.shared.channel,
            texts.groups.len(),
            texts.roles.len(),
            texts.services.len(),
        ));
        for (name, members) in texts.groups.iter().chain(&texts.roles) {
            request.push((name, members));
        }
        texts.services.iter().for_each(|service| request.push((service, "")));
        texts.sessions.iter().for_each(|session| request.push(session));
        self.shared.connection.ask::<Value>(request).await.map(|_| ())
    }

    /// Opens a session of a participant on a node, or keeps it open: it ends after so long, unless
    /// it is opened again before. Without a length it is open until it is closed. There is one
    /// session of a participant on a node; a node counts by itself what it has of that.
    ///
    /// # Errors
    /// The server cannot be reached; it may have been done.
    pub async fn open_session(
        &self,
        participant: impl Into<ParticipantId>,
        node: impl Into<Topic>,
        length: Option<Duration>,
    ) -> Result<(), Error> {
        let session = snapshot::session(&participant.into(), &node.into())?;
        let length = length.map_or(0, |length| millis(length).max(1));
        self.shared.session(length, &[session]).await
    }

    /// Closes a session; one that is not open is no error.
    ///
    /// # Errors
    /// The server cannot be reached; it may have been done.
    pub async fn close_session(
        &self,
        participant: impl Into<ParticipantId>,
        node: impl Into<Topic>,
    ) -> Result<(), Error> {
        let session = snapshot::session(&participant.into(), &node.into())?;
        self.shared.session(-1, &[session]).await
    }

    /// Keeps the memory up to date from now on, if it does not yet.
    fn follow(&self) {
        let mut following = self.following.lock();
        if following.is_some() {
            return;
        }
        let told = self.shared.clone();
        let channels = vec![self.shared.channel.clone()];
        // A change that came before it listened is seen too: it is told when it is connected.
        let listener = Listener::start(self.shared.connection.clone(), channels, move |_| {
            told.look.notify_one();
        });
        let task = self.shared.clone().keep_up(self.refresh);
        *following = Some(Listening::new(listener, task));
    }
}

#[async_trait]
impl AddressResolver for RedisDirectory {
    async fn directory(&self) -> Result<Arc<Directory>, PortError> {
        self.follow();
        if let Some(known) = &*self.shared.known.lock() {
            return Ok(known.directory.clone());
        }
        self.shared.read().await.map_err(|error| error.of("read the directory"))
    }
}

impl Shared {
    async fn put(&self, key: &str, name: &str, value: Option<String>) -> Result<(), Error> {
        let request = Request::script(&self.tag, &PUT, &[key, &self.keys.version])
            .arg((&self.channel, name))
            .arg(value);
        self.connection.ask::<Value>(request).await.map(|_| ())
    }

    async fn session(&self, length: i64, sessions: &[String]) -> Result<(), Error> {
        let Keys { sessions: open, opened, version, given, .. } = &self.keys;
        let keys = [&**open, opened, version, given];
        let request =
            Request::script(&self.tag, &SESSION, &keys).arg((&self.channel, length)).arg(sessions);
        self.connection.ask::<Value>(request).await.map(|_| ())
    }

    /// Reads whenever there may be something new.
    async fn keep_up(self: Arc<Self>, refresh: Duration) {
        loop {
            let next = Instant::now() + refresh;
            let until = self.known.lock().as_ref().and_then(|known| known.until);
            let until = until.map_or(next, |until| until.min(next));
            tokio::select! {
                () = self.look.notified() => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "cannot look for changes of the directory");
                tokio::time::sleep(FAILED).await;
            }
        }
    }

    /// Reads, if there is something new.
    async fn look(&self) -> Result<(), Error> {
        let known = self.known.lock().clone();
        if let Some(known) = known.filter(|it| it.until.is_none_or(|until| until > Instant::now()))
        {
            let mut command = redis::cmd("GET");
            command.arg(&self.keys.version);
            let version: Option<String> =
                self.connection.ask(Request::read(&self.tag, command)).await?;
            if version.as_deref().unwrap_or("0") == known.version {
                return Ok(());
            }
        }
        self.read().await.map(|_| ())
    }

    /// Says what is skipped, once.
    fn warn_of(&self, skipped: BTreeSet<String>) {
        let mut known = self.skipped.lock();
        for what in skipped.difference(&known) {
            tracing::warn!(
                namespace = self.connection.config().namespace,
                "the directory goes without {what}"
            );
        }
        *known = skipped;
    }

    async fn read(&self) -> Result<Arc<Directory>, Error> {
        let Keys { groups, roles, services, sessions, opened, version, .. } = &self.keys;
        let keys = [&**groups, roles, services, sessions, opened, version];
        let asked = Instant::now();
        let request = Request::asking_script(&self.tag, &READ, &keys);
        let snapshot = Snapshot::parse(self.connection.ask(request).await?)?;
        self.warn_of(snapshot.skipped);
        // Ends are counted up to the whole millisecond, here and there.
        let until = snapshot.first_end.map(|end| asked + end + Duration::from_millis(1));
        let mut known = self.known.lock();
        let directory = match &*known {
            // The same value is the same allocation: nobody need compare.
            Some(known) if *known.directory == snapshot.directory => known.directory.clone(),
            _ => Arc::new(snapshot.directory),
        };
        *known = Some(Known { directory: directory.clone(), version: snapshot.version, until });
        Ok(directory)
    }
}

fn list<P: Into<ParticipantId>>(ids: impl IntoIterator<Item = P>) -> Result<String, Error> {
    let ids: Vec<ParticipantId> = ids.into_iter().map(Into::into).collect();
    snapshot::json(&ids)
}

fn millis(length: Duration) -> i64 {
    // Scores are floating-point numbers; they hold no larger times to the millisecond.
    const LONGEST: i64 = 1 << 50;
    i64::try_from(length.as_millis()).unwrap_or(LONGEST).min(LONGEST)
}
