//! The queues keep what their ports promise, on one server and on a cluster.

mod servers;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use thredcore::{
    conformance::Fixture,
    port::{EventQ, MessageQ},
};
use thredcore_redis::{
    Connection, RedisConfig, RedisEventQ, RedisEventQConfig, RedisMessageQ, RedisMessageQConfig,
};

const CAPACITY: usize = 8;
const DEAD_LETTER_BYTES: usize = 100_000;
const A_SECOND: Duration = Duration::from_secs(1);

/// How long a consumer is missed that was lost.
const VISIBILITY: Duration = Duration::from_millis(500);

async fn event_q(config: RedisConfig, limits: RedisEventQConfig) -> Fixture<dyn EventQ> {
    let open = move || {
        let (config, limits) = (config.clone(), limits.clone());
        async move {
            let connection = Connection::open(config).await.unwrap_or_else(|e| panic!("{e}"));
            let limits = limits.max_item_bytes(4 << 20);
            let limits = limits.dead_letters_bytes(DEAD_LETTER_BYTES as u64);
            Arc::new(RedisEventQ::open(connection, limits).await.expect("an event queue"))
        }
    };
    let queue = open().await;
    let current = Arc::new(Mutex::new(queue.clone()));
    let fixture = Fixture::new(queue as Arc<dyn EventQ>);
    fixture.with_dead_letter_bytes(DEAD_LETTER_BYTES).reopening(move |_| {
        let (open, current) = (open.clone(), current.clone());
        async move {
            let last = current.lock().expect("a queue").clone();
            last.close().await;
            let queue = open().await;
            *current.lock().expect("a queue") = queue.clone();
            queue as Arc<dyn EventQ>
        }
    })
}

async fn message_q(config: RedisConfig, limits: RedisMessageQConfig) -> Fixture<dyn MessageQ> {
    let open = move || {
        let (config, limits) = (config.clone(), limits.clone());
        async move {
            let connection = Connection::open(config).await.unwrap_or_else(|e| panic!("{e}"));
            let limits = limits.max_item_bytes(4 << 20);
            let limits = limits.dead_letters_bytes(DEAD_LETTER_BYTES as u64);
            Arc::new(RedisMessageQ::new(connection, limits))
        }
    };
    let queue = open().await;
    let current = Arc::new(Mutex::new(queue.clone()));
    let lost = (open.clone(), current.clone());
    let fixture = Fixture::new(queue as Arc<dyn MessageQ>);
    let fixture = fixture.with_dead_letter_bytes(DEAD_LETTER_BYTES).losing_consumers(move |_| {
        let (open, current) = lost.clone();
        async move {
            let queue = open().await;
            // Not closed: it just ends.
            *current.lock().expect("a queue") = queue.clone();
            queue as Arc<dyn MessageQ>
        }
    });
    fixture.reopening(move |_| {
        let (open, current) = (open.clone(), current.clone());
        async move {
            let last = current.lock().expect("a queue").clone();
            last.close().await;
            let queue = open().await;
            *current.lock().expect("a queue") = queue.clone();
            queue as Arc<dyn MessageQ>
        }
    })
}

fn quick() -> RedisMessageQConfig {
    RedisMessageQConfig::default().visibility(VISIBILITY)
}

mod one_server {
    use super::*;

    async fn events() -> Fixture<dyn EventQ> {
        event_q(servers::own_namespace(servers::one()), RedisEventQConfig::default()).await
    }

    async fn messages() -> Fixture<dyn MessageQ> {
        message_q(servers::own_namespace(servers::one()), quick()).await
    }

    thredcore::conformance::event_q_tests!(events);
    thredcore::conformance::message_q_tests!(messages);
}

mod cluster {
    use super::*;

    async fn events() -> Fixture<dyn EventQ> {
        event_q(servers::own_namespace(servers::cluster()), RedisEventQConfig::default()).await
    }

    async fn messages() -> Fixture<dyn MessageQ> {
        message_q(servers::own_namespace(servers::cluster()), quick()).await
    }

    thredcore::conformance::event_q_tests!(events);
    thredcore::conformance::message_q_tests!(messages);
}

#[test]
fn messages_expire() {
    thredcore::conformance::run(async {
        let limits = quick().message_ttl(A_SECOND);
        let fixture = message_q(servers::own_namespace(servers::one()), limits).await;
        let fixture = fixture.with_message_ttl(A_SECOND);
        thredcore::conformance::message_q::messages_expire(fixture).await;
    });
}

#[test]
fn idle_topics_go() {
    thredcore::conformance::run(async {
        let limits = quick().idle_expiry(A_SECOND);
        let fixture = message_q(servers::own_namespace(servers::one()), limits).await;
        let fixture = fixture.with_idle_expiry(A_SECOND);
        thredcore::conformance::message_q::idle_topics_go(fixture).await;
    });
}

#[test]
fn a_full_topic_stops_nobody_else() {
    thredcore::conformance::run(async {
        let limits = quick().capacity(CAPACITY);
        let fixture = message_q(servers::own_namespace(servers::one()), limits).await;
        let fixture = fixture.with_capacity(CAPACITY);
        thredcore::conformance::message_q::a_full_topic_stops_nobody_else(fixture).await;
    });
}

#[test]
fn a_full_event_queue_makes_publishers_wait() {
    thredcore::conformance::run(async {
        let limits = RedisEventQConfig::default().capacity(CAPACITY);
        let fixture = event_q(servers::own_namespace(servers::one()), limits).await;
        let fixture = fixture.with_capacity(CAPACITY);
        thredcore::conformance::event_q::a_full_queue_makes_publishers_of_events_wait(fixture)
            .await;
    });
}
