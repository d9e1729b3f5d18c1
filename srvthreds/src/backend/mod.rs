//! What threds and queues are kept in.

mod place;
mod servers;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use thredcore::{
    Engine,
    format::StoreFormat,
    memory::{
        MemoryBackends, MemoryEventQ, MemoryEventQConfig, MemoryMessageQ, MemoryMessageQConfig,
        Tally,
    },
    persistence::Persistence,
    port::{AddressResolver, Delivery, EventQ, MessageQ, PortError, Routed, Storage, ThredQuery},
};
use thredcore_amqp::{AmqpIngress, AmqpQueues, IngressConfig};
use thredcore_redb::RedbBackends;
use thredcore_redis::RedisDirectory;
use thredlib::Topic;

use crate::query::Direct;

pub(crate) use place::{OpenError, Place};
pub(crate) use servers::{Purpose, Queues, Servers, ServersPlace, Threds};

/// A store with its queues, open.
#[derive(Clone)]
pub(crate) struct Backends {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Memory(MemoryBackends),
    Embedded(RedbBackends),
    Shared(Box<Shared>),
}

/// On servers.
#[derive(Clone)]
struct Shared {
    servers: Servers,
    threds: Threds,
    queues: Queues,
    directory: Option<Arc<RedisDirectory>>,
}

/// The format of a part of a store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartFormat {
    /// `directory`, `redis` or `mongodb`.
    pub(crate) part: String,
    #[serde(flatten)]
    pub(crate) at: StoreFormat,
}

impl PartFormat {
    fn new(part: &str, at: StoreFormat) -> Self {
        Self { part: part.to_owned(), at }
    }
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

