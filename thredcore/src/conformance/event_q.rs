//! What [`EventQ`] promises.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use futures::future::select_all;
use serde_json::json;
use thredlib::Event;

use super::{
    A_WHILE, Fixture, LARGEST,
    samples::{FOREIGN, large, unbound},
    thred_store::commands,
    waits,
};
use crate::port::{
    Accepted, Command, DeadLetterFilter, Death, Delivery, DeliveryTag, EventQ, Inbound, Redriven,
};

type Queue = Fixture<dyn EventQ>;

async fn publish(queue: &dyn EventQ, items: impl IntoIterator<Item = Inbound>) {
    queue.publish(items.into_iter().collect()).await.expect("publish");
}

/// What comes first from any partition; the other calls are dropped.
async fn receive(queue: &dyn EventQ, max: usize) -> (u16, Vec<Delivery<Inbound>>) {
    let calls = (0..queue.partitions()).map(|partition| {
        Box::pin(async move { (partition, queue.receive(partition, max).await.expect("receive")) })
    });
    select_all(calls).await.0
}

/// Receives and acknowledges so many items.
async fn drain(queue: &dyn EventQ, count: usize) -> Vec<Inbound> {
    let mut items = vec![];
    while items.len() < count {
        let (_, batch) = receive(queue, count - items.len()).await;
        queue.ack(&tags(&batch)).await.expect("ack");
        items.extend(batch.into_iter().map(|delivery| delivery.payload));
    }
    items
}

/// Receives so many items of one key without acknowledging them.
async fn take(queue: &dyn EventQ, count: usize) -> Vec<Delivery<Inbound>> {
    let mut batch = vec![];
    while batch.len() < count {
        batch.extend(receive(queue, count - batch.len()).await.1);
    }
    batch
}

fn tags(batch: &[Delivery<Inbound>]) -> Vec<DeliveryTag> {
    batch.iter().map(|delivery| delivery.tag).collect()
}

fn ids(batch: &[Delivery<Inbound>]) -> Vec<String> {
    batch.iter().map(|delivery| delivery.payload.id().to_string()).collect()
}

fn accepted(event: Event) -> Inbound {
    Inbound::Event(Accepted::new(event, 5))
}

fn because(reason: &str) -> Death {
    Death { reason: reason.into(), times: 1, moved: vec![] }
}

fn numbered(source: &str, numbers: std::ops::Range<usize>) -> impl Iterator<Item = Inbound> {
    numbers.map(move |number| unbound(&format!("{source}/{number}"), source))
}

/// What is published comes once, whatever its partition; equal keys share one.
pub async fn every_item_comes_to_one_partition(fixture: Queue) {
    let queue = &*fixture.port;
    assert!(queue.partitions() >= 1);
    let sources: Vec<_> = (0..10).map(|source| format!("source {source}")).collect();
    publish(queue, sources.iter().flat_map(|source| numbered(source, 0..3))).await;
    publish(queue, []).await;
    let mut homes: BTreeMap<String, u16> = BTreeMap::new();
    let mut seen = 0;
    while seen < 30 {
        let (partition, batch) = receive(queue, 99).await;
        for delivery in &batch {
            let key = delivery.payload.partition_key().to_owned();
            let home = *homes.entry(key.clone()).or_insert(partition);
            assert_eq!(home, partition, "{key} comes from two partitions");
        }
        queue.ack(&tags(&batch)).await.unwrap();
        seen += batch.len();
    }
    assert!(waits(receive(queue, 1)).await, "more came than was published");
}

/// Events bound to a thred, and commands to it, are ordered together.
pub async fn items_of_a_key_keep_their_order(fixture: Queue) {
    let queue = &*fixture.port;
    let mut expected = vec![];
    for round in 0..10 {
        let bound = Event::builder("a", format!("source {round}")).id(format!("bound {round}"));
        let mut items = vec![accepted(bound.thred("target").build())];
        items.extend(commands().into_iter().map(|command| Inbound::Command(Arc::new(command))));
        expected.extend(items.clone());
        publish(queue, items.into_iter().chain(numbered("noise", 0..3))).await;
    }
    let all = drain(queue, expected.len() + 30).await;
    let found: Vec<_> = all.into_iter().filter(|item| item.partition_key() == "target").collect();
    assert_eq!(found, expected);
}

