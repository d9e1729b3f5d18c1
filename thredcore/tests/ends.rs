//! What can't succeed ends, and stops nobody else.

mod common;
#[path = "common/refusing.rs"]
mod refusing;

use std::{
    future::ready,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use common::{settle, threds};
use futures::FutureExt;
use refusing::Refusing;
use serde_json::json;
use thredcore::{
    Engine, EngineConfig,
    memory::{MemoryMessageQ, MemoryMessageQConfig, MemoryStorage, MemoryStorageConfig},
    port::{
        Command, DeadLetterFilter, Directory, FixedDirectory, Inbound, MessageQ, PortError,
        PortErrorKind, REJECTED,
    },
    testing::fault::Commits,
};
use thredlib::{ConditionBuilder, Event, EventKey, PatternBuilder, PatternModel, ReactionBuilder};
use tokio::time::timeout;

/// Asks whoever the event names, one at a time.
fn asking(most: u64) -> PatternModel {
    let ask = ConditionBuilder::filter("$event.type = 'ask'")
        .transform(json!({ "title": "$xpr($valueNamed('text'))" }))
        .publish(json!("$xpr($valueNamed('to'))"));
    let wait = ConditionBuilder::filter("$event.type = 'answer'");
    PatternBuilder::new("asking")
        .max_instances(most)
        .reaction(ReactionBuilder::new("ask").condition(ask))
        .reaction(ReactionBuilder::new("wait").condition(wait))
        .build()
}

fn ask(id: &str, to: &str, text: &str) -> Event {
    Event::builder("ask", "ann").id(id).values(json!({ "to": to, "text": text })).build()
}

#[tokio::test]
async fn a_step_that_the_storage_refuses_is_dead_lettered_and_the_others_go_on() {
    let refusing = Commits::new(Arc::new(MemoryStorage::default()), |commit| {
        let bad = commit.event.as_ref().is_some_and(|event| event.id.as_str() == "bad");
        let error = || PortError::new("commit", PortErrorKind::Rejected, "malformed");
        ready(bad.then(|| Err(error()))).boxed()
    });
    let storage = Arc::new(refusing);
    let engine = Engine::builder().storage(storage).pattern(asking(2)).build().await.unwrap();
    let events = ["bad", "good 1", "good 2"].map(|id| ask(id, "bob", "?"));
    for event in events {
        engine.accept(vec![event]).await.unwrap();
        timeout(Duration::from_secs(10), settle(&engine)).await.expect("it ends");
    }
    let dead = engine.event_q().dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].reason.contains("refuses the step: malformed"), "{}", dead[0].reason);
    // Its place is free again: both of the others have found one.
    assert_eq!(threds(&engine).await.len(), 2);
}

#[tokio::test]
async fn a_step_that_is_too_large_fails_with_its_size_and_nothing_is_sent() {
    let config = MemoryStorageConfig::default().max_commit_bytes(20_000);
    let storage = Arc::new(MemoryStorage::new(config));
    let engine = Engine::builder().storage(storage).pattern(asking(0)).build().await.unwrap();
    let long = "x".repeat(20_000);
    engine.accept(vec![ask("bad", "bob", &long), ask("good", "bob", "?")]).await.unwrap();
    settle(&engine).await;
    let dead = engine.event_q().dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].reason.contains("the storage takes 20000"), "{}", dead[0].reason);
    assert_eq!(threds(&engine).await.len(), 1);
}

async fn with_small_topics(quota: u64) -> (Engine, Arc<MemoryMessageQ>) {
    let message_q = Arc::new(MemoryMessageQ::new(MemoryMessageQConfig::default().capacity(2)));
    let mut directory = Directory::new();
    directory.add_service("full").add_service("open");
    let mut config = EngineConfig::default();
    config.topic_quota = quota;
    let engine = Engine::builder()
        .message_q(message_q.clone())
        .resolver(Arc::new(FixedDirectory::new(directory)))
        .config(config)
        .pattern(asking(0));
    (engine.build().await.unwrap(), message_q)
}

async fn titles(q: &MemoryMessageQ, topic: &str, count: usize) -> Vec<String> {
    let mut titles = Vec::new();
    while titles.len() < count {
        let topics = [topic.into()];
        let received = timeout(Duration::from_secs(10), q.receive(&topics, 1));
        let received = received.await.expect("a message").unwrap();
        for delivery in received {
            let title = delivery.payload.message.event.title().unwrap_or_default().to_owned();
            titles.push(title);
            q.ack(&[delivery.tag]).await.unwrap();
        }
    }
    titles
}

