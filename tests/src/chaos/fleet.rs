//! The engine processes of a run and the way into them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use thredcore::{Engine, Ports, Running, agent::RunningAgent};
use thredlib::{Event, PatternModel};
use tokio::sync::Mutex as AsyncMutex;

use super::{
    backend::{BackendSpec, patiently},
    backlog::Backlog,
    ledger::Ledger,
    node::config,
    process::Process,
    protocol::{AgentSpec, NodeSpec, Reply, Request},
    recorder::Recorder,
};

/// The engine processes of a run and the way into them.
///
/// Where the data can be reached from outside, the test publishes and receives by itself, and what
/// dies is the engines alone. Else everything goes through the one process, and the agent dies with
/// it.
pub struct Fleet {
    program: PathBuf,
    /// What the processes are started as.
    pub spec: NodeSpec,
    /// The engines, then the agents.
    slots: Mutex<Vec<Arc<Process>>>,
    engines: usize,
    clocks: Vec<i64>,
    /// What was accepted and received.
    pub ledger: Arc<Ledger>,
    outside: Option<Outside>,
}

/// The test's own part of a run on a shared backend.
struct Outside {
    engine: Engine,
    agents: AsyncMutex<Vec<RunningAgent>>,
    /// The engine at work, where there is no other process.
    running: Option<Running>,
}

/// Which processes a run has, and what they run.
#[derive(Clone, Debug)]
pub struct FleetSpec {
    /// The engine's program.
    pub program: PathBuf,
    /// What it runs on.
    pub backend: BackendSpec,
    /// What it runs.
    pub patterns: Vec<PatternModel>,
    /// How many processes.
    pub engines: usize,
    /// How many processes with agents alone; without one the agent is in the test.
    pub agents: usize,
    /// The agent.
    pub agent: AgentSpec,
    /// How far the clocks of the engines are ahead, in turn, milliseconds; none if it is empty.
    pub clocks: Vec<i64>,
    /// How many messages may wait for a full topic; many if nothing is said.
    pub topic_quota: Option<u64>,
    /// Whether the agent works in the one process, even where it need not, and events go through
    /// it: so that all its ports are called.
    pub inside: bool,
}

impl Fleet {
    /// Starts the engine processes, and the agent where it belongs.
    ///
    /// # Panics
    /// When the backend cannot be opened, or several processes are to share one that cannot be
    /// shared.
    pub async fn start(spec: FleetSpec) -> Self {
        let inside = spec.backend.is_private() || spec.inside;
        assert!(!inside || spec.engines == 1, "one process owns the data");
        assert!(!inside || spec.agents == 0, "the agent is in the one process");
        let FleetSpec { program, engines, agents, clocks, .. } = spec;
        let spec = NodeSpec {
            topic_quota: spec.topic_quota,
            agent_works: inside,
            ..NodeSpec::new(spec.backend, spec.patterns, spec.agent)
        };
        let ledger = Arc::new(Ledger::default());
        let outside = if inside {
            None
        } else {
            Some(Outside::open(&spec, ledger.clone(), agents == 0).await)
        };
        let slots = Mutex::default();
        let fleet = Self { program, spec, slots, engines, clocks, ledger, outside };
        for slot in 0..engines + agents {
            let process = Arc::new(fleet.spawn(&fleet.spec_of(slot)).await);
            fleet.slots().push(process);
        }
        for process in fleet.processes() {
            process.ready().await.expect("an engine starts");
        }
        fleet
    }

    /// No process but the test's own: the engine runs in it, and nothing can be killed.
    ///
    /// # Panics
    /// When the backend cannot be opened.
    pub async fn within(
        backend: BackendSpec,
        patterns: Vec<PatternModel>,
        agent: AgentSpec,
    ) -> Self {
        let spec = NodeSpec::new(backend, patterns, agent);
        let ledger = Arc::new(Ledger::default());
        let mut outside = Outside::open(&spec, ledger.clone(), true).await;
        outside.engine.put_patterns(spec.patterns.clone()).await.expect("the patterns run");
        outside.running = Some(outside.engine.start());
        let (program, slots, clocks) = (PathBuf::new(), Mutex::default(), Vec::new());
        Self { program, spec, slots, engines: 0, clocks, ledger, outside: Some(outside) }
    }

