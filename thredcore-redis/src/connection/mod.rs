//! The way to the servers: one server, the master that sentinels name, or a cluster.
//!
//! Whoever has work for several partitions sends it in one call; it is sorted by server, and each
//! server gets its part in one go. What a server has not done because a slot has moved is sent to
//! the right one; nothing else is sent twice in silence. Whether a command whose answer was lost
//! was done is for the caller to find out: [`Error::Unanswered`] is
//! [`Unknown`](thredcore::port::PortErrorKind::Unknown) to the ports.

use std::sync::{Arc, OnceLock};

use futures::future::join_all;
use redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSub},
};
use thredcore::format::{Attendance, FORMATS, StoreFormat};

mod cluster;
mod map;
mod node;
mod remove;
mod request;
mod sentinel;
mod target;

pub use request::{Request, Script};

use self::{
    cluster::Cluster,
    node::{Node, Origin},
    sentinel::Sentinels,
    target::Target,
};
use crate::{
    check::{self, Watchful},
    config::{RedisConfig, Wait},
    error::Error,
    format,
    keys::Tag,
};

/// Connections to Redis, for all who need them; cheap to clone. They are made again by themselves
/// when they break.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    servers: Servers,
    config: RedisConfig,
    watchful: Arc<Watchful>,
    /// The version of what is stored, once it is known.
    format: OnceLock<u32>,
    attendance: Attendance,
    /// What this process is noted as.
    process: String,
}

/// A connection that does not keep itself open.
pub(crate) struct Weak(std::sync::Weak<Inner>);

impl Weak {
    pub(crate) fn upgrade(&self) -> Option<Connection> {
        self.0.upgrade().map(Connection)
    }
}

#[derive(Debug)]
enum Servers {
    One(Arc<Node>),
    Cluster(Box<Cluster>),
}

/// How often a command follows a slot that moves, before the caller has to try again.
const REDIRECTS: usize = 5;

/// Where a request goes next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hop {
    /// To whoever has its slot.
    Home,
    /// To where the slot has gone.
    Moved(cluster::Address),
    /// To where the slot is going.
    Ask(cluster::Address),
}

/// A request on its way.
struct Open {
    place: usize,
    hop: Hop,
    with_text: bool,
}

/// The node that is listened to on a channel.
#[derive(Debug)]
pub(crate) struct Ear {
    slot: u16,
    node: Arc<Node>,
}

impl Connection {
    /// Connects, and looks whether the servers are fit: Redis 7.0 or newer and of the kind that the
    /// URL says, with the eviction policy `noeviction`; for a [durable](RedisConfig::durable)
    /// profile with an append-only file that is synced. All masters of a cluster are asked. It
    /// looks again with each connection that it makes later: a server may come back with another
    /// configuration; nothing is sent to one that is not fit.
    ///
    /// What the namespace holds must be of a [version](thredcore::format) that this crate reads. The
    /// process notes every 10 s that it is there and which versions it reads, so that nobody
    /// [upgrades](Self::upgrade) the namespace under it.
    ///
    /// # Errors
    /// What is wrong, and what mends it.
    pub async fn open(config: RedisConfig) -> Result<Self, Error> {
        let connection = Self::unchecked(config)?;
        check::servers(&connection).await?;
        connection.0.watchful.begin();
        let format = format::agree(&connection).await?;
        // Nobody else has it yet.
        let _ = connection.0.format.set(format);
        if connection.config().create {
            format::keep_attending(Weak(Arc::downgrade(&connection.0)));
        }
        Ok(connection)
    }

