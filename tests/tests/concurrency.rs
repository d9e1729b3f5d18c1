//! Engines that run at the same time on the same backends.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use thred_tests::evidence::{Evidence, check_invariants};
use thredcore::{
    Engine, EngineConfig, Ports, Running,
    memory::{
        MemoryEventQ, MemoryEventQConfig, MemoryMessageQ, MemoryMessageQConfig, MemoryStorage,
        MemoryStorageConfig,
    },
    port::{EventQ, FixedDirectory, LimitStore, LogType, RecordStore, SystemClock, ThredStore},
    thred::started_id,
};
use thredlib::{ConditionBuilder, Event, PatternBuilder, PatternModel, ReactionBuilder, ThredId};

struct Backends {
    event_q: Arc<MemoryEventQ>,
    message_q: Arc<MemoryMessageQ>,
    storage: Arc<MemoryStorage>,
}

impl Backends {
    fn new() -> Self {
        Self::with(MemoryEventQConfig::default(), MemoryMessageQConfig::default())
    }

    fn with(events: MemoryEventQConfig, messages: MemoryMessageQConfig) -> Self {
        let storage = MemoryStorageConfig::default().history_records(1_000_000);
        Self {
            event_q: Arc::new(MemoryEventQ::new(events)),
            message_q: Arc::new(MemoryMessageQ::new(messages)),
            storage: Arc::new(MemoryStorage::new(storage)),
        }
    }

    fn ports(&self) -> Ports {
        Ports {
            event_q: self.event_q.clone(),
            message_q: self.message_q.clone(),
            storage: self.storage.clone(),
            resolver: Arc::new(FixedDirectory::default()),
            clock: Arc::new(SystemClock),
        }
    }

    async fn engine(&self, pattern: &PatternModel) -> Engine {
        let mut config = EngineConfig::default();
        config.sweep_interval = Duration::from_millis(50);
        config.relay_age = Duration::from_millis(50);
        let builder = Engine::builder().ports(self.ports()).config(config);
        builder.pattern(pattern.clone()).build().await.unwrap()
    }

    /// Checks the invariants of what is left, once nothing is.
    async fn judge(&self, accepted: Vec<Arc<Event>>) -> Evidence {
        let published = self.message_q.take_all();
        let config = EngineConfig::default();
        let ports = self.ports();
        let evidence = Evidence::gather(&ports, &config, accepted, published).await.unwrap();
        check_invariants(&evidence).unwrap();
        evidence
    }
}

/// Starts on `start`, counts every `step`, ends on `end`.
fn counter() -> PatternModel {
    let start = ConditionBuilder::filter("$event.type = 'start'");
    let step = ConditionBuilder::filter("$event.type = 'step'")
        .on_true("$setLocal('n', $local('n') ? $local('n') + 1 : 1)")
        .transform(json!({ "title": "$xpr($string($local('n')))" }))
        .publish("bob")
        .transition("$noTransition");
    let end = ConditionBuilder::filter("$event.type = 'end'").transition("$terminate");
    PatternBuilder::new("counter")
        .reaction(ReactionBuilder::new("start").condition(start))
        .reaction(ReactionBuilder::new("count").condition(ConditionBuilder::or([step, end])))
        .build()
}

fn start(id: impl ToString) -> Event {
    Event::builder("start", format!("ann{}", id.to_string().len()))
        .id(format!("start{}", id.to_string()))
        .build()
}

fn thred(id: impl ToString) -> ThredId {
    started_id(&thred_tests::filters::consumed(&start(id)).key, &"counter".into())
}

fn step(kind: &str, id: impl ToString, thred: ThredId, source: &str) -> Event {
    Event::builder(kind, source).id(id.to_string()).thred(thred).build()
}

async fn accept(engine: &Engine, accepted: &mut Vec<Arc<Event>>, events: Vec<Event>) {
    accepted.extend(events.iter().cloned().map(Arc::new));
    engine.accept(events).await.unwrap();
}