    /// A process that is not one of the fleet yet.
    async fn spawn(&self, spec: &NodeSpec) -> Process {
        Process::spawn(&self.program, spec, self.ledger.clone()).await
    }

    /// What is started in a slot.
    fn spec_of(&self, slot: usize) -> NodeSpec {
        if slot >= self.engines {
            return NodeSpec { engine_works: false, agent_works: true, ..self.spec.clone() };
        }
        let turn = slot % self.clocks.len().max(1);
        let clock_ahead = self.clocks.get(turn).copied().unwrap_or(0);
        NodeSpec { clock_ahead, ..self.spec.clone() }
    }

    /// How many of the processes are engines: the first ones.
    pub fn engines(&self) -> usize {
        self.engines
    }

    /// The processes.
    pub fn processes(&self) -> Vec<Arc<Process>> {
        self.slots().clone()
    }

    /// Kills a process and starts another in its place; does not wait until it works.
    pub async fn kill(&self, slot: usize) {
        self.kill_and_replace(slot, &self.spec_of(slot)).await;
    }

    /// Kills a process, if it still lives, and starts one of another kind in its place.
    pub async fn kill_and_replace(&self, slot: usize, spec: &NodeSpec) {
        let old = self.slots()[slot].clone();
        old.kill().await;
        let new = Arc::new(self.spawn(spec).await);
        self.slots()[slot] = new;
    }

