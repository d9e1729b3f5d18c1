//! What the broker's own ways ask for. Needs a broker at `AMQP_URL`.

mod support;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::select_all;
use lapin::{
    options::{BasicPublishOptions, QueueDeleteOptions},
    types::FieldTable,
};
use support::{Namespace, PARTITIONS, proxy::Proxy};
use thredcore::port::{
    Accepted, DeadLetterFilter, Death, Delivery, DeliveryTag, EventQ, Inbound, MessageQ, PortError,
    PortErrorKind, Quarantine, Routed,
};
use thredcore_amqp::{AmqpConfig, AmqpError, AmqpQueues, Declare};
use thredlib::{Event, Message};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(20);

fn event(number: usize) -> Inbound {
    let event = Event::builder("a", "erp").id(format!("erp/{number}")).build();
    Inbound::Event(Accepted::new(event, 1))
}

fn message(topic: &str, number: usize) -> Routed {
    let Inbound::Event(accepted) = event(number) else { unreachable!() };
    let event = accepted.event;
    let message =
        Message { id: format!("{number}").into(), event, to: vec!["ann".into()], timestamp: 1 };
    Routed { topic: topic.into(), message: Arc::new(message) }
}

async fn try_receive(queue: &dyn EventQ, max: usize) -> Result<Vec<Delivery<Inbound>>, PortError> {
    let calls = (0..queue.partitions()).map(|partition| queue.receive(partition, max));
    timeout(LIMIT, select_all(calls)).await.expect("an item in time").0
}

async fn receive(queue: &dyn EventQ, max: usize) -> Vec<Delivery<Inbound>> {
    try_receive(queue, max).await.expect("receive")
}

async fn take(queue: &dyn EventQ, count: usize) -> Vec<Delivery<Inbound>> {
    let mut batch = vec![];
    while batch.len() < count {
        batch.extend(receive(queue, count - batch.len()).await);
    }
    batch
}

fn death(reason: &str) -> Death {
    Death { reason: reason.into(), times: 1, moved: vec![] }
}

fn tags<T>(batch: &[Delivery<T>]) -> Vec<DeliveryTag> {
    batch.iter().map(|delivery| delivery.tag).collect()
}

fn ids(batch: &[Delivery<Inbound>]) -> Vec<String> {
    batch.iter().map(|delivery| delivery.payload.id().to_string()).collect()
}

fn names(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("erp/{number}")).collect()
}

/// More than a node of Erlang's small maps holds, which are sorted while larger ones are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_keeps_the_order() {
    let namespace = Namespace::new();
    let first = namespace.connect().await;
    first.event_q.publish((0..200).map(event).collect()).await.unwrap();
    let held = take(&*first.event_q, 100).await;
    first.event_q.ack(&tags(&held[..20])).await.unwrap();

    // The second lines up while the first has everything in hand.
    let second = namespace.connect().await;
    let queue = second.event_q.clone();
    let taking = tokio::spawn(async move { take(&*queue, 230).await });
    first.event_q.publish((200..250).map(event).collect()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!taking.is_finished(), "two consumers have the partition");
    drop(held);
    drop(first);
    let rest = timeout(LIMIT, taking).await.expect("a takeover in time").unwrap();
    assert_eq!(ids(&rest), names(20..250));
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_of_a_former_channel_is_not_sent() {
    let namespace = Namespace::new();
    let proxy = Proxy::to(&namespace.url).await;
    let queues = namespace.connect_by(&proxy).await;
    let queue = &*queues.event_q;
    queue.publish((0..10).map(event).collect()).await.unwrap();
    let before = take(queue, 10).await;
    proxy.cut();
    let again = take(queue, 1).await;
    assert_eq!((ids(&again), again[0].attempt), (names(0..1), 2));
    // The same numbers were used on the former channel.
    queue.ack(&tags(&before)).await.unwrap();
    queue.nack(&tags(&before)).await.unwrap();
    assert!(!queue.dead_letter(before[3].tag, &death("late")).await.unwrap());
    assert_eq!(queue.depth().await.unwrap(), 10);
    assert!(queue.dead_letters(&DeadLetterFilter::all()).await.unwrap().is_empty());
    let rest = take(queue, 9).await;
    assert_eq!(ids(&rest), names(1..10));
    queue.ack(&tags(&[again, rest].concat())).await.unwrap();
    queues.close().await;
    let other = namespace.connect().await;
    assert_eq!(other.event_q.depth().await.unwrap(), 0, "those of the new channel are sent");
    other.close().await;
}