/// No more than asked for, and no waiting for a batch to fill.
pub async fn a_batch_has_bounds(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("erp", 0..5)).await;
    let first = take(queue, 2).await;
    assert_eq!(ids(&first), ["erp/0", "erp/1"]);
    let mut rest = vec![];
    while rest.len() < 3 {
        let (_, batch) = receive(queue, 100).await;
        assert!(!batch.is_empty(), "an empty batch");
        rest.extend(batch);
    }
    assert_eq!(ids(&rest), ["erp/2", "erp/3", "erp/4"]);
}

/// Events and all commands come back as they were given.
pub async fn all_kinds_of_items_survive(fixture: Queue) {
    let queue = &*fixture.port;
    let event = json!({
        "id": "e", "type": "org.example.whole", "thredId": "target", "re": "before",
        "source": { "id": "erp", "name": "ERP", "uri": "uri://erp", "x": 1 }, "timestamp": 12,
        "data": { "title": FOREIGN, "content": { "values": [1, 1.0, -0.5, null, u64::MAX] } },
        "trace": { "traceparent": "00-1-2-01" }, "unknown": [true],
    });
    let event: Event = serde_json::from_value(event).expect("an event");
    let whole = Accepted {
        principal: Some(FOREIGN.into()),
        agent: Some("org.wt.agent".into()),
        redriven: Some(Arc::new(Redriven { times: 3, moved: vec!["a".into(), FOREIGN.into()] })),
        ..Accepted::new(event.clone(), i64::MAX)
    };
    let mut items = vec![accepted(event), Inbound::Event(whole)];
    items.extend(commands().into_iter().map(|command| Inbound::Command(Arc::new(command))));
    publish(queue, items.clone()).await;
    assert_eq!(drain(queue, items.len()).await, items);
}

/// Keys and contents may be any text, and large.
pub async fn large_and_foreign_texts_survive(fixture: Queue) {
    let queue = &*fixture.port;
    let event = Event::builder(FOREIGN, FOREIGN).id(FOREIGN).title(large()).build();
    let item = accepted(event);
    publish(queue, [item.clone()]).await;
    assert_eq!(drain(queue, 1).await, [item]);
}

/// An idle consumer gets an item when there is one, and not before.
pub async fn receive_waits_and_wakes(fixture: Queue) {
    let queue = fixture.port.clone();
    assert!(waits(receive(&*queue, 1)).await, "an empty queue gave something");
    let consumer = tokio::spawn(async move { drain(&*queue, 1).await });
    tokio::time::sleep(A_WHILE).await;
    publish(&*fixture.port, numbered("erp", 0..1)).await;
    assert_eq!(consumer.await.expect("a consumer").len(), 1);
}

/// Calls that are given up, idle or busy, take nothing with them.
pub async fn a_dropped_receive_loses_nothing(fixture: Queue) {
    let queue = fixture.port.clone();
    let publisher = tokio::spawn(async move {
        for number in 0..50 {
            publish(&*queue, numbered("erp", number..number + 1)).await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    let mut found = vec![];
    while found.len() < 50 {
        let limit = std::time::Duration::from_micros(300 + 100 * (found.len() as u64 % 7));
        if let Ok((_, batch)) = tokio::time::timeout(limit, receive(&*fixture.port, 3)).await {
            fixture.port.ack(&tags(&batch)).await.unwrap();
            found.extend(ids(&batch));
        }
        // Now and then a call has to be left alone, or a slow queue would never answer.
        if found.len() % 5 == 0 && found.len() < 50 {
            let (_, batch) = receive(&*fixture.port, 3).await;
            fixture.port.ack(&tags(&batch)).await.unwrap();
            found.extend(ids(&batch));
        }
    }
    publisher.await.expect("a publisher");
    let expected: Vec<_> = (0..50).map(|number| format!("erp/{number}")).collect();
    assert_eq!(found, expected);
}

/// They do not come again.
pub async fn acknowledged_items_are_gone(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("erp", 0..4)).await;
    let batch = take(queue, 4).await;
    queue.ack(&tags(&batch[..3])).await.unwrap();
    queue.nack(&tags(&batch[3..])).await.unwrap();
    let again = take(queue, 1).await;
    assert_eq!(ids(&again), ["erp/3"]);
    queue.ack(&tags(&again)).await.unwrap();
    assert!(waits(receive(queue, 1)).await);
}

/// A tag that is not out any more is ignored, by all that take one.
pub async fn acknowledging_twice_is_harmless(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("erp", 0..2)).await;
    let batch = take(queue, 2).await;
    let first = batch[0].tag;
    queue.ack(&[first, first]).await.unwrap();
    queue.ack(&[first]).await.unwrap();
    queue.nack(&[first]).await.unwrap();
    assert!(!queue.dead_letter(first, &because("late")).await.unwrap(), "it is not out any more");
    queue.ack(&[]).await.unwrap();
    assert!(queue.dead_letters(&DeadLetterFilter::all()).await.unwrap().is_empty());
    assert_eq!(queue.depth().await.unwrap(), 1);
    assert!(waits(receive(queue, 1)).await, "it came again");
}

/// What is given back comes before all others, in its old order, however it is given back.
pub async fn returned_items_come_first_and_in_order(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("erp", 0..6)).await;
    let batch = take(queue, 4).await;
    let tags = tags(&batch);
    queue.nack(&[tags[2], tags[0], tags[3], tags[1]]).await.unwrap();
    let all: Vec<_> = (0..6).map(|number| format!("erp/{number}")).collect();
    assert_eq!(ids(&take(queue, 6).await), all);
}

