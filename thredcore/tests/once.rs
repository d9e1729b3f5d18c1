//! Once: an event has one effect on a thred, whatever is under way and whoever sends it again.

mod common;

use std::sync::Arc;

use common::{n_of, process_and_die, settle, threds};
use serde_json::json;
use thredcore::{
    Engine,
    memory::{MemoryEventQ, MemoryEventQConfig},
    port::{DeadLetterFilter, EventQ, LogType},
    testing::{Bed, ManualClock},
};
use thredlib::{ConditionBuilder, Event, PatternBuilder, PatternModel, ReactionBuilder};

/// Counts `count` events in the local `n`.
fn counting(listens: bool) -> PatternModel {
    let count = ConditionBuilder::filter("$event.type = 'count'")
        .on_true("$setLocal('n', $local('n') + 1)")
        .transition("$noTransition");
    let start = ConditionBuilder::filter("$event.type = 'start'").set_local("n", json!(0));
    let counts = ReactionBuilder::new("count").condition(count);
    let counts = if listens { counts.allow_unbound_events() } else { counts };
    PatternBuilder::new("counting")
        .reaction(ReactionBuilder::new("start").condition(start))
        .reaction(counts)
        .build()
}

fn start() -> Event {
    Event::builder("start", "ann").id("start").build()
}

/// More than the inbox usually holds are under way when the engine dies before acknowledging them.
#[tokio::test]
async fn a_crash_doubles_nothing_however_many_are_under_way() {
    let q = Arc::new(MemoryEventQ::new(MemoryEventQConfig::default().partitions(1)));
    let engine = Engine::builder().event_q(q.clone()).pattern(counting(false));
    let engine = engine.build().await.unwrap();
    engine.accept(vec![start()]).await.unwrap();
    settle(&engine).await;
    let id = threds(&engine).await[0].id.clone();
    let event = |n| Event::builder("count", "ann").id(format!("c{n}")).thred(id.clone()).build();
    engine.accept((0..200).map(event).collect()).await.unwrap();
    process_and_die(&engine, &q).await;
    settle(&engine).await;
    assert_eq!(n_of(&engine).await, 200);
}

#[tokio::test]
async fn a_crash_doubles_nothing_that_comes_by_many_partitions() {
    let q = Arc::new(MemoryEventQ::default());
    let engine = Engine::builder().event_q(q.clone()).pattern(counting(true));
    let engine = engine.build().await.unwrap();
    engine.accept(vec![start()]).await.unwrap();
    settle(&engine).await;
    let event =
        |n| Event::builder("count", format!("sensor{}", n % 20)).id(format!("c{n}")).build();
    engine.accept((0..200).map(event).collect()).await.unwrap();
    process_and_die(&engine, &q).await;
    settle(&engine).await;
    assert_eq!(n_of(&engine).await, 200);
}

#[tokio::test]
async fn an_expiry_that_comes_first_crowds_nothing_out_of_the_inbox() {
    let q = Arc::new(MemoryEventQ::default());
    let clock = Arc::new(ManualClock::new(1_000_000));
    let mut pattern = counting(false);
    pattern.reactions[1].expiry =
        serde_json::from_value(json!({ "interval": 1000, "transition": "$noTransition" })).unwrap();
    let engine = Engine::builder().event_q(q.clone()).clock(clock.clone()).pattern(pattern);
    let engine = engine.build().await.unwrap();
    engine.accept(vec![start()]).await.unwrap();
    settle(&engine).await;
    let id = threds(&engine).await[0].id.clone();
    let event = |n| Event::builder("count", "ann").id(format!("c{n}")).thred(id.clone()).build();
    engine.accept((0..64).map(event).collect()).await.unwrap();
    clock.set(1_002_000);
    process_and_die(&engine, &q).await;
    settle(&engine).await;
    assert_eq!(n_of(&engine).await, 64);
}

/// The same file fed twice.
#[tokio::test]
async fn what_is_sent_again_later_has_no_second_effect() {
    let mut bed = Bed::new([counting(true)]).await.unwrap();
    bed.send(start()).await.unwrap();
    for _ in 0..2 {
        for n in 0..300 {
            let source = format!("sensor{}", n % 7);
            bed.send(Event::builder("count", source).id(format!("c{n}")).build()).await.unwrap();
        }
        bed.send(start()).await.unwrap();
    }
    assert_eq!(bed.all_threds().await.unwrap().len(), 1);
    assert_eq!(n_of(bed.engine()).await, 300);
}

/// Two sources may use the same id, by accident or to spoil the other's.
#[tokio::test]
async fn an_id_is_its_sources_own() {
    let mut bed = Bed::new([counting(true)]).await.unwrap();
    bed.send(Event::builder("start", "mallory").id("start").build()).await.unwrap();
    bed.send(start()).await.unwrap();
    assert_eq!(bed.all_threds().await.unwrap().len(), 2);
    for source in ["mallory", "ann"] {
        bed.send(Event::builder("count", source).id("pay").build()).await.unwrap();
    }
    let counts = threds(bed.engine()).await;
    assert!(counts.iter().all(|thred| thred.locals["n"] == json!(2)), "{counts:?}");
}

