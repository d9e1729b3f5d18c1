//! A test bed: an engine without loops, driven step by step, in virtual time.

use std::sync::Arc;

use futures::FutureExt;
use thredlib::{Event, EventKey, Message, PatternModel, ThredId};

use super::ManualClock;
use crate::{
    engine::{AcceptError, Engine, EngineConfig, EngineError, FiredTimers, Ports, Stopped},
    memory::{MemoryEventQ, MemoryMessageQ, MemoryStorage},
    port::{
        Clock, DeadLetter, DeadLetterFilter, Directory, FixedDirectory, Inbound, LogRecord,
        PortError, ThredQuery,
    },
    state::{Status, ThredState},
};

/// Drives an engine on memory backends. Nothing sleeps, nothing runs in the background.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), thredcore::testing::BedError> {
/// use serde_json::json;
/// use thredcore::testing::Bed;
/// use thredlib::{ConditionBuilder, Event, PatternBuilder, ReactionBuilder};
///
/// let ask = ConditionBuilder::filter("$event.type = 'request'")
///     .transform(json!({ "title": "Approve?" }))
///     .publish("boss");
/// let remind = ConditionBuilder::filter("$event.type = 'answer'");
/// let pattern = PatternBuilder::new("approval")
///     .reaction(ReactionBuilder::new("ask").condition(ask))
///     .reaction(ReactionBuilder::new("wait").condition(remind).expiry(60_000, "$terminate"))
///     .build();
///
/// let mut bed = Bed::new([pattern]).await?;
/// bed.send(Event::builder("request", "erp").build()).await?;
/// assert_eq!(bed.take_messages()[0].event.title(), Some("Approve?"));
/// assert_eq!(bed.live_threds().await?.len(), 1);
/// bed.advance(60_000).await?;
/// assert_eq!(bed.live_threds().await?.len(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Bed {
    engine: Engine,
    clock: Arc<ManualClock>,
    message_q: Arc<MemoryMessageQ>,
    fired: FiredTimers,
}

