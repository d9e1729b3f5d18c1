//! What [`MessageQ`] promises.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use thredlib::{Event, Topic};

use super::{
    A_WHILE, Fixture, LARGEST,
    samples::{FOREIGN, large, routed},
    waits,
};
use crate::port::{
    DeadLetterFilter, Delivery, DeliveryTag, MessageQ, PortErrorKind, Returned, Routed,
    TopicBacklog,
};

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
    queue.nack(tag, 0, Returned::Failed).await.unwrap();
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
        assert_eq!((batch[0].failures, batch[0].deaths()), (attempt - 1, 0));
        queue.nack(batch[0].tag, 0, Returned::Failed).await.unwrap();
    }
}

/// What nobody has tried to handle counts as no attempt.
pub async fn an_untried_message_has_no_attempt(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..1)).await;
    for (why, expected) in [
        (Returned::Untried, (1, 0)),
        (Returned::Failed, (1, 0)),
        (Returned::Untried, (2, 1)),
        (Returned::Untried, (2, 1)),
        (Returned::Failed, (2, 1)),
        (Returned::Failed, (3, 2)),
    ] {
        let batch = take(queue, "a", 1).await;
        assert_eq!((batch[0].attempt, batch[0].failures), expected);
        assert_eq!(batch[0].deaths(), 0);
        queue.nack(batch[0].tag, 0, why).await.unwrap();
    }
}

/// What fails again and again kills nobody: it need not go alone.
pub async fn a_failing_message_goes_with_others(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..1)).await;
    for _ in 0..5 {
        let batch = take(queue, "a", 1).await;
        queue.nack(batch[0].tag, 0, Returned::Failed).await.unwrap();
    }
    publish(queue, numbered("a", 1..4)).await;
    // Some queues send what they have, and that takes a moment.
    tokio::time::sleep(A_WHILE).await;
    let mut largest = 0;
    let mut seen = 0;
    while seen < 4 {
        let batch = receive(queue, "a", 9).await;
        (seen, largest) = (seen + batch.len(), largest.max(batch.len()));
    }
    assert!(largest > 1, "each came alone");
}

/// From its third attempt on, after two consumers have died with it, a message comes alone.
pub async fn what_kills_its_consumers_comes_alone(mut fixture: Queue) {
    publish(&*fixture.port, numbered("a", 0..3)).await;
    for attempt in 1..=2 {
        let batch = take(&*fixture.port, "a", 3).await;
        assert!(batch.iter().all(|delivery| delivery.attempt == attempt));
        assert!(batch.iter().all(|delivery| delivery.deaths() == attempt - 1));
        let Some(next) = fixture.without_its_consumers().await else { return };
        fixture = next;
    }
    let queue = &*fixture.port;
    publish(queue, numbered("a", 3..6)).await;
    let mut alone = vec![];
    while alone.len() < 3 {
        let batch = receive(queue, "a", 9).await;
        if batch[0].deaths() == 2 {
            assert_eq!(batch.len(), 1, "{:?}", ids(&batch));
            alone.push(ids(&batch)[0].to_owned());
        } else {
            assert!(batch.iter().all(|delivery| delivery.deaths() == 0));
        }
        queue.ack(&tags(&batch)).await.unwrap();
    }
    alone.sort();
    assert_eq!(alone, names("a", 0..3));
}

/// A delayed message comes when its time has come, and holds up nobody until then.
pub async fn a_delayed_message_is_not_early(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..3)).await;
    let batch = take(queue, "a", 2).await;
    let since = Instant::now();
    queue.nack(batch[0].tag, 400, Returned::Failed).await.unwrap();
    queue.nack(batch[1].tag, 200, Returned::Failed).await.unwrap();
    assert_eq!(ids(&take(queue, "a", 1).await), ["a/2"], "it need not wait");
    for (id, delay) in [("a/1", 200), ("a/0", 400)] {
        let again = take(queue, "a", 1).await;
        assert_eq!((ids(&again), again[0].attempt), (vec![id], 2));
        assert!(since.elapsed() >= Duration::from_millis(delay), "{id} is early");
        queue.ack(&tags(&again)).await.unwrap();
    }
}

