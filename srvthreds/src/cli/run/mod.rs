//! `srvthreds run`.

mod attend;
mod feed;
mod ingress;
mod input;
mod outlet;
mod reload;
mod sessions;
mod setup;
mod summary;
mod traffic;
mod watch;
mod writer;

use std::{io, pin::pin, sync::Arc, time::Duration};

use thredcore::{
    Engine, Running,
    agent::RunningAgent,
    port::{Clock, SystemClock},
};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::Instant,
};

use super::{
    Outcome,
    args::{Color, RunArgs},
    diagnostics::{Printer, printable},
    interrupt::{self, Ending, Interrupts},
    store::open_when_free,
    text::count,
};
use crate::{
    backend::{Backends, Place, Purpose},
    query::Unanswered,
};
use attend::Attendance;
use feed::Feed;
use ingress::Intake;
use input::Input;
use outlet::{Outlet, Printing};
use setup::{Setup, refuse};
use summary::Summary;
use traffic::{Silence, Traffic};

pub(crate) use ingress::IngressArgs;

/// How long the end waits for what is under way. What is left of the time that is promised is for
/// what follows: asking the store what remains, and closing it.
const DRAIN: Duration = Duration::from_secs(8);
/// How much of it may pass until everything that follows from what was accepted has happened; then
/// the rest is left to the next start, if there is a store.
const SETTLE: Duration = Duration::from_secs(5);
/// How long the store may take to say what remains.
const ASK: Duration = Duration::from_millis(700);
/// How long a reader that keeps up takes for the last of the output, however late it is.
const WRITE: Duration = Duration::from_millis(150);
/// How long the store may take to acknowledge what was written last, however late it is.
const CONFIRM: Duration = Duration::from_millis(50);
/// How long it may take to close it.
const CLOSE: Duration = Duration::from_millis(700);

pub(crate) fn run(args: &RunArgs, color: Color) -> io::Result<Outcome> {
    if let Err(why) = args.check() {
        return Ok(refuse(Outcome::Unable, why));
    }
    let colours = color.on(&io::stderr());
    start_log(&args.log, colours);
    let setup = match Setup::read(args, colours) {
        Ok(setup) => setup,
        Err(outcome) => return Ok(outcome),
    };
    let input = match Input::open(&args.events) {
        Ok(input) => input,
        Err(unreadable) => {
            Printer::unreadable(&unreadable);
            return Ok(Outcome::Unable);
        }
    };
    let runtime = runtime(args)?;
    let outcome = runtime.block_on(async {
        let mut interrupts = Interrupts::listen()?;
        tokio::spawn(interrupt::end_in_time()?);
        let started = tokio::select! {
            biased;
            () = interrupts.next() => return Ok(refuse(Outcome::Bad, "interrupted while starting")),
            started = Run::start(setup, args, Printer { colours }) => started,
        };
        match started {
            Ok(run) => run.until_end(input, args, interrupts).await,
            Err(outcome) => Ok(outcome),
        }
    });
    // What still blocks has had its time.
    runtime.shutdown_background();
    outcome
}

/// Events that go one after the other need one thread, and are faster on it.
fn runtime(args: &RunArgs) -> io::Result<Runtime> {
    let one_by_one =
        args.place() == Place::Memory && args.in_flight.is_none_or(|in_flight| in_flight == 1);
    if one_by_one { Builder::new_current_thread() } else { Builder::new_multi_thread() }
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
    backends: Backends,
    outlet: Arc<Outlet>,
    printing: Printing,
    traffic: Traffic,
    intake: Intake,
    /// Takes in what is published to ingress queues.
    reading: JoinSet<()>,
    attendance: Attendance,
    since: Instant,
    /// The time at the start, milliseconds since the Unix epoch.
    started: i64,
}

impl Run {
    async fn start(mut setup: Setup, args: &RunArgs, printer: Printer) -> Result<Self, Outcome> {
        let started = SystemClock.now();
        let backends = open_when_free(&args.place(), Purpose::Run).await;
        let backends = backends.map_err(|error| refuse(Outcome::Unable, error))?;
        let intake = setup.ingress.open(&backends).await;
        let intake = intake.map_err(|error| refuse(Outcome::Unable, error))?;
        let topics = setup.share(&backends, args.print()).await?;
        let (outlet, printing) = Outlet::open(&backends, setup.answered(), topics, args.print());
        let (engine, agent) = setup.build(&backends, outlet.clone()).await?;
        let most = match (args.in_flight, backends.is_durable()) {
            (Some(most), _) => Some(usize::try_from(most).unwrap_or(usize::MAX)),
            (None, true) => None,
            (None, false) => Some(1),
        };
        let patience = (!args.is_live()).then_some(Traffic::SILENCE);
        let traffic = Traffic::new(backends.event_q(), outlet.clone(), most, patience);
        let traffic = traffic.with_intake(intake.clone());
        let Setup { sessions, patterns, ingress, .. } = setup;
        let attendance =
            Attendance::start(args, printer, &backends, &engine, &outlet, &sessions, patterns)
                .await?;
        let running = engine.start();
        let reading = ingress.start(&intake, &engine);
        if backends.is_durable() {
            let patterns = engine.library().all().count();
            if patterns == 0 {
                eprintln!("warning: there is no pattern yet, so no event starts a thred");
            }
            let patterns = count(patterns, "pattern");
            eprintln!("ready: {patterns}, store: {}", printable(&args.place().to_string()));
        }
        let since = Instant::now();
        Ok(Self {
            engine,
            running,
            agent,
            backends,
            outlet,
            printing,
            traffic,
            intake,
            reading,
            attendance,
            since,
            started,
        })
    }

