//! The queues keep what their ports promise, on one server and on a cluster.

mod servers;

use std::sync::{Arc, Mutex};

use thredcore::{
    conformance::Fixture,
    port::{EventQ, MessageQ},
};
use thredcore_redis::{
    Connection, RedisConfig, RedisEventQ, RedisEventQConfig, RedisMessageQ, RedisMessageQConfig,
};

const CAPACITY: usize = 100;

async fn event_q(config: RedisConfig) -> Fixture<dyn EventQ> {
    let open = move || {
        let config = config.clone();
        async move {
            let connection = Connection::open(config).await.unwrap_or_else(|e| panic!("{e}"));
            let limits = RedisEventQConfig::default().capacity(CAPACITY);
            Arc::new(RedisEventQ::open(connection, limits).await.expect("an event queue"))
        }
    };
    let queue = open().await;
    let current = Arc::new(Mutex::new(queue.clone()));
    Fixture::new(queue as Arc<dyn EventQ>).with_capacity(CAPACITY).reopening(move |_| {
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

async fn message_q(config: RedisConfig) -> Fixture<dyn MessageQ> {
    let open = move || {
        let config = config.clone();
        async move {
            let connection = Connection::open(config).await.unwrap_or_else(|e| panic!("{e}"));
            let limits = RedisMessageQConfig::default().capacity(CAPACITY);
            Arc::new(RedisMessageQ::new(connection, limits))
        }
    };
    let queue = open().await;
    let current = Arc::new(Mutex::new(queue.clone()));
    Fixture::new(queue as Arc<dyn MessageQ>).with_capacity(CAPACITY).reopening(move |_| {
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

mod one_server {
    use super::*;

    async fn events() -> Fixture<dyn EventQ> {
        event_q(servers::own_namespace(servers::one())).await
    }

    async fn messages() -> Fixture<dyn MessageQ> {
        message_q(servers::own_namespace(servers::one())).await
    }

    thredcore::conformance::event_q_tests!(events);
    thredcore::conformance::message_q_tests!(messages);
}

mod cluster {
    use super::*;

    async fn events() -> Fixture<dyn EventQ> {
        event_q(servers::own_namespace(servers::cluster())).await
    }

    async fn messages() -> Fixture<dyn MessageQ> {
        message_q(servers::own_namespace(servers::cluster())).await
    }

    thredcore::conformance::event_q_tests!(events);
    thredcore::conformance::message_q_tests!(messages);
}
