//! The queues keep the promises of their ports. Needs a broker at `AMQP_URL`.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use support::Namespace;
use thredcore::{
    conformance::{self, Fixture},
    port::{EventQ, MessageQ},
};
use thredcore_amqp::AmqpQueues;

// No check but that of a full topic publishes more before it receives.
const CAPACITY: u16 = 1_024;
const DEAD_LETTER_BYTES: u32 = 100_000;
const EXPIRY: Duration = Duration::from_secs(1);

/// How queues are made to behave.
#[derive(Clone, Copy, Default)]
struct Limits {
    message_ttl: Option<Duration>,
    idle_expiry: Option<Duration>,
}

/// Queues of a namespace, which can be closed while a check has the port.
struct Bed {
    limits: Limits,
    namespace: Arc<Namespace>,
    open: Arc<Mutex<Option<AmqpQueues>>>,
}

impl Bed {
    async fn open(limits: Limits) -> (Self, AmqpQueues) {
        let bed = Self { limits, namespace: Arc::new(Namespace::new()), open: Arc::default() };
        let queues = bed.reopen().await;
        (bed, queues)
    }

    async fn reopen(&self) -> AmqpQueues {
        let open = self.open.lock().unwrap().take();
        if let Some(open) = open {
            open.close().await;
        }
        self.connect().await
    }

    /// As a process that dies: what it had goes back, in no hurry.
    async fn lose(&self) -> AmqpQueues {
        drop(self.open.lock().unwrap().take());
        self.connect().await
    }

    async fn connect(&self) -> AmqpQueues {
        let config = self.namespace.config();
        let config = config
            .event_capacity(CAPACITY.into())
            .message_capacity(CAPACITY.into())
            .event_prefetch(CAPACITY)
            .message_prefetch(CAPACITY)
            .max_item_bytes(2 << 20)
            .dead_letters_bytes(DEAD_LETTER_BYTES.into())
            .message_ttl(self.limits.message_ttl)
            .idle_expiry(self.limits.idle_expiry);
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
        let limits = bed.limits;
        let lose = {
            let bed = bed.clone();
            move |port| {
                let bed = bed.clone();
                async move {
                    drop(port);
                    part(bed.lose().await)
                }
            }
        };
        let reopen = move |_| {
            let bed = bed.clone();
            async move { part(bed.reopen().await) }
        };
        let mut fixture = Fixture::new(port)
            .with_capacity(CAPACITY.into())
            .with_dead_letter_bytes(DEAD_LETTER_BYTES as usize)
            .reopening(reopen)
            .losing_consumers(lose)
            .guarding(guard);
        if let Some(time) = limits.message_ttl {
            fixture = fixture.with_message_ttl(time);
        }
        if let Some(time) = limits.idle_expiry {
            fixture = fixture.with_idle_expiry(time);
        }
        fixture
    }
}

async fn event_q() -> Fixture<dyn EventQ> {
    let (bed, queues) = Bed::open(Limits::default()).await;
    let port: Arc<dyn EventQ> = queues.event_q;
    bed.fixture(port, |queues| queues.event_q)
}

async fn message_q() -> Fixture<dyn MessageQ> {
    messages(Limits::default()).await
}

async fn messages(limits: Limits) -> Fixture<dyn MessageQ> {
    let (bed, queues) = Bed::open(limits).await;
    let port: Arc<dyn MessageQ> = queues.message_q;
    bed.fixture(port, |queues| queues.message_q)
}

thredcore::conformance::event_q_tests!(event_q);
thredcore::conformance::message_q_tests!(message_q);

#[test]
fn messages_expire() {
    let limits = Limits { message_ttl: Some(EXPIRY), ..Limits::default() };
    conformance::run(async {
        conformance::message_q::messages_expire(messages(limits).await).await;
    });
}

#[test]
fn idle_topics_go() {
    let limits = Limits { idle_expiry: Some(EXPIRY), ..Limits::default() };
    conformance::run(async {
        conformance::message_q::idle_topics_go(messages(limits).await).await;
    });
}
