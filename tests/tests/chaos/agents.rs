//! An agent that is dead for a while.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use thred_tests::chaos::{
    backend::BackendSpec, fleet::Fleet, load::Load, patterns::recorder, scale,
};
use thredcore_redb::RedbConfig;

use crate::support::{RECOVERY, dice, embedded, judge, limit, redis, run, spec};

/// How much an engine may grow while nobody takes its messages, bytes, beside the pages of its file:
/// it holds more of them the longer it works, whoever takes messages.
const GROWTH: u64 = 64 * 1024 * 1024;

/// Producers that are held up are so until the agent is back; on a busy machine all stand still for a
/// moment.
fn held_up() -> Duration {
    scale(Duration::from_secs(2), Duration::from_secs(10))
}

async fn an_agent_is_dead(backend: BackendSpec, server_memory: impl AsyncFn() -> u64) {
    let backend = BackendSpec { events: 300, messages: 300, ..backend };
    let pages = if backend.is_private() { RedbConfig::default().cache_bytes as u64 } else { 0 };
    let mut dice = dice("agent");
    let fleet = Arc::new(Fleet::start(spec(backend, vec![recorder()])).await);
    let outage = scale(Duration::from_secs(5), Duration::from_secs(60));
    // As many events as would come in the time of the outage and a little longer, at 500 a second.
    let events = 10;
    let threds = u32::try_from(outage.as_secs()).unwrap_or(u32::MAX) * 500 / events + 100;
    let load = Load { pace: Some(500), ahead: usize::MAX, ..Load::new(threds, events) };
    let death = async {
        fleet.ledger.reach(threds as usize + 100, RECOVERY).await;
        fleet.set_agent(false).await;
        let process = fleet.processes()[0].clone();
        let before = (process.memory(), server_memory().await);
        let (mut most, mut longest) = (0, Duration::ZERO);
        let begin = Instant::now();
        let mut accepted = (fleet.ledger.accepted(), begin);
        while begin.elapsed() < outage {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = fleet.ledger.accepted();
            longest = longest.max(accepted.1.elapsed());
            if now > accepted.0 {
                accepted = (now, Instant::now());
            }
            most = most.max(process.memory()).max(before.0);
        }
        let open = fleet.ledger.open();
        let growth = (most - before.0, server_memory().await.saturating_sub(before.1));
        println!("{open} events open, memory grew by {growth:?}, none accepted for {longest:?}");
        // What nobody takes waits in the outboxes: nobody else waits for it.
        assert!(longest < held_up(), "producers are held up: {open} events are open");
        assert!(growth.0 < GROWTH + pages && growth.1 < GROWTH, "memory grew by {growth:?}");
        fleet.set_agent(true).await;
    };
    tokio::join!(load.run(fleet.clone(), &mut dice), death);
    fleet.drain(RECOVERY).await;
    judge(&fleet).await;
}

#[test]
fn an_agent_beside_an_engine_on_files_is_dead_for_a_while() {
    run(limit(), async {
        let (_dir, backend) = embedded();
        an_agent_is_dead(backend, async || 0).await;
    });
}

#[test]
fn an_agent_on_redis_is_dead_for_a_while() {
    run(limit(), async {
        let (server, backend) = redis().await;
        an_agent_is_dead(backend, async || server.info("used_memory").await).await;
    });
}