/// From one, and up with each delivery.
pub async fn attempts_are_counted(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("erp", 0..1)).await;
    for attempt in 1..=4 {
        let batch = take(queue, 1).await;
        assert_eq!(batch[0].attempt, attempt);
        queue.nack(&tags(&batch)).await.unwrap();
    }
}

/// A dead letter keeps the item, the reason, the time and the attempts, and comes no more.
pub async fn dead_letters_tell_why(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("erp", 0..2)).await;
    queue.nack(&tags(&take(queue, 2).await)).await.unwrap();
    let batch = take(queue, 2).await;
    for delivery in &batch {
        queue.dead_letter(delivery.tag, &because(FOREIGN)).await.unwrap();
    }
    let letters = queue.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!(letters.len(), 2);
    assert_ne!(letters[0].id, letters[1].id);
    for (letter, delivery) in letters.iter().zip(&batch) {
        assert_eq!(letter.payload, delivery.payload, "oldest first");
        assert_eq!((letter.reason.as_str(), letter.attempts), (FOREIGN, 2));
        assert!(letter.at > 1_000_000_000_000, "in milliseconds: {}", letter.at);
    }
    assert!(waits(receive(queue, 1)).await);
    assert_eq!(queue.depth().await.unwrap(), 0);
}

/// What the queue has refused can be put away; redriven it comes, if it can.
pub async fn what_was_refused_is_buried(fixture: Queue) {
    let queue = &*fixture.port;
    let commands = commands().into_iter().map(|command| Inbound::Command(Arc::new(command)));
    let items: Vec<_> = commands.chain(numbered("erp", 0..2)).collect();
    let buried = items.iter().map(|item| (item.clone(), "REJECTED: too large".to_owned()));
    queue.bury(buried.collect()).await.unwrap();
    queue.bury(vec![]).await.unwrap();
    let letters = queue.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!(letters.len(), items.len());
    for item in &items {
        let letter = letters.iter().find(|letter| letter.payload == *item).expect("a letter");
        assert_eq!((letter.reason.as_str(), letter.attempts), ("REJECTED: too large", 0));
        assert!(letter.moved.is_empty() && letter.at > 1_000_000_000_000);
    }
    assert!(waits(receive(queue, 1)).await);
    assert_eq!(queue.depth().await.unwrap(), 0);
    assert_eq!(queue.redrive(&DeadLetterFilter::all()).await.unwrap(), items.len());
    let ids = |items: &[Inbound]| items.iter().map(Inbound::key).collect::<HashSet<_>>();
    assert_eq!(ids(&drain(queue, items.len()).await), ids(&items));
}

/// Puts five letters away: three are `bad`, two are `worse`.
async fn with_letters(queue: &dyn EventQ) -> Vec<String> {
    publish(queue, numbered("erp", 0..5)).await;
    for (number, delivery) in take(queue, 5).await.iter().enumerate() {
        let reason = if number % 2 == 0 { "quite bad" } else { "worse" };
        let is_dead = queue.dead_letter(delivery.tag, &because(reason)).await;
        assert!(is_dead.expect("dead letter"), "it was out");
    }
    let letters = queue.dead_letters(&DeadLetterFilter::all()).await.expect("dead letters");
    letters.into_iter().map(|letter| letter.id).collect()
}

