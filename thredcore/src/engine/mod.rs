//! The engine: carries events from the queue to the outbox and back.
//!
//! This module is the async shell around [`react`](crate::thred::react). It decides nothing about
//! threds; it loads, commits, publishes and acknowledges, and tries again.

mod accept;
mod batch;
mod commit;
mod config;
mod control;
mod expiry;
mod matching;
mod notice;
mod offers;
mod outgoing;
mod patterns;
mod places;
mod publish;
mod react;
mod receipts;
mod receive;
mod retry;
mod run;
mod tombstones;
mod topics;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::Instant,
};

pub use accept::{AcceptError, Principal};
pub use config::{EngineBuilder, EngineConfig, Ports};
pub use expiry::FiredTimers;
pub use run::Running;

use crate::{
    pattern::{Library, LoadError},
    port::{Delivery, Inbound, PortError},
};
use batch::Batch;

/// An engine that cannot be built or reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A pattern cannot run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A backend failed.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// The engine is stopping, or a backend has been closed: what is under way is left to whoever
/// comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine has been stopped")]
pub struct Stopped;

/// Runs patterns on events. Cheap to clone; all clones are one engine.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use serde_json::json;
/// use thredcore::Engine;
/// use thredlib::{ConditionBuilder, Event, PatternBuilder, ReactionBuilder};
///
/// let greet = ConditionBuilder::filter("$event.type = 'org.example.hello'")
///     .transform(json!({ "title": "$xpr('Hello, ' & $event.source.id)" }))
///     .publish(json!("$xpr($event.source.id)"));
/// let pattern = PatternBuilder::new("greeting").reaction(ReactionBuilder::new("greet").condition(greet));
///
/// let engine = Engine::builder().pattern(pattern.build()).build().await?;
/// let running = engine.start();
/// engine.accept(vec![Event::builder("org.example.hello", "ann").build()]).await?;
/// let delivery = engine.message_q().receive(&["org.wt.session".into()], 1).await?.remove(0);
/// assert_eq!(delivery.payload.message.event.title(), Some("Hello, ann"));
/// running.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Engine(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Tells this engine apart from others in leases.
    name: String,
    ports: Ports,
    config: EngineConfig,
    library: RwLock<Arc<Library>>,
    /// The storage's version of the patterns in use; locked while they are read again.
    library_version: tokio::sync::Mutex<Option<u64>>,
    /// When this engine last looked who waits in older revisions of patterns.
    listening_known: Mutex<Option<Instant>>,
    watchers: RwLock<patterns::Watchers>,
    near_timers: expiry::NearTimers,
    /// Whether it is this engine's turn to fire timers and to relay.
    sweeping: AtomicBool,
    /// Whether this engine has changed a thred since the last look at outboxes.
    committed: AtomicBool,
    ends: tombstones::Ends,
    outgoing: outgoing::Outgoing,
    full: topics::FullTopics,
    /// Deliveries that wait for something else to happen.
    deferred: Arc<Semaphore>,
    /// Control events wait here for their turn, when the engine runs.
    control_line: RwLock<Option<mpsc::Sender<Delivery<Inbound>>>>,
    /// One event at a time may be tried that the engine may have died over.
    trial: Semaphore,
    stop: watch::Sender<bool>,
}

impl Engine {
    /// Starts building an engine.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    pub(crate) fn new(ports: Ports, config: EngineConfig) -> Self {
        Self(Arc::new(Shared {
            name: thredlib::new_event_id().to_string(),
            ports,
            config,
            library: RwLock::default(),
            library_version: tokio::sync::Mutex::default(),
            listening_known: Mutex::default(),
            watchers: RwLock::default(),
            near_timers: expiry::NearTimers::default(),
            sweeping: AtomicBool::new(false),
            committed: AtomicBool::new(true),
            ends: tombstones::Ends::default(),
            outgoing: outgoing::Outgoing::default(),
            full: topics::FullTopics::default(),
            deferred: Arc::new(Semaphore::new(offers::MAX_DEFERRED)),
            control_line: RwLock::default(),
            trial: Semaphore::new(1),
            stop: watch::Sender::new(false),
        }))
    }

    /// The queue that messages go out by.
    pub fn message_q(&self) -> &Arc<dyn crate::port::MessageQ> {
        &self.0.ports.message_q
    }

    /// The queue that events come in by.
    pub fn event_q(&self) -> &Arc<dyn crate::port::EventQ> {
        &self.0.ports.event_q
    }

    /// The storage.
    pub fn storage(&self) -> &Arc<dyn crate::port::Storage> {
        &self.0.ports.storage
    }

    /// The backends.
    pub fn ports(&self) -> &Ports {
        &self.0.ports
    }

    /// Bounds and pauses.
    pub fn config(&self) -> &EngineConfig {
        &self.0.config
    }

    /// The time by the engine's clock, milliseconds since the Unix epoch.
    pub fn now(&self) -> i64 {
        self.0.ports.clock.now()
    }

    /// The journey of what was received: match, react, commit, publish, acknowledge.
    ///
    /// A batch goes in rounds, so that a thred meets its events in order while different threds
    /// go together. The engine's own loops call this; a test bed may call it by hand.
    ///
    /// # Errors
    /// The engine is stopping; what was not acknowledged will be delivered again.
    pub async fn process(&self, deliveries: Vec<Delivery<Inbound>>) -> Result<(), Stopped> {
        self.process_in_line(self.divert_control(deliveries).await).await
    }

    async fn process_in_line(&self, deliveries: Vec<Delivery<Inbound>>) -> Result<(), Stopped> {
        let mut batch = Batch::open(self, deliveries).await?;
        while self.match_more(&mut batch).await? {
            while let Some(round) = batch.next_round() {
                let round = self.load_threds(&mut batch, round).await?;
                let reacted = self.react_all(&mut batch, round);
                let commits = self.reserve_places(&mut batch, reacted).await?;
                let committed = self.commit_all(&mut batch, commits).await?;
                self.publish_all(&mut batch, committed).await?;
                if batch.is_long() {
                    // What computes for long lets timers, signals and others have their turn.
                    tokio::task::yield_now().await;
                }
            }
        }
        self.acknowledge(batch).await
    }
}

/// States that a batch has seen, by thred.
type Held = HashMap<thredlib::ThredId, crate::port::Loaded, crate::hash::FastHash>;
