//! What the scenarios have in common.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tempfile::TempDir;
use thred_tests::{
    chaos::{
        backend::{BackendKind, BackendSpec},
        fleet::{Fleet, FleetSpec},
        load::Load,
        protocol::AgentSpec,
        redis_server::RedisServer,
        verdict::{Circumstances, verdict},
    },
    evidence::Evidence,
    seed::{Dice, seed},
};
use thredlib::PatternModel;

/// After the last fault a run is drained within this time.
pub(crate) const RECOVERY: Duration = Duration::from_secs(30);

/// One engine with these patterns; the agent works beside it, if it can.
pub(crate) fn spec(backend: BackendSpec, patterns: Vec<PatternModel>) -> FleetSpec {
    FleetSpec {
        program: env!("CARGO_BIN_EXE_chaos-engine").into(),
        backend,
        patterns,
        engines: 1,
        agents: 0,
        agent: AgentSpec::default(),
        clocks: Vec::new(),
        topic_quota: None,
        inside: false,
    }
}

/// The dice of a scenario; says which seed brings the same run again.
pub(crate) fn dice(scenario: &str) -> Dice {
    let seed = seed();
    println!("THRED_SEED={seed}");
    let salt = scenario
        .bytes()
        .fold(0, |salt: u64, byte| salt.wrapping_mul(31).wrapping_add(u64::from(byte)));
    Dice::new(seed ^ salt)
}

/// Runs a scenario on a runtime of its own, with an end, and beside no other: nextest sees to that
/// by its configuration, `cargo test` does not.
pub(crate) fn run(limit: Duration, scenario: impl Future<Output = ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let end =
        runtime.unwrap().block_on(async { tokio::time::timeout(limit, Box::pin(scenario)).await });
    assert!(end.is_ok(), "the scenario takes more than {limit:?}");
}

/// The limit of a scenario that takes less than a minute when it is short.
pub(crate) fn limit() -> Duration {
    thred_tests::chaos::scale(Duration::from_secs(110), Duration::from_secs(3_600))
}

/// The embedded backend in a directory of its own.
pub(crate) fn embedded() -> (TempDir, BackendSpec) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kind = BackendKind::Embedded(dir.path().join("data"));
    (dir, BackendSpec::new(kind))
}

/// A Redis server of its own.
pub(crate) async fn redis() -> (RedisServer, BackendSpec) {
    let server = RedisServer::start().await;
    let backend = at(server.url());
    (server, backend)
}

/// Redis at an address.
pub(crate) fn at(url: String) -> BackendSpec {
    BackendSpec::new(BackendKind::Redis { url, prefix: "chaos".into(), wait: 0 })
}

/// A scenario on files, with the one engine that can have them open.
pub(crate) fn on_files(scenario: impl AsyncFnOnce(BackendSpec, usize)) {
    run(limit(), async {
        let (_dir, backend) = embedded();
        scenario(backend, 1).await;
    });
}

/// A scenario on a Redis server of its own, with three engines.
pub(crate) fn on_redis(scenario: impl AsyncFnOnce(BackendSpec, usize)) {
    run(limit(), async {
        let (_server, backend) = redis().await;
        scenario(backend, 3).await;
    });
}

/// Moments of a run's progress, in order.
pub(crate) fn moments(total: usize, count: usize, dice: &mut Dice) -> Vec<usize> {
    let mut moments: Vec<_> = (0..count).map(|_| dice.pick(total)).collect();
    moments.sort_unstable();
    moments
}

/// Has loads run, one after the other, each with threds of its own, until the faults are done.
pub(crate) async fn under_load<T>(
    fleet: &Arc<Fleet>,
    load: Load,
    dice: &mut Dice,
    faults: impl Future<Output = T>,
) -> T {
    let done = AtomicBool::new(false);
    let mut of_load = Dice::new(dice.below(u64::MAX));
    let loads = async {
        let mut first = load.first;
        while !done.load(Ordering::SeqCst) {
            Box::pin(load.from(first).run(fleet.clone(), &mut of_load)).await;
            first += load.threds;
        }
    };
    let faults = async {
        let result = faults.await;
        done.store(true, Ordering::SeqCst);
        result
    };
    let (result, ()) = tokio::join!(faults, loads);
    println!("{} events accepted", fleet.ledger.accepted());
    result
}

/// Receivers die, or their own answers are lost: what they were given comes again.
pub(crate) const DISTURBED: Circumstances = Circumstances { redelivered: true, answered: false };

/// Stops all and judges; a receiver has died if it is where the engine is.
pub(crate) async fn judge(fleet: &Arc<Fleet>) -> Evidence {
    let redelivered = fleet.spec.backend.is_private();
    judge_in(fleet, Circumstances { redelivered, ..Circumstances::default() }).await
}

/// Stops all and judges, for what has happened.
pub(crate) async fn judge_in(fleet: &Arc<Fleet>, circumstances: Circumstances) -> Evidence {
    let ports = Box::pin(fleet.close()).await;
    let verdict = Box::pin(verdict(&ports, &fleet.ledger, circumstances)).await;
    verdict.unwrap_or_else(|wrong| panic!("not safe:\n{wrong}"))
}