async fn listed(queue: &dyn EventQ, filter: &DeadLetterFilter) -> Vec<String> {
    let letters = queue.dead_letters(filter).await.expect("dead letters");
    letters.iter().map(|letter| letter.payload.id().to_string()).collect()
}

/// By id, by reason, at most so many, and all together.
pub async fn dead_letters_are_filtered(fixture: Queue) {
    let queue = &*fixture.port;
    let ids = with_letters(queue).await;
    assert_eq!(listed(queue, &DeadLetterFilter::id(&*ids[3])).await, ["erp/3"]);
    let bad = DeadLetterFilter { reason: Some("bad".into()), ..DeadLetterFilter::all() };
    assert_eq!(listed(queue, &bad).await, ["erp/0", "erp/2", "erp/4"]);
    let two = DeadLetterFilter { limit: Some(2), ..bad.clone() };
    assert_eq!(listed(queue, &two).await, ["erp/0", "erp/2"]);
    let one = DeadLetterFilter { ids: Some(ids[3..].to_vec()), ..bad };
    assert_eq!(listed(queue, &one).await, ["erp/4"]);
    assert!(listed(queue, &DeadLetterFilter::id("unknown")).await.is_empty());
    let none = DeadLetterFilter { ids: Some(vec![]), ..DeadLetterFilter::all() };
    assert!(listed(queue, &none).await.is_empty());
}

/// They are items like any other again, and no dead letters.
pub async fn redriven_items_come_again(fixture: Queue) {
    let queue = &*fixture.port;
    with_letters(queue).await;
    let bad = DeadLetterFilter { reason: Some("bad".into()), ..DeadLetterFilter::all() };
    assert_eq!(queue.redrive(&bad).await.unwrap(), 3);
    assert_eq!(queue.redrive(&bad).await.unwrap(), 0);
    let again = drain(queue, 3).await;
    let ids: Vec<_> = again.iter().map(|item| item.id().to_string()).collect();
    assert_eq!(ids, ["erp/0", "erp/2", "erp/4"]);
    assert_eq!(listed(queue, &DeadLetterFilter::all()).await, ["erp/1", "erp/3"]);
}

/// An event carries on with how often it was dead and whom it has moved; a command comes as it was.
pub async fn a_redriven_event_carries_its_life(fixture: Queue) {
    let queue = &*fixture.port;
    let event = Event::builder("a", "erp").id("e").thred("target").build();
    let expire = Command::Expire { thred_id: "target".into(), entry: 1, at: 5 };
    let command = Inbound::Command(Arc::new(expire));
    publish(queue, [accepted(event.clone()), command.clone()]).await;
    let moved = vec!["a".into(), FOREIGN.into()];
    for times in 1..=2 {
        let death = Death { times, moved: moved.clone(), ..because("bad") };
        for delivery in take(queue, 2).await {
            queue.dead_letter(delivery.tag, &death).await.unwrap();
        }
        let letters = queue.dead_letters(&DeadLetterFilter::all()).await.unwrap();
        assert_eq!((letters[0].times, &letters[0].moved), (times, &moved));
        assert_eq!(queue.redrive(&DeadLetterFilter::all()).await.unwrap(), 2);
        let again = take(queue, 2).await;
        let life = Some(Arc::new(Redriven { times, moved: moved.clone() }));
        let expected = Accepted { redriven: life, ..Accepted::new(event.clone(), 5) };
        assert_eq!(again[0].payload, Inbound::Event(expected));
        assert_eq!(again[1].payload, command);
        assert!(again.iter().all(|delivery| delivery.attempt == 1), "a new life");
        queue.nack(&tags(&again)).await.unwrap();
    }
}

