//! Timers while engines are killed: each fires once, none early.

use std::{collections::HashMap, sync::Arc, time::Duration};

use thred_tests::{
    chaos::{
        backend::BackendSpec,
        fleet::{Fleet, FleetSpec},
        load::PATIENCE,
        patterns::{timer, timer_event, timer_of},
        scale,
    },
    evidence::{Evidence, Past},
};
use thredcore::{port::LogType, state::Status};

use crate::support::{RECOVERY, dice, judge, on_files, on_redis, spec};

async fn timers_fire_once(backend: BackendSpec, engines: usize) {
    let mut dice = dice("timers");
    let count: u32 = scale(3_000, 100_000);
    let kills = scale(4, 20);
    let intervals = scale([500, 1_500, 3_000], [2_000, 15_000, 30_000]);
    let patterns = intervals.iter().map(|interval| timer(*interval)).collect();
    let fleet = Fleet::start(FleetSpec { engines, ..spec(backend, patterns) }).await;
    let fleet = Arc::new(fleet);
    let numbers: Vec<u32> = (0..count).collect();
    let mut of_load = dice.clone();
    let arm = async {
        for some in numbers.chunks(64) {
            let some = some.iter();
            let events = some.map(|it| timer_event(*it, intervals[of_load.pick(3)])).collect();
            fleet.accept(events).await;
        }
    };
    let kill = async {
        for kill in 0..kills {
            fleet.ledger.reach(count as usize * kill / kills, PATIENCE).await;
            tokio::time::sleep(Duration::from_millis(dice.below(100))).await;
            fleet.kill(dice.pick(engines)).await;
        }
    };
    tokio::join!(arm, kill);
    fleet.ledger.reach(count as usize, PATIENCE).await;
    fleet.drain(RECOVERY).await;
    check(&judge(&fleet).await, count);
}

/// Each of so many timers fired once, and none early by the clock of the engine that did it.
pub(crate) fn check(evidence: &Evidence, count: u32) {
    let mut fired: HashMap<&str, u32> = HashMap::new();
    let is_timer = |past: &&Past| past.state.pattern.id.as_str().starts_with("timer");
    for past in evidence.threds.iter().filter(is_timer) {
        let state = &past.state;
        assert_eq!((state.status, state.version), (Status::Terminated, 2), "{state:?}");
        let expiries = past.history.iter().flat_map(|step| &step.log);
        let expiries = expiries.filter(|record| record.log_type == LogType::Expired).count();
        assert_eq!(expiries, 1, "{state:?}");
        for message in past.history.iter().flat_map(|step| &step.messages) {
            let (timer, late) = timer_of(&message.event).expect("a timer's message");
            assert!(late.is_some_and(|late| late >= 0), "{timer} was early: {late:?} ms");
            *fired.entry(timer).or_default() += 1;
        }
    }
    assert_eq!(fired.len(), count as usize, "timers are missing");
    assert!(fired.values().all(|times| *times == 1), "a timer fired twice");
}

#[test]
fn timers_on_files_fire_once() {
    on_files(timers_fire_once);
}

#[test]
fn timers_on_redis_fire_once() {
    on_redis(timers_fire_once);
}