    /// Starts another process in the place of each that has ended by itself, for ever.
    pub async fn revive(&self) {
        loop {
            for (slot, process) in self.processes().iter().enumerate() {
                if !process.is_alive() {
                    self.kill(slot).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Accepts events: asks again until there is an answer, as a caller should.
    ///
    /// # Panics
    /// When there is none for two minutes.
    pub async fn accept(&self, events: Vec<Event>) {
        self.ledger.offer(&events);
        self.insist(&events).await;
        self.ledger.accept(&events);
    }

    /// Accepts again all that was accepted so far, in its order, as whoever feeds a file a second
    /// time. Nothing is to come of it, so it goes on no account.
    ///
    /// # Panics
    /// When there is no answer for two minutes.
    pub async fn accept_again(&self) {
        const TOGETHER: usize = 64;
        for some in self.ledger.accepted_events().chunks(TOGETHER) {
            let some: Vec<Event> = some.iter().map(|event| Event::clone(event)).collect();
            self.insist(&some).await;
        }
    }

    /// Accepts events, and keeps no account of them.
    ///
    /// # Panics
    /// When there is no answer for two minutes.
    pub async fn insist(&self, events: &[Event]) {
        let asking = async {
            while let Err(error) = self.try_accept(events).await {
                if std::env::var_os("THRED_CHAOS_VERBOSE").is_some() {
                    eprintln!("not accepted: {error}");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let patience = Duration::from_secs(120);
        tokio::time::timeout(patience, asking).await.expect("events are accepted in time");
    }

    /// Accepts events, if that can be done at once.
    ///
    /// # Errors
    /// Why they were not accepted, or may not have been.
    pub async fn try_accept(&self, events: &[Event]) -> Result<(), String> {
        let events = events.to_vec();
        if let Some(outside) = &self.outside {
            return outside.engine.accept(events).await.map_err(|error| format!("{error:?}"));
        }
        let process = self.slots()[0].clone();
        process.ready().await.map_err(|_| "it died while it started")?;
        match process.ask(|ticket| Request::Accept { ticket, events }).await {
            Ok(Reply::Done { .. }) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    /// What is left to do; `None` while that cannot be found out.
    pub async fn backlog(&self) -> Option<Backlog> {
        let Some(outside) = &self.outside else {
            let process = self.slots()[0].clone();
            return Self::backlog_in(&process).await;
        };
        let mut backlog = Backlog::of(outside.engine.ports()).await.ok()?;
        if self.spec.backend.is_distributed() {
            for process in self.processes() {
                backlog = backlog.max(Self::backlog_in(&process).await?);
            }
        }
        Some(backlog)
    }

    /// What is left as a process sees it.
    async fn backlog_in(process: &Process) -> Option<Backlog> {
        process.ready().await.ok()?;
        match process.ask(|ticket| Request::Backlog { ticket }).await {
            Ok(Reply::Backlog { backlog, .. }) => Some(backlog),
            _ => None,
        }
    }

    /// Waits until nothing is left to do.
    ///
    /// # Panics
    /// When that takes longer than `patience`.
    pub async fn drain(&self, patience: Duration) {
        let mut last = None;
        let draining = async {
            loop {
                last = self.backlog().await;
                if last.is_some_and(|backlog| backlog.is_empty()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let done = tokio::time::timeout(patience, draining).await;
        assert!(done.is_ok(), "not drained within {patience:?}: {last:?} is left");
    }

    /// The test's own ports.
    ///
    /// # Panics
    /// When the data are another process's alone.
    pub fn ports(&self) -> &Ports {
        self.outside.as_ref().expect("the data can be reached from outside").engine.ports()
    }

    /// Starts or stops the agent, wherever it works.
    ///
    /// # Panics
    /// When an engine that it works in is dead.
    pub async fn set_agent(&self, works: bool) {
        if let Some(outside) = &self.outside {
            return outside.set_agent(works, self.spec.agent, self.ledger.clone()).await;
        }
        for process in self.processes() {
            let asked = process.ask(|ticket| Request::Agent { ticket, works }).await;
            asked.expect("the engine lives");
        }
    }

    /// Stops the processes in good order.
    ///
    /// # Panics
    /// When one does not end well.
    pub async fn rest(&self) {
        for process in self.processes() {
            let status = process.stop().await.expect("it can be waited for");
            assert!(status.success(), "an engine ended with {status}");
        }
    }

    /// Stops all in good order and opens what is stored, to be judged.
    ///
    /// # Panics
    /// When a process does not end well, or the backend cannot be opened.
    pub async fn close(&self) -> Ports {
        if let Some(running) = self.outside.as_ref().and_then(|outside| outside.running.as_ref()) {
            running.engine().stop();
        }
        self.rest().await;
        match &self.outside {
            Some(outside) => {
                outside.set_agent(false, self.spec.agent, self.ledger.clone()).await;
                outside.engine.ports().clone()
            }
            None => self.spec.backend.open().await.expect("what a process left can be opened"),
        }
    }

    fn slots(&self) -> parking_lot::MutexGuard<'_, Vec<Arc<Process>>> {
        self.slots.lock()
    }
}

impl Outside {
    async fn open(spec: &NodeSpec, ledger: Arc<Ledger>, agent_works: bool) -> Self {
        let ports = patiently(|| spec.backend.open()).await.expect("the backend can be opened");
        let build = || Engine::builder().ports(ports.clone()).config(config()).build();
        let engine = patiently(build).await.expect("the backend works");
        let outside = Self { engine, agents: AsyncMutex::default(), running: None };
        if agent_works {
            outside.set_agent(true, spec.agent, ledger).await;
        }
        outside
    }

    async fn set_agent(&self, works: bool, agent: AgentSpec, ledger: Arc<Ledger>) {
        let mut agents = self.agents.lock().await;
        for agent in agents.drain(..) {
            agent.shutdown().await;
        }
        if works {
            let report = move |message| ledger.receive(message);
            *agents = Recorder::start(self.engine.ports(), agent, report).await;
        }
    }
}
