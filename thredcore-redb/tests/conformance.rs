//! The obligations of the ports.

use std::{path::Path, sync::Arc};

use thredcore::{
    conformance::{Fixture, event_q_tests, message_q_tests, storage_tests},
    port::{EventQ, MessageQ, Storage},
};
use thredcore_redb::{RedbBackends, RedbConfig};

const CAPACITY: usize = 1024;

fn open(dir: &Path) -> RedbBackends {
    let config = RedbConfig::default().event_capacity(CAPACITY).message_capacity(CAPACITY);
    // Small ones, so that the checks try them.
    let config = config.max_commit_bytes(2 << 20).max_item_bytes(2 << 20);
    RedbBackends::open_with(dir, config).expect("the directory opens")
}

fn fixture<P: ?Sized + Send + Sync + 'static>(part: fn(RedbBackends) -> Arc<P>) -> Fixture<P> {
    let guard = tempfile::tempdir().expect("a directory");
    let dir = guard.path().to_owned();
    let fixture = Fixture::new(part(open(&dir))).with_capacity(CAPACITY).guarding(guard);
    fixture.reopening(move |port| {
        assert_eq!(Arc::strong_count(&port), 1, "the port is still in use");
        drop(port);
        let port = part(open(&dir));
        async move { port }
    })
}

async fn storage() -> Fixture<dyn Storage> {
    fixture(|backends| backends.storage)
}

async fn event_q() -> Fixture<dyn EventQ> {
    fixture(|backends| backends.event_q)
}

async fn message_q() -> Fixture<dyn MessageQ> {
    fixture(|backends| backends.message_q)
}

storage_tests!(storage);
event_q_tests!(event_q);
message_q_tests!(message_q);