/// A long delay is spent in the queue: it holds up nobody, and is no delivery of anybody.
pub async fn a_long_delay_is_spent_in_the_queue(fixture: Queue) {
    const HOUR: u64 = 3_600_000;
    publish(&*fixture.port, numbered("a", 0..3)).await;
    let batch = take(&*fixture.port, "a", 3).await;
    fixture.port.nack(batch[0].tag, HOUR, Returned::Failed).await.unwrap();
    fixture.port.nack(batch[1].tag, u64::MAX, Returned::Failed).await.unwrap();
    fixture.port.ack(&[batch[2].tag]).await.unwrap();
    assert!(waits(receive(&*fixture.port, "a", 9)).await, "it is early");
    publish(&*fixture.port, numbered("a", 3..4)).await;
    assert_eq!(ids(&take(&*fixture.port, "a", 1).await), ["a/3"]);
    assert_eq!(fixture.port.depth(&"a".into()).await.unwrap(), 3);
    let Some(fixture) = fixture.reopened().await else { return };
    let again = take(&*fixture.port, "a", 1).await;
    assert_eq!(ids(&again), ["a/3"]);
    assert!(waits(receive(&*fixture.port, "a", 9)).await, "a restart makes it early");
    assert_eq!(fixture.port.depth(&"a".into()).await.unwrap(), 3);
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

/// Messages that no topic has taken are dead letters like the others.
pub async fn buried_messages_are_dead_letters(fixture: Queue) {
    let queue = &*fixture.port;
    let messages: Vec<_> = numbered("a", 0..2).chain(numbered("b", 0..1)).collect();
    let buried = messages.iter().map(|message| (message.clone(), "TOPIC_FULL".to_owned()));
    queue.bury(buried.collect()).await.unwrap();
    queue.bury(vec![]).await.unwrap();
    let letters = queue.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    let found: Vec<_> = letters.iter().map(|letter| letter.payload.clone()).collect();
    assert_eq!(found, messages);
    assert!(letters.iter().all(|letter| letter.reason == "TOPIC_FULL" && letter.attempts == 0));
    assert!(waits(receive(queue, "a", 1)).await);
    assert_eq!(queue.redrive(&DeadLetterFilter::all()).await.unwrap(), 3);
    assert_eq!(ids(&take(queue, "a", 2).await), ["a/0", "a/1"]);
}

/// The pages together are all dead letters, oldest first.
pub async fn dead_letters_come_in_pages(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..10)).await;
    for delivery in take(queue, "a", 10).await {
        queue.dead_letter(delivery.tag, "bad").await.unwrap();
    }
    let mut page = DeadLetterFilter { limit: Some(4), ..DeadLetterFilter::all() };
    let mut seen = vec![];
    loop {
        let letters = queue.dead_letters(&page).await.unwrap();
        assert!(letters.len() <= 4);
        let Some(last) = letters.last() else { break };
        page.after = Some(last.id.clone());
        seen.extend(letters.into_iter().map(|letter| letter.payload.message.id.to_string()));
    }
    assert_eq!(seen, names("a", 0..10));
}

/// With more bytes of dead letters than the quota allows the oldest go, not the newest.
pub async fn dead_letters_have_a_quota(fixture: Queue) {
    let Some(bytes) = fixture.keeps_dead_letter_bytes() else { return };
    let queue = &*fixture.port;
    for number in 0..30 {
        let mut routed = routed("a", &number.to_string());
        let event = Event::builder("a", "erp").title("x".repeat(bytes / 10)).build();
        std::sync::Arc::make_mut(&mut routed.message).event = std::sync::Arc::new(event);
        publish(queue, [routed]).await;
        let tag = take(queue, "a", 1).await[0].tag;
        queue.dead_letter(tag, "bad").await.unwrap();
    }
    let left = queue.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    let left: Vec<_> = left.iter().map(|letter| letter.payload.message.id.to_string()).collect();
    let latest: Vec<_> = (30 - left.len()..30).map(|number| number.to_string()).collect();
    assert_eq!(left, latest, "the latest");
    assert!((5..=10).contains(&left.len()), "{} of a tenth of the quota each", left.len());
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
    queue.nack(batch[1].tag, 60_000, Returned::Failed).await.unwrap();
    assert_eq!(depth().await, 2);
}

