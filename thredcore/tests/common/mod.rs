//! What tests of the engine without loops share.
#![allow(dead_code, reason = "each test uses a part")]

use std::sync::Arc;

use futures::FutureExt;
use thredcore::{
    Engine, Ports,
    memory::MemoryEventQ,
    port::{EventQ, ThredQuery},
    state::{Status, ThredState},
    testing::fault::{Fault, FaultKind, Faulty},
};

/// All threds, ended ones included, oldest first.
pub(crate) async fn threds(engine: &Engine) -> Vec<Arc<ThredState>> {
    let status = vec![Status::Active, Status::Finished, Status::Terminated];
    let query = ThredQuery { status, ..ThredQuery::default() };
    engine.storage().threds(&query).await.unwrap().threds
}

/// The local `n` of the first thred.
pub(crate) async fn n_of(engine: &Engine) -> i64 {
    threds(engine).await[0].locals["n"].as_i64().unwrap()
}

/// Processes what waits, until nothing is left.
pub(crate) async fn settle(engine: &Engine) {
    let q = engine.event_q().clone();
    loop {
        let mut quiet = true;
        for partition in 0..q.partitions() {
            while let Some(received) = q.receive(partition, 64).now_or_never() {
                engine.process(received.unwrap()).await.unwrap();
                quiet = false;
            }
        }
        if quiet {
            return;
        }
    }
}

/// Processes what waits in the batches that the engine would take, and dies before settling it: the
/// commits are there, the receipts and the acknowledgements are not.
pub(crate) async fn process_and_die(engine: &Engine, q: &MemoryEventQ) {
    let fault = Fault::at_operation("settle", 1, FaultKind::Crash);
    let storage = Arc::new(Faulty::new(engine.storage().clone(), fault));
    let ports = Ports { storage, ..engine.ports().clone() };
    let dying = Engine::builder().ports(ports).config(engine.config().clone());
    let dying = dying.build().await.unwrap();
    let most = engine.config().max_in_flight / usize::from(q.partitions());
    for partition in 0..q.partitions() {
        if let Some(received) = q.receive(partition, most).now_or_never() {
            dying.process(received.unwrap()).await.unwrap_err();
        }
    }
    q.redeliver_unacked();
}