async fn idle(running: &Running) {
    tokio::time::timeout(Duration::from_secs(60), running.idle()).await.expect("it comes to rest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_over_engines() {
    const ROOM: usize = 7;
    let mut pattern = counter();
    pattern.max_instances = Some(ROOM as u64);
    let backends = Backends::new();
    let engines = [backends.engine(&pattern).await, backends.engine(&pattern).await];
    let running = engines.each_ref().map(Engine::start);
    let mut accepted = Vec::new();
    for round in 0..20 {
        let starts = (0..100).map(|n| {
            let id = format!("start{round}-{n}");
            Event::builder("start", format!("source{n}")).id(id).build()
        });
        for (number, event) in starts.enumerate() {
            accept(&engines[number % 2], &mut accepted, vec![event]).await;
        }
        idle(&running[0]).await;
        let live = backends.storage.reserved(&"counter".into(), None, 1_000).await.unwrap();
        assert_eq!(live.len(), ROOM);
        for id in live {
            let event = step("end", format!("end{round}{id}"), id, "bob");
            accept(&engines[0], &mut accepted, vec![event]).await;
        }
        idle(&running[0]).await;
    }
    for running in running {
        assert!(running.shutdown().await);
    }
    let evidence = backends.judge(accepted).await;
    assert_eq!(evidence.threds.len(), 20 * ROOM);
    // Records stand in the order of the commits.
    let mut live = HashSet::new();
    for record in backends.storage.log(usize::MAX).await.unwrap() {
        let Some(thred) = record.thred_id else { continue };
        match record.log_type {
            LogType::Terminated => assert!(live.remove(&thred)),
            _ if record.to.as_deref() == Some("count") => assert!(live.insert(thred)),
            _ => {}
        }
        assert!(live.len() <= ROOM, "{} at one time", live.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_engines_that_race_for_a_thred_lose_and_double_nothing() {
    let backends = Backends::new();
    let engines = [backends.engine(&counter()).await, backends.engine(&counter()).await];
    engines[0].accept(vec![start("x")]).await.unwrap();
    let deliveries = async |partition| backends.event_q.receive(partition, 1_000).await.unwrap();
    let first = (0..backends.event_q.partitions()).map(async |partition| {
        tokio::time::timeout(Duration::from_millis(5), deliveries(partition)).await.ok()
    });
    for received in futures::future::join_all(first).await.into_iter().flatten() {
        engines[0].process(received).await.unwrap();
    }
    // No queue would do this: it has one consumer for a partition. The commit is what decides.
    let steps: Vec<_> = (0..400).map(|n| step("step", n, thred("x"), "bob")).collect();
    let mut accepted = vec![Arc::new(start("x"))];
    accepted.extend(steps.iter().cloned().map(Arc::new));
    engines[0].accept(steps.clone()).await.unwrap();
    engines[1].accept(steps).await.unwrap();
    let work = engines.map(|engine| {
        let event_q = backends.event_q.clone();
        tokio::spawn(async move {
            loop {
                let partitions = (0..event_q.partitions()).map(|n| event_q.receive(n, 3));
                let partitions = partitions.collect::<Vec<_>>();
                let next = futures::future::select_all(partitions);
                match tokio::time::timeout(Duration::from_millis(500), next).await {
                    Ok((received, ..)) => engine.process(received.unwrap()).await.unwrap(),
                    Err(_) => return,
                }
            }
        })
    });
    futures::future::try_join_all(work).await.unwrap();
    let history = backends.storage.history(&thred("x"), None, usize::MAX).await.unwrap();
    let moved: HashSet<_> = history.iter().map(|step| &step.log[0].event).collect();
    assert_eq!(moved.len(), 401, "every event moved the thred");
    assert!(history.len() >= 401);
    let state = backends.storage.load(&[thred("x")]).await.unwrap().remove(0).unwrap().state;
    assert_eq!(state.version as usize, history.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_finishes_what_is_at_hand_and_the_next_engine_does_the_rest() {
    let backends = Backends::new();
    let mut accepted = Vec::new();
    let engine = backends.engine(&counter()).await;
    accept(&engine, &mut accepted, (0..50).map(start).collect()).await;
    let running = engine.start();
    idle(&running).await;
    assert!(running.shutdown().await);
    let engine = backends.engine(&counter()).await;
    for n in 0..5_000 {
        let event = step("step", n, thred(n % 50), "bob");
        accept(&engine, &mut accepted, vec![event]).await;
    }
    let running = engine.start();
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(running.shutdown().await, "drained in time");
    assert_eq!(backends.event_q.redeliver_unacked(), 0, "nothing is half done");
    let left = backends.event_q.depth().await.unwrap();
    let running = backends.engine(&counter()).await.start();
    idle(&running).await;
    assert!(running.shutdown().await);
    println!("{left} events were left to the second engine");
    let evidence = backends.judge(accepted).await;
    let counted: i64 =
        evidence.threds.iter().map(|it| it.state.locals["n"].as_i64().unwrap()).sum();
    assert_eq!(counted, 5_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_consumers_nobody_waits_and_messages_keep_their_order() {
    const EVENTS: usize = 200;
    const MESSAGES: usize = 50;
    let backends = Backends::with(
        MemoryEventQConfig::default().capacity(EVENTS),
        MemoryMessageQConfig::default().capacity(MESSAGES),
    );
    let engine = backends.engine(&counter()).await;
    let running = engine.start();
    engine.accept(vec![start("x")]).await.unwrap();
    idle(&running).await;
    let caller = {
        let engine = engine.clone();
        tokio::spawn(async move {
            for n in 0..3_000 {
                engine.accept(vec![step("step", n, thred("x"), "bob")]).await.unwrap();
            }
        })
    };
    tokio::time::timeout(Duration::from_secs(60), caller).await.expect("nobody waits").unwrap();
    idle(&running).await;
    let topic = "org.wt.session".into();
    let message_q = engine.message_q().clone();
    assert_eq!(message_q.depth(&topic).await.unwrap(), MESSAGES);
    let (mut titles, mut ids) = (Vec::new(), HashSet::new());
    while titles.len() < 3_000 {
        let batch = message_q.receive(std::slice::from_ref(&topic), 100);
        let batch = tokio::time::timeout(Duration::from_secs(20), batch).await.unwrap().unwrap();
        // What waits for long is published again by the relay, under the same id.
        let messages = batch.iter().map(|it| &it.payload.message);
        let first = messages.filter(|message| ids.insert(message.id.clone()));
        titles.extend(first.map(|message| message.event.title().unwrap().to_owned()));
        let tags: Vec<_> = batch.iter().map(|it| it.tag).collect();
        message_q.ack(&tags).await.unwrap();
    }
    assert!(titles.iter().map(|title| title.parse::<usize>().unwrap()).eq(1..=3_000));
    idle(&running).await;
    assert!(running.shutdown().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_thred_does_not_stop_the_others() {
    let backends = Backends::new();
    let engine = backends.engine(&counter()).await;
    let mut accepted = Vec::new();
    accept(&engine, &mut accepted, (0..20).map(start).collect()).await;
    let running = engine.start();
    idle(&running).await;
    let hot = (0..20_000).map(|n| step("step", format!("hot{n}"), thred(0), "bob"));
    engine.accept(hot.collect()).await.unwrap();
    let cool = (1..20).map(|n| step("step", format!("cool{n}"), thred(n), "bob"));
    engine.accept(cool.collect()).await.unwrap();
    let ids: Vec<_> = (1..20).map(thred).collect();
    let partitions: HashMap<_, _> = ids.iter().map(|id| (id, ())).collect();
    let mut waited = Duration::ZERO;
    loop {
        let threds = backends.storage.load(&ids).await.unwrap();
        let moved = threds.iter().flatten().filter(|it| it.state.version == 2).count();
        // Threds of the hot one's partition stand in one line with it: some 1 of 16.
        if moved + 5 >= partitions.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        waited += Duration::from_millis(1);
        assert!(waited < Duration::from_secs(30), "only {moved} have moved");
    }
    let left = backends.event_q.depth().await.unwrap();
    assert!(left > 0, "the hot thred was done before the others");
    idle(&running).await;
    assert!(running.shutdown().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_events_of_a_thousand_threds_in_order() {
    const THREDS: usize = 1_000;
    const STEPS: usize = 100;
    let backends = Backends::new();
    let engine = backends.engine(&counter()).await;
    let running = engine.start();
    engine.accept((0..THREDS).map(start).collect()).await.unwrap();
    idle(&running).await;
    let consumer = {
        let message_q = backends.message_q.clone();
        tokio::spawn(async move {
            let mut seen: HashMap<ThredId, usize> = HashMap::new();
            for _ in 0..THREDS * STEPS {
                let delivery = message_q.receive_any(1).await.unwrap().remove(0);
                let event = &delivery.payload.message.event;
                let title = event.title().unwrap_or_else(|| panic!("not a count: {event:?}"));
                let number: usize = title.parse().unwrap();
                let last = seen.entry(event.thred_id.clone().unwrap()).or_default();
                assert_eq!(number, *last + 1, "in order, each once");
                *last = number;
                thredcore::port::MessageQ::ack(&*message_q, &[delivery.tag]).await.unwrap();
            }
            seen
        })
    };
    for n in 0..STEPS {
        let round = (0..THREDS).map(|t| step("step", format!("{t}.{n}"), thred(t), "bob"));
        engine.accept(round.collect()).await.unwrap();
    }
    let seen = tokio::time::timeout(Duration::from_secs(120), consumer).await.unwrap().unwrap();
    assert!(seen.values().all(|count| *count == STEPS) && seen.len() == THREDS);
    idle(&running).await;
    assert!(running.shutdown().await);
    for t in 0..THREDS {
        let history = backends.storage.history(&thred(t), None, 1).await.unwrap();
        assert_eq!(history[0].version as usize, STEPS + 1);
    }
}
