//! A broker that is there and does nothing. The tests start one of their own, by
//! `scripts/services`.

mod support;

use std::{sync::Arc, time::Duration};

use support::{Namespace, broker::Broker};
use thredcore::port::{
    Accepted, DeadLetterFilter, EventQ, Inbound, MessageQ, PortErrorKind, Routed,
};
use thredcore_amqp::AmqpQueues;
use thredlib::{Event, Message};
use tokio::time::{Instant, timeout};

/// For all that is bounded by the limits below.
const LIMIT: Duration = Duration::from_secs(15);

fn event(number: usize) -> Inbound {
    let event = Event::builder("a", "erp").id(format!("erp/{number}")).build();
    Inbound::Event(Accepted::new(event, 1))
}

fn message() -> Routed {
    let Inbound::Event(accepted) = event(0) else { unreachable!() };
    let message =
        Message { id: "1".into(), event: accepted.event, to: vec!["ann".into()], timestamp: 1 };
    Routed { topic: "a".into(), message: Arc::new(message) }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_waits_for_ever_and_closing_ends_in_time() {
    let broker = Broker::start();
    let namespace = Namespace::at(broker.url());
    let second = Duration::from_secs(1);
    let config = namespace.config().connect_timeout(second).answer_timeout(second);
    let config = config.confirm_timeout(second).alarm_timeout(second).close_timeout(2 * second);
    let queues = AmqpQueues::connect(config).await.expect("the broker");
    let (events, messages) = (&*queues.event_q, &*queues.message_q);
    events.publish(vec![event(0), event(1)]).await.unwrap();
    messages.publish(vec![message()]).await.remove(0).unwrap();
    let batch = async {
        let calls = (0..events.partitions()).map(|number| Box::pin(events.receive(number, 1)));
        futures::future::select_all(calls).await.0.unwrap()
    };
    let batch = timeout(LIMIT, batch).await.expect("an event");

    let frozen = broker.freeze();
    let (all, topic) = (DeadLetterFilter::all(), "a".into());
    let calls = async {
        let error = events.publish(vec![event(2)]).await.unwrap_err();
        assert_eq!(error.kind(), PortErrorKind::Unknown);
        let error = messages.publish(vec![message()]).await.remove(0).unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert!(events.depth().await.unwrap_err().is_retryable());
        assert!(messages.depth(&topic).await.unwrap_err().is_retryable());
        assert!(events.dead_letters(&all).await.unwrap_err().is_retryable());
        assert!(messages.backlog().await.unwrap_err().is_retryable());
        // An acknowledgement has no answer.
        _ = events.ack(&[batch[0].tag]).await;
    };
    timeout(4 * LIMIT, calls).await.expect("every call has a time limit");
    let waiting = tokio::spawn({
        let queue = queues.event_q.clone();
        async move { queue.publish(vec![event(3)]).await }
    });
    tokio::task::yield_now().await;
    let since = Instant::now();
    queues.close().await;
    assert!(since.elapsed() < 3 * second, "closing took {:?}", since.elapsed());
    let ended = timeout(second, waiting).await.expect("what is under way ends, too").unwrap();
    assert!(ended.is_err());
    drop(frozen);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_when_the_broker_does() {
    let broker = Broker::start();
    let namespace = Namespace::at(broker.url());
    let second = Duration::from_secs(1);
    let config = namespace.config().partitions(1).connect_timeout(second).answer_timeout(second);
    let queues = AmqpQueues::connect(config.confirm_timeout(second)).await.expect("the broker");
    let queue = &*queues.event_q;
    let frozen = broker.freeze();
    queue.publish(vec![event(0)]).await.unwrap_err();
    drop(frozen);
    let publishing = async { while queue.publish(vec![event(1)]).await.is_err() {} };
    timeout(2 * LIMIT, publishing).await.expect("it is published");
    let receiving = async {
        loop {
            let batch = queue.receive(0, 9).await.unwrap();
            if batch.iter().any(|it| it.payload == event(1)) {
                break;
            }
        }
    };
    timeout(2 * LIMIT, receiving).await.expect("it is received");
    queues.close().await;
}
