//! What [`MessageQ`] promises.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use thredlib::{Event, Topic};

use super::{
    A_WHILE, Fixture,
    samples::{FOREIGN, large, routed},
    waits,
};
use crate::port::{DeadLetterFilter, Delivery, DeliveryTag, MessageQ, Routed};

type Queue = Fixture<dyn MessageQ>;

async fn publish(queue: &dyn MessageQ, messages: impl IntoIterator<Item = Routed>) {
    let messages: Vec<_> = messages.into_iter().collect();
    let count = messages.len();
    let answers = queue.publish(messages).await;
    assert_eq!(answers.len(), count, "each message has an answer");
    for (place, answer) in answers.into_iter().enumerate() {
        answer.unwrap_or_else(|error| panic!("message {place}: {error:?}"));
    }
}

fn topics<const N: usize>(names: [&str; N]) -> [Topic; N] {
    names.map(Topic::from)
}

async fn receive(queue: &dyn MessageQ, topic: &str, max: usize) -> Vec<Delivery<Routed>> {
    queue.receive(&topics([topic]), max).await.expect("receive")
}

/// Receives so many messages of a topic without acknowledging them.
async fn take(queue: &dyn MessageQ, topic: &str, count: usize) -> Vec<Delivery<Routed>> {
    let mut batch = vec![];
    while batch.len() < count {
        batch.extend(receive(queue, topic, count - batch.len()).await);
    }
    batch
}

fn tags(batch: &[Delivery<Routed>]) -> Vec<DeliveryTag> {
    batch.iter().map(|delivery| delivery.tag).collect()
}

fn ids(batch: &[Delivery<Routed>]) -> Vec<&str> {
    batch.iter().map(|delivery| delivery.payload.message.id.as_str()).collect()
}

fn numbered(topic: &str, numbers: std::ops::Range<usize>) -> impl Iterator<Item = Routed> {
    numbers.map(move |number| routed(topic, &format!("{topic}/{number}")))
}

fn names(topic: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{topic}/{number}")).collect()
}

/// Messages of a topic come in the order of their publishing, as they were given.
pub async fn a_topic_keeps_its_order(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..20)).await;
    publish(queue, numbered("a", 20..40)).await;
    publish(queue, []).await;
    let batch = take(queue, "a", 40).await;
    let payloads: Vec<_> = batch.iter().map(|delivery| delivery.payload.clone()).collect();
    assert_eq!(payloads, numbered("a", 0..40).collect::<Vec<_>>());
}

/// A consumer gets messages of the topics that it asked for.
pub async fn topics_are_apart(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("org.wt.a", 0..2).chain(numbered("org.wt.a1", 0..2))).await;
    let batch = take(queue, "org.wt.a1", 2).await;
    assert_eq!(ids(&batch), ["org.wt.a1/0", "org.wt.a1/1"]);
    assert!(waits(receive(queue, "org.wt.a1", 1)).await);
    assert!(waits(receive(queue, "org.wt", 1)).await);
    assert_eq!(queue.depth(&"org.wt.a".into()).await.unwrap(), 2);
}

/// A consumer of several topics gets the messages of all, and is woken by each.
pub async fn several_topics_are_received_together(fixture: Queue) {
    let queue = &*fixture.port;
    let both = topics(["a", "b"]);
    publish(queue, numbered("a", 0..5).chain(numbered("b", 0..5))).await;
    let mut found = BTreeSet::new();
    while found.len() < 10 {
        let batch = queue.receive(&both, 3).await.unwrap();
        assert!(batch.len() <= 3);
        queue.ack(&tags(&batch)).await.unwrap();
        found.extend(ids(&batch).into_iter().map(str::to_owned));
    }
    for topic in ["b", "a"] {
        let (batch, ()) = futures::join!(queue.receive(&both, 3), async {
            tokio::time::sleep(A_WHILE).await;
            publish(queue, numbered(topic, 7..8)).await;
        });
        let batch = batch.unwrap();
        assert_eq!(ids(&batch), names(topic, 7..8));
        queue.ack(&tags(&batch)).await.unwrap();
    }
}

/// With several consumers each message comes to one of them.
pub async fn consumers_share_a_topic(fixture: Queue) {
    let consumers: Vec<_> = (0..3)
        .map(|_| {
            let queue = fixture.port.clone();
            tokio::spawn(async move {
                let mut found = vec![];
                let limit = A_WHILE * 5;
                while let Ok(batch) = tokio::time::timeout(limit, receive(&*queue, "a", 2)).await {
                    queue.ack(&tags(&batch)).await.expect("ack");
                    found.extend(ids(&batch).into_iter().map(str::to_owned));
                }
                found
            })
        })
        .collect();
    for first in (0..60).step_by(5) {
        publish(&*fixture.port, numbered("a", first..first + 5)).await;
    }
    let mut all = vec![];
    for consumer in consumers {
        all.extend(consumer.await.expect("a consumer"));
    }
    all.sort();
    let mut expected = names("a", 0..60);
    expected.sort();
    assert_eq!(all, expected);
}

