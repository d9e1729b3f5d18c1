//! Engines that are killed.

use std::{sync::Arc, time::Duration};

use thred_tests::{
    chaos::{
        backend::BackendSpec,
        fleet::{Fleet, FleetSpec},
        load::{Load, PATIENCE},
        patterns::recorder,
        scale,
    },
    seed::Dice,
};

use crate::support::{RECOVERY, dice, judge, moments, on_files, on_redis, spec};

/// Kills engines while a load runs, at random moments of its progress.
async fn kill(fleet: &Fleet, load: Load, kills: usize, dice: &mut Dice) {
    for moment in moments(load.total(), kills, dice) {
        fleet.ledger.reach(moment, PATIENCE).await;
        let slot = dice.pick(fleet.processes().len());
        tokio::time::sleep(Duration::from_millis(dice.below(20))).await;
        fleet.kill(slot).await;
    }
}

async fn engines_are_killed(backend: BackendSpec, engines: usize) {
    let mut dice = dice("kills");
    let load = scale(Load::new(100, 20), Load::new(1_000, 100));
    let kills = scale(15, 200);
    let spec = FleetSpec { engines, ..spec(backend, vec![recorder()]) };
    let fleet = Arc::new(Fleet::start(spec).await);
    let mut of_load = Dice::new(dice.below(u64::MAX));
    let load_runs = load.run(fleet.clone(), &mut of_load);
    tokio::join!(load_runs, kill(&fleet, load, kills, &mut dice));
    fleet.drain(RECOVERY).await;
    judge(&fleet).await;
}

#[test]
fn an_engine_on_files_is_killed() {
    on_files(engines_are_killed);
}

#[test]
fn engines_on_redis_are_killed() {
    on_redis(engines_are_killed);
}
