//! A server stands still when an engine is asked to end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use thred_tests::{
    chaos::{
        broker::Broker,
        fleet::{Fleet, FleetSpec},
        load::{Load, PATIENCE},
        mongod::Mongod,
        patterns::recorder,
        scale,
        services::Frozen,
    },
    seed::Dice,
};

use crate::{
    deployment::{self, DRAINED, Deployment, ENGINES, Threds, judged, start, usual_load},
    support::{DISTURBED, RECOVERY, dice, judge_in, limit, redis, run, spec, under_load},
};

/// What is promised of SIGTERM.
const PROMISED: Duration = Duration::from_secs(10);

/// Freezes a server, ends some engines, has the server go on, and starts others in their place.
async fn ends_in_time(fleet: &Fleet, freeze: impl Fn() -> Frozen, dice: &mut Dice) {
    for round in 0..scale(2, 20) {
        let progress = 20 + dice.pick(100);
        fleet.ledger.reach(fleet.ledger.answered() + progress, PATIENCE).await;
        let frozen = freeze();
        tokio::time::sleep(Duration::from_millis(dice.below(500))).await;
        let first = dice.pick(ENGINES);
        let slots = if round % 2 == 0 { first..first + 1 } else { 0..ENGINES };
        let begin = Instant::now();
        for slot in slots.clone() {
            fleet.processes()[slot].signal("TERM").await;
        }
        for slot in slots.clone() {
            let status = fleet.processes()[slot].wait().await.expect("it can be waited for");
            assert!(status.success(), "it ended with {status}");
        }
        let took = begin.elapsed();
        drop(frozen);
        println!("{} ended after {took:?}", slots.len());
        assert!(took < PROMISED, "SIGTERM took {took:?}");
        for slot in slots {
            fleet.kill(slot).await;
        }
        fleet.ledger.reach(fleet.ledger.answered() + 100, PATIENCE).await;
    }
}

#[test]
fn redis_stands_still_when_engines_end() {
    run(limit(), async {
        let mut dice = dice("frozen redis");
        let (server, backend) = redis().await;
        let spec = FleetSpec { engines: ENGINES, ..spec(backend, vec![recorder()]) };
        let fleet = Arc::new(Fleet::start(spec).await);
        let mut of_faults = dice.clone();
        let faults = ends_in_time(&fleet, || server.freeze(), &mut of_faults);
        under_load(&fleet, Load { pace: Some(300), ..Load::new(20, 10) }, &mut dice, faults).await;
        fleet.drain(RECOVERY).await;
        judge_in(&fleet, DISTURBED).await;
    });
}

/// On all servers.
async fn on_all(deployment: Deployment, freeze: impl Fn(&Deployment) -> Frozen) {
    let mut dice = dice("frozen servers");
    let fleet = start(deployment.backend()).await;
    let mut of_faults = dice.clone();
    let faults = ends_in_time(&fleet, || freeze(&deployment), &mut of_faults);
    under_load(&fleet, usual_load(), &mut dice, faults).await;
    fleet.drain(DRAINED).await;
    let (_, dead) = judged(&fleet).await;
    assert!(dead.is_empty(), "messages were dead-lettered: {dead:?}");
    deployment.clear().await;
}

#[test]
fn rabbitmq_stands_still_when_engines_end() {
    run(deployment::limit(), async {
        let deployment = Deployment::new(Threds::Redis, Broker::start(), Mongod::usual()).await;
        on_all(deployment, |deployment| deployment.broker.freeze(0)).await;
    });
}

#[test]
fn mongodb_stands_still_when_engines_end() {
    run(deployment::limit(), async {
        let deployment = Deployment::new(Threds::Mongo, Broker::usual(), Mongod::start()).await;
        on_all(deployment, |deployment| deployment.mongod.freeze()).await;
    });
}