    /// What is kept.
    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        match &self.kind {
            Kind::Memory(it) => it.storage.clone(),
            Kind::Embedded(it) => it.storage.clone(),
            Kind::Shared(it) => it.threds.storage(),
        }
    }

    /// What comes in.
    pub(crate) fn event_q(&self) -> Arc<dyn EventQ> {
        match &self.kind {
            Kind::Memory(it) => it.event_q.clone(),
            Kind::Embedded(it) => it.event_q.clone(),
            Kind::Shared(it) => it.queues.event_q(),
        }
    }

    /// What goes out.
    pub(crate) fn message_q(&self) -> Arc<dyn MessageQ> {
        match &self.kind {
            Kind::Memory(it) => it.message_q.clone(),
            Kind::Embedded(it) => it.message_q.clone(),
            Kind::Shared(it) => it.queues.message_q(),
        }
    }

    /// Who there is, if the store knows it.
    pub(crate) fn directory(&self) -> Option<Arc<RedisDirectory>> {
        match &self.kind {
            Kind::Shared(it) => it.directory.clone(),
            _ => None,
        }
    }

    /// A directory with the users that the store knows.
    pub(crate) async fn with_users(
        &self,
        base: Arc<dyn AddressResolver>,
    ) -> Result<Arc<dyn AddressResolver>, OpenError> {
        match &self.kind {
            Kind::Shared(it) => it.servers.with_users(base).await,
            _ => Ok(base),
        }
    }

    /// Where the persistence agent keeps its records, if the store has a place for them.
    pub(crate) async fn records(&self) -> Result<Option<Arc<dyn Persistence>>, OpenError> {
        match &self.kind {
            Kind::Shared(it) => it.servers.records().await,
            _ => Ok(None),
        }
    }

    /// Opens a queue that other programs publish events to.
    pub(crate) async fn ingress(&self, config: IngressConfig) -> Result<AmqpIngress, OpenError> {
        let queues = self.amqp().ok_or_else(|| {
            OpenError::because_of(
                "an ingress is a queue of RabbitMQ, which vouches for who publishes; add --amqp URL",
            )
        })?;
        queues.ingress(config).await.map_err(OpenError::of)
    }

    /// The queues on RabbitMQ, if they are there.
    fn amqp(&self) -> Option<&AmqpQueues> {
        match &self.kind {
            Kind::Shared(it) => it.queues.amqp(),
            _ => None,
        }
    }

    /// Answers to what commands ask.
    pub(crate) fn queries(&self) -> Direct {
        let direct = Direct::new(self.storage(), self.event_q(), self.message_q());
        direct.with_formats(self.clone()).with_ingresses(self.amqp().cloned())
    }

    /// The format of each part, and which processes are at work on it; empty in memory.
    pub(crate) async fn formats(&self) -> Result<Vec<PartFormat>, OpenError> {
        match &self.kind {
            Kind::Memory(_) => Ok(vec![]),
            Kind::Embedded(it) => Ok(vec![PartFormat::new("directory", it.format())]),
            Kind::Shared(it) => it.servers.formats(false).await,
        }
    }

    /// Ends with the reason when the store can be worked on no more, since it was upgraded while this
    /// process was away.
    pub(crate) async fn left_behind(&self) -> OpenError {
        const LOOK: Duration = Duration::from_secs(1);
        let Kind::Shared(it) = &self.kind else { return std::future::pending().await };
        loop {
            if let Err(error) = it.servers.check_format() {
                return error;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether what is accepted outlives the process.
    pub(crate) fn is_durable(&self) -> bool {
        !matches!(self.kind, Kind::Memory(_))
    }

    /// Whether other processes work on it at the same time.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Shared(_))
    }

    /// Messages for a process that prints them: of all topics, in the order of publishing, if it is
    /// the only one on the store, else of these topics.
    pub(crate) async fn receive(
        &self,
        topics: &[Topic],
        max: usize,
    ) -> Result<Vec<Delivery<Routed>>, PortError> {
        match &self.kind {
            Kind::Memory(it) => it.message_q.receive_any(max).await,
            Kind::Embedded(it) => it.message_q.receive_any(max).await,
            Kind::Shared(_) if topics.is_empty() => std::future::pending().await,
            Kind::Shared(it) => it.queues.message_q().receive(topics, max).await,
        }
    }

    /// Reads patterns again when another process has changed them, until it is dropped.
    pub(crate) async fn follow_patterns(&self, engine: &Engine) {
        let Kind::Shared(it) = &self.kind else { return };
        // Without Redis the engine's own look, every second, has to do.
        let Some(redis) = it.threds.redis() else { return };
        let mut changes = redis.pattern_changes();
        loop {
            changes.next().await;
            // What fails here is done again by the engine's own look, every second.
            if let Err(error) = engine.reload().await {
                tracing::warn!(%error, "cannot read the patterns");
            }
        }
    }

    /// What has happened since this process opened it, if it counts.
    pub(crate) fn tally(&self) -> Option<Tally> {
        match &self.kind {
            Kind::Memory(it) => Some(it.storage.tally()),
            Kind::Embedded(it) => Some(it.storage.tally()),
            Kind::Shared(_) => None,
        }
    }

    /// Dead letters that were dropped for want of room since this process opened it.
    pub(crate) fn dropped_dead_letters(&self) -> u64 {
        match &self.kind {
            Kind::Memory(it) => {
                it.event_q.dropped_dead_letters() + it.message_q.dropped_dead_letters()
            }
            Kind::Embedded(it) => {
                it.event_q.dropped_dead_letters() + it.message_q.dropped_dead_letters()
            }
            Kind::Shared(_) => 0,
        }
    }

    /// Whether a thred lives.
    pub(crate) async fn any_lives(&self) -> Result<bool, PortError> {
        if let Kind::Memory(it) = &self.kind {
            return Ok(it.storage.tally().live() > 0);
        }
        let one = ThredQuery { limit: 1, ..ThredQuery::default() };
        Ok(!self.storage().threds(&one).await?.threds.is_empty())
    }

    /// Writes what is pending and lets go of files and partitions; the store can be used by others
    /// then.
    pub(crate) async fn close(&self) {
        match &self.kind {
            Kind::Memory(_) => {}
            Kind::Embedded(it) => it.close().await,
            Kind::Shared(it) => {
                it.queues.close().await;
                it.threds.close().await;
                it.servers.close().await;
            }
        }
    }
}