/// The pages together are all dead letters, oldest first; redriving and dropping go by page too.
pub async fn dead_letters_come_in_pages(fixture: Queue) {
    let queue = &*fixture.port;
    publish(queue, numbered("erp", 0..10)).await;
    for (number, delivery) in take(queue, 10).await.iter().enumerate() {
        let reason = if number % 2 == 0 { "even" } else { "odd" };
        queue.dead_letter(delivery.tag, &because(reason)).await.unwrap();
    }
    let mut page = DeadLetterFilter { limit: Some(4), ..DeadLetterFilter::all() };
    let mut seen = vec![];
    loop {
        let letters = queue.dead_letters(&page).await.unwrap();
        assert!(letters.len() <= 4);
        let Some(last) = letters.last() else { break };
        page.after = Some(last.id.clone());
        seen.extend(letters.into_iter().map(|letter| (letter.id, letter.payload.id().to_string())));
    }
    let (letters, ids): (Vec<_>, Vec<_>) = seen.into_iter().unzip();
    assert_eq!(ids, (0..10).map(|number| format!("erp/{number}")).collect::<Vec<_>>());
    let after = |place: usize| DeadLetterFilter {
        after: Some(letters[place].clone()),
        ..DeadLetterFilter::all()
    };
    let odd = DeadLetterFilter { reason: Some("odd".into()), limit: Some(1), ..after(1) };
    assert_eq!(listed(queue, &odd).await, ["erp/3"]);
    assert_eq!(queue.discard(&odd).await.unwrap(), 1);
    assert_eq!(queue.redrive(&after(7)).await.unwrap(), 2);
    let left = ["erp/0", "erp/1", "erp/2", "erp/4", "erp/5", "erp/6", "erp/7"];
    assert_eq!(listed(queue, &DeadLetterFilter::all()).await, left);
}

/// With more bytes of dead letters than the quota allows the oldest go, not the newest.
pub async fn dead_letters_have_a_quota(fixture: Queue) {
    let Some(bytes) = fixture.keeps_dead_letter_bytes() else { return };
    let queue = &*fixture.port;
    let text = "x".repeat(bytes / 10);
    for number in 0..30 {
        let event = Event::builder("a", "erp").id(number.to_string()).title(text.clone()).build();
        publish(queue, [accepted(event)]).await;
        let tag = take(queue, 1).await[0].tag;
        queue.dead_letter(tag, &because("bad")).await.unwrap();
    }
    let left = listed(queue, &DeadLetterFilter::all()).await;
    let latest: Vec<_> = (30 - left.len()..30).map(|number| number.to_string()).collect();
    assert_eq!(left, latest, "the latest");
    assert!((5..=10).contains(&left.len()), "{} of a tenth of the quota each", left.len());
}

/// They are neither dead letters nor items any more.
pub async fn discarded_items_are_gone(fixture: Queue) {
    let queue = &*fixture.port;
    let ids = with_letters(queue).await;
    assert_eq!(queue.discard(&DeadLetterFilter::id(&*ids[1])).await.unwrap(), 1);
    assert_eq!(queue.discard(&DeadLetterFilter::id(&*ids[1])).await.unwrap(), 0);
    let two = DeadLetterFilter { limit: Some(2), ..DeadLetterFilter::all() };
    assert_eq!(queue.discard(&two).await.unwrap(), 2);
    assert_eq!(listed(queue, &DeadLetterFilter::all()).await, ["erp/3", "erp/4"]);
    assert!(waits(receive(queue, 1)).await);
}

/// Waiting or handed out, until acknowledged.
pub async fn depth_counts_what_is_out(fixture: Queue) {
    let queue = &*fixture.port;
    assert_eq!(queue.depth().await.unwrap(), 0);
    publish(queue, numbered("erp", 0..3)).await;
    let batch = take(queue, 2).await;
    assert_eq!(queue.depth().await.unwrap(), 3);
    queue.ack(&tags(&batch)).await.unwrap();
    assert_eq!(queue.depth().await.unwrap(), 1);
}

/// What waits in each partition, those handed out included.
pub async fn the_backlog_tells_of_each_partition(fixture: Queue) {
    let queue = &*fixture.port;
    let partitions = usize::from(queue.partitions());
    let depths = async || {
        let backlog = queue.backlog().await.expect("backlog");
        backlog.iter().map(|partition| partition.depth).collect::<Vec<_>>()
    };
    assert_eq!(depths().await, vec![0; partitions]);
    publish(queue, numbered("erp", 0..3)).await;
    let (home, batch) = receive(queue, 1).await;
    let mut expected = vec![0; partitions];
    expected[usize::from(home)] = 3;
    assert_eq!(depths().await, expected);
    let backlog = queue.backlog().await.unwrap();
    let oldest = backlog[usize::from(home)].oldest;
    assert!(oldest.is_none_or(|at| at > 1_000_000_000_000), "in milliseconds: {oldest:?}");
    assert!(backlog.iter().all(|partition| partition.depth > 0 || partition.oldest.is_none()));
    queue.ack(&tags(&batch)).await.unwrap();
    expected[usize::from(home)] = 2;
    assert_eq!(depths().await, expected);
}