/// No more than asked for, and no waiting for a batch to fill.
pub async fn a_batch_has_bounds(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..5)).await;
    let first = receive(queue, "a", 2).await;
    assert!((1..=2).contains(&first.len()), "asked for two, got {}", first.len());
    let rest = take(queue, "a", 5 - first.len()).await;
    assert_eq!([ids(&first), ids(&rest)].concat(), names("a", 0..5));
    publish(queue, numbered("a", 5..6)).await;
    assert_eq!(receive(queue, "a", 100).await.len(), 1);
}

/// Contents may be any text, and large.
pub async fn large_and_foreign_texts_survive(fixture: Queue) {
    let queue = &*fixture.port;
    let mut routed = routed("a", FOREIGN);
    let message = std::sync::Arc::make_mut(&mut routed.message);
    message.to = vec![FOREIGN.into()];
    let event = Event::builder(FOREIGN, FOREIGN).title(large()).build();
    message.event = std::sync::Arc::new(event);
    publish(queue, [routed.clone()]).await;
    assert_eq!(receive(queue, "a", 1).await[0].payload, routed);
}

/// An idle consumer gets a message when there is one, and not before.
pub async fn receive_waits_and_wakes(fixture: Queue) {
    let queue = fixture.port.clone();
    assert!(waits(receive(&*queue, "a", 1)).await, "an empty topic gave something");
    let consumer = tokio::spawn(async move { receive(&*queue, "a", 1).await.len() });
    tokio::time::sleep(A_WHILE).await;
    publish(&*fixture.port, numbered("a", 0..1)).await;
    assert_eq!(consumer.await.expect("a consumer"), 1);
}

/// Calls that are given up, idle or busy, take nothing with them.
pub async fn a_dropped_receive_loses_nothing(fixture: Queue) {
    let queue = fixture.port.clone();
    let publisher = tokio::spawn(async move {
        for number in 0..50 {
            publish(&*queue, numbered("a", number..number + 1)).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut found = BTreeSet::new();
    let mut patience = Duration::from_micros(200);
    while found.len() < 50 {
        let call = receive(&*fixture.port, "a", 3);
        match tokio::time::timeout(patience, call).await {
            Ok(batch) => {
                fixture.port.ack(&tags(&batch)).await.unwrap();
                found.extend(ids(&batch).into_iter().map(str::to_owned));
                patience = Duration::from_micros(200);
            }
            // A slow queue must get its chance to answer.
            Err(_) => patience = (patience * 2).min(Duration::from_secs(2)),
        }
    }
    publisher.await.expect("a publisher");
    assert_eq!(found, names("a", 0..50).into_iter().collect());
}

/// A tag that is not out any more is ignored, by all that take one.
pub async fn acknowledging_twice_is_harmless(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..1)).await;
    let tag = take(queue, "a", 1).await[0].tag;
    queue.ack(&[tag, tag]).await.unwrap();
    queue.ack(&[tag]).await.unwrap();
    queue.nack(tag, 0).await.unwrap();
    queue.dead_letter(tag, "late").await.unwrap();
    queue.ack(&[]).await.unwrap();
    assert!(queue.dead_letters(&DeadLetterFilter::all()).await.unwrap().is_empty());
    assert!(waits(receive(queue, "a", 1)).await, "it came again");
}

/// Without a delay it comes again at once, and its attempts are counted.
pub async fn a_returned_message_comes_again(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..1)).await;
    for attempt in 1..=4 {
        let batch = take(queue, "a", 1).await;
        assert_eq!((ids(&batch), batch[0].attempt), (vec!["a/0"], attempt));
        queue.nack(batch[0].tag, 0).await.unwrap();
    }
}

/// A delayed message comes when its time has come, and holds up nobody until then.
pub async fn a_delayed_message_is_not_early(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..3)).await;
    let batch = take(queue, "a", 2).await;
    let since = Instant::now();
    queue.nack(batch[0].tag, 400).await.unwrap();
    queue.nack(batch[1].tag, 200).await.unwrap();
    assert_eq!(ids(&take(queue, "a", 1).await), ["a/2"], "it need not wait");
    for (id, delay) in [("a/1", 200), ("a/0", 400)] {
        let again = take(queue, "a", 1).await;
        assert_eq!((ids(&again), again[0].attempt), (vec![id], 2));
        assert!(since.elapsed() >= Duration::from_millis(delay), "{id} is early");
        queue.ack(&tags(&again)).await.unwrap();
    }
}

