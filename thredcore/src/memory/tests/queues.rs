use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use thredlib::{Event, Message, Topic};

use crate::{
    memory::{MemoryEventQ, MemoryEventQConfig, MemoryMessageQ, MemoryMessageQConfig},
    port::{
        Accepted, Clock, Command, DeadLetterFilter, Death, Delivery, EventQ, Inbound, MessageQ,
        PortErrorKind, Returned, Routed,
    },
};

fn event(source: &str, id: impl ToString) -> Inbound {
    Inbound::Event(Accepted::new(Event::builder("a", source).id(id.to_string()).build(), 1))
}

fn routed(topic: &str, id: impl ToString) -> Routed {
    let event = Arc::new(Event::builder("a", "erp").id("e").build());
    let message =
        Message { id: id.to_string().into(), event, to: vec!["ann".into()], timestamp: 0 };
    Routed { topic: topic.into(), message: message.into() }
}

fn because(reason: &str) -> Death {
    Death { reason: reason.into(), times: 1, moved: vec![] }
}

fn ids(batch: &[Delivery<Inbound>]) -> Vec<String> {
    batch.iter().map(|delivery| delivery.payload.id().to_string()).collect()
}

fn message_ids<'a>(messages: impl IntoIterator<Item = &'a Routed>) -> Vec<&'a str> {
    messages.into_iter().map(|routed| routed.message.id.as_str()).collect()
}

