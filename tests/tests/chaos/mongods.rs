//! MongoDB is killed, or its primary steps down.

use std::time::Duration;

use thred_tests::chaos::{broker::Broker, load::PATIENCE, mongod::Mongod, scale};
use tokio::time::sleep;

use crate::{
    deployment::{Deployment, Threds, limit, start, suffers},
    support::{dice, run},
};

async fn is_killed(threds: Threds) {
    let mut dice = dice("mongod");
    let deployment = Deployment::new(threds, Broker::usual(), Mongod::start()).await;
    let fleet = start(deployment.backend()).await;
    let mut of_kills = dice.clone();
    let faults = async {
        for _ in 0..scale(3, 30) {
            let progress = 20 + of_kills.pick(200);
            fleet.ledger.reach(fleet.ledger.answered() + progress, PATIENCE).await;
            deployment.mongod.kill().await;
            sleep(Duration::from_millis(of_kills.below(1_000))).await;
            deployment.mongod.start_again().await;
        }
    };
    suffers(&fleet, &mut dice, faults).await;
    deployment.clear().await;
}

#[test]
fn mongodb_with_the_archive_is_killed() {
    run(limit(), is_killed(Threds::Redis));
}

#[test]
fn mongodb_with_the_threds_is_killed() {
    run(limit(), is_killed(Threds::Mongo));
}

async fn steps_down(threds: Threds, mongod: impl Future<Output = Mongod>) {
    let mut dice = dice("primary");
    let deployment = Deployment::new(threds, Broker::usual(), mongod).await;
    let fleet = start(deployment.backend()).await;
    let mut of_steps = dice.clone();
    let faults = async {
        for _ in 0..scale(3, 30) {
            let progress = 20 + of_steps.pick(200);
            fleet.ledger.reach(fleet.ledger.answered() + progress, PATIENCE).await;
            deployment.mongod.step_down(1).await;
        }
    };
    suffers(&fleet, &mut dice, faults).await;
    deployment.clear().await;
}

#[test]
fn the_primary_with_the_threds_steps_down() {
    run(limit(), steps_down(Threds::Mongo, Mongod::start()));
}

#[test]
#[ignore = "has no short version; see docs/testing.md"]
fn the_primary_with_the_archive_steps_down() {
    run(limit(), steps_down(Threds::Redis, Mongod::start()));
}

#[test]
#[ignore = "has no short version; see docs/testing.md"]
fn the_primary_of_three_with_the_threds_steps_down() {
    run(limit(), steps_down(Threds::Mongo, Mongod::three()));
}

#[test]
#[ignore = "has no short version; see docs/testing.md"]
fn the_primary_of_three_with_the_archive_steps_down() {
    run(limit(), steps_down(Threds::Redis, Mongod::three()));
}
