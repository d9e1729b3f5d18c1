//! What an engine is made of, and its bounds.

use std::{sync::Arc, time::Duration};

use thredlib::{EventLimits, ExprLimits, PatternModel};

use super::{Engine, EngineError};
use crate::{
    memory::{MemoryEventQ, MemoryMessageQ, MemoryStorage},
    port::{AddressResolver, Clock, EventQ, FixedDirectory, MessageQ, Storage, SystemClock},
    thred::ReactLimits,
};

/// Bounds and pauses of an engine, each with a default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineConfig {
    /// Events that are worked on at one time, over all partitions. Default 1,024.
    pub max_in_flight: usize,
    /// How often an event that is handed out again and again (because an engine died beside it) may
    /// end the engine while it is tried alone, before it is dead-lettered. Default 10.
    pub max_attempts: u32,
    /// How often a commit that conflicts is computed anew before the engine pauses. Default 8.
    pub conflict_retries: u32,
    /// The first pause before a failed call of a port is tried again; it doubles. Default 5 ms.
    pub first_pause: Duration,
    /// The longest pause. Default 2 s.
    pub longest_pause: Duration,
    /// How old an outbox entry is when it is taken to be forgotten by whoever made it. Default
    /// 2 s.
    pub relay_age: Duration,
    /// How often forgotten outbox entries, changed patterns and watchers are looked for. Default
    /// 1 s.
    pub sweep_interval: Duration,
    /// How often timers that another process has armed are looked for, which that process has not
    /// fired. Default 5 s.
    pub timer_interval: Duration,
    /// How many messages may wait in outboxes for a topic that is full; further ones are
    /// dead-lettered. A soft bound: looked at with each sweep. Default 100,000.
    pub topic_quota: u64,
    /// How often places that no thred took are looked for, and older revisions of patterns that no
    /// thred has run meanwhile. Longer than any commit takes. Default 60 s.
    pub orphan_interval: Duration,
    /// How long a shutdown waits for the work at hand. Default 10 s.
    pub drain: Duration,
    /// Seeds `$random()`. Default 0.
    pub seed: u64,
    /// What an event may be like to be accepted.
    pub event_limits: EventLimits,
    /// What an expression may use.
    pub expr_limits: ExprLimits,
    /// What a step may do.
    pub react_limits: ReactLimits,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_in_flight: 1_024,
            max_attempts: 10,
            conflict_retries: 8,
            first_pause: Duration::from_millis(5),
            longest_pause: Duration::from_secs(2),
            relay_age: Duration::from_secs(2),
            sweep_interval: Duration::from_secs(1),
            timer_interval: Duration::from_secs(5),
            topic_quota: 100_000,
            orphan_interval: Duration::from_secs(60),
            drain: Duration::from_secs(10),
            seed: 0,
            event_limits: EventLimits::default(),
            expr_limits: ExprLimits::default(),
            react_limits: ReactLimits::default(),
        }
    }
}

/// The backends of an engine.
#[derive(Clone)]
pub struct Ports {
    /// What comes in.
    pub event_q: Arc<dyn EventQ>,
    /// What goes out.
    pub message_q: Arc<dyn MessageQ>,
    /// What is kept.
    pub storage: Arc<dyn Storage>,
    /// Who is behind an address.
    pub resolver: Arc<dyn AddressResolver>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Default for Ports {
    /// All in memory, with nobody in the directory.
    fn default() -> Self {
        Self {
            event_q: Arc::new(MemoryEventQ::default()),
            message_q: Arc::new(MemoryMessageQ::default()),
            storage: Arc::new(MemoryStorage::default()),
            resolver: Arc::new(FixedDirectory::default()),
            clock: Arc::new(SystemClock),
        }
    }
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

/// Builds an [`Engine`]; whatever is left out is in memory.
#[derive(Debug, Default)]
#[must_use = "call `build` to get the engine"]
pub struct EngineBuilder {
    ports: Ports,
    config: EngineConfig,
    patterns: Vec<PatternModel>,
}

impl EngineBuilder {
    /// All backends at once.
    pub fn ports(mut self, ports: Ports) -> Self {
        self.ports = ports;
        self
    }

    /// What comes in.
    pub fn event_q(mut self, event_q: Arc<dyn EventQ>) -> Self {
        self.ports.event_q = event_q;
        self
    }

    /// What goes out.
    pub fn message_q(mut self, message_q: Arc<dyn MessageQ>) -> Self {
        self.ports.message_q = message_q;
        self
    }

    /// What is kept.
    pub fn storage(mut self, storage: Arc<dyn Storage>) -> Self {
        self.ports.storage = storage;
        self
    }

    /// Who is behind an address.
    pub fn resolver(mut self, resolver: Arc<dyn AddressResolver>) -> Self {
        self.ports.resolver = resolver;
        self
    }

    /// The time.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.ports.clock = clock;
        self
    }

    /// Bounds and pauses.
    pub fn config(mut self, config: EngineConfig) -> Self {
        self.config = config;
        self
    }

    /// A pattern to store and match from the start.
    pub fn pattern(mut self, pattern: PatternModel) -> Self {
        self.patterns.push(pattern);
        self
    }

    /// The engine, with the stored patterns and the given ones loaded. It does nothing until it is
    /// [started](Engine::start).
    ///
    /// # Errors
    /// When a given pattern cannot run, or a backend cannot be reached.
    pub async fn build(self) -> Result<Engine, EngineError> {
        let engine = Engine::new(self.ports, self.config);
        engine.put_patterns(self.patterns).await?;
        Ok(engine)
    }
}
