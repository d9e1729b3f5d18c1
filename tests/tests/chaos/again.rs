//! What comes again: files that are fed twice while engines die, and many sources that tell one thred
//! more at a time than its inbox usually holds.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use thred_tests::{
    chaos::{
        backend::BackendSpec,
        fleet::{Fleet, FleetSpec},
        load::{Load, PATIENCE},
        oracle::Mark,
        patterns::{byway_events, byways, event, home, open_recorder, recorder, unbound_event},
        scale,
    },
    seed::Dice,
};

use crate::support::{RECOVERY, dice, judge, moments, on_files, on_redis, spec};

async fn an_input_is_fed_again(backend: BackendSpec, engines: usize) {
    let mut dice = dice("again");
    let load = scale(Load::new(100, 15), Load::new(500, 40));
    let patterns = [vec![recorder()], byways()].concat();
    let fleet = Arc::new(Fleet::start(FleetSpec { engines, ..spec(backend, patterns) }).await);
    let mut of_load = Dice::new(dice.below(u64::MAX));
    let moments = moments(load.total(), scale(3, 8), &mut dice);
    let again = async {
        fleet.accept(byway_events("once")).await;
        for moment in moments {
            fleet.ledger.reach(moment, PATIENCE).await;
            fleet.kill(dice.pick(engines)).await;
            // From its start, though some of it is under way.
            fleet.accept_again().await;
        }
    };
    tokio::join!(load.run(fleet.clone(), &mut of_load), again);
    fleet.drain(RECOVERY).await;
    // And the whole of it, to engines that have seen none of it; one dies over it.
    for slot in 0..engines {
        fleet.kill(slot).await;
    }
    let died = async {
        tokio::time::sleep(Duration::from_millis(dice.below(200))).await;
        fleet.kill(dice.pick(engines)).await;
    };
    tokio::join!(fleet.accept_again(), died);
    fleet.drain(RECOVERY).await;
    let evidence = judge(&fleet).await;
    let dead: Vec<_> = evidence.dead.iter().map(|dead| dead.payload.id().to_string()).collect();
    assert_eq!(dead, ["bad once"], "what fails died once");
    let dead = &evidence.dead_messages;
    assert_eq!(dead.len(), 1, "what the agent cannot bear died once: {dead:?}");
}

#[test]
fn an_input_is_fed_again_to_an_engine_on_files() {
    on_files(an_input_is_fed_again);
}

#[test]
fn an_input_is_fed_again_to_engines_on_redis() {
    on_redis(an_input_is_fed_again);
}

const SOURCES: u32 = 200;

/// All that a source tells the one thred, one after the other, without waiting for answers. Every
/// other one does not name the thred.
async fn tell(fleet: &Fleet, source: u32, count: u32) {
    let first = u32::from(source == home(0));
    for number in first..count {
        let mark = Mark { source, thred: 0, number };
        let event = if source.is_multiple_of(2) { event(mark, false) } else { unbound_event(mark) };
        fleet.accept(vec![event]).await;
    }
}

async fn many_sources_tell_one_thred(backend: BackendSpec, engines: usize) {
    let mut dice = dice("many sources");
    let each = scale(4, 20);
    let total = (SOURCES * each) as usize;
    let spec = FleetSpec { engines, ..spec(backend, vec![open_recorder()]) };
    let fleet = Arc::new(Fleet::start(spec).await);
    let start = Mark { source: home(0), thred: 0, number: 0 };
    fleet.accept(vec![event(start, true)]).await;
    fleet.ledger.answer(&[start], PATIENCE).await;
    let kills = async {
        for moment in moments(total, scale(4, 20), &mut dice) {
            fleet.ledger.reach(moment, PATIENCE).await;
            fleet.kill(dice.pick(engines)).await;
        }
    };
    tokio::join!(join_all((0..SOURCES).map(|source| tell(&fleet, source, each))), kills);
    fleet.ledger.reach(total, PATIENCE).await;
    fleet.accept_again().await;
    fleet.drain(RECOVERY).await;
    let evidence = judge(&fleet).await;
    assert_eq!((evidence.threds.len(), evidence.accepted.len()), (1, total));
}

#[test]
fn many_sources_tell_one_thred_on_files() {
    on_files(many_sources_tell_one_thred);
}

#[test]
fn many_sources_tell_one_thred_on_redis() {
    on_redis(many_sources_tell_one_thred);
}
