//! The memory backends keep the promises of their ports.

use std::{sync::Arc, time::Duration};

use thredcore::{
    conformance::Fixture,
    memory::{
        MemoryEventQ, MemoryEventQConfig, MemoryMessageQ, MemoryMessageQConfig, MemoryStorage,
        MemoryStorageConfig,
    },
    port::{EventQ, MessageQ, Storage},
};

const CAPACITY: usize = 8;
const ENDED: usize = 10;
const DEAD_LETTER_BYTES: usize = 100_000;
/// Large enough for what the checks send, and sent fast.
const LARGEST: usize = 4 << 20;
const A_SECOND: Duration = Duration::from_secs(1);

async fn storage() -> Fixture<dyn Storage> {
    let config = MemoryStorageConfig::default().ended_threds(ENDED).receipts_capacity(1_000);
    let config = config.max_commit_bytes(LARGEST);
    Fixture::new(Arc::new(MemoryStorage::new(config)) as Arc<dyn Storage>).keeping(ENDED)
}

async fn event_q() -> Fixture<dyn EventQ> {
    let config = MemoryEventQConfig::default().dead_letters_bytes(DEAD_LETTER_BYTES);
    let config = config.max_item_bytes(LARGEST);
    let queue: Arc<dyn EventQ> = Arc::new(MemoryEventQ::new(config));
    Fixture::new(queue).with_dead_letter_bytes(DEAD_LETTER_BYTES)
}

async fn message_q() -> Fixture<dyn MessageQ> {
    let config = MemoryMessageQConfig::default().dead_letters_bytes(DEAD_LETTER_BYTES);
    let config = config.max_item_bytes(LARGEST);
    let queue = Arc::new(MemoryMessageQ::new(config));
    Fixture::new(queue.clone() as Arc<dyn MessageQ>)
        .with_dead_letter_bytes(DEAD_LETTER_BYTES)
        .losing_consumers(move |port| {
            queue.redeliver_unacked();
            async { port }
        })
}

async fn small_event_q() -> Fixture<dyn EventQ> {
    let config = MemoryEventQConfig::default().partitions(3).capacity(CAPACITY);
    Fixture::new(Arc::new(MemoryEventQ::new(config)) as Arc<dyn EventQ>).with_capacity(CAPACITY)
}

async fn small_message_q() -> Fixture<dyn MessageQ> {
    let config = MemoryMessageQConfig::default().capacity(CAPACITY);
    Fixture::new(Arc::new(MemoryMessageQ::new(config)) as Arc<dyn MessageQ>).with_capacity(CAPACITY)
}

async fn expiring_message_q() -> Fixture<dyn MessageQ> {
    let config = MemoryMessageQConfig::default().message_ttl(A_SECOND);
    Fixture::new(Arc::new(MemoryMessageQ::new(config)) as Arc<dyn MessageQ>)
        .with_message_ttl(A_SECOND)
}

thredcore::conformance::storage_tests!(storage);
thredcore::conformance::event_q_tests!(event_q);
thredcore::conformance::message_q_tests!(message_q);

/// The wrapper that injects faults changes nothing as long as it injects none.
mod behind_a_fault {
    use thredcore::testing::fault::{Fault, Faulty};

    use super::*;

    async fn storage() -> Fixture<dyn Storage> {
        let inner = super::storage().await.port;
        Fixture::new(Arc::new(Faulty::new(inner, Fault::counting())))
    }

    async fn event_q() -> Fixture<dyn EventQ> {
        let inner = super::event_q().await.port;
        Fixture::new(Arc::new(Faulty::new(inner, Fault::counting())))
    }

    async fn message_q() -> Fixture<dyn MessageQ> {
        let inner = super::message_q().await.port;
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
fn a_full_topic_stops_nobody_else() {
    thredcore::conformance::run(async {
        let fixture = small_message_q().await;
        thredcore::conformance::message_q::a_full_topic_stops_nobody_else(fixture).await
    });
}

#[test]
fn messages_expire() {
    thredcore::conformance::run(async {
        let fixture = expiring_message_q().await;
        thredcore::conformance::message_q::messages_expire(fixture).await
    });
}

#[test]
fn idle_topics_go() {
    thredcore::conformance::run(async {
        let config = MemoryMessageQConfig::default().idle_expiry(A_SECOND);
        let queue: Arc<dyn MessageQ> = Arc::new(MemoryMessageQ::new(config));
        let fixture = Fixture::new(queue).with_idle_expiry(A_SECOND);
        thredcore::conformance::message_q::idle_topics_go(fixture).await
    });
}