    /// Without a look at the servers; connects when it is used.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn unchecked(config: RedisConfig) -> Result<Self, Error> {
        if config.namespace.is_empty() || config.namespace.contains(['{', '}']) {
            let namespace = &config.namespace;
            return Err(Error::Config(format!(
                "the namespace `{namespace}` is empty or has braces; give it another name"
            )));
        }
        let watchful = Arc::<Watchful>::default();
        let servers = match Target::new(&config)? {
            Target::Server(info) => Servers::One(Arc::new(Node::fixed(&config, &watchful, info)?)),
            Target::Sentinel { sentinels, name, master } => {
                let sentinels = Sentinels::new(&config, sentinels, name, master)?;
                let origin = Origin::Sentinels(Box::new(sentinels));
                Servers::One(Arc::new(Node::new(&config, &watchful, origin)))
            }
            Target::Cluster(seeds) => {
                Servers::Cluster(Box::new(Cluster::new(&config, &watchful, seeds)))
            }
        };
        let (format, attendance) = (OnceLock::new(), Attendance::default());
        let process = crate::queue::unique_name();
        let inner = Inner { servers, config, watchful, format, attendance, process };
        Ok(Self(Arc::new(inner)))
    }

    /// The [version](thredcore::format) of the stored forms that the namespace has, which is the one
    /// to write; of a connection that has not looked, the newest.
    pub fn format(&self) -> u32 {
        self.0.format.get().copied().unwrap_or(FORMATS.newest())
    }

    /// The version of the namespace by now, and the processes that are at work on it: those that were
    /// heard of within a minute.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn store_format(&self) -> Result<StoreFormat, Error> {
        format::stand(self, false).await
    }

    /// Raises the version of the namespace to the newest, unless a process is at work that does not
    /// read that. Processes that have it open go on writing the version before until they are
    /// restarted, which does no harm: both are read.
    ///
    /// # Errors
    /// The server cannot be reached; it may have been done.
    pub async fn upgrade(&self) -> Result<StoreFormat, Error> {
        format::stand(self, true).await
    }

    /// Whether the namespace can still be worked on: it may have been upgraded while this process was
    /// paused.
    ///
    /// # Errors
    /// It has a version that this program does not read.
    pub fn check_format(&self) -> Result<(), Error> {
        let namespace = || self.config().namespace.clone();
        let outdated = |problem| Error::Outdated { namespace: namespace(), problem };
        self.0.attendance.check().map_err(outdated)
    }

    pub(crate) fn attendance(&self) -> &Attendance {
        &self.0.attendance
    }

    pub(crate) fn process(&self) -> &str {
        &self.0.process
    }

    /// What it was made from.
    pub fn config(&self) -> &RedisConfig {
        &self.0.config
    }

    /// Whether it is a cluster's.
    pub fn is_cluster(&self) -> bool {
        matches!(self.0.servers, Servers::Cluster(_))
    }

    /// Sends requests; the answers stand in their order. Requests of one tag are done in the order
    /// in which they were sent; each succeeds or fails alone.
    pub async fn send(&self, requests: &[Request]) -> Vec<Result<Value, Error>> {
        if let Err(error) = self.check_format() {
            return vec![Err(error); requests.len()];
        }
        let mut answers: Vec<Option<Result<Value, Error>>> = vec![None; requests.len()];
        let mut open: Vec<Open> = (0..requests.len())
            .map(|place| Open { place, hop: Hop::Home, with_text: false })
            .collect();
        for round in 0..=REDIRECTS {
            let groups = self.group(requests, open, &mut answers).await;
            let rounds = groups.into_iter().map(|group| self.send_group(requests, group));
            open = vec![];
            let mut moved = false;
            for (one, answer) in join_all(rounds).await.into_iter().flatten() {
                let hop = match &answer {
                    Err(error) if round < REDIRECTS => {
                        self.next_hop(&requests[one.place], &one, error)
                    }
                    _ => None,
                };
                match hop {
                    Some(next) => {
                        moved |= matches!(next.hop, Hop::Moved(_));
                        open.push(next);
                    }
                    None => answers[one.place] = Some(answer.map_err(|failure| failure.error)),
                }
            }
            if moved {
                self.look_again().await;
            }
            if open.is_empty() {
                break;
            }
            // A hop may have brought them out of order.
            open.sort_unstable_by_key(|one| one.place);
        }
        if answers.iter().flatten().any(|answer| answer.as_ref().is_err_and(elsewhere)) {
            self.look_again().await;
        }
        let lost = || Err(Error::Malformed("a request has no answer".into()));
        answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect()
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// The server's, or those of the way to it.
    pub async fn ask<T: FromRedisValue>(&self, request: Request) -> Result<T, Error> {
        let answer = self.send(std::slice::from_ref(&request)).await.pop();
        let value = answer.unwrap_or(Ok(Value::Nil))?;
        T::from_redis_value(value).map_err(|error| Error::Malformed(error.to_string()))
    }

    /// A connection of one's own to the server that has a tag's keys, for commands that block.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn dedicated(&self, tag: &Tag) -> Result<Dedicated, Error> {
        let (address, connection) = self.home(tag.slot()).await?.dial().await?;
        Ok(Dedicated { connection, address, of: self.clone() })
    }

    /// Listens to a channel. On a cluster any node hears of all; when the stream of messages ends,
    /// the connection broke and some may have been missed.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn listen(&self, channel: &str) -> Result<PubSub, Error> {
        self.listen_at(channel).await.map(|(listening, _)| listening)
    }

    /// The same, and a way to ask whether the node that is listened to still is the one to listen to.
    pub(crate) async fn listen_at(&self, channel: &str) -> Result<(PubSub, Ear), Error> {
        let slot = Tag::new("", channel).slot();
        let node = self.home(slot).await?;
        let mut listening = node.listen().await?;
        let subscribed = listening.subscribe(channel).await;
        subscribed.map_err(|error| Error::unanswered("the server listened to", &error))?;
        Ok((listening, Ear { slot, node }))
    }

    /// Whether a node is still the one to listen to. One that has been wiped, or left the cluster,
    /// answers, but hears no more of what is said there.
    pub(crate) async fn still_hears(&self, ear: &Ear) -> bool {
        self.home(ear.slot).await.is_ok_and(|node| Arc::ptr_eq(&node, &ear.node))
    }

    /// Asks each master the same.
    pub(crate) async fn ask_masters(
        &self,
        commands: &Pipeline,
    ) -> Result<Vec<(String, Result<Vec<Value>, Error>)>, Error> {
        let nodes = self.masters().await?;
        let asked = nodes.into_iter().map(|(name, node)| async move {
            let answers = node.send(0, false, commands).await;
            (name, answers)
        });
        Ok(join_all(asked).await)
    }

    async fn masters(&self) -> Result<Vec<(String, Arc<Node>)>, Error> {
        match &self.0.servers {
            Servers::One(node) => Ok(vec![(self.name(), node.clone())]),
            Servers::Cluster(cluster) => {
                let masters = cluster.masters().await?.into_iter();
                let node = |address: cluster::Address| {
                    let name = format!("{}:{}", address.0, address.1);
                    Ok::<_, Error>((name, cluster.at(&address)?))
                };
                masters.map(node).collect()
            }
        }
    }

    /// Where the URLs lead, without user and password.
    fn name(&self) -> String {
        let url = self.0.config.urls.first().map_or("", String::as_str);
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let rest = rest.split('?').next().unwrap_or_default();
        rest.rsplit_once('@').map_or(rest, |(_, host)| host).to_owned()
    }

    async fn home(&self, slot: u16) -> Result<Arc<Node>, Error> {
        match &self.0.servers {
            Servers::One(node) => Ok(node.clone()),
            Servers::Cluster(cluster) => cluster.node(slot).await,
        }
    }

    /// Sorts requests by server. Those that have none are answered.
    async fn group(
        &self,
        requests: &[Request],
        open: Vec<Open>,
        answers: &mut [Option<Result<Value, Error>>],
    ) -> Vec<Group> {
        let mut groups: Vec<Group> = vec![];
        for one in open {
            let request = &requests[one.place];
            let node = match (&one.hop, &self.0.servers) {
                (Hop::Moved(address) | Hop::Ask(address), Servers::Cluster(cluster)) => {
                    cluster.at(address)
                }
                _ => self.home(request.slot).await,
            };
            let node = match node {
                Ok(node) => node,
                Err(error) => {
                    answers[one.place] = Some(Err(error));
                    continue;
                }
            };
            let waits = request.writes && self.0.config.wait.is_some();
            // One server's connections are chosen by slot.
            let lane = request.slot % u16::try_from(self.0.config.connections).unwrap_or(1).max(1);
            let same = |group: &&mut Group| {
                Arc::ptr_eq(&group.node, &node) && group.waits == waits && group.lane == lane
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.open.push(one),
                None => groups.push(Group { node, waits, lane, open: vec![one] }),
            }
        }
        groups
    }

    async fn send_group(
        &self,
        requests: &[Request],
        group: Group,
    ) -> Vec<(Open, Result<Value, Failure>)> {
        let mut commands = Pipeline::with_capacity(group.open.len() + 1);
        for one in &group.open {
            if matches!(one.hop, Hop::Ask(_)) {
                commands.cmd("ASKING");
            }
            let request = &requests[one.place];
            let text = one.with_text.then(|| request.with_text()).flatten();
            commands.add_command(text.unwrap_or_else(|| request.command.clone()));
        }
        let wait = self.0.config.wait.filter(|_| group.waits);
        if let Some(wait) = wait {
            let limit = u64::try_from(wait.limit.as_millis()).unwrap_or(u64::MAX).max(1);
            commands.cmd("WAIT").arg(wait.replicas).arg(limit);
        }
        let answer = group.node.send(group.lane, group.waits, &commands).await;
        let mut values = match answer {
            Ok(values) => values.into_iter(),
            Err(error) => {
                let fail = |one| (one, Err(Failure { error: error.clone(), redis: None }));
                return group.open.into_iter().map(fail).collect();
            }
        };
        let mut answers = Vec::with_capacity(group.open.len());
        for one in group.open {
            if matches!(one.hop, Hop::Ask(_)) {
                values.next();
            }
            let value = values.next().unwrap_or(Value::Nil).extract_error();
            let value = value
                .map_err(|redis| Failure { error: Error::from_server(&redis), redis: Some(redis) });
            answers.push((one, value));
        }
        if let Some(wait) = wait
            && let Some(error) = unreplicated(wait, values.next())
        {
            for (_, answer) in &mut answers {
                if answer.is_ok() {
                    *answer = Err(Failure { error: error.clone(), redis: None });
                }
            }
        }
        answers
    }

    /// Where a request that was not done goes next.
    fn next_hop(&self, request: &Request, one: &Open, failure: &Failure) -> Option<Open> {
        let redis = failure.redis.as_ref()?;
        let ErrorKind::Server(kind) = redis.kind() else { return None };
        let address = || redis.redirect_node().map(|(host, port)| (host.to_owned(), port));
        let hop = match kind {
            ServerErrorKind::Moved => Hop::Moved(address()?),
            ServerErrorKind::Ask => Hop::Ask(address()?),
            ServerErrorKind::NoScript if request.script.is_some() && !one.with_text => {
                return Some(Open { place: one.place, hop: one.hop.clone(), with_text: true });
            }
            _ => return None,
        };
        self.is_cluster().then_some(Open { place: one.place, hop, with_text: one.with_text })
    }

    /// Looks again who is the master of what.
    async fn look_again(&self) {
        match &self.0.servers {
            Servers::One(node) => node.leave(),
            Servers::Cluster(cluster) => {
                if let Err(error) = cluster.refresh().await {
                    tracing::debug!(%error, "could not ask for the slots of the cluster");
                }
            }
        }
    }
}