    /// Works until the input has ended or somebody ends it, finishes, and says what it came to.
    async fn until_end(
        self,
        input: Input,
        args: &RunArgs,
        mut interrupts: Interrupts,
    ) -> io::Result<Outcome> {
        let Self { engine, running, agent, backends, outlet, printing, traffic, .. } = self;
        let (intake, reading) = (self.intake, self.reading);
        let durable = backends.is_durable();
        let mut feed = Feed::new(&engine, &traffic, durable);
        let mut given_up = None;
        let interrupted = tokio::select! {
                    biased;
                    () = outlet.reader_gone() => false,
                    () = interrupts.next() => true,
                    outdated = backends.left_behind() => {
                        given_up = Some(Unanswered(outdated.to_string()));
                        false
                    }
                    ended = async {
                        feed.all(input).await?;
                        if args.is_live() {
        std::future::pending().await
        } else {
        linger(&backends, args).await
        }
                    } => {
                        given_up = ended.err();
                        false
                    }
                };
        let end = Instant::now() + DRAIN;
        // Others have what is still there, or the next start.
        drop(reading);
        let ingress = intake.end();
        let mut ending = Ending::new(interrupts);
        // What others bring does not end; what the store holds is not lost.
        let settle = match (durable, backends.is_shared()) {
            (_, true) => Duration::ZERO,
            (true, false) => SETTLE,
            (false, _) => DRAIN,
        };
        let settling = async {
            tokio::select! {
                biased;
                () = outlet.reader_gone() => false,
                settled = traffic.settle_within(settle) => settled,
            }
        };
        let settled = ending.within(end, settling).await.unwrap_or(false);
        let took = self.since.elapsed();
        let counts = feed.into_counts();
        let mut drained = settled;
        if settled || durable && !ending.at_once() {
            let stopping = async {
                let done = running.shutdown().await;
                if let Some(agent) = agent {
                    agent.shutdown().await;
                }
                done
            };
            drained = ending.within(end, stopping).await.unwrap_or(false);
        }
        let asking = async {
            let remains = traffic.under_way().await.ok();
            (remains, summary::Dead::read(&backends, &outlet, self.started).await)
        };
        let asked = ending.within(Instant::now() + ASK, asking).await;
        let (remains, dead) = asked.unwrap_or_default();
        let mut summary = Summary {
            counts,
            ingress,
            interrupted,
            live: args.is_live(),
            drained: drained && given_up.is_none(),
            given_up,
            undone: if durable { Some(0) } else { remains },
            left: if durable { remains } else { Some(0) },
            written: true,
            messages: outlet.printed(),
            tally: backends.tally(),
            living: backends.tally().filter(|_| !durable).map(|tally| tally.live()),
            dead,
            took,
        };
        // A slow reader is waited for, but not against the user's will.
        let patient = !interrupted && summary.drained;
        // What is kept nowhere else is printed first, unless ever more of it comes.
        let mut finishing = pin!(printing.finish(&outlet, !durable && settled));
        let mut finished = if patient {
            ending.unless_at_once(finishing.as_mut()).await
        } else {
            ending.within(end, finishing.as_mut()).await
        };
        if finished.is_none() {
            // The work may have taken all the time, or a signal has come: a reader that keeps up has
            // not had the last of it yet, and is not to blame.
            finished = ending.within(Instant::now() + WRITE, finishing.as_mut()).await;
        }
        let (written, confirming) = finished.unzip();
        summary.messages = outlet.printed();
        summary.written = matches!(written, Some(Ok(())));
        if let Some(confirming) = confirming {
            if patient {
                ending.unless_at_once(confirming).await
            } else {
                ending.within(end.max(Instant::now() + CONFIRM), confirming).await
            };
        }
        drop(self.attendance);
        ending.within(Instant::now() + CLOSE, backends.close()).await;
        written.transpose()?;
        summary.print(args.json)?;
        Ok(summary.outcome())
    }
}

/// Gives timers their time after the end of the input.
///
/// # Errors
/// The store is silent for longer than is waited for.
async fn linger(backends: &Backends, args: &RunArgs) -> Result<(), Unanswered> {
    let look = Duration::from_millis(if backends.is_durable() { 100 } else { 10 });
    let longest = if args.wait { Duration::MAX } else { args.linger.unwrap_or_default() };
    let since = Instant::now();
    let mut silence = Silence::new(Some(Traffic::SILENCE));
    while since.elapsed() < longest {
        match silence.bound(backends.any_lives()).await {
            Ok(true) => silence.over(),
            Ok(false) => return Ok(()),
            Err(error) => silence.goes_on(&error)?,
        }
        tokio::time::sleep(look.min(longest - since.elapsed().min(longest))).await;
    }
    Ok(())
}
