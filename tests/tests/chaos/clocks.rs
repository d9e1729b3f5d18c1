//! Engines whose clocks differ.

use std::{sync::Arc, time::Duration};

use thred_tests::chaos::{
    fleet::{Fleet, FleetSpec},
    load::{Load, PATIENCE},
    patterns::{armed_of, recorder, timer, timer_event, timer_of},
    scale,
};
use thredcore::{EngineConfig, port::EventQ};

use crate::{
    support::{RECOVERY, dice, judge, limit, redis, run, spec},
    timers::check,
};

/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(5);

/// Events that may wait when more timers are armed.
const WAITING: usize = 200;

/// Three engines: the clock of one is right, those of the others are ahead, by half of it and by all
/// of it.
async fn clocks_differ(ahead: i64, kills: usize) {
    let mut dice = dice(&format!("clocks {ahead}"));
    let (_server, backend) = redis().await;
    let intervals = [500, 1_500, 3_000, 6_000];
    let patterns: Vec<_> = intervals.iter().map(|interval| timer(*interval)).collect();
    let spec = FleetSpec {
        engines: 3,
        clocks: vec![0, ahead / 2, ahead],
        ..spec(backend, [vec![recorder()], patterns].concat())
    };
    let fleet = Arc::new(Fleet::start(spec).await);
    let count: u32 = scale(600, 20_000);
    let mut of_load = dice.clone();
    let event_q: &dyn EventQ = &*fleet.ports().event_q;
    let arm = async {
        for some in (0..count).collect::<Vec<_>>().chunks(32) {
            let some = some.iter();
            let events = some.map(|it| timer_event(*it, intervals[of_load.pick(4)])).collect();
            fleet.accept(events).await;
            // Over some seconds, and no faster than engines can work: a timer that waits behind other
            // events is late for another reason.
            tokio::time::sleep(Duration::from_millis(50)).await;
            while event_q.depth().await.is_ok_and(|depth| depth > WAITING) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    // Events that are no timers' are not held up either.
    let mut of_marks = dice.clone();
    let load = Load { pace: Some(200), ..Load::new(10, scale(20, 200)) };
    let marks = load.run(fleet.clone(), &mut of_marks);
    let killed = async {
        for kill in 0..kills {
            fleet.ledger.reach((count as usize + load.total()) * kill / kills, PATIENCE).await;
            fleet.kill(dice.pick(3)).await;
        }
    };
    tokio::join!(arm, marks, killed);
    fleet.ledger.reach(count as usize + load.total(), PATIENCE).await;
    fleet.drain(RECOVERY).await;
    let received = fleet.ledger.timers();
    let evidence = judge(&fleet).await;
    check(&evidence, count);
    // By the machine's clock: the engine that armed a timer may have been ahead, and the one that
    // fires it too.
    let sweep = EngineConfig::default().timer_interval;
    let most = Duration::from_millis(ahead.unsigned_abs()) + sweep + SLACK;
    let (mut earliest, mut latest) = (i64::MAX, i64::MIN);
    for past in &evidence.threds {
        for message in past.history.iter().flat_map(|step| &step.messages) {
            let Some((timer, _)) = timer_of(&message.event) else { continue };
            let armed = armed_of(&message.event).expect("when it was armed");
            let interval = timer_interval(past.state.pattern.id.as_str());
            let late = received[timer] - armed - interval;
            (earliest, latest) = (earliest.min(late), latest.max(late));
        }
    }
    println!("by the machine's clock {earliest} to {latest} ms late");
    assert!(earliest >= -ahead, "a timer was {} ms early", -earliest);
    // One whose engine was killed is found by another, which waits until the dead one's turn is over.
    let most = if kills > 0 { 2 * most } else { most };
    assert!(latest <= i64::try_from(most.as_millis()).unwrap_or(i64::MAX), "{latest} ms late");
}

fn timer_interval(pattern: &str) -> i64 {
    pattern.trim_start_matches("timer").parse().expect("a timer's pattern")
}

#[test]
fn clocks_differ_by_50_ms() {
    run(limit(), clocks_differ(50, 0));
}

#[test]
fn clocks_differ_by_5_s() {
    run(limit(), clocks_differ(5_000, 0));
}

#[test]
fn clocks_differ_by_5_s_and_engines_are_killed() {
    run(limit(), clocks_differ(5_000, scale(3, 20)));
}
