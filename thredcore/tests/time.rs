//! Time: clocks that differ, timers that fail, events that come after a deadline.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use common::{settle, threds};
use serde_json::json;
use thredcore::{
    Engine, EngineConfig, FiredTimers,
    memory::{MemoryEventQ, MemoryStorage, MemoryStorageConfig},
    port::{Clock, LogType},
    state::Status,
    testing::ManualClock,
};
use thredlib::{ConditionBuilder, Event, EventKey, PatternBuilder, PatternModel, ReactionBuilder};

fn on(kind: &str) -> ConditionBuilder {
    ConditionBuilder::filter(format!("$event.type = '{kind}'"))
}

/// Starts on an event, and ends so many milliseconds later.
fn timed(name: &str, start: &str, interval: u64) -> PatternModel {
    PatternBuilder::new(name)
        .reaction(ReactionBuilder::new("start").condition(on(start)))
        .reaction(ReactionBuilder::new("wait").condition(on("x")).expiry(interval, "$terminate"))
        .build()
}

/// One engine says that a timer is due, another one has the thred, and its clock is behind.
#[tokio::test]
async fn a_timer_is_punctual_between_engines_whose_clocks_differ() {
    for behind in [5, 5_000] {
        let (q, storage) = (Arc::new(MemoryEventQ::default()), Arc::new(MemoryStorage::default()));
        let clocks = [1_000_000, 1_000_000 - behind].map(|now| Arc::new(ManualClock::new(now)));
        let mut engines = Vec::new();
        for clock in &clocks {
            let engine = Engine::builder().event_q(q.clone()).storage(storage.clone());
            let engine = engine.clock(clock.clone()).pattern(timed("w", "start", 10_000));
            engines.push(engine.build().await.unwrap());
        }
        let [ahead, late] = &engines[..] else { unreachable!() };
        ahead.accept(vec![Event::builder("start", "ann").build()]).await.unwrap();
        settle(ahead).await;
        clocks[0].set(1_010_000);
        clocks[1].set(1_010_000 - behind);
        ahead.fire_due(&mut FiredTimers::default()).await.unwrap();
        settle(late).await;
        assert_eq!(threds(late).await[0].status, Status::Terminated, "{behind} ms behind");
    }
}

/// Timers whose steps fail are put off; ten thousand of them stand before no other.
#[tokio::test]
async fn timers_that_fail_hold_up_no_other() {
    let storage = Arc::new(MemoryStorage::new(MemoryStorageConfig::default().partitions(1)));
    let clock = Arc::new(ManualClock::new(1_000_000));
    let stuck: PatternModel = serde_json::from_value(json!({ "name": "stuck", "reactions": [
        { "name": "first", "condition": { "type": "filter", "xpr": "$event.type = 'stuck'" } },
        {
            "name": "wait",
            "condition": { "type": "filter", "xpr": "$event.type = 'answer'" },
            "expiry": {
                "interval": 1000,
                "transition": { "name": "again", "input": "local", "localName": "nothing" }
            }
        },
        { "name": "again", "condition": { "type": "filter", "xpr": "$event.type = 'answer'" } }
    ] }))
    .unwrap();
    let engine = Engine::builder().storage(storage).clock(clock.clone()).pattern(stuck);
    let engine = engine.pattern(timed("good", "good", 5_000)).build().await.unwrap();
    let stuck = |n| Event::builder("stuck", "ann").id(format!("s{n}")).build();
    engine.accept((0..10_000).map(stuck).collect()).await.unwrap();
    engine.accept(vec![Event::builder("good", "ann").id("g").build()]).await.unwrap();
    settle(&engine).await;
    let good = thredcore::thred::started_id(&EventKey::of("ann", "g"), &"good".into());
    let mut fired = FiredTimers::default();
    for second in 1..=5 {
        clock.set(1_000_000 + second * 1000);
        // What does not fit into one look comes with the next, at once.
        for _ in 0..4 {
            engine.fire_due(&mut fired).await.unwrap();
            settle(&engine).await;
        }
    }
    let loaded = engine.storage().load(&[good]).await.unwrap().remove(0).unwrap();
    assert_eq!(loaded.state.status, Status::Terminated);
}

/// The engine was down at the deadline; the event is there before the timer has fired.
#[tokio::test]
async fn an_unbound_event_after_a_deadline_meets_what_the_expiry_leads_to() {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let pattern = PatternBuilder::new("p")
        .reaction(ReactionBuilder::new("start").condition(on("start")))
        .reaction(
            ReactionBuilder::new("a").condition(on("x")).allow_unbound_events().expiry(1_000, "b"),
        )
        .reaction(ReactionBuilder::new("b").condition(on("y")).allow_unbound_events());
    let engine = Engine::builder().clock(clock.clone()).pattern(pattern.build());
    let engine = engine.build().await.unwrap();
    engine.accept(vec![Event::builder("start", "ann").build()]).await.unwrap();
    settle(&engine).await;
    clock.set(1_060_000);
    engine.accept(vec![Event::builder("y", "ann").build()]).await.unwrap();
    settle(&engine).await;
    assert_eq!(threds(&engine).await[0].status, Status::Terminated);
    let log = engine.storage().log(10).await.unwrap();
    assert!(log.iter().all(|record| record.log_type != LogType::NoPatternMatch), "{log:?}");
}

/// A clock that can be set back.
#[derive(Debug)]
struct WallClock(AtomicI64);

impl Clock for WallClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Nobody but the store knows of the timer: who armed it does not run.
#[tokio::test]
async fn a_clock_that_is_set_back_holds_up_no_timer() {
    const HOUR: i64 = 3_600_000;
    let (q, storage) = (Arc::new(MemoryEventQ::default()), Arc::new(MemoryStorage::default()));
    let clock = Arc::new(WallClock(AtomicI64::new(10 * HOUR)));
    let engine = async |config: EngineConfig| {
        let engine = Engine::builder().event_q(q.clone()).storage(storage.clone());
        let engine = engine.clock(clock.clone()).pattern(timed("w", "start", 10_000));
        engine.config(config).build().await.unwrap()
    };
    let mut config = EngineConfig::default();
    config.timer_interval = Duration::from_millis(20);
    let running = engine(config).await.start();
    // It has looked, and knows when to look again.
    tokio::time::sleep(Duration::from_millis(100)).await;
    clock.0.store(9 * HOUR, Ordering::SeqCst);
    let other = engine(EngineConfig::default()).await;
    other.accept(vec![Event::builder("start", "ann").build()]).await.unwrap();
    settle(&other).await;
    clock.0.store(9 * HOUR + 10_000, Ordering::SeqCst);
    for _ in 0..500 {
        let found = threds(&other).await;
        if found.first().is_some_and(|thred| thred.status == Status::Terminated) {
            running.shutdown().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        clock.0.fetch_add(20, Ordering::SeqCst);
    }
    panic!("the timer does not fire: {:?}", threds(&other).await);
}