#[tokio::test]
async fn a_full_topic_stops_nobody_else() {
    let (engine, q) = with_small_topics(100).await;
    for n in 0..5 {
        let events = ["full", "open"].map(|to| ask(&format!("{to} {n}"), to, &n.to_string()));
        engine.accept(events.to_vec()).await.unwrap();
        timeout(Duration::from_secs(10), settle(&engine)).await.expect("nothing waits");
        assert_eq!(titles(&q, "open", 1).await, [n.to_string()]);
    }
    let parked = engine.storage().parked_topics().await.unwrap();
    assert_eq!((&parked[0].topic, parked[0].messages), (&"full".into(), 3));
    assert_eq!(engine.relay(i64::MAX).await.unwrap(), 0, "they are not taken for forgotten");

    // Somebody reads at last.
    let mut read = titles(&q, "full", 2).await;
    let relayed = async {
        while read.len() < 5 {
            engine.relay_parked().await.unwrap();
            let waiting = q.depth(&"full".into()).await.unwrap();
            read.extend(titles(&q, "full", waiting).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), relayed).await.expect("all of them come");
    read.sort();
    assert_eq!(read, ["0", "1", "2", "3", "4"]);
    assert!(engine.storage().parked_topics().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_waits_for_a_full_topic_has_a_quota() {
    let (engine, q) = with_small_topics(2).await;
    for n in 0..4 {
        engine.accept(vec![ask(&n.to_string(), "full", "?")]).await.unwrap();
        settle(&engine).await;
    }
    // As the sweep does.
    engine.relay_parked().await.unwrap();
    engine.accept(vec![ask("5", "full", "?"), ask("6", "open", "?")]).await.unwrap();
    settle(&engine).await;
    let dead = q.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].reason.starts_with("TOPIC_FULL"), "{}", dead[0].reason);
    assert_eq!(engine.storage().parked_topics().await.unwrap()[0].messages, 2);
    assert_eq!(q.depth(&"open".into()).await.unwrap(), 1);
}

/// What waits is not given up for what comes later, and comes before it.
#[tokio::test]
async fn beyond_the_quota_the_later_messages_of_a_thred_are_dead_and_what_waits_stays() {
    let (engine, q) = with_small_topics(2).await;
    let say = ConditionBuilder::filter("$event.type = 'say'")
        .transform(json!({ "title": "$xpr($valueNamed('text'))" }))
        .publish(json!("full"));
    let again = say.clone().transition("$noTransition");
    let talking = PatternBuilder::new("talking")
        .reaction(ReactionBuilder::new("first").condition(say))
        .reaction(ReactionBuilder::new("more").condition(again));
    engine.put_patterns(vec![talking.build()]).await.unwrap();
    let talker = thredcore::thred::started_id(&EventKey::of("ann", "0"), &"talking".into());
    let say = async |n: u32| {
        let event = Event::builder("say", "ann").id(n.to_string());
        let event = event.values(json!({ "text": n.to_string() }));
        let event = if n == 0 { event } else { event.thred(talker.clone()) };
        engine.accept(vec![event.build()]).await.unwrap();
        settle(&engine).await;
    };
    for n in 0..4 {
        say(n).await;
    }
    engine.relay_parked().await.unwrap();
    say(4).await;
    let dead = q.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    let dead: Vec<_> = dead.iter().map(|letter| letter.payload.message.event.title()).collect();
    assert_eq!(dead, [Some("4")]);
    assert_eq!(engine.storage().parked_topics().await.unwrap()[0].messages, 2);
    assert_eq!(titles(&q, "full", 2).await, ["0", "1"]);
    let read = async {
        while engine.relay_parked().await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), read).await.expect("they come");
    assert_eq!(titles(&q, "full", 2).await, ["2", "3"]);
}

/// An engine that does not sweep gives up what another one would.
#[tokio::test]
async fn the_quota_of_a_topic_holds_for_engines_that_only_look() {
    let (engine, q) = with_small_topics(2).await;
    for n in 0..4 {
        engine.accept(vec![ask(&n.to_string(), "full", "?")]).await.unwrap();
        settle(&engine).await;
    }
    engine.look_at_full_topics().await.unwrap();
    engine.accept(vec![ask("5", "full", "?")]).await.unwrap();
    settle(&engine).await;
    let dead = q.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(engine.storage().parked_topics().await.unwrap()[0].messages, 2);
}