/// Connections are cut again and again; publishers publish again what is not confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_lose_nothing_and_keep_the_order_of_first_deliveries() {
    const COUNT: usize = 2_000;
    let namespace = Namespace::new();
    let proxy = Arc::new(Proxy::to(&namespace.url).await);
    let queues = namespace.connect_by(&proxy).await;
    let cutting = tokio::spawn({
        let proxy = proxy.clone();
        async move {
            for _ in 0..15 {
                tokio::time::sleep(Duration::from_millis(200)).await;
                proxy.cut();
            }
        }
    });
    let publishing = tokio::spawn({
        let queue = queues.event_q.clone();
        async move {
            for first in (0..COUNT).step_by(10) {
                let items = || (first..first + 10).map(event).collect();
                while let Err(error) = queue.publish(items()).await {
                    assert!(error.is_retryable(), "{error:?}");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let mut seen = BTreeSet::new();
    let mut order = vec![];
    while order.len() < COUNT {
        let batch = match try_receive(&*queues.event_q, 32).await {
            Ok(batch) => batch,
            // What has come back twice is noted at the broker before it is handed out.
            Err(error) if error.is_retryable() => continue,
            Err(error) => panic!("{error:?}"),
        };
        for delivery in &batch {
            assert!(delivery.attempt <= 3, "no process has ended: {delivery:?}");
            let id = delivery.payload.id().to_string();
            if seen.insert(id.clone()) {
                order.push(id);
            }
        }
        // What cannot be acknowledged comes again.
        _ = queues.event_q.ack(&tags(&batch)).await;
    }
    assert_eq!(order, names(0..COUNT));
    publishing.await.unwrap();
    cutting.await.unwrap();
    queues.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_a_queue_is_an_error_and_then_has_one() {
    let namespace = Namespace::new();
    let queues = namespace.connect().await;
    let publish = async |numbers: std::ops::Range<usize>| {
        let messages = numbers.flat_map(|number| [message("a", number), message("b", number)]);
        queues.message_q.publish(messages.collect()).await
    };
    assert!(publish(0..2).await.iter().all(Result::is_ok));
    let (connection, channel) = namespace.admin().await;
    let (queue, exchange) =
        (format!("{}.messages.a", namespace.name), format!("{}.messages", namespace.name));
    channel
        .queue_unbind(queue.into(), exchange.into(), "a".into(), FieldTable::default())
        .await
        .unwrap();
    let answers = publish(2..4).await;
    let outcomes: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(outcomes, [false, true, false, true]);
    let error = answers.into_iter().next().unwrap().unwrap_err();
    assert_eq!(error.kind(), PortErrorKind::Unavailable);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("no queue is bound") && cause.contains("`a`"), "{cause}");
    // The adapter makes the binding again, since it is its own.
    assert!(publish(2..4).await.iter().all(Result::is_ok));
    let mut found = BTreeSet::new();
    while found.len() < 4 {
        let batch = queues.message_q.receive(&["a".into()], 9).await.unwrap();
        found.extend(batch.iter().map(|it| it.payload.message.id.to_string()));
    }
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    connection.close(200, "OK".into()).await.unwrap();
    queues.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_made_again() {
    let namespace = Namespace::new();
    // What is on its way to a queue while that is deleted is never confirmed.
    let config = namespace.config().confirm_timeout(Duration::from_secs(2));
    let queues = AmqpQueues::connect(config).await.expect("RabbitMQ at AMQP_URL");
    queues.event_q.publish(vec![event(0)]).await.unwrap();
    assert_eq!(ids(&take(&*queues.event_q, 1).await), names(0..1));
    let (connection, channel) = namespace.admin().await;
    for partition in 0..PARTITIONS {
        let queue = format!("{}.events.{partition}", namespace.name);
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }
    // Nothing is there to take it, until the adapter has looked.
    let publish = async { while queues.event_q.publish(vec![event(1)]).await.is_err() {} };
    timeout(LIMIT, publish).await.expect("the queue is made again");
    assert_eq!(ids(&take(&*queues.event_q, 1).await), names(1..2));
    connection.close(200, "OK".into()).await.unwrap();
    queues.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_crashes_dead_letter_nobody_innocent() {
    let namespace = Namespace::new();
    let config = || namespace.config().event_prefetch(32);
    let publisher = namespace.connect().await;
    publisher.event_q.publish((0..32).map(event).collect()).await.unwrap();
    publisher.event_q.publish(vec![event(32)]).await.unwrap();
    publisher.close().await;
    let mut attempts = vec![];
    for _ in 0..30 {
        let queues = AmqpQueues::connect(config()).await.unwrap();
        // It ends while it has the first, and merely holds the others.
        let batch = receive(&*queues.event_q, 1).await;
        assert_eq!(ids(&batch), names(0..1));
        attempts.push(batch[0].attempt);
        drop(queues);
    }
    assert_eq!(attempts, (1..=30).collect::<Vec<_>>(), "the guilty one is counted");
    let queues = AmqpQueues::connect(config()).await.unwrap();
    let mut found = vec![];
    while found.len() < 33 {
        let batch = receive(&*queues.event_q, 32).await;
        for delivery in &batch[usize::from(found.is_empty())..] {
            assert!(delivery.attempt <= 3, "{delivery:?}");
        }
        queues.event_q.ack(&tags(&batch)).await.unwrap();
        found.extend(ids(&batch));
    }
    assert_eq!(found, names(0..33), "in order, and none is missing");
    assert!(queues.event_q.dead_letters(&DeadLetterFilter::all()).await.unwrap().is_empty());
    queues.close().await;
}

/// Bytes that are no item, a bare event, and a command that no engine has sent.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_item_or_not_from_an_engine_is_set_aside() {
    let namespace = Namespace::new();
    let queues = namespace.connect().await;
    let queue = &*queues.event_q;
    let (connection, channel) = namespace.admin().await;
    let Inbound::Event(bare) = event(7) else { unreachable!() };
    let bodies = [
        (b"{ no event".to_vec(), Some("guest")),
        (serde_json::to_vec(&*bare.event).unwrap(), Some("guest")),
        (serde_json::to_vec(&event(8)).unwrap(), None),
    ];
    for (body, user) in bodies {
        let exchange = format!("{}.events", namespace.name);
        let options = BasicPublishOptions::default();
        let mut properties = lapin::BasicProperties::default().with_delivery_mode(2);
        if let Some(user) = user {
            properties = properties.with_user_id(user.into());
        }
        channel
            .basic_publish(exchange.into(), "0".into(), options, &body, properties)
            .await
            .unwrap();
    }
    queue.publish(vec![event(9)]).await.unwrap();
    let batch = take(queue, 1).await;
    assert_eq!(ids(&batch), names(9..10), "the partition goes on");
    queue.ack(&tags(&batch)).await.unwrap();
    let set_aside = async {
        while queue.unreadable(9).await.unwrap().len() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, set_aside).await.expect("all three in time");
    let found = queue.unreadable(9).await.unwrap();
    let reasons: Vec<_> = found.iter().map(|it| it.reason.as_str()).collect();
    assert!(reasons.iter().any(|it| it.contains("cannot be read")), "{reasons:?}");
    assert!(reasons.iter().any(|it| it.contains("no engine")), "{reasons:?}");
    assert!(found.iter().any(|it| it.content == "{ no event"), "{found:?}");
    // There is no item to show or to redrive.
    assert!(queue.dead_letters(&DeadLetterFilter::all()).await.unwrap().is_empty());
    assert_eq!(queue.redrive(&DeadLetterFilter::all()).await.unwrap(), 0);
    assert_eq!(queue.move_out(1).await.unwrap().len(), 1);
    assert_eq!(queue.move_out(9).await.unwrap().len(), 2);
    assert!(queue.unreadable(9).await.unwrap().is_empty());
    connection.close(200, "OK".into()).await.unwrap();
    queues.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_shared_among_engines() {
    let namespace = Namespace::new();
    let config = || namespace.config().rebalance(Duration::from_millis(100));
    let engines = [
        AmqpQueues::connect(config()).await.unwrap(),
        AmqpQueues::connect(config()).await.unwrap(),
        AmqpQueues::connect(config()).await.unwrap(),
    ];
    let owners = Arc::new(std::sync::Mutex::new(vec![usize::MAX; usize::from(PARTITIONS)]));
    let workers: Vec<_> = (engines.iter().enumerate())
        .flat_map(|(number, engine)| {
            (0..PARTITIONS).map({
                let owners = owners.clone();
                move |partition| {
                    let (queue, owners) = (engine.event_q.clone(), owners.clone());
                    tokio::spawn(async move {
                        while let Ok(batch) = queue.receive(partition, 16).await {
                            queue.ack(&tags(&batch)).await.unwrap();
                            owners.lock().unwrap()[usize::from(partition)] = number;
                        }
                    })
                }
            })
        })
        .collect();
    let shared = async {
        for number in 0.. {
            let source = format!("source {number}");
            let item = Inbound::Event(Accepted::new(Event::builder("a", source).build(), 1));
            engines[0].event_q.publish(vec![item]).await.unwrap();
            let owners: BTreeSet<usize> = owners.lock().unwrap().iter().copied().collect();
            if owners == BTreeSet::from([0, 1, 2]) {
                return;
            }
        }
    };
    timeout(LIMIT, shared).await.expect("each engine gets a partition");
    for engine in &engines {
        engine.close().await;
    }
    for worker in workers {
        worker.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_partitions_is_refused() {
    let namespace = Namespace::new();
    let queues = namespace.connect().await;
    for (partitions, word) in [(PARTITIONS - 1, "more"), (PARTITIONS + 1, "fewer")] {
        let error = AmqpQueues::connect(namespace.config().partitions(partitions)).await;
        let error = error.unwrap_err();
        assert!(matches!(error, AmqpError::Partitions { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    queues.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_topology_is_adopted_by_name() {
    let namespace = Namespace::new();
    let strange = || {
        AmqpConfig::new(&namespace.url)
            .unwrap()
            .partitions(1)
            .namespace("nobody's")
            .declare(Declare::No)
    };
    let error = AmqpQueues::connect(strange()).await.unwrap_err();
    assert!(error.to_string().contains("`nobody's.events` is missing"), "{error}");
    let made = namespace.connect().await;
    let publishing = made.message_q.publish(vec![message("a", 1)]).await;
    assert!(publishing.iter().all(Result::is_ok));
    let name = |what: &str| format!("{}.{what}", namespace.name);
    let adopted = AmqpQueues::connect(
        strange()
            .partitions(PARTITIONS)
            .event_exchange(name("events"))
            .event_queue(name("events.{partition}"))
            .engines_queue(name("engines"))
            .message_exchange(name("messages"))
            .message_queue(name("messages.{topic}"))
            .dead_exchange(name("dead"))
            .dead_queues(name("dead.events"), name("dead.messages")),
    )
    .await
    .unwrap();
    adopted.event_q.publish(vec![event(1)]).await.unwrap();
    assert_eq!(ids(&take(&*made.event_q, 1).await), names(1..2));
    let batch = adopted.message_q.receive(&["a".into()], 1).await.unwrap();
    assert_eq!(batch[0].payload.message.id, "1");
    let error = adopted.message_q.publish(vec![message("unknown", 1)]).await.remove(0).unwrap_err();
    assert_eq!(error.kind(), PortErrorKind::Unavailable);
    adopted.close().await;
    made.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_back_twice_is_delivered_though_nobody_made_a_queue_for_tries() {
    let namespace = Namespace::new();
    let made = namespace.connect().await;
    made.event_q.publish(vec![event(1)]).await.unwrap();
    let adopting = || namespace.config().declare(Declare::No);
    for attempt in 1..=4 {
        let adopted = AmqpQueues::connect(adopting()).await.unwrap();
        let batch = take(&*adopted.event_q, 1).await;
        assert_eq!(batch[0].attempt, u32::min(attempt, 3));
        // As a process that ends: it comes back.
        adopted.close().await;
    }
    made.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_tried_in_turn_and_failures_say_where() {
    let nowhere = "amqp://guest:secret@127.0.0.1:1/%2f";
    let error = AmqpQueues::connect(AmqpConfig::new(nowhere).unwrap()).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains("127.0.0.1:1//"), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    let namespace = Namespace::new();
    let config = AmqpConfig::new(nowhere).unwrap().url(&namespace.url).unwrap();
    let config = config.namespace(&namespace.name).partitions(PARTITIONS);
    AmqpQueues::connect(config).await.unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_queues_say_so() {
    let namespace = Namespace::new();
    let queues = namespace.connect().await;
    let queue = queues.event_q.clone();
    let waiting = tokio::spawn(async move { queue.receive(0, 1).await });
    tokio::task::yield_now().await;
    queues.close().await;
    let error = timeout(LIMIT, waiting).await.expect("it ends").unwrap().unwrap_err();
    assert_eq!(error.kind(), PortErrorKind::Closed);
    let error = queues.event_q.publish(vec![event(1)]).await.unwrap_err();
    assert_eq!(error.kind(), PortErrorKind::Closed);
    let error = queues.message_q.publish(vec![message("a", 1)]).await.remove(0).unwrap_err();
    assert_eq!(error.kind(), PortErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_dead_letters_keep_their_order() {
    let namespace = Namespace::new();
    let queues = namespace.connect().await;
    let queue = &*queues.event_q;
    queue.publish((0..100).map(event).collect()).await.unwrap();
    for delivery in take(queue, 100).await {
        queue.dead_letter(delivery.tag, &death("bad")).await.unwrap();
    }
    let listed = async || {
        let letters = queue.dead_letters(&DeadLetterFilter::all()).await.unwrap();
        letters.iter().map(|letter| letter.payload.id().to_string()).collect::<Vec<_>>()
    };
    for _ in 0..3 {
        assert_eq!(listed().await, names(0..100));
    }
    let forty = DeadLetterFilter { limit: Some(40), ..DeadLetterFilter::all() };
    assert_eq!(queue.redrive(&forty).await.unwrap(), 40);
    assert_eq!(ids(&take(queue, 40).await), names(0..40));
    assert_eq!(listed().await, names(40..100));
    queues.close().await;
}
