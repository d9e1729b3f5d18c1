//! A cluster whose masters change, and whose slots move.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use thred_tests::chaos::{
    backend::{BackendKind, BackendSpec},
    cluster::Cluster,
    fleet::{Fleet, FleetSpec},
    load::Load,
    patterns::recorder,
    scale,
};

use thredlib::Event;

use crate::support::{DISTURBED, RECOVERY, dice, judge_in, limit, run, spec, under_load};

/// After a failover work goes on within this time.
const BACK: Duration = Duration::from_secs(10);

async fn on(cluster: &Cluster) -> Arc<Fleet> {
    let kind = BackendKind::Redis { url: cluster.url(), prefix: "chaos".into(), wait: 1 };
    let patterns = vec![recorder()];
    let spec = FleetSpec { engines: 2, ..spec(BackendSpec::new(kind), patterns) };
    Arc::new(Fleet::start(spec).await)
}

#[test]
fn masters_of_a_cluster_fail_over() {
    run(limit(), async {
        let mut dice = dice("failovers");
        let mut cluster = Cluster::start().await;
        let fleet = on(&cluster).await;
        let mut of_failovers = dice.clone();
        let mut slowest = Duration::ZERO;
        let failovers = async {
            for _ in 0..scale(3, 30) {
                fleet.ledger.reach(fleet.ledger.answered() + 50, RECOVERY).await;
                let begin = Instant::now();
                cluster.fail_over(&mut of_failovers).await;
                // More than is under way: threds of all pairs have something to say again.
                fleet.ledger.reach(fleet.ledger.answered() + 100, BACK).await;
                slowest = slowest.max(begin.elapsed());
                assert!(slowest < BACK, "back after {slowest:?}");
                cluster.all_whole().await;
            }
        };
        under_load(&fleet, Load::new(20, 10), &mut dice, failovers).await;
        println!("back after {slowest:?} at most");
        fleet.drain(RECOVERY).await;
        judge_in(&fleet, DISTURBED).await;
    });
}

/// What cannot be copied to a replica may get lost: whoever sends it is not told that it is accepted.
#[test]
fn a_node_of_a_cluster_is_wiped_and_put_back_empty() {
    run(limit(), async {
        let mut dice = dice("wiped");
        let mut cluster = Cluster::start().await;
        let fleet = on(&cluster).await;
        let mut of_nodes = dice.clone();
        let wipes = async {
            for round in 0..scale(2, 12) {
                fleet.ledger.reach(fleet.ledger.answered() + 50, RECOVERY).await;
                // The first one is the first that anybody asks for the slots.
                let node = if round == 0 { 0 } else { of_nodes.pick(6) };
                cluster.wipe(node).await;
                for slot in 0..fleet.engines() {
                    fleet.kill(slot).await;
                }
                is_not_accepted_without_a_copy(&fleet, round).await;
                assert_eq!(cluster.keys_of(node).await, 0, "nothing is given to the stranger");
                cluster.take_in(node).await;
                fleet.ledger.reach(fleet.ledger.answered() + 100, BACK).await;
            }
        };
        under_load(&fleet, Load::new(20, 10), &mut dice, wipes).await;
        fleet.drain(RECOVERY).await;
        judge_in(&fleet, DISTURBED).await;
    });
}

/// Sends events by all partitions until one is not accepted because it has no copy. What has not been
/// told yet who is the master now is refused by the stranger.
async fn is_not_accepted_without_a_copy(fleet: &Fleet, round: usize) {
    let mut refused = Vec::new();
    for number in 0..1_000 {
        let source = format!("stray{number}");
        let event = Event::builder("chaos.stray", source).id(format!("{round}/{number}")).build();
        if let Err(error) = fleet.try_accept(&[event]).await {
            if error.contains("Unreplicated") {
                return;
            }
            refused.push(error);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    panic!("events are accepted without a copy, or refused for another reason: {refused:#?}");
}

#[test]
fn slots_of_a_cluster_move_while_they_are_used() {
    run(limit(), async {
        let mut dice = dice("migration");
        let mut cluster = Cluster::start().await;
        let fleet = on(&cluster).await;
        let moves = async {
            for _ in 0..scale(1, 3) {
                fleet.ledger.reach(fleet.ledger.answered() + 50, RECOVERY).await;
                let tags = cluster.tags().await;
                assert!(tags.len() > 8, "threds, events and messages are under tags: {tags:?}");
                for tag in tags {
                    println!("{tag} moves");
                    assert!(cluster.migrate(&tag).await > 0, "{tag} has no keys");
                    fleet.ledger.reach(fleet.ledger.answered() + 20, BACK).await;
                }
            }
        };
        under_load(&fleet, Load::new(20, 10), &mut dice, moves).await;
        fleet.drain(RECOVERY).await;
        judge_in(&fleet, DISTURBED).await;
    });
}
