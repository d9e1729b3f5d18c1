//! What is full, too large, too old or otherwise than expected. Needs a broker at `AMQP_URL`; one
//! test starts a broker of its own, by `scripts/services`.

mod support;

use std::{sync::Arc, time::Duration};

use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use support::{Namespace, broker::Broker};
use thredcore::port::{
    DeadLetterFilter, EventQ, MessageQ, PortError, PortErrorKind, Returned, Routed,
};
use thredcore_amqp::{AmqpError, AmqpQueues};
use thredlib::{Event, Message};
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(30);

/// A message of a topic with some bytes in it.
fn message(topic: &str, number: usize, bytes: usize) -> Routed {
    let event = Event::builder("a", "erp").id(format!("erp/{number}")).title("x".repeat(bytes));
    let message = Message {
        id: format!("{number}").into(),
        event: Arc::new(event.build()),
        to: vec!["ann".into()],
        timestamp: 1,
    };
    Routed { topic: topic.into(), message: Arc::new(message) }
}

fn kinds(answers: Vec<Result<(), PortError>>) -> Vec<Option<PortErrorKind>> {
    answers.into_iter().map(|answer| answer.err().map(|error| error.kind())).collect()
}

async fn declare(namespace: &Namespace, queue: &str, arguments: &[(&str, AMQPValue)]) {
    let (connection, channel) = namespace.admin().await;
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    for (key, value) in arguments {
        table.insert((*key).into(), value.clone());
    }
    let name = format!("{}.{queue}", namespace.name).into();
    channel.queue_declare(name, QueueDeclareOptions::durable(), table).await.unwrap();
    connection.close(200, "OK".into()).await.unwrap();
}

