//! The memory backends keep the promises of their ports.

use std::sync::Arc;

use thredcore::{
    conformance::Fixture,
    memory::{
        MemoryEventQ, MemoryEventQConfig, MemoryMessageQ, MemoryMessageQConfig, MemoryStorage,
    },
    port::{EventQ, MessageQ, Storage},
};

const CAPACITY: usize = 8;

async fn storage() -> Fixture<dyn Storage> {
    Fixture::new(Arc::new(MemoryStorage::default()))
}

async fn event_q() -> Fixture<dyn EventQ> {
    Fixture::new(Arc::new(MemoryEventQ::default()))
}

async fn message_q() -> Fixture<dyn MessageQ> {
    Fixture::new(Arc::new(MemoryMessageQ::default()))
}

async fn small_event_q() -> Fixture<dyn EventQ> {
    let config = MemoryEventQConfig::default().partitions(3).capacity(CAPACITY);
    Fixture::new(Arc::new(MemoryEventQ::new(config)) as Arc<dyn EventQ>).with_capacity(CAPACITY)
}

async fn small_message_q() -> Fixture<dyn MessageQ> {
    let config = MemoryMessageQConfig::default().capacity(CAPACITY);
    Fixture::new(Arc::new(MemoryMessageQ::new(config)) as Arc<dyn MessageQ>).with_capacity(CAPACITY)
}

thredcore::conformance::storage_tests!(storage);
thredcore::conformance::event_q_tests!(event_q);
thredcore::conformance::message_q_tests!(message_q);

/// The wrapper that injects faults changes nothing as long as it injects none.
mod behind_a_fault {
    use thredcore::testing::fault::{Fault, Faulty};

    use super::*;

    async fn storage() -> Fixture<dyn Storage> {
        let inner = Arc::new(MemoryStorage::default());
        Fixture::new(Arc::new(Faulty::new(inner, Fault::counting())))
    }

    async fn event_q() -> Fixture<dyn EventQ> {
        let inner = Arc::new(MemoryEventQ::default());
        Fixture::new(Arc::new(Faulty::new(inner, Fault::counting())))
    }

    async fn message_q() -> Fixture<dyn MessageQ> {
        let inner = Arc::new(MemoryMessageQ::default());
        Fixture::new(Arc::new(Faulty::new(inner, Fault::counting())))
    }

    thredcore::conformance::storage_tests!(storage);
    thredcore::conformance::event_q_tests!(event_q);
    thredcore::conformance::message_q_tests!(message_q);
}

#[test]
fn a_full_event_queue_makes_publishers_wait() {
    thredcore::conformance::run(async {
        let fixture = small_event_q().await;
        thredcore::conformance::event_q::a_full_queue_makes_publishers_of_events_wait(fixture).await
    });
}

#[test]
fn a_full_topic_makes_publishers_wait() {
    thredcore::conformance::run(async {
        let fixture = small_message_q().await;
        thredcore::conformance::message_q::a_full_topic_makes_publishers_wait(fixture).await
    });
}
