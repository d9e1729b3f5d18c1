//! The client of a benchmark: sends events as JSON bytes, takes messages as JSON bytes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use thredcore::{
    Engine,
    port::{Delivery, Directory, Routed},
};
use thredlib::{Event, Topic, json::View};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{
    Failure, PATIENCE,
    observe::Observed,
    report::Latency,
    send::Sender,
    workload::{self, Workload},
};

type Tell = Arc<dyn Fn(&'static str, usize, usize) + Send + Sync>;

/// Events that are handed over at one time.
const BATCH: usize = 256;
/// Conversations that are open at one time.
const INTERLEAVED: usize = 4_096;
/// Events of the hot thred that are under way at one time.
const HOT: usize = 8_192;

/// What a run gave.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub(super) events: usize,
    pub(super) messages: usize,
    pub(super) seconds: f64,
    pub(super) latency: Latency,
    /// Timers that fired before they were due.
    pub(super) early: usize,
}

/// Sends and receives.
#[derive(Clone)]
pub(super) struct Client {
    engine: Engine,
    topics: Arc<[Topic]>,
    /// Batches that may be handed over at one time.
    depth: usize,
    storage: Arc<Observed>,
    tell: Tell,
    /// Threds that wait for what concerns them.
    waiting: usize,
    runs: Arc<AtomicUsize>,
}

/// The events of one run and when each was sent.
struct Track {
    since: Instant,
    /// Microseconds after `since`, by number; one more than the time, 0: not sent.
    sent: Vec<AtomicU64>,
}

impl Track {
    fn new(numbers: usize) -> Self {
        let sent = std::iter::repeat_with(AtomicU64::default).take(numbers).collect();
        Self { since: Instant::now(), sent }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn send(&self, n: usize) {
        self.sent[n].store(self.now() + 1, Ordering::Relaxed);
    }

    fn end(&self, events: usize, latencies: Vec<u64>) -> Run {
        Run {
            events,
            messages: latencies.len(),
            seconds: self.since.elapsed().as_secs_f64(),
            latency: Latency::of(latencies),
            early: 0,
        }
    }

    fn took(&self, n: usize) -> u64 {
        (self.now() + 1).saturating_sub(self.sent[n].load(Ordering::Relaxed))
    }
}

impl Client {
    /// Sends to an engine on a storage, and takes what goes out by its queue.
    pub(super) fn new(engine: Engine, depth: usize, storage: Arc<Observed>, tell: Tell) -> Self {
        let topics = [Topic::from(Directory::DEFAULT_NODE)].into();
        Self { engine, topics, depth, storage, tell, waiting: 0, runs: Arc::default() }
    }

    /// So many threds wait, each under a key of its own.
    pub(super) fn waiting(mut self, threds: usize) -> Self {
        self.waiting = threds;
        self
    }

    /// Does a workload, at a rate (events each second) or as fast as it goes.
    pub(super) async fn run(
        &self,
        workload: Workload,
        events: usize,
        rate: Option<f64>,
    ) -> Result<Run, Failure> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        match workload {
            Workload::W1 | Workload::W3 => self.singles(run, events, rate).await,
            Workload::W2 | Workload::W4 => self.conversations(run, events / 3, rate).await,
            Workload::W5 => self.hot(run, events, rate).await,
            Workload::W6 => Err("W6 has no events to repeat".into()),
            Workload::W7 => self.concerns(run, events, rate).await,
        }
    }

    /// Every event starts a thred; one message ends it.
    async fn singles(&self, run: usize, events: usize, rate: Option<f64>) -> Result<Run, Failure> {
        let track = Arc::new(Track::new(events));
        let (client, sent) = (self.clone(), track.clone());
        let producer = produce(rate, async move {
            let write = |n, out: &mut Vec<u8>| {
                sent.send(n);
                workload::start_event(out, run, n);
            };
            client.send_all(events, Pace::new(rate), |_| false, write).await
        });
        let mut latencies = Vec::with_capacity(events);
        self.receive(events, |n, _| {
            latencies.push(track.took(n));
            None
        })
        .await?;
        producer.await??;
        Ok(track.end(events, latencies))
    }

    /// Every event concerns one of the threds that wait, found by its key.
    async fn concerns(&self, run: usize, events: usize, rate: Option<f64>) -> Result<Run, Failure> {
        let track = Arc::new(Track::new(events));
        let (client, sent, waiting) = (self.clone(), track.clone(), self.waiting.max(1));
        let producer = produce(rate, async move {
            let write = |n, out: &mut Vec<u8>| {
                sent.send(n);
                workload::concern_event(out, run, n, n % waiting);
            };
            client.send_all(events, Pace::new(rate), |_| false, write).await
        });
        let mut latencies = Vec::with_capacity(events);
        self.receive(events, |n, _| {
            latencies.push(track.took(n));
            None
        })
        .await?;
        producer.await??;
        Ok(track.end(events, latencies))
    }