#[tokio::test]
async fn a_control_event_that_comes_twice_is_answered_once() {
    let mut directory = Directory::new();
    directory.add_role("admin", ["root"]);
    let engine =
        Engine::builder().resolver(Arc::new(FixedDirectory::new(directory))).pattern(asking(0));
    let engine = engine.build().await.unwrap();
    let control = Event::builder("org.wt.control.sysControl", "root")
        .id("c")
        .thred("SYSTEM")
        .values(json!({ "op": "getThreds" }))
        .build();
    for _ in 0..2 {
        engine.accept(vec![control.clone(), control.clone()]).await.unwrap();
        settle(&engine).await;
    }
    assert_eq!(engine.message_q().depth(&"org.wt.session".into()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_thred_of_an_older_revision_is_moved_after_a_restart() {
    let on = |kind: &str| ConditionBuilder::filter(format!("$event.type = '{kind}'"));
    let pattern = |description: &str| {
        PatternBuilder::new("p")
            .description(description)
            .reaction(ReactionBuilder::new("start").condition(on("start")))
            .reaction(ReactionBuilder::new("wait").condition(on("x")))
            .reaction(ReactionBuilder::new("decide").condition(on("y")))
            .build()
    };
    let mut directory = Directory::new();
    directory.add_role("admin", ["root"]);
    let bed = thredcore::testing::Bed::builder().pattern(pattern("one")).directory(directory);
    let mut bed = bed.build().await.unwrap();
    bed.send(Event::builder("start", "ann").build()).await.unwrap();
    bed.engine().put_patterns(vec![pattern("two")]).await.unwrap();
    let id = bed.live_threds().await.unwrap()[0].id.clone();
    bed.restart().await.unwrap();
    let control = Event::builder("org.wt.control.sysControl", "root")
        .thred("SYSTEM")
        .values(json!({ "op": "transitionThred", "thredId": id.as_str(), "transition": "decide" }));
    bed.send(control.build()).await.unwrap();
    assert_eq!(&*bed.thred(&id).await.unwrap().unwrap().reaction, "decide");
}

/// A command that the queue will never take is kept with the reason, and can be sent again once it
/// does; what is sent with it is sent. When its letter is refused too, that is all that is lost.
#[tokio::test]
async fn a_command_that_the_queue_refuses_is_kept_and_the_others_go_on() {
    let is_odd = |item: &Inbound| {
        let Inbound::Command(command) = item else { return false };
        matches!(&**command, Command::Start(start) if start.pattern_id.as_str() == "odd")
    };
    let spawn = json!({ "names": ["odd", "even"], "type": "child" });
    let order = ConditionBuilder::filter("$event.type = 'order'")
        .spawn(serde_json::from_value(spawn).unwrap());
    let wait = || ConditionBuilder::filter("$event.type = 'end'");
    let parent = PatternBuilder::new("parent")
        .reaction(ReactionBuilder::new("order").condition(order))
        .reaction(ReactionBuilder::new("wait").condition(wait()));
    let child = |name: &str| {
        PatternBuilder::new(name).reaction(ReactionBuilder::new("wait").condition(wait())).build()
    };
    let queue = Arc::new(Refusing::new(is_odd));
    let engine = Engine::builder()
        .event_q(queue.clone())
        .pattern(parent.build())
        .pattern(child("odd"))
        .pattern(child("even"));
    let engine = engine.build().await.unwrap();
    let names = async || {
        let threds = threds(&engine).await;
        let mut names: Vec<_> = threds.iter().map(|it| it.pattern.id.to_string()).collect();
        names.sort();
        names
    };
    let order = async |id: &str| {
        engine.accept(vec![Event::builder("order", "ann").id(id).build()]).await.unwrap();
        timeout(Duration::from_secs(10), settle(&engine)).await.expect("it ends");
    };
    order("one").await;
    assert_eq!(names().await, ["even", "parent"]);
    let dead = engine.event_q().dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(is_odd(&dead[0].payload) && dead[0].attempts == 0);
    assert_eq!(dead[0].reason, format!("{REJECTED}publish events failed: too odd"));
    // The queue itself takes it again, whoever had refused it.
    engine.event_q().redrive(&DeadLetterFilter::all()).await.unwrap();
    settle(&engine).await;
    assert_eq!(names().await, ["even", "odd", "parent"]);

    queue.letters_too.store(true, Ordering::Relaxed);
    order("two").await;
    assert_eq!(names().await.len(), 5);
    assert!(engine.event_q().dead_letters(&DeadLetterFilter::all()).await.unwrap().is_empty());
}

/// Thousands of threds that are found by no key are each tried on each event: meanwhile timers,
/// signals and other partitions must have their turn.
#[tokio::test]
async fn what_computes_for_long_lets_others_have_their_turn() {
    let open = ConditionBuilder::filter("$event.type = 'open'");
    let wait = ConditionBuilder::filter("$event.type = 'any' and $valueNamed('n') > 5");
    let waiting = PatternBuilder::new("waiting")
        .reaction(ReactionBuilder::new("open").condition(open))
        .reaction(ReactionBuilder::new("wait").condition(wait).allow_unbound_events());
    let engine = Engine::builder().pattern(waiting.build()).build().await.unwrap();
    let opened = (0..2_000).map(|n| Event::builder("open", "ann").id(format!("o{n}")).build());
    engine.accept(opened.collect()).await.unwrap();
    settle(&engine).await;
    let turns = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let other = tokio::spawn({
        let turns = turns.clone();
        async move {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    let any = |n: i64| {
        let event = Event::builder("any", "ann").id(format!("a{n}")).values(json!({ "n": n }));
        thredcore::port::Accepted::new(event.build(), 0)
    };
    let deliveries = (0..3).map(|n| thredcore::port::Delivery {
        tag: thredcore::port::DeliveryTag(0, n as u64),
        attempt: 1,
        failures: 0,
        payload: Inbound::Event(any(n)),
    });
    // The backends in memory never wait: without a pause in between, nobody has a turn.
    engine.process(deliveries.collect()).await.unwrap();
    other.abort();
    let turns = turns.load(Ordering::Relaxed);
    assert!(turns >= 3 * (2_000 / 256) - 3, "{turns} turns");
}