#[tokio::test]
async fn an_old_tag_does_nothing_to_the_redelivery() {
    let queue = MemoryEventQ::with_partitions(1);
    queue.publish(vec![event("erp", 1)]).await.unwrap();
    let first = queue.receive(0, 1).await.unwrap();
    queue.nack(&[first[0].tag]).await.unwrap();
    let second = queue.receive(0, 1).await.unwrap();
    queue.ack(&[first[0].tag]).await.unwrap();
    assert_eq!(queue.depth().await.unwrap(), 1);
    queue.ack(&[second[0].tag]).await.unwrap();
    assert_eq!(queue.depth().await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_given_back_in_pieces_returns_to_its_old_order() {
    let queue = MemoryEventQ::with_partitions(1);
    queue.publish((0..6).map(|id| event("erp", id)).collect()).await.unwrap();
    let out = queue.receive(0, 5).await.unwrap();
    queue.nack(&[out[4].tag, out[2].tag]).await.unwrap();
    queue.nack(&[out[0].tag, out[3].tag]).await.unwrap();
    queue.nack(&[out[1].tag]).await.unwrap();
    assert_eq!(ids(&queue.receive(0, 9).await.unwrap()), ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn what_a_lost_consumer_held_is_delivered_again_in_order() {
    let queue = MemoryEventQ::with_partitions(1);
    queue.publish((0..6).map(|id| event("erp", id)).collect()).await.unwrap();
    let out = queue.receive(0, 4).await.unwrap();
    queue.ack(&[out[1].tag]).await.unwrap();
    assert_eq!(queue.redeliver_unacked(), 3);
    queue.ack(&[out[0].tag]).await.unwrap();
    let again = queue.receive(0, 9).await.unwrap();
    assert_eq!(ids(&again), ["0", "2", "3", "4", "5"]);
    assert_eq!(again.iter().map(|it| it.attempt).collect::<Vec<_>>(), [2, 2, 2, 1, 1]);
}

#[tokio::test]
async fn a_full_queue_has_no_room_but_takes_what_comes() {
    let queue = MemoryEventQ::new(MemoryEventQConfig::default().partitions(1).capacity(1));
    let command = Command::Expire { thred_id: "t".into(), entry: 1, at: 5 };
    queue.publish(vec![event("erp", 1)]).await.unwrap();
    queue.publish(vec![Inbound::Command(Arc::new(command))]).await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(20), queue.room());
    assert!(waiting.await.is_err(), "a full queue has room");
    let out = queue.receive(0, 9).await.unwrap();
    queue.ack(&[out[0].tag]).await.unwrap();
    queue.room().await.unwrap();
}

#[tokio::test]
async fn a_closed_queue_is_drained_first() {
    let queue = Arc::new(MemoryEventQ::with_partitions(1));
    queue.publish(vec![event("erp", 1)]).await.unwrap();
    let out = queue.receive(0, 1).await.unwrap();
    queue.close();
    assert_eq!(
        queue.publish(vec![event("erp", 2)]).await.unwrap_err().kind(),
        PortErrorKind::Closed
    );
    let consumer = tokio::spawn({
        let queue = queue.clone();
        async move { queue.receive(0, 1).await.unwrap_err().kind() }
    });
    tokio::task::yield_now().await;
    assert!(!consumer.is_finished(), "closed while an item was out");
    queue.ack(&[out[0].tag]).await.unwrap();
    assert_eq!(consumer.await.unwrap(), PortErrorKind::Closed);
}

#[tokio::test]
async fn the_oldest_dead_letters_are_lost_and_counted() {
    let config = MemoryEventQConfig::default().partitions(1).dead_letters_bytes(400);
    let queue = MemoryEventQ::new(config);
    queue.publish((0..9).map(|id| event("erp", id)).collect()).await.unwrap();
    for out in queue.receive(0, 9).await.unwrap() {
        queue.dead_letter(out.tag, &because("broken")).await.unwrap();
    }
    let letters = queue.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!(letters.last().unwrap().payload.id(), "8");
    let bytes: usize = letters.iter().map(|it| serde_json::to_vec(it).unwrap().len()).sum();
    assert!(bytes <= 400 && !letters.is_empty(), "{bytes} bytes");
    assert_eq!(queue.dropped_dead_letters(), 9 - letters.len() as u64);
}

#[tokio::test]
async fn a_dead_letter_beyond_the_quota_is_kept_until_the_next() {
    let config = MemoryEventQConfig::default().partitions(1).dead_letters_bytes(1);
    let queue = MemoryEventQ::new(config);
    queue.publish((0..2).map(|id| event("erp", id)).collect()).await.unwrap();
    for (out, count) in queue.receive(0, 2).await.unwrap().iter().zip([0, 1]) {
        queue.dead_letter(out.tag, &because("broken")).await.unwrap();
        assert_eq!(queue.dead_letters(&DeadLetterFilter::all()).await.unwrap().len(), 1);
        assert_eq!(queue.dropped_dead_letters(), count);
    }
}

/// A clock that stands until it is moved.
#[derive(Debug, Default)]
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn dead_letters_go_when_their_time_is_over() {
    let clock = Arc::new(Hands::default());
    let config = MemoryEventQConfig::default().partitions(1).clock(clock.clone());
    let day = 24 * 3_600_000;
    let queue = MemoryEventQ::new(config);
    queue.publish((0..2).map(|id| event("erp", id)).collect()).await.unwrap();
    for out in queue.receive(0, 2).await.unwrap() {
        queue.dead_letter(out.tag, &because("broken")).await.unwrap();
        clock.0.fetch_add(day, Ordering::SeqCst);
    }
    for (now, left) in [(29, 2), (30, 1), (31, 0)] {
        clock.0.store(now * day, Ordering::SeqCst);
        assert_eq!(queue.dead_letters(&DeadLetterFilter::all()).await.unwrap().len(), left);
        assert_eq!(queue.dropped_dead_letters(), 2 - left as u64);
    }
    assert_eq!(queue.redrive(&DeadLetterFilter::all()).await.unwrap(), 0);
}

#[tokio::test]
async fn what_expires_makes_room_in_a_full_topic() {
    let clock = Arc::new(Hands::default());
    let config = MemoryMessageQConfig::default().capacity(2).clock(clock.clone());
    let queue = MemoryMessageQ::new(config.message_ttl(Duration::from_secs(60)));
    queue.publish(vec![routed("a", 1), routed("a", 2)]).await;
    let error = queue.publish(vec![routed("a", 3)]).await.remove(0).unwrap_err();
    assert_eq!(error.kind(), PortErrorKind::Full);
    let held = queue.receive_any(1).await.unwrap();
    clock.0.store(60_000, Ordering::SeqCst);
    assert!(queue.publish(vec![routed("a", 3)]).await[0].is_ok());
    let letters = queue.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!(letters.len(), 1, "what is handed out does not expire");
    assert_eq!((letters[0].payload.message.id.as_str(), &*letters[0].reason), ("2", "EXPIRED"));
    queue.nack(held[0].tag, 0, Returned::Failed).await.unwrap();
    assert_eq!(message_ids(&queue.take_all()), ["1", "3"], "the sweep comes from time to time");
}

#[tokio::test]
async fn a_removed_topic_s_old_tags_do_nothing_to_the_next() {
    let queue = MemoryMessageQ::default();
    queue.publish(vec![routed("a", 1)]).await;
    let old = queue.receive(&["a".into()], 1).await.unwrap();
    queue.redeliver_unacked();
    assert_eq!(queue.delete(&"a".into()).await.unwrap(), 1);
    queue.publish(vec![routed("b", 2)]).await;
    let new = queue.receive(&["b".into()], 1).await.unwrap();
    assert_eq!(message_ids(new.iter().map(|out| &out.payload)), ["2"]);
    queue.ack(&[old[0].tag]).await.unwrap();
    assert_eq!(queue.depth(&"b".into()).await.unwrap(), 1);
    queue.ack(&[new[0].tag]).await.unwrap();
    assert_eq!(queue.depth(&"b".into()).await.unwrap(), 0);
}

#[tokio::test]
async fn one_that_kills_its_consumers_comes_alone_among_many_topics() {
    let queue = MemoryMessageQ::default();
    let topics: [Topic; 2] = ["a".into(), "b".into()];
    queue.publish(vec![routed("a", "killer")]).await;
    for _ in 0..2 {
        queue.receive(&topics, 9).await.unwrap();
        queue.redeliver_unacked();
    }
    queue.publish((0..4).map(|id| routed("b", id)).collect()).await;
    let mut batches = vec![];
    while batches.iter().map(Vec::len).sum::<usize>() < 5 {
        let batch = queue.receive(&topics, 9).await.unwrap();
        batches.push(batch.iter().map(|out| out.payload.message.id.to_string()).collect());
    }
    let with_killer: Vec<_> = batches
        .iter()
        .filter(|batch: &&Vec<String>| batch.iter().any(|id| id == "killer"))
        .collect();
    assert_eq!(with_killer, [&["killer".to_owned()]]);
    assert_eq!(batches.len(), 2, "the others come together");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_event_comes_once_and_in_its_sources_order() {
    const SOURCES: usize = 8;
    const EVENTS: usize = 500;
    let queue = Arc::new(MemoryEventQ::new(MemoryEventQConfig::default().capacity(100)));
    let publishers: Vec<_> = (0..SOURCES)
        .map(|source| {
            let queue = queue.clone();
            tokio::spawn(async move {
                for first in (0..EVENTS).step_by(7) {
                    let ids = first..(first + 7).min(EVENTS);
                    let batch = ids.map(|id| event(&format!("source {source}"), id));
                    queue.room().await.unwrap();
                    queue.publish(batch.collect()).await.unwrap();
                }
            })
        })
        .collect();
    let consumers: Vec<_> = (0..queue.partitions())
        .map(|partition| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut seen: HashMap<String, Vec<usize>> = HashMap::new();
                while let Ok(batch) = queue.receive(partition, 5).await {
                    let (keep, give_back) = batch.split_at(batch.len().div_ceil(2));
                    for delivery in keep {
                        let source = delivery.payload.partition_key().to_owned();
                        let id = delivery.payload.id().as_str().parse().unwrap();
                        seen.entry(source).or_default().push(id);
                    }
                    let tags = |part: &[Delivery<_>]| -> Vec<_> {
                        part.iter().map(|delivery| delivery.tag).collect()
                    };
                    queue.nack(&tags(give_back)).await.unwrap();
                    queue.ack(&tags(keep)).await.unwrap();
                }
                seen
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    queue.close();
    let mut sources = 0;
    for consumer in consumers {
        for (source, seen) in consumer.await.unwrap() {
            assert_eq!(seen, (0..EVENTS).collect::<Vec<_>>(), "{source}");
            sources += 1;
        }
    }
    assert_eq!(sources, SOURCES);
}

#[tokio::test]
async fn all_topics_drain_in_the_order_of_publishing() {
    let queue = MemoryMessageQ::default();
    queue.publish(vec![routed("a", 1), routed("b", 2), routed("a", 3), routed("c", 4)]).await;
    let batch = queue.receive_any(3).await.unwrap();
    assert_eq!(message_ids(batch.iter().map(|out| &out.payload)), ["1", "2", "3"]);
    queue.nack(batch[1].tag, 0, Returned::Failed).await.unwrap();
    assert_eq!(message_ids(&queue.take_all()), ["2", "4"]);
    assert!(queue.take_all().is_empty());
}

#[tokio::test]
async fn a_busy_topic_leaves_room_for_others() {
    let queue = MemoryMessageQ::default();
    let many = (0..20).map(|id| routed("busy", id));
    queue.publish(many.chain([routed("rare", "x")]).collect()).await;
    let topics: [Topic; 2] = ["busy".into(), "rare".into()];
    let batch = queue.receive(&topics, 4).await.unwrap();
    assert!(batch.iter().any(|out| out.payload.topic == "rare"));
    assert_eq!(batch.len(), 4);
}

#[tokio::test]
async fn a_delayed_message_is_not_early_and_does_not_hold_up_others() {
    let queue = MemoryMessageQ::default();
    let topics: [Topic; 1] = ["a".into()];
    queue.publish(vec![routed("a", 1), routed("a", 2)]).await;
    let first = queue.receive(&topics, 1).await.unwrap();
    let since = tokio::time::Instant::now();
    queue.nack(first[0].tag, 30, Returned::Failed).await.unwrap();
    let second = queue.receive(&topics, 9).await.unwrap();
    assert_eq!(message_ids(second.iter().map(|out| &out.payload)), ["2"]);
    let again = queue.receive(&topics, 9).await.unwrap();
    assert!(since.elapsed() >= Duration::from_millis(30));
    assert_eq!((again[0].payload.message.id.as_str(), again[0].attempt), ("1", 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_reach_one_of_many_consumers() {
    let queue = Arc::new(MemoryMessageQ::new(MemoryMessageQConfig::default().capacity(16)));
    let consumers: Vec<_> = (0..4)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let topics: [Topic; 2] = ["a".into(), "b".into()];
                let mut seen = 0;
                while let Ok(batch) = queue.receive(&topics, 3).await {
                    seen += batch.len();
                    let tags: Vec<_> = batch.iter().map(|out| out.tag).collect();
                    queue.ack(&tags).await.unwrap();
                }
                seen
            })
        })
        .collect();
    for id in 0..1000 {
        let topic = if id % 2 == 0 { "a" } else { "b" };
        while queue.publish(vec![routed(topic, id)]).await[0].is_err() {
            tokio::task::yield_now().await;
        }
    }
    queue.close();
    let mut seen = 0;
    for consumer in consumers {
        seen += consumer.await.unwrap();
    }
    assert_eq!(seen, 1000);
}
