//! `srvthreds run`.

mod feed;
mod input;
mod outlet;
mod setup;
mod summary;
mod traffic;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use thredcore::{
    Engine, Running,
    agent::RunningAgent,
    memory::{MemoryEventQ, MemoryStorage},
};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use super::{
    Outcome,
    args::{Color, RunArgs},
    interrupt::Interrupts,
};
use feed::Feed;
use input::Input;
use outlet::Outlet;
use setup::Setup;
use summary::Summary;
use traffic::Traffic;

/// How long the end waits for what is under way.
const DRAIN: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &RunArgs, color: Color) -> io::Result<Outcome> {
    let colours = color.on(&io::stderr());
    start_log(&args.log, colours);
    let setup = match Setup::read(args, colours) {
        Ok(setup) => setup,
        Err(outcome) => return Ok(outcome),
    };
    let input = match Input::open(&args.events) {
        Ok(input) => input,
        Err(unreadable) => {
            super::diagnostics::Printer::unreadable(&unreadable);
            return Ok(Outcome::Unable);
        }
    };
    let runtime = runtime(args.in_flight)?;
    runtime.block_on(async {
        match Run::start(setup, args).await {
            Ok(run) => run.until_end(input, args).await,
            Err(outcome) => Ok(outcome),
        }
    })
}

/// Events that go one after the other need one thread, and are faster on it.
fn runtime(in_flight: u32) -> io::Result<Runtime> {
    match in_flight {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    }
    .enable_all()
    .build()
}

fn start_log(filter: &str, colours: bool) {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_ansi(colours)
        .init();
}

/// An engine at work, with its agent.
struct Run {
    engine: Engine,
    running: Running,
    agent: Option<RunningAgent>,
    storage: Arc<MemoryStorage>,
    outlet: Arc<Outlet>,
    traffic: Traffic,
    writer: outlet::Writer,
    since: Instant,
}

impl Run {
    async fn start(setup: Setup, args: &RunArgs) -> Result<Self, Outcome> {
        let storage = Arc::new(MemoryStorage::default());
        let event_q = Arc::new(MemoryEventQ::new(traffic::event_q_config()));
        let (outlet, writer) = Outlet::open(setup.answered());
        let outlet = Arc::new(outlet);
        let most = usize::try_from(args.in_flight).unwrap_or(usize::MAX);
        let traffic = Traffic::new(event_q.clone(), outlet.clone(), most);
        let (engine, agent) = setup.build(storage.clone(), event_q, outlet.clone()).await?;
        let running = engine.start();
        Ok(Self { engine, running, agent, storage, outlet, traffic, writer, since: Instant::now() })
    }

    /// Works until the input has ended or somebody ends it, finishes, and says what it came to.
    async fn until_end(self, input: Input, args: &RunArgs) -> io::Result<Outcome> {
        let mut interrupts = Interrupts::listen()?;
        let mut feed = Feed::new(&self.engine, &self.traffic);
        let interrupted = tokio::select! {
            biased;
            () = self.outlet.reader_gone() => false,
            () = interrupts.next() => true,
            () = async { feed.all(input).await; self.linger(args).await } => false,
        };
        // A second signal means: now.
        let drained = tokio::select! {
            biased;
            () = self.outlet.reader_gone() => false,
            () = interrupts.next() => false,
            drained = self.traffic.settle_within(DRAIN) => drained,
        };
        let took = self.since.elapsed();
        let counts = feed.into_counts();
        if drained {
            self.running.shutdown().await;
            if let Some(agent) = self.agent {
                agent.shutdown().await;
            }
        }
        let mut summary = Summary {
            counts,
            interrupted,
            undone: self.traffic.under_way().await,
            written: true,
            messages: self.outlet.published(),
            tally: self.storage.tally(),
            dead: summary::Dead::read(&self.traffic, &self.outlet).await,
            took,
        };
        // A slow reader is waited for, but not against the user's will.
        let patience = if interrupted || !drained { DRAIN } else { Duration::MAX };
        tokio::select! {
            biased;
            () = interrupts.next() => summary.written = false,
            written = timeout(patience, self.writer.finish(&self.outlet)) => match written {
                Ok(written) => written?,
                Err(_) => summary.written = false,
            },
        }
        summary.print(args.json)?;
        Ok(summary.outcome())
    }

    /// Gives timers their time after the end of the input.
    async fn linger(&self, args: &RunArgs) {
        const LOOK: Duration = Duration::from_millis(10);
        let longest = match args.wait {
            true => Duration::MAX,
            false => args.linger.unwrap_or_default(),
        };
        let since = Instant::now();
        while self.storage.tally().live() > 0 && since.elapsed() < longest {
            tokio::time::sleep(LOOK.min(longest - since.elapsed().min(longest))).await;
        }
    }
}
