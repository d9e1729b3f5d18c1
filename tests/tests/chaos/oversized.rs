//! Steps that are too large, among good ones.

use std::{sync::Arc, time::Duration};

use thred_tests::{
    chaos::{
        backend::BackendSpec,
        broker::Broker,
        fleet::{Fleet, FleetSpec},
        load::{Load, PATIENCE},
        mongod::Mongod,
        patterns::{recorder, too_large, too_large_event},
        scale,
    },
    evidence::Evidence,
    seed::Dice,
};

use crate::{
    deployment::{self, DRAINED, Deployment, ENGINES, Threds, all, judged},
    support::{RECOVERY, dice, judge, on_files, on_redis, run, spec},
};

/// What files and Redis take at most here; MongoDB takes no more than 6 MiB.
const STEP: usize = 2 << 20;

/// Has steps that are too large come up in the middle of a load, while engines are killed.
async fn too_large_steps(fleet: &Arc<Fleet>, engines: usize, drained: Duration) {
    let mut dice = dice("oversized");
    let load = scale(Load::new(40, 15), Load::new(400, 50));
    let mut of_load = Dice::new(dice.below(u64::MAX));
    let large = async {
        for number in 0..large() {
            let moment = number * load.total() / large();
            fleet.ledger.reach(moment, PATIENCE).await;
            fleet.accept(vec![too_large_event(number)]).await;
            if number % 2 == 1 {
                tokio::time::sleep(Duration::from_millis(dice.below(100))).await;
                fleet.kill(dice.pick(engines)).await;
            }
        }
    };
    tokio::join!(load.run(fleet.clone(), &mut of_load), large);
    fleet.drain(drained).await;
}

/// How many steps are too large.
fn large() -> usize {
    scale(6, 60)
}

/// Each is dead, with its reason, and no other is. On RabbitMQ, which puts it there and takes it from
/// the queue one after the other, an engine may die in between, so that it dies once more.
fn check(evidence: &Evidence, may_be_twice: bool) {
    let mut dead: Vec<_> = evidence.dead.iter().collect();
    dead.sort_by_key(|letter| letter.payload.id());
    if may_be_twice {
        dead.dedup_by_key(|letter| letter.payload.id());
    }
    let ids: Vec<_> = dead.iter().map(|letter| letter.payload.id().to_string()).collect();
    let mut expected: Vec<_> =
        (0..large()).map(|number| too_large_event(number).id.to_string()).collect();
    expected.sort();
    assert_eq!(ids, expected);
    for letter in dead {
        let reason = if letter.payload.id().as_str().starts_with("bloated") {
            "locals"
        } else {
            "the storage takes"
        };
        assert!(letter.reason.contains(reason), "{}: {}", letter.payload.id(), letter.reason);
    }
    assert!(evidence.dead_messages.is_empty(), "{:?}", evidence.dead_messages);
}

async fn steps_are_too_large(backend: BackendSpec, engines: usize) {
    let backend = BackendSpec { commit_bytes: Some(STEP), ..backend };
    let patterns = [vec![recorder()], too_large()].concat();
    let fleet = Arc::new(Fleet::start(FleetSpec { engines, ..spec(backend, patterns) }).await);
    too_large_steps(&fleet, engines, RECOVERY).await;
    check(&judge(&fleet).await, false);
}

#[test]
fn steps_are_too_large_for_files() {
    on_files(steps_are_too_large);
}

#[test]
fn steps_are_too_large_for_redis() {
    on_redis(steps_are_too_large);
}

#[test]
fn steps_are_too_large_for_mongodb() {
    run(deployment::limit(), async {
        let deployment = Deployment::new(Threds::Mongo, Broker::usual(), Mongod::usual()).await;
        let patterns = [vec![recorder()], too_large()].concat();
        let fleet = Arc::new(Fleet::start(all(deployment.backend(), patterns)).await);
        too_large_steps(&fleet, ENGINES, DRAINED).await;
        check(&judged(&fleet).await.0, true);
        deployment.clear().await;
    });
}
