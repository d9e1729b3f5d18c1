//! The process dies right after a call of a port, whichever.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use thred_tests::chaos::{
    backend::{BackendKind, BackendSpec},
    fleet::{Fleet, FleetSpec},
    load::{Load, PATIENCE},
    patterns::{byway_events, byways, recorder, timer, timer_event},
    protocol::{AgentSpec, FailPoint, FailPort, NodeSpec},
    scale,
    verdict::Circumstances,
};

use crate::support::{RECOVERY, dice, embedded, judge_in, limit, redis, run, spec};

/// Every call that an engine and an agent make of their ports while they work.
const CALLS: &[(FailPort, &[&str])] = &[
    (FailPort::EventQ, &["room", "publish", "receive", "ack", "dead_letter"]),
    (FailPort::MessageQ, &["publish", "receive", "ack", "nack", "dead_letter"]),
    (
        FailPort::Storage,
        &[
            "load",
            "commit",
            "clear_outbox",
            "pending_outboxes",
            "due",
            "waiting",
            "settle",
            "receipts",
            "reserve",
            "release",
            "reserved",
            "acquire",
            "leases",
            "put_pattern",
            "patterns",
            "listening_patterns",
            "patterns_version",
        ],
    ),
];

const INTERVAL: u64 = 100;

/// How long a call that is made now and then is waited for.
const RARE: Duration = Duration::from_millis(1_500);

/// A little of everything, with the process that is to die; another takes its place. Says whether
/// it died.
async fn round(fleet: &Arc<Fleet>, point: &FailPoint, number: u32) -> bool {
    let failing = NodeSpec { fail: Some(point.clone()), ..fleet.spec.clone() };
    fleet.kill_and_replace(0, &failing).await;
    let failing = fleet.processes()[0].clone();
    let successor = async {
        failing.gone().await;
        fleet.kill(0).await;
        std::future::pending::<()>().await;
    };
    let work = async {
        let mut dice = dice(&format!("{point:?}"));
        let load = Load::new(4, 4).from(4 * number);
        let timers = (0..3).map(|timer| timer_event(3 * number + timer, INTERVAL)).collect();
        let byways = byway_events(&number.to_string());
        let answered = fleet.ledger.answered() + load.total() + 3;
        let more = async {
            fleet.accept(timers).await;
            fleet.accept(byways).await;
        };
        tokio::join!(load.run(fleet.clone(), &mut dice), more);
        fleet.ledger.reach(answered, PATIENCE).await;
        // Some calls are rare.
        if fleet.processes()[0].pid() == failing.pid() {
            let _ = tokio::time::timeout(RARE, failing.gone()).await;
        }
    };
    tokio::select! {
        () = successor => {}
        () = work => {}
    }
    !failing.is_alive()
}

async fn dies_after(
    backend: BackendSpec,
    port: FailPort,
    operation: &'static str,
) -> Result<(), String> {
    let agent = AgentSpec { answers: true, stumbles: true, attempts: None };
    let patterns = [vec![recorder(), timer(INTERVAL)], byways()].concat();
    let spec = FleetSpec { agent, inside: true, ..spec(backend, patterns) };
    let fleet = Arc::new(Fleet::start(spec).await);
    let calls = scale(vec![1, 2, 5], vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 30, 40, 50]);
    for (number, call) in (0..).zip(calls) {
        let point = FailPoint { port, operation: operation.into(), call };
        let died = round(&fleet, &point, number).await;
        if call == 1 && !died {
            return Err(format!("{port:?}.{operation} was never called"));
        }
    }
    fleet.kill(0).await;
    fleet.drain(RECOVERY).await;
    judge_in(&fleet, Circumstances { redelivered: true, answered: true }).await;
    Ok(())
}

/// Walks through all calls, some at a time; `backend` gives each walk data of its own.
async fn walk(backend: impl Fn(&str) -> BackendSpec) {
    let calls = CALLS
        .iter()
        .flat_map(|(port, operations)| operations.iter().map(|operation| (*port, *operation)));
    let walks = calls.map(|(port, operation)| {
        let backend = backend(&format!("{port:?}-{operation}"));
        async move {
            let walk = tokio::spawn(dies_after(backend, port, operation)).await;
            let result = walk.map_err(|panic| panic.to_string()).and_then(|result| result);
            result.err().map(|wrong| format!("{port:?}.{operation}: {wrong}"))
        }
    });
    let wrong: Vec<_> =
        stream::iter(walks).buffer_unordered(3).filter_map(async |it| it).collect().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn an_engine_on_files_dies_after_each_call() {
    run(limit(), async {
        let (dir, _) = embedded();
        walk(|name| BackendSpec::new(BackendKind::Embedded(dir.path().join(name)))).await;
    });
}

#[test]
fn an_engine_on_redis_dies_after_each_call() {
    run(limit(), async {
        let (server, _) = redis().await;
        walk(|name| {
            let kind = BackendKind::Redis { url: server.url(), prefix: name.into(), wait: 0 };
            BackendSpec::new(kind)
        })
        .await;
    });
}