/// Whether an error tells that the server is gone, or not the master any more.
fn elsewhere(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::Unanswered { .. } => true,
        Error::NotNow(text) => ["READONLY", "CLUSTERDOWN", "MASTERDOWN", "MOVED"]
            .iter()
            .any(|code| text.starts_with(code)),
        _ => false,
    }
}

fn unreplicated(wait: Wait, answer: Option<Value>) -> Option<Error> {
    match answer {
        Some(Value::Int(confirmed)) => {
            let confirmed = usize::try_from(confirmed).unwrap_or(0);
            (confirmed < wait.replicas)
                .then_some(Error::Unreplicated { confirmed, wanted: wait.replicas })
        }
        _ => Some(Error::Unreplicated { confirmed: 0, wanted: wait.replicas }),
    }
}

/// Requests for one connection of one server.
struct Group {
    node: Arc<Node>,
    waits: bool,
    lane: u16,
    open: Vec<Open>,
}

/// Why a request was not answered with a value.
struct Failure {
    error: Error,
    /// What the server said.
    redis: Option<RedisError>,
}

/// A connection of one's own, for commands that block. Dropping it ends what it waits for.
#[derive(Debug)]
pub struct Dedicated {
    connection: MultiplexedConnection,
    address: String,
    of: Connection,
}

impl Dedicated {
    /// Runs a command, however long it takes. After an error, ask for another connection: the tag
    /// may have another server by then.
    ///
    /// # Errors
    /// The server's, or those of the way to it.
    pub async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Error> {
        let value = match self.connection.req_packed_command(command).await {
            Ok(value) => value.extract_error().map_err(|error| Error::from_server(&error)),
            Err(error) => Err(Error::unanswered(&self.address, &error)),
        };
        if value.as_ref().is_err_and(elsewhere) {
            self.of.look_again().await;
        }
        T::from_redis_value(value?).map_err(|error| Error::Malformed(error.to_string()))
    }
}
