//! An engine on memory backends that outlive it: it is driven step by step, in virtual time, and
//! can be made to fail or to die at any call of a port.

use std::sync::Arc;

use futures::FutureExt;
use thredcore::{
    Engine, EngineConfig, EngineError, FiredTimers, Ports,
    memory::{MemoryBackends, MemoryEventQ, MemoryStorage, MemoryStorageConfig},
    port::{
        Clock, Delivery, Directory, EventQ, FixedDirectory, Inbound, MessageQ, PortError,
        PortErrorKind, Routed, Storage, ThredQuery,
    },
    state::Status,
    testing::{
        ManualClock,
        fault::{Fault, Faulty},
    },
};
use thredlib::{Event, PatternModel, ThredId};

use crate::evidence::Evidence;

/// The process has died: its engine is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dead;

/// An engine, what it runs on, and what a test must know to judge it.
#[derive(Debug)]
pub struct Rig {
    backends: MemoryBackends,
    clock: Arc<ManualClock>,
    directory: Arc<FixedDirectory>,
    config: EngineConfig,
    engine: Engine,
    fired: FiredTimers,
    batch: usize,
    accepted: Vec<Arc<Event>>,
    published: Vec<Routed>,
    fault: Arc<Fault>,
}

impl Rig {
    /// The time at the start, milliseconds since the Unix epoch.
    pub const START_TIME: i64 = 1_767_225_600_000;

    /// An engine with patterns on empty backends. The fault counts calls from here on.
    pub async fn new(
        patterns: Vec<PatternModel>,
        directory: Directory,
        config: EngineConfig,
        fault: Arc<Fault>,
    ) -> Self {
        // Few partitions: each is a call of its own for every look at timers and outboxes.
        let storage = MemoryStorage::new(MemoryStorageConfig::default().partitions(3));
        let backends = MemoryBackends {
            event_q: Arc::new(MemoryEventQ::with_partitions(4)),
            message_q: Arc::default(),
            storage: Arc::new(storage),
        };
        let clock = Arc::new(ManualClock::new(Self::START_TIME));
        let directory = Arc::new(FixedDirectory::new(directory));
        install(ports(&backends, &clock, &directory, None), patterns).await;
        let engine = Self::build(&backends, &clock, &directory, &config, fault.clone()).await;
        let (fired, accepted, published) = Default::default();
        let batch = 1;
        Self {
            backends,
            clock,
            directory,
            config,
            engine,
            fired,
            batch,
            accepted,
            published,
            fault,
        }
    }

    /// Somebody else, who meets no fault, puts patterns; the engine learns of them when it looks.
    pub async fn put_patterns(&self, patterns: Vec<PatternModel>) {
        install(ports(&self.backends, &self.clock, &self.directory, None), patterns).await;
    }

    /// Hands out so many events at a time.
    pub fn batches_of(mut self, events: usize) -> Self {
        self.batch = events.max(1);
        self
    }

