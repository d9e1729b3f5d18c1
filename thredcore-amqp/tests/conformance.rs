//! The queues keep the promises of their ports. Needs a broker at `AMQP_URL`.

mod support;

use std::sync::{Arc, Mutex};

use support::Namespace;
use thredcore::{
    conformance::Fixture,
    port::{EventQ, MessageQ},
};
use thredcore_amqp::AmqpQueues;

const CAPACITY: usize = 64;

/// Queues of a namespace, which can be closed while a check has the port.
struct Bed {
    namespace: Arc<Namespace>,
    open: Arc<Mutex<Option<AmqpQueues>>>,
}

impl Bed {
    async fn open() -> (Self, AmqpQueues) {
        let bed = Self { namespace: Arc::new(Namespace::new()), open: Arc::default() };
        let queues = bed.reopen().await;
        (bed, queues)
    }

    async fn reopen(&self) -> AmqpQueues {
        let open = self.open.lock().unwrap().take();
        if let Some(open) = open {
            open.close().await;
        }
        let config = self.namespace.config().event_capacity(CAPACITY).message_capacity(CAPACITY);
        let queues = AmqpQueues::connect(config).await.expect("RabbitMQ at AMQP_URL");
        *self.open.lock().unwrap() = Some(queues.clone());
        queues
    }

    fn fixture<P: ?Sized + Send + Sync + 'static>(
        self,
        port: Arc<P>,
        part: fn(AmqpQueues) -> Arc<P>,
    ) -> Fixture<P> {
        let bed = Arc::new(self);
        let guard = bed.namespace.clone();
        let reopen = move |_| {
            let bed = bed.clone();
            async move { part(bed.reopen().await) }
        };
        Fixture::new(port).with_capacity(CAPACITY).reopening(reopen).guarding(guard)
    }
}

async fn event_q() -> Fixture<dyn EventQ> {
    let (bed, queues) = Bed::open().await;
    let port: Arc<dyn EventQ> = queues.event_q;
    bed.fixture(port, |queues| queues.event_q)
}

async fn message_q() -> Fixture<dyn MessageQ> {
    let (bed, queues) = Bed::open().await;
    let port: Arc<dyn MessageQ> = queues.message_q;
    bed.fixture(port, |queues| queues.message_q)
}

thredcore::conformance::event_q_tests!(event_q);
thredcore::conformance::message_q_tests!(message_q);