    /// Three events and three messages each; the client answers each message but the last.
    async fn conversations(
        &self,
        run: usize,
        conversations: usize,
        rate: Option<f64>,
    ) -> Result<Run, Failure> {
        let track = Arc::new(Track::new(conversations));
        let stages: Vec<_> =
            std::iter::repeat_with(|| AtomicU64::new(0)).take(conversations).collect();
        let (answers, mut answered) = mpsc::unbounded_channel::<(usize, usize, Arc<str>)>();
        let (done, mut finished) = mpsc::unbounded_channel::<()>();
        let (mut sender, sent) = (self.sender(), track.clone());
        let producer = produce(rate, async move {
            let mut pace = Pace::new(rate.map(|rate| rate / 3.0));
            let (mut started, mut ended) = (0, 0);
            let mut batch = Vec::with_capacity(BATCH);
            while ended < conversations {
                while finished.try_recv().is_ok() {
                    ended += 1;
                }
                let room = INTERLEAVED.saturating_sub(started - ended);
                let most = room.min(conversations - started).min(BATCH);
                if most > 0 {
                    let now = pace.next(most);
                    sender
                        .send(now, |i, out| {
                            sent.send(started + i);
                            workload::start_event(out, run, started + i);
                        })
                        .await?;
                    started += now;
                }
                batch.clear();
                while batch.len() < BATCH
                    && let Ok(answer) = answered.try_recv()
                {
                    batch.push(answer);
                }
                if batch.is_empty() && most == 0 && ended < conversations {
                    tokio::select! {
                        Some(answer) = answered.recv() => batch.push(answer),
                        Some(()) = finished.recv() => ended += 1,
                        else => break,
                    }
                }
                sender
                    .send(batch.len(), |i, out| {
                        let (n, stage, thred) = &batch[i];
                        sent.send(*n);
                        workload::next_event(out, run, *n, *stage, thred);
                    })
                    .await?;
            }
            sender.finish().await
        });
        let mut latencies = Vec::with_capacity(conversations * 3);
        self.receive(conversations * 3, |n, event| {
            latencies.push(track.took(n));
            let stage = usize::try_from(stages[n].fetch_add(1, Ordering::Relaxed)).unwrap_or(0) + 1;
            let told = match (stage, &event.thred_id) {
                (1 | 2, Some(thred)) => {
                    answers.send((n, stage, thred.as_arc().clone())).map_err(|_| ())
                }
                _ => done.send(()).map_err(|_| ()),
            };
            told.err().map(|()| "the producer has gone".into())
        })
        .await?;
        drop((answers, done));
        producer.await??;
        Ok(track.end(conversations * 3, latencies))
    }

    /// All events are bound to one thred.
    async fn hot(&self, run: usize, events: usize, rate: Option<f64>) -> Result<Run, Failure> {
        let id = if run == 0 {
            let mut sender = self.sender();
            sender.send(1, |_, out| workload::start_event(out, 0, 0)).await?;
            sender.finish().await?;
            let first = self.next_messages().await?;
            first[0].payload.message.event.thred_id.clone()
        } else {
            let start = thredlib::EventKey::of("sensor-0", "s0-0");
            Some(thredcore::thred::started_id(&start, &thredlib::PatternId::from("bench_hot")))
        };
        let thred = id.ok_or("the first message names no thred")?;
        let track = Arc::new(Track::new(events));
        let (client, sent) = (self.clone(), track.clone());
        let received = Arc::new(AtomicUsize::new(0));
        let behind = received.clone();
        let producer = produce(rate, async move {
            let write = |n, out: &mut Vec<u8>| {
                sent.send(n);
                workload::next_event(out, run, n, 1, thred.as_str());
            };
            let is_ahead = |n| n - behind.load(Ordering::Relaxed) >= HOT;
            client.send_all(events, Pace::new(rate), is_ahead, write).await
        });
        let mut latencies = Vec::with_capacity(events);
        self.receive(events, |n, _| {
            latencies.push(track.took(n));
            received.fetch_add(1, Ordering::Relaxed);
            None
        })
        .await?;
        producer.await??;
        Ok(track.end(events, latencies))
    }

    /// Opens threds and leaves them so; says how many.
    pub(super) async fn open(&self, threds: usize) -> Result<usize, Failure> {
        let tell = |n| {
            (self.tell)("threds opened", n, threds);
            false
        };
        let write = |n, out: &mut Vec<u8>| workload::open_event(out, n);
        self.send_all(threds, Pace::new(None), tell, write).await?;
        self.quiet().await?;
        Ok(threds)
    }