/// A dead letter keeps the message, the reason, the time and the attempts; redriven it comes again.
pub async fn dead_letters_tell_why_and_are_redriven(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..2).chain(numbered("b", 0..1))).await;
    for (topic, count) in [("a", 2), ("b", 1)] {
        for delivery in take(queue, topic, count).await {
            queue.dead_letter(delivery.tag, &format!("bad {topic}")).await.unwrap();
        }
    }
    let letters = queue.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    let found: Vec<_> = letters.iter().map(|letter| letter.payload.clone()).collect();
    let expected: Vec<_> = numbered("a", 0..2).chain(numbered("b", 0..1)).collect();
    assert_eq!(found, expected, "oldest first");
    assert!(letters.iter().all(|letter| letter.attempts == 1 && letter.at > 1_000_000_000_000));
    assert_eq!(letters[2].reason, "bad b");

    let bad_a = DeadLetterFilter { reason: Some("bad a".into()), ..DeadLetterFilter::all() };
    assert_eq!(queue.redrive(&bad_a).await.unwrap(), 2);
    assert_eq!(ids(&take(queue, "a", 2).await), ["a/0", "a/1"]);
    assert!(waits(receive(queue, "b", 1)).await);
    assert_eq!(queue.redrive(&DeadLetterFilter::id(&*letters[2].id)).await.unwrap(), 1);
    assert_eq!(ids(&take(queue, "b", 1).await), ["b/0"]);
    assert!(queue.dead_letters(&DeadLetterFilter::all()).await.unwrap().is_empty());
}

/// They are neither dead letters nor messages any more.
pub async fn discarded_messages_are_gone(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..3)).await;
    for delivery in take(queue, "a", 3).await {
        queue.dead_letter(delivery.tag, "bad").await.unwrap();
    }
    let two = DeadLetterFilter { limit: Some(2), ..DeadLetterFilter::all() };
    assert_eq!(queue.discard(&two).await.unwrap(), 2);
    let left = queue.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].payload.message.id, "a/2");
    assert!(waits(receive(queue, "a", 1)).await);
}

/// Waiting, delayed or handed out, until acknowledged; each topic by itself.
pub async fn depth_counts_what_is_out(fixture: Queue) {
    let queue = &*fixture.port;
    let depth = async || queue.depth(&"a".into()).await.expect("depth");
    assert_eq!(depth().await, 0);
    publish(queue, numbered("a", 0..3).chain(numbered("b", 0..1))).await;
    let batch = take(queue, "a", 2).await;
    assert_eq!(depth().await, 3);
    queue.ack(&[batch[0].tag]).await.unwrap();
    queue.nack(batch[1].tag, 60_000).await.unwrap();
    assert_eq!(depth().await, 2);
}

/// Publishers wait for room in the topic, and then go on in order.
pub async fn a_full_topic_makes_publishers_wait(fixture: Queue) {
    let Some(capacity) = fixture.full_at() else { return };
    let queue = fixture.port.clone();
    publish(&*queue, numbered("a", 0..capacity)).await;
    assert!(waits(queue.publish(numbered("a", 99_999..100_000).collect())).await);
    publish(&*queue, numbered("b", 0..1)).await;
    let publisher = tokio::spawn({
        let queue = queue.clone();
        async move { publish(&*queue, numbered("a", capacity..capacity + 3)).await }
    });
    let mut found = vec![];
    while found.len() < capacity + 3 {
        let batch = receive(&*queue, "a", 2).await;
        queue.ack(&tags(&batch)).await.unwrap();
        found.extend(ids(&batch).into_iter().map(str::to_owned));
    }
    publisher.await.expect("a publisher");
    assert_eq!(found, names("a", 0..capacity + 3));
}

/// Each message comes once and in its publisher's order.
pub async fn many_publishers_lose_nothing(fixture: Queue) {
    let publishers: Vec<_> = (0..8)
        .map(|publisher| {
            let queue = fixture.port.clone();
            tokio::spawn(async move {
                for number in (0..100).step_by(5) {
                    let ids = number..number + 5;
                    let messages = ids.map(|id| routed("a", &format!("{publisher}/{id}")));
                    publish(&*queue, messages).await;
                }
            })
        })
        .collect();
    let mut all = vec![];
    while all.len() < 800 {
        let batch = receive(&*fixture.port, "a", 64).await;
        fixture.port.ack(&tags(&batch)).await.unwrap();
        all.extend(ids(&batch).into_iter().map(str::to_owned));
    }
    for publisher in publishers {
        publisher.await.expect("a publisher");
    }
    for publisher in 0..8 {
        let own = |id: &&String| id.starts_with(&format!("{publisher}/"));
        let found: Vec<_> = all.iter().filter(own).cloned().collect();
        assert_eq!(found, names(&publisher.to_string(), 0..100));
    }
}

/// What was published and not acknowledged is there after a restart, and so are the dead letters.
pub async fn unacknowledged_messages_survive_a_restart(fixture: Queue) {
    publish(&*fixture.port, numbered("a", 0..4)).await;
    let batch = take(&*fixture.port, "a", 3).await;
    fixture.port.ack(&[batch[0].tag]).await.unwrap();
    fixture.port.dead_letter(batch[1].tag, "bad").await.unwrap();
    let Some(fixture) = fixture.reopened().await else { return };
    let again = take(&*fixture.port, "a", 2).await;
    let found: BTreeSet<_> = ids(&again).into_iter().collect();
    assert_eq!(found, ["a/2", "a/3"].into());
    let letters = fixture.port.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!(letters.len(), 1);
}