/// Just as large as the queue says.
pub async fn an_item_as_large_as_stated_is_taken(fixture: Queue) {
    let queue = &*fixture.port;
    let max = queue.max_item_bytes();
    if max > LARGEST {
        eprintln!("not checked: `max_item_bytes` is {max}");
        return;
    }
    let with = |text: String| {
        accepted(Event::builder("a", "erp").id("e").timestamp(1).title(text).build())
    };
    let size = |item: &Inbound| serde_json::to_vec(item).expect("JSON").len();
    let item = with("x".repeat(max - size(&with(String::new()))));
    assert_eq!(size(&item), max);
    publish(queue, [item.clone()]).await;
    assert!(drain(queue, 1).await == [item], "another one came out");
}

/// A full queue has no room until something is taken; what is published all the same comes in.
pub async fn a_full_queue_makes_publishers_of_events_wait(fixture: Queue) {
    let Some(capacity) = fixture.full_at() else { return };
    let queue = fixture.port.clone();
    publish(&*queue, numbered("erp", 0..capacity)).await;
    assert!(waits(queue.room()).await, "there was room");
    let publisher = tokio::spawn({
        let queue = queue.clone();
        async move {
            queue.room().await.expect("room");
            publish(&*queue, numbered("erp", capacity..capacity + 1)).await;
        }
    });
    let commands = commands().into_iter().map(|command| Inbound::Command(Arc::new(command)));
    publish(&*queue, commands).await;
    let all = drain(&*queue, capacity + 7).await;
    publisher.await.expect("a publisher");
    let erp: Vec<_> = all.iter().filter(|item| item.partition_key() == "erp").collect();
    assert_eq!(erp.len(), capacity + 1);
    assert_eq!(erp[capacity].id(), *format!("erp/{capacity}"));
}

/// Each item comes once and in its source's order, with many publishers and batches of all sizes.
pub async fn many_publishers_lose_nothing(fixture: Queue) {
    let publishers: Vec<_> = (0..8)
        .map(|source| {
            let queue = fixture.port.clone();
            tokio::spawn(async move {
                let source = format!("source {source}");
                let mut next = 0;
                for size in (1..=13).cycle() {
                    let end = (next + size).min(200);
                    publish(&*queue, numbered(&source, next..end)).await;
                    next = end;
                    if next == 200 {
                        break;
                    }
                }
            })
        })
        .collect();
    let all = drain(&*fixture.port, 1600).await;
    for publisher in publishers {
        publisher.await.expect("a publisher");
    }
    for source in 0..8 {
        let source = format!("source {source}");
        let found = all.iter().filter(|item| item.partition_key() == source);
        let found: Vec<_> = found.map(Inbound::id).collect();
        let expected: Vec<_> = numbered(&source, 0..200).map(|item| item.id()).collect();
        assert_eq!(found, expected);
    }
    assert!(waits(receive(&*fixture.port, 1)).await);
}

/// What was published and not acknowledged is there after a restart, and so are the dead letters.
pub async fn unacknowledged_items_survive_a_restart(fixture: Queue) {
    publish(&*fixture.port, numbered("erp", 0..5)).await;
    let batch = take(&*fixture.port, 3).await;
    fixture.port.ack(&[batch[0].tag]).await.unwrap();
    fixture.port.dead_letter(batch[1].tag, &because("bad")).await.unwrap();
    let Some(fixture) = fixture.reopened().await else { return };
    assert_eq!(ids(&take(&*fixture.port, 3).await), ["erp/2", "erp/3", "erp/4"]);
    assert_eq!(listed(&*fixture.port, &DeadLetterFilter::all()).await, ["erp/1"]);
}

/// What can be read is not touched.
pub async fn a_sound_queue_moves_nothing_out(fixture: Queue) {
    let queue = &*fixture.port;
    queue.publish(vec![unbound("e", "erp")]).await.unwrap();
    assert_eq!(queue.unreadable(9).await.unwrap(), []);
    assert_eq!(queue.move_out(9).await.unwrap(), []);
    assert_eq!(queue.depth().await.unwrap(), 1);
}