    /// Arms timers and waits until all have fired.
    pub(super) async fn timers(&self, timers: usize) -> Result<Run, Failure> {
        let storage = &self.storage;
        let since = Instant::now();
        let ended = storage.ended();
        let tell = |n| {
            (self.tell)("timers armed", n, timers);
            false
        };
        let write = |n, out: &mut Vec<u8>| workload::timer_event(out, n);
        self.send_all(timers, Pace::new(None), tell, write).await?;
        let mut fired = 0;
        let mut moved = Instant::now();
        while fired < timers {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = storage.ended() - ended;
            if now > fired {
                moved = Instant::now();
            } else if moved.elapsed() > PATIENCE {
                return Err(format!("only {fired} of {timers} timers fired").into());
            }
            fired = now;
            (self.tell)("timers fired", fired, timers);
        }
        let lateness = storage.lateness();
        let early = lateness.iter().filter(|ms| **ms < 0).count();
        let micros = lateness.into_iter().map(|ms| u64::try_from(ms).unwrap_or(0) * 1000);
        Ok(Run {
            events: timers,
            messages: 0,
            seconds: since.elapsed().as_secs_f64(),
            latency: Latency::of(micros.collect()),
            early,
        })
    }

    fn sender(&self) -> Sender {
        Sender::new(self.engine.clone(), self.depth)
    }

    /// Hands over events by number, at a pace; waits while that would lead too far ahead of the
    /// messages.
    async fn send_all(
        &self,
        events: usize,
        mut pace: Pace,
        is_ahead: impl Fn(usize) -> bool,
        mut write: impl FnMut(usize, &mut Vec<u8>),
    ) -> Result<(), String> {
        let mut sender = self.sender();
        let mut n = 0;
        while n < events {
            while is_ahead(n) {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            let batch = pace.next(BATCH.min(events - n));
            sender.send(batch, |i, out| write(n + i, out)).await?;
            n += batch;
        }
        sender.finish().await
    }

    /// Takes messages until so many have come; each is written as JSON.
    async fn receive(
        &self,
        messages: usize,
        mut take: impl FnMut(usize, &Event) -> Option<String>,
    ) -> Result<(), Failure> {
        let mut bytes: Vec<u8> = Vec::with_capacity(1024);
        let mut came = 0;
        while came < messages {
            let deliveries = self.next_messages().await?;
            let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
            for delivery in deliveries {
                let message = &delivery.payload.message;
                bytes.clear();
                serde_json::to_writer(&mut bytes, message)?;
                let n = message.event.view_named("n").and_then(View::as_u64);
                let n = n.and_then(|n| usize::try_from(n).ok()).ok_or("a message has no number")?;
                came += 1;
                if let Some(thred) = &message.event.thred_id {
                    self.storage.stages.received(thred);
                }
                if let Some(failure) = take(n, &message.event) {
                    return Err(failure.into());
                }
            }
            self.engine.message_q().ack(&tags).await?;
            (self.tell)("messages", came, messages);
        }
        Ok(())
    }

    async fn next_messages(&self) -> Result<Vec<Delivery<Routed>>, Failure> {
        match timeout(PATIENCE, self.engine.message_q().receive(&self.topics, BATCH)).await {
            Ok(received) => Ok(received?),
            Err(_) => Err(format!("no message came for {} s", PATIENCE.as_secs()).into()),
        }
    }

    /// Waits until no event is under way.
    async fn quiet(&self) -> Result<(), Failure> {
        while self.engine.event_q().depth().await? > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// How many threds have not ended.
    pub(super) async fn live_threds(&self) -> Result<usize, Failure> {
        self.quiet().await?;
        let mut query = thredcore::port::ThredQuery { limit: 100_000, ..Default::default() };
        let mut count = 0;
        loop {
            let page = self.engine.storage().threds(&query).await?;
            count += page.threds.len();
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(count),
            }
        }
    }
}

/// Runs a producer: as a task, or, if it is to keep to a rate, on a thread of its own, where it may
/// sleep.
fn produce(
    rate: Option<f64>,
    work: impl Future<Output = Result<(), String>> + Send + 'static,
) -> JoinHandle<Result<(), String>> {
    match rate {
        None => tokio::spawn(work),
        Some(_) => {
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || runtime.block_on(work))
        }
    }
}

/// Spreads events over time.
struct Pace {
    since: Instant,
    rate: Option<f64>,
    sent: usize,
}

impl Pace {
    fn new(rate: Option<f64>) -> Self {
        Self { since: Instant::now(), rate, sent: 0 }
    }

    /// How many events may be sent now, of so many; waits until there is one.
    fn next(&mut self, most: usize) -> usize {
        /// Seconds that a pause takes.
        const SHORTEST: f64 = 50e-6;
        const LONGEST: f64 = 10e-3;
        let Some(rate) = self.rate else { return most };
        loop {
            let due = (self.since.elapsed().as_secs_f64() * rate) as usize;
            let now = due.saturating_sub(self.sent).min(most);
            if now > 0 {
                self.sent += now;
                return now;
            }
            // The runtime's timers have a grain of a millisecond: too coarse to spread events.
            let next = (self.sent + 1) as f64 / rate - self.since.elapsed().as_secs_f64();
            std::thread::sleep(Duration::from_secs_f64(next.clamp(SHORTEST, LONGEST)));
        }
    }
}