/// What a bed can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BedError {
    /// A pattern cannot run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An event was not accepted.
    #[error(transparent)]
    Accept(#[from] AcceptError),
    /// A backend failed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The engine stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What a bed starts from.
#[derive(Debug)]
#[must_use = "call `build` to get the bed"]
pub struct BedBuilder {
    patterns: Vec<PatternModel>,
    directory: Directory,
    start_time: i64,
    config: EngineConfig,
}

impl BedBuilder {
    /// Adds a pattern.
    pub fn pattern(mut self, pattern: PatternModel) -> Self {
        self.patterns.push(pattern);
        self
    }

    /// Who there is.
    pub fn directory(mut self, directory: Directory) -> Self {
        self.directory = directory;
        self
    }

    /// The time at the start, milliseconds since the Unix epoch.
    pub fn start_time(mut self, ms: i64) -> Self {
        self.start_time = ms;
        self
    }

    /// Bounds, and the seed of `$random()`.
    pub fn config(mut self, config: EngineConfig) -> Self {
        self.config = config;
        self
    }

    /// The bed.
    ///
    /// # Errors
    /// When a pattern cannot run.
    pub async fn build(self) -> Result<Bed, BedError> {
        let clock = Arc::new(ManualClock::new(self.start_time));
        let message_q = Arc::new(MemoryMessageQ::default());
        let ports = Ports {
            event_q: Arc::new(MemoryEventQ::default()),
            message_q: message_q.clone(),
            storage: Arc::new(MemoryStorage::default()),
            resolver: Arc::new(FixedDirectory::new(self.directory)),
            clock: clock.clone(),
        };
        let engine = Engine::new(ports, self.config);
        engine.put_patterns(self.patterns).await?;
        Ok(Bed { engine, clock, message_q, fired: FiredTimers::default() })
    }
}

impl Bed {
    /// 2026-01-01T00:00:00Z, the time at the start unless another is given.
    pub const START_TIME: i64 = 1_767_225_600_000;

    /// A bed with patterns and nobody in the directory.
    ///
    /// # Errors
    /// When a pattern cannot run.
    pub async fn new(patterns: impl IntoIterator<Item = PatternModel>) -> Result<Self, BedError> {
        let mut builder = Self::builder();
        builder.patterns.extend(patterns);
        builder.build().await
    }

    /// Starts building a bed.
    pub fn builder() -> BedBuilder {
        BedBuilder {
            patterns: Vec::new(),
            directory: Directory::new(),
            start_time: Self::START_TIME,
            config: EngineConfig::default(),
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The virtual time, milliseconds since the Unix epoch.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    /// Sends an event and waits until everything that follows from it now has happened.
    ///
    /// # Errors
    /// When it is not accepted.
    pub async fn send(&mut self, event: Event) -> Result<(), BedError> {
        self.engine.accept(vec![event]).await?;
        self.settle().await
    }

    /// Processes what waits in the queue until there is nothing left.
    ///
    /// # Errors
    /// When the engine stops.
    pub async fn settle(&mut self) -> Result<(), BedError> {
        let event_q = self.engine.event_q().clone();
        loop {
            let mut quiet = true;
            for partition in 0..event_q.partitions() {
                // An empty partition does not answer at once.
                while let Some(received) = event_q.receive(partition, 64).now_or_never() {
                    self.engine.process(received?).await?;
                    quiet = false;
                }
            }
            if quiet {
                return Ok(());
            }
        }
    }

    /// Lets time pass; timers that fall due fire in order, each at its time.
    ///
    /// # Errors
    /// When the engine stops.
    pub async fn advance(&mut self, ms: i64) -> Result<(), BedError> {
        let until = self.now().saturating_add(ms);
        while let Some(at) = self.next_timer(until).await? {
            self.clock.set(at.max(self.now()));
            self.engine.fire_due(&mut self.fired).await?;
            self.settle().await?;
        }
        self.clock.set(until);
        Ok(())
    }

    async fn next_timer(&self, until: i64) -> Result<Option<i64>, PortError> {
        let storage = self.engine.storage();
        let mut first: Option<i64> = None;
        for partition in 0..storage.partitions() {
            let due = storage.due(partition, until, None, FiredTimers::AT_ONCE).await?;
            let turns = due.timers.iter().map(|timer| self.fired.turn_of(partition, timer));
            first = first.into_iter().chain(turns).min();
        }
        Ok(first.filter(|turn| *turn <= until))
    }

    /// Drops the engine and builds another one on the same backends.
    ///
    /// # Errors
    /// When the stored patterns cannot be read.
    pub async fn restart(&mut self) -> Result<(), BedError> {
        self.engine = Engine::new(self.engine.ports().clone(), self.engine.config().clone());
        self.fired = FiredTimers::default();
        self.engine.reload().await?;
        self.engine.relay(self.now().saturating_add(1)).await?;
        self.settle().await
    }

    /// The messages that went out since the last call, in order; the topics aside.
    pub fn take_messages(&mut self) -> Vec<Message> {
        let taken = self.message_q.take_all().into_iter();
        taken.map(|routed| Arc::unwrap_or_clone(routed.message)).collect()
    }

    /// A thred, ended ones included.
    ///
    /// # Errors
    /// When the storage fails.
    pub async fn thred(&self, id: &ThredId) -> Result<Option<Arc<ThredState>>, BedError> {
        let mut loaded = self.engine.storage().load(std::slice::from_ref(id)).await?;
        Ok(loaded.pop().flatten().map(|loaded| loaded.state))
    }

    /// The threds that have not ended, oldest first.
    ///
    /// # Errors
    /// When the storage fails.
    pub async fn live_threds(&self) -> Result<Vec<Arc<ThredState>>, BedError> {
        self.threds(ThredQuery::default()).await
    }

    /// All threds, ended ones included, oldest first.
    ///
    /// # Errors
    /// When the storage fails.
    pub async fn all_threds(&self) -> Result<Vec<Arc<ThredState>>, BedError> {
        let status = vec![Status::Active, Status::Finished, Status::Terminated];
        self.threds(ThredQuery { status, ..ThredQuery::default() }).await
    }

    async fn threds(&self, mut query: ThredQuery) -> Result<Vec<Arc<ThredState>>, BedError> {
        let mut found = Vec::new();
        loop {
            let page = self.engine.storage().threds(&query).await?;
            found.extend(page.threds);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(found),
            }
        }
    }

    /// The threds that an event started, in the order of their patterns.
    ///
    /// # Errors
    /// When the storage fails.
    pub async fn started_by(&self, event: &Event) -> Result<Vec<ThredId>, BedError> {
        let patterns = self.engine.library();
        let key = EventKey::of(event.source.id.as_str(), event.id.as_str());
        let ids: Vec<_> = patterns
            .entries()
            .iter()
            .map(|pattern| crate::thred::started_id(&key, &pattern.key.id))
            .collect();
        let loaded = self.engine.storage().load(&ids).await?;
        let found = ids.into_iter().zip(loaded);
        Ok(found.filter_map(|(id, loaded)| loaded.map(|_| id)).collect())
    }

    /// The log records so far, oldest first.
    ///
    /// # Errors
    /// When the storage fails.
    pub async fn log(&self) -> Result<Vec<LogRecord>, BedError> {
        Ok(self.engine.storage().log(usize::MAX).await?)
    }

    /// The dead letters so far, oldest first.
    ///
    /// # Errors
    /// When the queue fails.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter<Inbound>>, BedError> {
        Ok(self.engine.event_q().dead_letters(&DeadLetterFilter::all()).await?)
    }
}