async fn backlog(queue: &dyn MessageQ, topic: &str) -> Option<TopicBacklog> {
    let all = queue.backlog().await.expect("backlog");
    assert!(all.is_sorted_by(|a, b| a.topic.as_str() < b.topic.as_str()), "{all:?}");
    all.into_iter().find(|backlog| backlog.topic == topic)
}

/// What waits on each topic, those handed out and delayed included; and what is dead.
pub async fn the_backlog_tells_of_each_topic(fixture: Queue) {
    let queue = &*fixture.port;
    assert_eq!(backlog(queue, "a").await, None);
    publish(queue, numbered("b", 0..1).chain(numbered("a", 0..4))).await;
    let batch = take(queue, "a", 3).await;
    queue.nack(batch[0].tag, 60_000, Returned::Failed).await.unwrap();
    queue.dead_letter(batch[1].tag, "bad").await.unwrap();
    let a = backlog(queue, "a").await.expect("a topic").backlog;
    assert_eq!((a.depth, a.dead_letters), (3, 1));
    assert!(a.oldest.is_none_or(|at| at > 1_000_000_000_000), "in milliseconds: {:?}", a.oldest);
    assert!(a.consumers.is_none_or(|consumers| consumers >= 1), "it has something in hand");
    let b = backlog(queue, "b").await.expect("a topic").backlog;
    assert_eq!((b.depth, b.dead_letters), (1, 0));
    queue.ack(&tags(&take(queue, "b", 1).await)).await.unwrap();
    let b = backlog(queue, "b").await;
    assert!(b.is_none_or(|b| b.backlog.depth == 0 && b.backlog.oldest.is_none()));
}

/// What waits goes, what is handed out stays; other topics are not concerned.
pub async fn a_topic_is_purged(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..5).chain(numbered("b", 0..1))).await;
    let batch = take(queue, "a", 2).await;
    assert_eq!(queue.purge(&"a".into()).await.unwrap(), 3);
    assert_eq!(queue.purge(&"a".into()).await.unwrap(), 0);
    assert_eq!(queue.purge(&"unknown".into()).await.unwrap(), 0);
    queue.nack(batch[1].tag, 0, Returned::Failed).await.unwrap();
    assert_eq!(ids(&take(queue, "a", 1).await), ["a/1"]);
    assert_eq!(queue.depth(&"b".into()).await.unwrap(), 1);
    assert!(queue.dead_letters(&DeadLetterFilter::all()).await.unwrap().is_empty());
}

/// It goes with all that waits on it, and is made anew by what is published.
pub async fn a_topic_is_deleted(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..3).chain(numbered("b", 0..1))).await;
    assert_eq!(queue.delete(&"a".into()).await.unwrap(), 3);
    assert_eq!(queue.delete(&"a".into()).await.unwrap(), 0);
    assert_eq!(backlog(queue, "a").await, None);
    assert_eq!(queue.depth(&"a".into()).await.unwrap(), 0);
    publish(queue, numbered("a", 3..4)).await;
    assert_eq!(ids(&take(queue, "a", 1).await), ["a/3"]);
    assert_eq!(queue.depth(&"b".into()).await.unwrap(), 1);
}

/// Nobody's topic is taken away from under him.
pub async fn a_topic_with_consumers_is_not_deleted(fixture: Queue) {
    let queue = fixture.port.clone();
    let consumer = tokio::spawn(async move { receive(&*queue, "a", 1).await });
    tokio::time::sleep(A_WHILE).await;
    let error = fixture.port.delete(&"a".into()).await.expect_err("it has a consumer");
    assert_eq!(error.kind(), PortErrorKind::Rejected);
    publish(&*fixture.port, numbered("a", 0..1)).await;
    assert_eq!(ids(&consumer.await.expect("a consumer")), ["a/0"]);
}

/// Just as large as the queue says.
pub async fn a_message_as_large_as_stated_is_taken(fixture: Queue) {
    let queue = &*fixture.port;
    let max = queue.max_item_bytes();
    if max > LARGEST {
        eprintln!("not checked: `max_item_bytes` is {max}");
        return;
    }
    let with = |text: String| {
        let mut routed = routed("a", "large");
        let event = Event::builder("a", "erp").id("e").timestamp(1).title(text).build();
        std::sync::Arc::make_mut(&mut routed.message).event = std::sync::Arc::new(event);
        routed
    };
    let size = |routed: &Routed| serde_json::to_vec(routed).expect("JSON").len();
    let message = with("x".repeat(max - size(&with(String::new()))));
    assert_eq!(size(&message), max);
    publish(queue, [message.clone()]).await;
    assert!(take(queue, "a", 1).await[0].payload == message, "another one came out");
}