    /// An engine that meets this fault; one without faults, if it dies of it while it starts.
    async fn build(
        backends: &MemoryBackends,
        clock: &Arc<ManualClock>,
        directory: &Arc<FixedDirectory>,
        config: &EngineConfig,
        mut fault: Arc<Fault>,
    ) -> Engine {
        loop {
            let ports = ports(backends, clock, directory, Some(&fault));
            match Engine::builder().ports(ports).config(config.clone()).build().await {
                Ok(engine) => return engine,
                Err(EngineError::Port(error)) if error.is_retryable() => {}
                Err(_) => fault = Fault::counting(),
            }
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

    /// Lets a caller hand events in, again after each failure, as callers should.
    ///
    /// # Errors
    /// The process died; the caller has no answer.
    pub async fn accept(&mut self, events: Vec<Event>) -> Result<(), Dead> {
        loop {
            let answer = self.engine.accept(events.clone()).await;
            // Perhaps it was, whatever the answer.
            self.accepted.extend(events.iter().cloned().map(Arc::new));
            match answer {
                Ok(()) => return Ok(()),
                Err(error) if error.is_retryable() => {}
                Err(_) => return Err(Dead),
            }
        }
    }

    /// Processes what waits until nothing does.
    ///
    /// # Errors
    /// The process died.
    pub async fn settle(&mut self) -> Result<(), Dead> {
        let event_q = self.engine.event_q().clone();
        for _ in 0..ENDLESS {
            let mut quiet = true;
            for partition in 0..event_q.partitions() {
                while let Some(received) = event_q.receive(partition, self.batch).now_or_never() {
                    quiet = false;
                    if let Some(deliveries) = alive(received)? {
                        self.process(deliveries).await?;
                    }
                }
            }
            if quiet {
                return Ok(());
            }
        }
        panic!("events cause events without end");
    }

    async fn process(&self, deliveries: Vec<Delivery<Inbound>>) -> Result<(), Dead> {
        self.engine.process(deliveries).await.map_err(|_| Dead)
    }

    /// Lets time pass until a moment; timers that fall due fire in order, each at its time.
    ///
    /// # Errors
    /// The process died.
    pub async fn pass_until(&mut self, until: i64) -> Result<(), Dead> {
        let mut fired = 0;
        while let Some(at) = self.next_timer(until).await {
            fired += 1;
            assert!(fired < ENDLESS, "timers fire without end");
            self.clock.set(at);
            self.engine.fire_due(&mut self.fired).await.map_err(|_| Dead)?;
            self.settle().await?;
        }
        self.clock.set(until);
        Ok(())
    }

    /// The next timer, as the backends know it: the test's look at them is no call of the engine.
    async fn next_timer(&self, until: i64) -> Option<i64> {
        let storage: &dyn Storage = &*self.backends.storage;
        let mut first: Option<i64> = None;
        for partition in 0..storage.partitions() {
            let due = storage.due(partition, until, None, 1).await.expect("memory backends");
            first = first.into_iter().chain(due.timers.first().map(|timer| timer.at)).min();
        }
        first
    }

    /// Replaces the engine by one that has no faults, after the old one died or was shut down:
    /// what it held is delivered again, and its outboxes are swept.
    pub async fn replace(&mut self) {
        let sound = Fault::counting();
        let (backends, clock, directory) = (&self.backends, &self.clock, &self.directory);
        self.engine = Self::build(backends, clock, directory, &self.config, sound).await;
        self.fired = FiredTimers::default();
        self.backends.event_q.redeliver_unacked();
        self.engine.relay(self.now() + 1).await.expect("no faults");
        self.settle().await.expect("no faults");
        self.pass_until(self.now()).await.expect("no faults");
    }

    /// The threds there are, ended ones included, oldest first.
    pub async fn threds(&self) -> Vec<ThredId> {
        let status = vec![Status::Active, Status::Finished, Status::Terminated];
        let query = ThredQuery { status, ..ThredQuery::default() };
        let storage: &dyn Storage = &*self.backends.storage;
        let page = storage.threds(&query).await.expect("memory backends");
        page.threds.iter().map(|thred| thred.id.clone()).collect()
    }

    /// What there is to judge, with all that was published.
    pub async fn evidence(&mut self) -> Evidence {
        self.published.extend(self.backends.message_q.take_all());
        let sound = ports(&self.backends, &self.clock, &self.directory, None);
        let gathered =
            Evidence::gather(&sound, &self.config, self.accepted.clone(), self.published.clone());
        let mut evidence = gathered.await.expect("memory backends");
        evidence.interrupted = self.fault.has_struck();
        evidence.repeated = false;
        evidence
    }
}

async fn install(ports: Ports, patterns: Vec<PatternModel>) {
    let installer = Engine::builder().ports(ports).build().await.expect("memory backends");
    installer.put_patterns(patterns).await.expect("the patterns run");
}

/// More than any test does.
const ENDLESS: usize = 20_000;

/// What was received; nothing when it failed and can be asked for again.
fn alive<T>(received: Result<T, PortError>) -> Result<Option<T>, Dead> {
    match received {
        Ok(deliveries) => Ok(Some(deliveries)),
        Err(error) if error.kind() == PortErrorKind::Closed => Err(Dead),
        Err(_) => Ok(None),
    }
}

fn ports(
    backends: &MemoryBackends,
    clock: &Arc<ManualClock>,
    resolver: &Arc<FixedDirectory>,
    fault: Option<&Arc<Fault>>,
) -> Ports {
    let event_q: Arc<dyn EventQ> = backends.event_q.clone();
    let message_q: Arc<dyn MessageQ> = backends.message_q.clone();
    let storage: Arc<dyn Storage> = backends.storage.clone();
    let (clock, resolver) = (clock.clone(), resolver.clone());
    let Some(fault) = fault else { return Ports { event_q, message_q, storage, resolver, clock } };
    Ports {
        event_q: Arc::new(Faulty::new(event_q, fault.clone())),
        message_q: Arc::new(Faulty::new(message_q, fault.clone())),
        storage: Arc::new(Faulty::new(storage, fault.clone())),
        resolver,
        clock,
    }
}