/// An unbound event moves one thred and fails in another; it is redriven after many more.
#[tokio::test]
async fn a_redriven_dead_letter_moves_nobody_a_second_time() {
    let bad: PatternModel = serde_json::from_value(json!({ "name": "bad", "reactions": [{
        "name": "x",
        "condition": {
            "type": "filter",
            "xpr": "$event.type = 'count' and $valueNamed('boom') > 0"
        }
    }] }))
    .unwrap();
    let mut bed = Bed::new([counting(true), bad]).await.unwrap();
    bed.send(start()).await.unwrap();
    let failing = Event::builder("count", "ann").id("bad").values(json!({ "boom": { "a": 1 } }));
    let failing = failing.build();
    bed.send(failing.clone()).await.unwrap();
    let dead = bed.dead_letters().await.unwrap();
    assert_eq!((dead.len(), dead[0].times, dead[0].moved.len()), (1, 1, 1));
    assert_eq!(n_of(bed.engine()).await, 1);

    // The producer's own repetition is a duplicate; it does not get past the dead letter.
    bed.send(failing).await.unwrap();
    assert_eq!(bed.dead_letters().await.unwrap().len(), 1);

    for n in 0..200 {
        bed.send(Event::builder("count", "ann").id(format!("k{n}")).build()).await.unwrap();
    }
    for times in [2, 3] {
        let redriven = bed.engine().event_q().redrive(&DeadLetterFilter::all()).await.unwrap();
        assert_eq!(redriven, 1);
        bed.settle().await.unwrap();
        assert_eq!(n_of(bed.engine()).await, 201);
        assert_eq!(bed.dead_letters().await.unwrap()[0].times, times);
    }
}

/// An engine that was slow has lost its partition when it gives an event up: it must not say that the
/// event is among the dead letters, or whoever has it now takes it for a repetition.
#[tokio::test]
async fn an_event_that_another_engine_has_meanwhile_is_not_called_dead() {
    let q = Arc::new(MemoryEventQ::new(MemoryEventQConfig::default().partitions(1)));
    let failing = ConditionBuilder::filter("$event.type = 'start'")
        .transform(json!({ "title": "$xpr($error('no'))" }))
        .publish(json!("ann"));
    let failing =
        PatternBuilder::new("failing").reaction(ReactionBuilder::new("fail").condition(failing));
    let engine = Engine::builder().event_q(q.clone()).pattern(failing.build());
    let engine = engine.build().await.unwrap();
    engine.accept(vec![start()]).await.unwrap();
    let slow = q.receive(0, 1).await.unwrap();
    q.redeliver_unacked();
    let again = q.receive(0, 1).await.unwrap();
    engine.process(slow).await.unwrap();
    engine.process(again).await.unwrap();
    let dead = q.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!(dead.len(), 1, "it is nowhere");
    assert_eq!(q.depth().await.unwrap(), 0);
}

#[tokio::test]
async fn what_changes_nothing_takes_no_room_in_the_inbox() {
    let mut pattern = counting(false);
    pattern.reactions[1].allowed_sources = Some(serde_json::from_value(json!(["ann"])).unwrap());
    let mut bed = Bed::new([pattern]).await.unwrap();
    bed.send(start()).await.unwrap();
    let id = bed.live_threds().await.unwrap()[0].id.clone();
    let pay = Event::builder("count", "ann").id("pay").thred(id.clone()).build();
    bed.send(pay.clone()).await.unwrap();
    for n in 0..100 {
        let strange = Event::builder("x", "mallory").id(format!("m{n}")).thred(id.clone());
        bed.send(strange.build()).await.unwrap();
    }
    bed.send(pay).await.unwrap();
    let thred = bed.thred(&id).await.unwrap().unwrap();
    assert_eq!((thred.version, &thred.locals["n"]), (2, &json!(1)));
    let log = bed.log().await.unwrap();
    let refused = log.iter().filter(|record| record.log_type == LogType::Unauthorized);
    assert_eq!(refused.count(), 100);
}

#[tokio::test]
async fn a_local_that_is_set_by_a_filter_that_does_not_match_stays_set() {
    let tries = ConditionBuilder::filter(
        "$event.type = 'try' and $setLocal('tries', $local('tries') + 1) > 100",
    );
    let begin = ConditionBuilder::filter("$event.type = 'start'").set_local("tries", json!(0));
    let pattern = PatternBuilder::new("tries")
        .reaction(ReactionBuilder::new("start").condition(begin))
        .reaction(ReactionBuilder::new("try").condition(tries))
        .build();
    let mut bed = Bed::new([pattern]).await.unwrap();
    bed.send(start()).await.unwrap();
    let id = bed.live_threds().await.unwrap()[0].id.clone();
    for n in 0..3 {
        let event = Event::builder("try", "ann").id(format!("t{n}")).thred(id.clone());
        bed.send(event.build()).await.unwrap();
    }
    assert_eq!(bed.thred(&id).await.unwrap().unwrap().locals["tries"], json!(3));
}

#[tokio::test]
async fn an_inbox_keeps_what_is_not_settled_and_no_more() {
    let mut bed = Bed::new([counting(false)]).await.unwrap();
    bed.send(start()).await.unwrap();
    let id = bed.live_threds().await.unwrap()[0].id.clone();
    for n in 0..500 {
        let event = Event::builder("count", "ann").id(format!("c{n}")).thred(id.clone());
        bed.send(event.build()).await.unwrap();
    }
    let thred = bed.thred(&id).await.unwrap().unwrap();
    assert_eq!(thred.locals["n"], json!(500));
    assert!(thred.inbox.len() <= 65, "{}", thred.inbox.len());
    let history = bed.engine().storage().history(&id, None, usize::MAX).await.unwrap();
    let stored = bed.engine().storage().pattern(&thred.pattern).await.unwrap().unwrap();
    let config = bed.engine().config();
    let pattern = thredcore::pattern::Pattern::compile(&stored, &config.expr_limits).unwrap();
    let again = thredcore::thred::replay(&pattern, &history, &config.react_limits).unwrap();
    assert_eq!(again, thred, "what leaves the inbox is part of the history");
}