/// A full topic answers at once, for each of its messages; other topics go on. What was refused
/// did not come in, and what comes after room was made does.
pub async fn a_full_topic_stops_nobody_else(fixture: Queue) {
    let Some(capacity) = fixture.full_at() else { return };
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..capacity - 1)).await;
    let late = numbered("a", capacity - 1..capacity + 2);
    let mixed = late.zip(numbered("b", 0..3)).flat_map(|(a, b)| [a, b]).collect();
    let publishing = tokio::time::timeout(Duration::from_secs(30), queue.publish(mixed));
    let answers = publishing.await.expect("publishing does not wait");
    let answers: Vec<_> =
        answers.into_iter().map(|answer| answer.map_err(|error| error.kind())).collect();
    let full = Err(PortErrorKind::Full);
    assert_eq!(answers, [Ok(()), Ok(()), full, Ok(()), full, Ok(())]);
    assert_eq!(queue.depth(&"a".into()).await.unwrap(), capacity);
    assert_eq!(ids(&take(queue, "b", 3).await), ["b/0", "b/1", "b/2"]);
    let batch = take(queue, "a", capacity).await;
    assert_eq!(ids(&batch), names("a", 0..capacity));
    let still = queue.publish(numbered("a", 99..100).collect()).await.remove(0);
    assert_eq!(still.expect_err("nothing is acknowledged").kind(), PortErrorKind::Full);
    queue.ack(&tags(&batch[..2])).await.unwrap();
    publish(queue, numbered("a", capacity..capacity + 2)).await;
    assert_eq!(ids(&take(queue, "a", 2).await), names("a", capacity..capacity + 2));
}

/// What nobody takes in its time goes to the dead letters, with the reason `EXPIRED`.
pub async fn messages_expire(fixture: Queue) {
    let Some(time) = fixture.expires_messages_after() else { return };
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..2)).await;
    let held = take(queue, "a", 1).await;
    let letters =
        async || queue.dead_letters(&DeadLetterFilter::all()).await.expect("dead letters");
    assert!(letters().await.is_empty(), "it is early");
    tokio::time::sleep(time).await;
    eventually(async || letters().await.len() == 1).await;
    let letter = letters().await.remove(0);
    assert_eq!((letter.payload.message.id.as_str(), &*letter.reason), ("a/1", "EXPIRED"));
    queue.ack(&tags(&held)).await.unwrap();
    publish(queue, numbered("a", 2..3)).await;
    assert_eq!(ids(&take(queue, "a", 1).await), ["a/2"]);
}

/// A topic without messages and consumers goes after a while, and is made anew when it is needed.
pub async fn idle_topics_go(fixture: Queue) {
    let Some(time) = fixture.removes_topics_after() else { return };
    let queue = &*fixture.port;
    publish(queue, numbered("a", 0..1).chain(numbered("b", 0..1))).await;
    queue.ack(&tags(&take(queue, "a", 1).await)).await.unwrap();
    tokio::time::sleep(time).await;
    eventually(async || backlog(queue, "a").await.is_none()).await;
    assert!(backlog(queue, "b").await.is_some(), "it has a message");
    publish(queue, numbered("a", 1..2)).await;
    assert_eq!(ids(&take(queue, "a", 1).await), ["a/1"]);
    assert_eq!(ids(&take(queue, "b", 1).await), ["b/0"]);
}

/// Waits for something that a queue does in its own time.
async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    while !is_so().await {
        tokio::time::sleep(A_WHILE / 4).await;
    }
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

/// What can be read is not touched.
pub async fn a_sound_queue_moves_nothing_out(fixture: Queue) {
    let queue = &*fixture.port;
    assert!(queue.publish(vec![routed("a", "m")]).await.remove(0).is_ok());
    assert_eq!(queue.unreadable(9).await.unwrap(), []);
    assert_eq!(queue.move_out(9).await.unwrap(), []);
    assert_eq!(queue.depth(&"a".into()).await.unwrap(), 1);
}
