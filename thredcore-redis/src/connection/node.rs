//! One server: connections that come back by themselves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use redis::{
    AsyncConnectionConfig, Client, Pipeline, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSub},
};
use tokio::{sync::Mutex, time::Instant};

use super::{sentinel::Sentinels, target};
use crate::{
    check::{self, Watchful},
    config::RedisConfig,
    error::Error,
};

/// The first pause after a failed try to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Requests that wait to be written before senders have to.
const WRITE_AHEAD: usize = 1024;

/// A server, or whoever is the master of a name.
#[derive(Debug)]
pub(super) struct Node {
    origin: Origin,
    links: Box<[Link]>,
    /// Connections whose writes wait for replicas: nothing else may wait behind them.
    waiting: Box<[Link]>,
    limits: Limits,
    watchful: Arc<Watchful>,
    durable: bool,
}

/// How the server is found.
#[derive(Debug)]
pub(super) enum Origin {
    Fixed(Box<Client>),
    Sentinels(Box<Sentinels>),
}

#[derive(Clone, Debug)]
struct Limits {
    response: Duration,
    waiting_response: Duration,
    connect: Duration,
    longest_pause: Duration,
}

impl Node {
    pub(super) fn new(config: &RedisConfig, watchful: &Arc<Watchful>, origin: Origin) -> Self {
        let links = || (0..config.connections.max(1)).map(|_| Link::default()).collect();
        let wait = config.wait.map_or(Duration::ZERO, |wait| wait.limit);
        Self {
            origin,
            links: links(),
            waiting: if config.wait.is_some() { links() } else { Box::default() },
            limits: Limits {
                response: config.response_limit,
                waiting_response: config.response_limit.saturating_add(wait),
                connect: config.connect_limit,
                longest_pause: config.reconnect_pause,
            },
            watchful: watchful.clone(),
            durable: config.durable,
        }
    }

    pub(super) fn fixed(
        config: &RedisConfig,
        watchful: &Arc<Watchful>,
        info: redis::ConnectionInfo,
    ) -> Result<Self, Error> {
        let origin = Origin::Fixed(Box::new(target::client(config, info)?));
        Ok(Self::new(config, watchful, origin))
    }

    /// Sends commands in one go; one answer for each, errors of the server included. Commands
    /// of one slot use the same connection, so they are done in the order of the calls.
    pub(super) async fn send(
        &self,
        slot: u16,
        waits: bool,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, Error> {
        let (links, limit) = if waits && !self.waiting.is_empty() {
            (&self.waiting, self.limits.waiting_response)
        } else {
            (&self.links, self.limits.response)
        };
        let link = &links[usize::from(slot) % links.len()];
        let mut live = link.connection(self, limit).await?;
        let answer = live.connection.req_packed_commands(commands, 0, commands.len()).await;
        answer.map_err(|error| {
            link.lost(live.generation);
            Error::unanswered(&live.address, &error)
        })
    }

    /// Gives up all connections: the server turned out not to be the master any more.
    pub(super) fn leave(&self) {
        for link in self.links.iter().chain(&self.waiting) {
            *link.live.write() = None;
        }
    }

    /// A connection of its own, for commands that block; it has no time limit.
    pub(super) async fn dial(&self) -> Result<(String, MultiplexedConnection), Error> {
        self.connect(None).await
    }

    /// A connection that listens to channels.
    pub(super) async fn listen(&self) -> Result<PubSub, Error> {
        let (address, client) = self.client().await?;
        let connect = tokio::time::timeout(self.limits.connect, client.get_async_pubsub());
        match connect.await {
            Ok(listening) => listening.map_err(|error| Error::unreachable(&address, &error)),
            Err(_) => Err(Error::Unreachable { address, why: "it does not answer".into() }),
        }
    }

    async fn client(&self) -> Result<(String, Client), Error> {
        let client = match &self.origin {
            Origin::Fixed(client) => Client::clone(client),
            Origin::Sentinels(sentinels) => sentinels.master().await?,
        };
        Ok((client.get_connection_info().addr().to_string(), client))
    }

    async fn connect(
        &self,
        limit: Option<Duration>,
    ) -> Result<(String, MultiplexedConnection), Error> {
        let (address, client) = self.client().await?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.limits.connect))
            .set_response_timeout(limit)
            .set_pipeline_buffer_size(WRITE_AHEAD);
        match client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => Ok((address, connection)),
            Err(error) => Err(Error::unreachable(&address, &error)),
        }
    }

    /// A connection for requests, to a server that is still what it was found to be.
    async fn connect_checked(
        &self,
        limit: Duration,
    ) -> Result<(String, MultiplexedConnection), Error> {
        let (address, mut connection) = self.connect(Some(limit)).await?;
        if self.watchful.is_on() {
            let questions = check::questions();
            let answers = connection.req_packed_commands(&questions, 0, questions.len()).await;
            // Nothing of the caller's was sent.
            let answers = answers.map_err(|error| Error::unreachable(&address, &error))?;
            check::again(&address, self.durable, answers)?;
        }
        Ok((address, connection))
    }
}

/// A place for a connection.
#[derive(Debug, Default)]
struct Link {
    live: RwLock<Option<Live>>,
    dial: Mutex<Dial>,
    generations: AtomicU64,
}

#[derive(Clone, Debug)]
struct Live {
    connection: MultiplexedConnection,
    address: String,
    generation: u64,
}

/// How tries to connect have gone.
#[derive(Debug, Default)]
struct Dial {
    pause: Duration,
    failed: Option<(Instant, Error)>,
}

impl Link {
    fn live(&self) -> Option<Live> {
        self.live.read().clone()
    }

    /// The connection, made anew if it was lost. Between failed tries there is a pause, in which
    /// callers are told at once.
    async fn connection(&self, node: &Node, limit: Duration) -> Result<Live, Error> {
        if let Some(live) = self.live() {
            return Ok(live);
        }
        let mut dial = self.dial.lock().await;
        if let Some(live) = self.live() {
            return Ok(live);
        }
        if let Some((at, error)) = &dial.failed
            && at.elapsed() < dial.pause
        {
            return Err(error.clone());
        }
        match node.connect_checked(limit).await {
            Ok((address, connection)) => {
                let generation = self.generations.fetch_add(1, Ordering::Relaxed);
                let live = Live { connection, address, generation };
                *dial = Dial::default();
                *self.live.write() = Some(live.clone());
                Ok(live)
            }
            Err(error) => {
                let doubled = dial.pause.saturating_mul(2).max(FIRST_PAUSE);
                dial.pause = doubled.min(node.limits.longest_pause);
                dial.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Forgets a connection that broke or was silent.
    fn lost(&self, generation: u64) {
        let mut live = self.live.write();
        if live.as_ref().is_some_and(|live| live.generation == generation) {
            *live = None;
        }
    }
}
