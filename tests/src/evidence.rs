//! What a run has left behind, and whether the engine's invariants hold in it.
//!
//! The checks read nothing but the ports, the events that were accepted and the messages that were
//! received: they judge a run on any backends.

mod checks;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use thredcore::{
    EngineConfig, Ports,
    pattern::{Library, Pattern},
    port::{
        DeadLetter, DeadLetterFilter, Directory, History, Inbound, PendingOutbox, PortError,
        Routed, StoredPattern, ThredQuery, Timer, Unmoved,
    },
    state::{PatternKey, Status, ThredState},
    thred::{ReactLimits, World},
};
use thredlib::{Event, PatternId, ThredId};

pub use checks::check_invariants;

/// What a run has left behind, once it is quiet.
#[derive(Debug)]
pub struct Evidence {
    /// The events that the engine accepted, repeated ones included, in the order of acceptance for
    /// each source.
    pub accepted: Vec<Arc<Event>>,
    /// The messages that were published, repeated ones included, in the order of publishing for
    /// each topic.
    pub published: Vec<Routed>,
    /// All threds, ended ones included, with their histories.
    pub threds: Vec<Past>,
    /// What is left to publish.
    pub outboxes: Vec<PendingOutbox>,
    /// All running timers.
    pub timers: Vec<Timer>,
    /// What is on record about events that moved no thred.
    pub unmoved: Vec<Unmoved>,
    /// The dead letters of what came in.
    pub dead: Vec<DeadLetter<Inbound>>,
    /// The dead letters of what went out.
    pub dead_messages: Vec<DeadLetter<Routed>>,
    /// Who takes up places, by pattern.
    pub reserved: BTreeMap<PatternId, Vec<ThredId>>,
    /// How many items wait to come in.
    pub depth: usize,
    /// The time.
    pub now: i64,
    /// Whether a process died with events in hand. An unbound event is then matched anew, against
    /// the threds that wait by then: one that a thred was not there for may reach it after a later
    /// one.
    pub interrupted: bool,
    /// Whether events may be in the queue more often than `accepted` says, since whoever has no
    /// answer asks again. Each time has its own end.
    pub repeated: bool,
    /// Whether receivers died with messages in hand or gave some back: redelivered ones come late,
    /// so the order of receipt says nothing about that of publishing.
    pub redelivered: bool,
    config: EngineConfig,
    directory: Arc<Directory>,
    library: Library,
}

/// A thred and its past.
#[derive(Debug)]
pub struct Past {
    /// The stored state.
    pub state: Arc<ThredState>,
    /// Its steps, oldest first.
    pub history: Vec<History>,
}

impl Evidence {
    /// Reads all that the backends know. The engine must be quiet.
    ///
    /// # Errors
    /// When a backend fails.
    pub async fn gather(
        ports: &Ports,
        config: &EngineConfig,
        accepted: Vec<Arc<Event>>,
        published: Vec<Routed>,
    ) -> Result<Self, PortError> {
        let storage = &ports.storage;
        let mut threds = Vec::new();
        for state in all_threds(ports).await? {
            let history = storage.history(&state.id, None, usize::MAX).await?;
            threds.push(Past { state, history });
        }
        let (mut outboxes, mut timers) = (Vec::new(), Vec::new());
        for partition in 0..storage.partitions() {
            outboxes.extend(storage.pending_outboxes(partition, i64::MAX, MANY).await?);
            timers.extend(storage.due(partition, i64::MAX, None, MANY).await?.timers);
        }
        let current = storage.patterns().await?;
        let mut revisions: HashMap<PatternKey, Arc<Pattern>> = HashMap::new();
        let pinned = threds.iter().map(|past| &*past.state.pattern);
        for key in current.iter().map(|stored| &stored.key).chain(pinned) {
            if !revisions.contains_key(key)
                && let Some(stored) = storage.pattern(key).await?
            {
                revisions.insert(key.clone(), compile(&stored, config));
            }
        }
        let mut reserved = BTreeMap::new();
        for stored in &current {
            reserved
                .insert(stored.key.id.clone(), storage.reserved(&stored.key.id, None, MANY).await?);
        }
        let current: Vec<_> = current.iter().map(|stored| compile(stored, config)).collect();
        Ok(Self {
            accepted,
            published,
            threds,
            outboxes,
            timers,
            unmoved: storage.unmoved(None, usize::MAX).await?.records,
            dead: ports.event_q.dead_letters(&DeadLetterFilter::all()).await?,
            dead_messages: ports.message_q.dead_letters(&DeadLetterFilter::all()).await?,
            reserved,
            depth: ports.event_q.depth().await?,
            now: ports.clock.now(),
            interrupted: false,
            repeated: true,
            redelivered: false,
            config: config.clone(),
            directory: ports.resolver.directory().await?,
            library: Library::new(current, revisions.into_values()),
        })
    }

    /// The world of a step; its time is to be set.
    pub fn world(&self) -> World<'_> {
        World {
            now: 0,
            seed: self.config.seed,
            directory: &self.directory,
            library: &self.library,
            limits: &self.config.react_limits,
            watchers: &[],
            settled: &[],
        }
    }

    /// The bounds of a step.
    pub fn limits(&self) -> &ReactLimits {
        &self.config.react_limits
    }

    /// The revision that a thred runs.
    pub fn pattern(&self, state: &ThredState) -> Option<&Arc<Pattern>> {
        self.library.revision(&state.pattern)
    }

    /// The final states, by thred: what two runs are compared by.
    pub fn states(&self) -> BTreeMap<&ThredId, &ThredState> {
        self.threds.iter().map(|past| (&past.state.id, &*past.state)).collect()
    }

    /// The ids of all messages that were published, each once.
    pub fn message_ids(&self) -> std::collections::BTreeSet<&str> {
        self.published.iter().map(|routed| routed.message.id.as_str()).collect()
    }
}

/// More than a test makes.
const MANY: usize = 1_000_000;

async fn all_threds(ports: &Ports) -> Result<Vec<Arc<ThredState>>, PortError> {
    let status = vec![Status::Active, Status::Finished, Status::Terminated];
    // A backend may look through all threds for each page.
    let mut query = ThredQuery { status, limit: MANY, ..ThredQuery::default() };
    let mut found = Vec::new();
    loop {
        let page = ports.storage.threds(&query).await?;
        found.extend(page.threds);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(found),
        }
    }
}

fn compile(stored: &StoredPattern, config: &EngineConfig) -> Arc<Pattern> {
    Arc::new(Pattern::compile(stored, &config.expr_limits).expect("stored patterns run"))
}
