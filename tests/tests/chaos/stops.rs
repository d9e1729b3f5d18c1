//! Engines that are stopped for longer than they may keep anything, and then go on.

use std::{sync::Arc, time::Duration};

use thred_tests::chaos::{
    fleet::{Fleet, FleetSpec},
    load::Load,
    patterns::recorder,
    scale,
};

use crate::support::{RECOVERY, dice, judge, limit, redis, run, spec, under_load};

#[test]
fn an_engine_that_slept_commits_and_publishes_nothing_stale() {
    run(limit(), async {
        let mut dice = dice("stops");
        let (_server, backend) = redis().await;
        let lease = Duration::from_millis(backend.lease_ms);
        let spec = FleetSpec { engines: 3, ..spec(backend, vec![recorder()]) };
        let fleet = Arc::new(Fleet::start(spec).await);
        // Few events a thred: fewer than its dedupe window may pass while an engine sleeps.
        let load = Load { pace: Some(400), ..Load::new(50, 20) };
        let mut of_stops = dice.clone();
        let stops = async {
            for _ in 0..scale(5, 60) {
                let slot = of_stops.pick(3);
                let process = fleet.processes()[slot].clone();
                tokio::time::sleep(Duration::from_millis(of_stops.below(200))).await;
                process.signal("STOP").await;
                tokio::time::sleep(3 * lease).await;
                process.signal("CONT").await;
                let before = fleet.ledger.answered();
                fleet.ledger.reach(before + 20, RECOVERY).await;
            }
        };
        under_load(&fleet, load, &mut dice, stops).await;
        fleet.drain(RECOVERY).await;
        judge(&fleet).await;
    });
}
