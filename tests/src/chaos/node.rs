//! The inside of an engine process.

use std::{io::Write, sync::Arc, time::Duration};

use thredcore::{
    Engine, EngineConfig, EngineError, Ports, Running,
    agent::RunningAgent,
    port::{Clock, EventQ, MessageQ, Storage, SystemClock},
    testing::fault::{Fault, FaultKind, Faulty},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    signal::unix::{SignalKind, signal},
    sync::Mutex,
};

use super::{
    backend::patiently,
    backlog::Backlog,
    deadly::Deadly,
    protocol::{AgentSpec, FailPoint, FailPort, NodeSpec, Reply, Request},
    recorder::Recorder,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs until the input ends or the process is killed.
///
/// # Errors
/// When the first line is no [`NodeSpec`], or a backend cannot be opened.
pub async fn run() -> Result<(), Failure> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let spec = lines.next_line().await?.ok_or("no specification on the input")?;
    let spec: NodeSpec = serde_json::from_str(&spec)?;
    let sound = patiently(|| spec.backend.open()).await?;
    let mut ports = with_fail_point(sound, spec.fail.as_ref());
    ports.clock = Arc::new(Ahead(spec.clock_ahead));
    ports.storage = Arc::new(Deadly::new(ports.storage));
    let engine = patiently(|| async {
        let mut config = config();
        config.topic_quota = spec.topic_quota.unwrap_or(config.topic_quota);
        let builder = Engine::builder().ports(ports.clone()).config(config);
        let engine = builder.build().await?;
        if spec.engine_works {
            engine.put_patterns(spec.patterns.clone()).await?;
        }
        Ok::<_, EngineError>(engine)
    })
    .await?;
    let running = spec.engine_works.then(|| engine.start());
    let node = Arc::new(Node { engine, agent: spec.agent, agents: Mutex::default() });
    node.set_agent(spec.agent_works).await;
    say(&Reply::Ready);
    let mut terminated = signal(SignalKind::terminate())?;
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            _ = terminated.recv() => {
                // Both at a time, as each has its time. Whoever reads the input does not hear of it.
                tokio::join!(node.set_agent(false), stop(running));
                std::process::exit(0);
            }
        };
        let Some(line) = line else { break };
        let request: Request = serde_json::from_str(&line)?;
        let node = node.clone();
        tokio::spawn(async move { say(&node.answer(request).await) });
    }
    node.set_agent(false).await;
    stop(running).await;
    Ok(())
}

async fn stop(running: Option<Running>) {
    if let Some(running) = running {
        running.shutdown().await;
    }
}

/// A clock that is ahead of the machine's, so many milliseconds.
#[derive(Debug)]
struct Ahead(i64);

impl Clock for Ahead {
    fn now(&self) -> i64 {
        SystemClock.now().saturating_add(self.0)
    }
}

struct Node {
    engine: Engine,
    agent: AgentSpec,
    agents: Mutex<Vec<RunningAgent>>,
}

impl Node {
    async fn answer(&self, request: Request) -> Reply {
        match request {
            Request::Accept { ticket, events } => match self.engine.accept(events).await {
                Ok(()) => Reply::Done { ticket },
                Err(error) => Reply::Failed { ticket, error: format!("{error:?}") },
            },
            Request::Backlog { ticket } => match Backlog::of(self.engine.ports()).await {
                Ok(backlog) => Reply::Backlog { ticket, backlog },
                Err(error) => Reply::Failed { ticket, error: format!("{error:?}") },
            },
            Request::Agent { ticket, works } => {
                self.set_agent(works).await;
                Reply::Done { ticket }
            }
        }
    }

    async fn set_agent(&self, works: bool) {
        let mut agents = self.agents.lock().await;
        for agent in agents.drain(..) {
            agent.shutdown().await;
        }
        if works {
            let report = |message| say(&Reply::Message(message));
            *agents = Recorder::start(self.engine.ports(), self.agent, report).await;
        }
    }
}

/// The bounds of the engines of a run: all that waits for a dead one waits a short time.
pub fn config() -> EngineConfig {
    let mut config = EngineConfig::default();
    config.sweep_interval = Duration::from_millis(100);
    config.relay_age = Duration::from_millis(200);
    config.orphan_interval = Duration::from_secs(1);
    config.longest_pause = Duration::from_millis(200);
    config.drain = Duration::from_secs(5);
    config
}

/// Writes a line, all of it, before it returns. Nobody reads it any more: the test is over.
fn say(reply: &Reply) {
    let mut line = serde_json::to_vec(reply).expect("replies are JSON");
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    if out.write_all(&line).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

fn with_fail_point(ports: Ports, point: Option<&FailPoint>) -> Ports {
    let Some(point) = point else { return ports };
    let fault = Fault::at_operation(&point.operation, point.call, FaultKind::Abort);
    let Ports { mut event_q, mut message_q, mut storage, resolver, clock } = ports;
    match point.port {
        FailPort::EventQ => event_q = Arc::new(Faulty::<dyn EventQ>::new(event_q, fault)),
        FailPort::MessageQ => message_q = Arc::new(Faulty::<dyn MessageQ>::new(message_q, fault)),
        FailPort::Storage => storage = Arc::new(Faulty::<dyn Storage>::new(storage, fault)),
    }
    Ports { event_q, message_q, storage, resolver, clock }
}
