//! What cannot be done, and those who die over what can be.

use std::{sync::Arc, time::Duration};

use thred_tests::{
    chaos::{
        broker::Broker,
        deadly::deadly_event,
        fleet::{Fleet, FleetSpec},
        load::{Load, PATIENCE},
        mongod::Mongod,
        patterns::{poison_event, poisons, recorder},
        protocol::AgentSpec,
        scale,
    },
    seed::Dice,
};

use crate::{
    deployment::{DRAINED, Deployment, ENGINES, Threds, all, judged, limit, start},
    support::{dice, moments, run},
};

/// How often an agent tries.
const ATTEMPTS: u32 = 5;

/// One event in so many is poison.
const EVERY: u32 = 1_000;

/// Loads in turn without poison and with it.
const PHASES: u32 = 4;
const MOST_PHASES: u32 = 12;

/// The slowest of a hundred.
fn p99(latencies: &mut [Duration]) -> Duration {
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

#[test]
fn poison_is_put_aside_and_slows_nobody() {
    run(limit(), async {
        let mut dice = dice("poison");
        let deployment = Deployment::new(Threds::Redis, Broker::usual(), Mongod::usual()).await;
        let agent = AgentSpec { attempts: Some(ATTEMPTS), ..AgentSpec::default() };
        let patterns = [vec![recorder()], poisons()].concat();
        let spec = FleetSpec { agent, ..all(deployment.backend(), patterns) };
        let fleet = Arc::new(Fleet::start(spec).await);
        // Engines share the partitions first, and what is used first is slow.
        let warm = Load { pace: Some(300), ..Load::new(100, 10) };
        warm.run(fleet.clone(), &mut dice).await;
        let load = Load { pace: Some(300), ..Load::new(scale(100, 500), 10) };
        let (mut usual, mut beside, mut poisons) = (Vec::new(), Vec::new(), 0);
        for phase in 0..MOST_PHASES {
            // What else the machine does may have hit the one or the other: more of both tells.
            let is_even = phase % 2 == 0 && phase >= PHASES;
            if is_even && p99(&mut beside) <= 2 * p99(&mut usual) {
                break;
            }
            let load = load.from(warm.threds + phase * load.threds);
            let runs = load.run(fleet.clone(), &mut dice);
            let threds = load.first..load.first + load.threds;
            if phase % 2 == 0 {
                runs.await;
                usual.extend(fleet.ledger.latencies(threds));
            } else {
                let poisoned = poisoned(&fleet, load, poisons);
                ((), poisons) = tokio::join!(runs, poisoned);
                beside.extend(fleet.ledger.latencies(threds));
            }
        }
        let (usual, beside) = (p99(&mut usual), p99(&mut beside));
        println!("p99 {usual:?} without poison, {beside:?} beside it");
        fleet.drain(DRAINED).await;
        let (evidence, dead) = judged(&fleet).await;
        assert_eq!(evidence.dead.len() + dead.len(), poisons as usize, "poison is put aside");
        assert!(!dead.is_empty() && !evidence.dead.is_empty(), "of both kinds");
        let tries: Vec<_> = dead.iter().map(|dead| dead.attempts).collect();
        assert!(tries.iter().all(|tries| *tries == ATTEMPTS), "after all its attempts: {tries:?}");
        assert!(beside <= 2 * usual, "poison slows the others: {beside:?}, usual is {usual:?}");
        deployment.clear().await;
    });
}

/// Sends a poison in every thousand of a load's events, numbered on from `first`; gives the next
/// number.
async fn poisoned(fleet: &Fleet, load: Load, first: u32) -> u32 {
    let begin = fleet.ledger.answered();
    let every = EVERY as usize;
    let mut number = first;
    for moment in (every / 2..load.total()).step_by(every) {
        fleet.ledger.reach(begin + moment, PATIENCE).await;
        fleet.accept(vec![poison_event(number)]).await;
        number += 1;
    }
    number
}

/// Kills some of the first processes while a load runs, at random moments of its progress.
async fn killed(threds: Threds, load: Load, kills: usize, name: &str, engines_alone: bool) {
    let mut dice = dice(name);
    let deployment = Deployment::new(threds, Broker::usual(), Mongod::usual()).await;
    let fleet = start(deployment.backend()).await;
    let mut of_load = Dice::new(dice.below(u64::MAX));
    let kills = async {
        for moment in moments(load.total(), kills, &mut dice) {
            fleet.ledger.reach(moment, PATIENCE).await;
            let processes = if engines_alone { ENGINES } else { fleet.processes().len() };
            tokio::time::sleep(Duration::from_millis(dice.below(20))).await;
            fleet.kill(dice.pick(processes)).await;
        }
    };
    tokio::join!(load.run(fleet.clone(), &mut of_load), kills);
    fleet.drain(DRAINED).await;
    let (evidence, dead) = judged(&fleet).await;
    assert!(evidence.dead.is_empty() && dead.is_empty(), "the innocent: {dead:?}");
    deployment.clear().await;
}

#[test]
fn consumers_crash_and_no_innocent_message_is_dead_lettered() {
    let load = scale(Load::new(50, 20), Load::new(200, 50));
    run(limit(), killed(Threds::Redis, load, scale(8, 30), "crashes", false));
}

/// Some events end whichever engine works on them, each time with up to 32 others in its hands.
#[test]
fn deadly_events_are_put_aside_and_no_innocent_one_beside_them() {
    run(limit(), async {
        let mut dice = dice("deadly");
        let deployment = Deployment::new(Threds::Redis, Broker::usual(), Mongod::usual()).await;
        let fleet = start(deployment.backend()).await;
        let deadly = scale(1, 5);
        let load = scale(Load::new(50, 20), Load::new(200, 50));
        let work = async {
            let sent = async {
                for number in 0..deadly {
                    fleet.ledger.reach((number + 1) * load.total() / (deadly + 2), PATIENCE).await;
                    fleet.accept(vec![deadly_event(number)]).await;
                }
            };
            tokio::join!(load.run(fleet.clone(), &mut dice), sent);
            fleet.drain(DRAINED).await;
        };
        tokio::select! {
            () = work => {}
            () = fleet.revive() => unreachable!("that has no end"),
        }
        let (evidence, dead) = judged(&fleet).await;
        assert_eq!(evidence.dead.len(), deadly, "the deadly are put aside: {:?}", evidence.dead);
        assert!(dead.is_empty(), "the innocent: {dead:?}");
        deployment.clear().await;
    });
}

#[test]
fn engines_with_threds_in_redis_are_killed() {
    let load = scale(Load::new(50, 20), Load::new(500, 50));
    run(limit(), killed(Threds::Redis, load, scale(6, 100), "engines on redis", true));
}

#[test]
fn engines_with_threds_in_mongodb_are_killed() {
    let load = scale(Load::new(50, 20), Load::new(500, 50));
    run(limit(), killed(Threds::Mongo, load, scale(6, 100), "engines on mongodb", true));
}