async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let checking = async {
        while !check().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, checking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_other_limits_is_used_and_what_it_refuses_is_full() {
    let namespace = Namespace::new();
    let limits = [
        ("x-max-length", AMQPValue::LongLongInt(4)),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ];
    declare(&namespace, "messages.a", &limits).await;
    let queues = namespace.connect().await;
    let mut sent = 0;
    let answer = loop {
        let answers = kinds(queues.message_q.publish(vec![message("a", sent, 10)]).await);
        match answers[0] {
            None => sent += 1,
            error => break error,
        }
        assert!(sent < 10_000, "the broker takes all of it");
    };
    assert_eq!(answer, Some(PortErrorKind::Full));
    let answers = queues.message_q.publish(vec![message("b", 0, 10)]).await;
    assert_eq!(kinds(answers), [None], "others are not concerned");
    queues.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_for_many_consumers_is_not_used() {
    let namespace = Namespace::new();
    let dead = [("x-max-length", AMQPValue::LongLongInt(4))];
    declare(&namespace, "events.1", &dead).await;
    let error = AmqpQueues::connect(namespace.config().partitions(2)).await.unwrap_err();
    assert!(matches!(error, AmqpError::Topology { what: "queue", .. }), "{error:?}");
    assert!(!error.is_retryable());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_pause_goes_through_the_queue_and_back() {
    let namespace = Namespace::new();
    // The queue for a minute lets go much sooner.
    let name = |what: &str| AMQPValue::LongString(format!("{}.{what}", namespace.name).into());
    let soon = [
        ("x-message-ttl", AMQPValue::LongLongInt(300)),
        ("x-dead-letter-exchange", name("messages")),
        ("x-dead-letter-routing-key", AMQPValue::LongString("a".into())),
    ];
    declare(&namespace, "delayed.1.a", &soon).await;
    let queues = namespace.connect().await;
    let queue = &*queues.message_q;
    assert_eq!(kinds(queue.publish(vec![message("a", 1, 10)]).await), [None]);
    let batch = timeout(LIMIT, queue.receive(&["a".into()], 1)).await.unwrap().unwrap();
    queue.nack(batch[0].tag, 60_700, Returned::Failed).await.unwrap();
    let held = async || {
        let depths = queue.depths().await.unwrap();
        let topic = depths.iter().find(|depth| depth.queue.ends_with("messages.a")).unwrap();
        topic.held
    };
    assert_eq!(held().await, 0, "it waits at the broker");
    assert_eq!(queue.depth(&"a".into()).await.unwrap(), 1);
    eventually("the last minute is spent in the process", async || held().await == 1).await;
    let waiting = timeout(Duration::from_millis(300), queue.receive(&["a".into()], 1)).await;
    assert!(waiting.is_err(), "it is early");
    queues.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_and_deaths_come_along() {
    let namespace = Namespace::new();
    let queues = namespace.connect().await;
    let queue = &*queues.message_q;
    assert_eq!(kinds(queue.publish(vec![message("b", 1, 10)]).await), [None]);
    // As it comes out of the queue in which it was delayed.
    let mut headers = FieldTable::default();
    headers.insert("thredcore-failures".into(), AMQPValue::LongLongInt(3));
    headers.insert("thredcore-deaths".into(), AMQPValue::LongLongInt(2));
    let (connection, channel) = namespace.admin().await;
    let body = serde_json::to_vec(&*message("b", 2, 10).message).unwrap();
    let exchange = format!("{}.messages", namespace.name).into();
    let properties = BasicProperties::default().with_headers(headers);
    let options = BasicPublishOptions::default();
    channel.basic_publish(exchange, "b".into(), options, &body, properties).await.unwrap();
    let mut found = vec![];
    while found.len() < 2 {
        let batch = timeout(LIMIT, queue.receive(&["b".into()], 9)).await.unwrap().unwrap();
        assert_eq!(batch.len(), 1, "what has killed twice comes alone");
        found.extend(batch);
    }
    let counts: Vec<_> = found.iter().map(|it| (it.attempt, it.failures, it.deaths())).collect();
    assert_eq!(counts, [(1, 0, 0), (6, 3, 2)]);
    for delivery in &found {
        queue.nack(delivery.tag, 0, Returned::Failed).await.unwrap();
    }
    let again = timeout(LIMIT, queue.receive(&["b".into()], 1)).await.unwrap().unwrap();
    assert_eq!((again[0].attempt, again[0].failures), (2, 1));
    connection.close(200, "OK".into()).await.unwrap();
    queues.close().await;
}

/// More than one consumer of those that look is given.
#[tokio::test(flavor = "multi_thread")]
async fn all_dead_letters_are_reached_by_pages_and_stay_in_order() {
    const COUNT: usize = 1_500;
    let namespace = Namespace::new();
    let queues = namespace.connect().await;
    let queue = &*queues.message_q;
    let letters = (0..COUNT).map(|number| (message("a", number, 10), "bad".to_owned()));
    queue.bury(letters.collect()).await.unwrap();
    let numbers = |numbers: std::ops::Range<usize>| {
        numbers.map(|number| number.to_string()).collect::<Vec<_>>()
    };
    let mut page = DeadLetterFilter { limit: Some(400), ..DeadLetterFilter::all() };
    let mut seen = vec![];
    loop {
        let letters = queue.dead_letters(&page).await.unwrap();
        let Some(last) = letters.last() else { break };
        page.after = Some(last.id.clone());
        seen.extend(letters.into_iter().map(|letter| letter.payload.message.id.to_string()));
    }
    assert_eq!(seen, numbers(0..COUNT));
    // The page after one that is gone.
    let first = queue.dead_letters(&page_of(None, 3)).await.unwrap();
    assert_eq!(queue.discard(&page_of(None, 2)).await.unwrap(), 2);
    let next = queue.dead_letters(&page_of(Some(&first[1].id), 1)).await.unwrap();
    assert_eq!(next[0].id, first[2].id);
    assert_eq!(queue.redrive(&DeadLetterFilter::all()).await.unwrap(), COUNT - 2);
    let mut found = vec![];
    while found.len() < COUNT - 2 {
        let batch = timeout(LIMIT, queue.receive(&["a".into()], 64)).await.unwrap().unwrap();
        queue.ack(&batch.iter().map(|it| it.tag).collect::<Vec<_>>()).await.unwrap();
        found.extend(batch.iter().map(|it| it.payload.message.id.to_string()));
    }
    assert_eq!(found, numbers(2..COUNT));
    queues.close().await;
}

fn page_of(after: Option<&str>, limit: usize) -> DeadLetterFilter {
    let after = after.map(str::to_owned);
    DeadLetterFilter { after, limit: Some(limit), ..DeadLetterFilter::all() }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_dead_letters_are_counted() {
    let namespace = Namespace::new();
    let config = namespace.config().dead_letters_bytes(64 << 10);
    let queues = AmqpQueues::connect(config).await.unwrap();
    let queue = &*queues.message_q;
    // Processes that consume do count.
    _ = timeout(Duration::from_millis(10), queue.receive(&["a".into()], 1)).await;
    for number in 0..20 {
        queue.bury(vec![(message("a", number, 10_000), "bad".to_owned())]).await.unwrap();
    }
    let left = queue.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert!((4..=6).contains(&left.len()), "{} are left", left.len());
    let ids: Vec<_> = left.iter().map(|it| it.payload.message.id.to_string()).collect();
    let latest: Vec<_> = (20 - left.len()..20).map(|number| number.to_string()).collect();
    assert_eq!(ids, latest);
    let dropped = 20 - left.len() as u64;
    eventually("all are counted", async || queues.dropped_dead_letters() == dropped).await;
    queues.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_of_other_processes_are_known() {
    let namespace = Namespace::new();
    let first = namespace.connect().await;
    let second = namespace.connect().await;
    let both = vec![message("b", 1, 10), message("a", 1, 10), message("a", 2, 10)];
    assert_eq!(kinds(first.message_q.publish(both).await), [None; 3]);
    let seen = |topics: Vec<thredcore::port::TopicBacklog>| {
        let each = topics.into_iter().map(|it| (it.topic.to_string(), it.backlog.depth));
        each.collect::<Vec<_>>()
    };
    let backlog = second.message_q.backlog().await.unwrap();
    assert_eq!(seen(backlog), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    assert_eq!(second.message_q.delete(&"a".into()).await.unwrap(), 2);
    // The first one finds out when it publishes.
    let publish = async || kinds(first.message_q.publish(vec![message("a", 3, 10)]).await);
    eventually("it is made again", async || publish().await == [None]).await;
    let backlog = second.message_q.backlog().await.unwrap();
    assert_eq!(seen(backlog), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    first.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_rejected_alone() {
    let namespace = Namespace::new();
    let config = namespace.config().max_item_bytes(100_000);
    let queues = AmqpQueues::connect(config).await.unwrap();
    let (small, large) = (|number| message("a", number, 10), message("a", 1, 100_000));
    let answers = queues.message_q.publish(vec![small(0), large.clone(), small(2)]).await;
    assert_eq!(kinds(answers), [None, Some(PortErrorKind::Rejected), None]);
    assert_eq!(queues.event_q.max_item_bytes(), 100_000);
    queues.close().await;

    let broker = Broker::start();
    let namespace = Namespace::at(broker.url());
    broker.configure(&["max_message_size = 50000".to_owned()]);
    let connect = async || AmqpQueues::connect(namespace.config()).await.ok();
    let mut queues = None;
    eventually("the broker is back", async || {
        queues = connect().await;
        queues.is_some()
    })
    .await;
    let queues = queues.unwrap();
    let publish =
        async || kinds(queues.message_q.publish(vec![small(0), large.clone(), small(2)]).await);
    // The channel goes with it: what becomes of the others is not known.
    assert_eq!(publish().await[1], Some(PortErrorKind::Rejected));
    assert_eq!(publish().await, [None, Some(PortErrorKind::Rejected), None]);
    queues.close().await;
}
