//! Patterns change while events flow: every event meets one set of patterns, and never an older one
//! than an event before it.

use std::time::Duration;

use serde_json::json;
use thredcore::Engine;
use thredlib::{ConditionBuilder, Event, PatternBuilder, PatternModel, ReactionBuilder};

/// Answers an event of the pattern's type with a number that tells its revisions apart.
fn numbered(name: &str, number: u64) -> PatternModel {
    let answer = ConditionBuilder::filter(format!("$event.type = '{name}'"))
        .transform(json!({ "title": format!("{number}") }))
        .publish(json!("$xpr($event.source.id)"));
    PatternBuilder::new(name).reaction(ReactionBuilder::new("answer").condition(answer)).build()
}

/// Sends an event and reads the number in the one answer to it; none in a while: no pattern took it.
async fn ask(engine: &Engine, kind: &str, source: &str) -> Option<u64> {
    let event = Event::builder(kind, source).build();
    let id = event.id.clone();
    engine.accept(vec![event]).await.unwrap();
    loop {
        let topics = ["org.wt.session".into()];
        if let Ok(received) =
            tokio::time::timeout(Duration::from_millis(2), engine.message_q().receive(&topics, 1))
                .await
        {
            let delivery = received.unwrap().remove(0);
            engine.message_q().ack(&[delivery.tag]).await.unwrap();
            return Some(delivery.payload.message.event.title()?.parse().unwrap());
        }
        // No answer, and none to come: the decision has been recorded.
        let log = engine.storage().log(8).await.unwrap();
        if log.iter().any(|record| record.event == id && record.thred_id.is_none()) {
            return None;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_meets_the_patterns_as_last_put() {
    let engine = Engine::builder().pattern(numbered("p", 0)).build().await.unwrap();
    let running = engine.start();
    // Somebody else's changes, all the while.
    let other = tokio::spawn({
        let engine = engine.clone();
        async move {
            for number in 0..300 {
                engine.put_patterns(vec![numbered("q", number)]).await.unwrap();
                engine.reload_all().await.unwrap();
                engine.remove_pattern(&"q".into()).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    for number in 1..=200 {
        engine.put_patterns(vec![numbered("p", number), numbered("extra", number)]).await.unwrap();
        assert_eq!(ask(&engine, "p", "ann").await, Some(number));
        assert_eq!(ask(&engine, "extra", "ann").await, Some(number));
        engine.remove_pattern(&"extra".into()).await.unwrap();
        if number % 50 == 0 {
            assert_eq!(ask(&engine, "extra", "ann").await, None);
        }
    }
    other.await.unwrap();
    assert!(engine.library().current(&"q".into()).is_none());
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_revision_that_events_meet_never_goes_back() {
    const EVENTS: usize = 2_000;
    let engine = Engine::builder().pattern(numbered("p", 0)).build().await.unwrap();
    let running = engine.start();
    let changes = tokio::spawn({
        let engine = engine.clone();
        async move {
            for number in 1..=300 {
                engine.put_patterns(vec![numbered("p", number)]).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    let mut latest = 0;
    for _ in 0..EVENTS / 20 {
        let events = (0..20).map(|_| Event::builder("p", "ann").build()).collect();
        engine.accept(events).await.unwrap();
        let mut answers = 0;
        while answers < 20 {
            let topics = ["org.wt.session".into()];
            for delivery in engine.message_q().receive(&topics, 20).await.unwrap() {
                let number = delivery.payload.message.event.title().unwrap().parse().unwrap();
                assert!(number >= latest, "{number} after {latest}");
                latest = number;
                answers += 1;
                engine.message_q().ack(&[delivery.tag]).await.unwrap();
            }
        }
        assert_eq!(answers, 20, "each event is answered once");
    }
    changes.await.unwrap();
    assert_eq!(ask(&engine, "p", "ann").await, Some(300));
    running.shutdown().await;
}

/// A thred of three steps, that waits for an unbound event in the second one.
fn listening(note: &str) -> PatternModel {
    let step = |name: &str| {
        let condition = ConditionBuilder::filter(format!("$event.type = '{name}'"));
        ReactionBuilder::new(name).condition(condition)
    };
    let pattern = PatternBuilder::new("listening").description(note).reaction(step("start"));
    pattern.reaction(step("bound")).reaction(step("free").allow_unbound_events()).build()
}

#[tokio::test]
async fn an_engine_learns_of_old_revisions_that_listen_elsewhere() {
    let first = Engine::builder().pattern(listening("old")).build().await.unwrap();
    let running = first.start();
    let start = Event::builder("start", "ann").build();
    let thred = thredcore::thred::started_id(
        &thred_tests::filters::consumed(&start).key,
        &"listening".into(),
    );
    let bound = Event::builder("bound", "ann").thred(thred.clone()).build();
    first.accept(vec![start]).await.unwrap();
    running.idle().await;

    first.put_patterns(vec![listening("new")]).await.unwrap();
    let second = Engine::builder().ports(first.ports().clone()).build().await.unwrap();
    let free = Event::builder("free", "bob").build();
    assert_eq!(second.library().listening(&free).count(), 1);

    first.accept(vec![bound]).await.unwrap();
    running.idle().await;
    second.reload().await.unwrap();
    assert_eq!(second.library().listening(&free).count(), 2);
    running.shutdown().await;
}
