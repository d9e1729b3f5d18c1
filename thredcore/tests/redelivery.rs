//! Events that are delivered again.

use std::time::Duration;

use serde_json::json;
use thredcore::{
    EngineConfig,
    port::{Command, Delivery, Directory, Inbound},
    testing::Bed,
};
use thredlib::{
    ConditionBuilder, Event, PatternBuilder, PatternModel, ReactionBuilder, event_type,
};
use tokio::time::timeout;

fn counting() -> PatternModel {
    let count = ConditionBuilder::filter("$event.type = 'count'")
        .on_true("$setLocal('n', $local('n') + 1)")
        .transition("count");
    let start = ConditionBuilder::filter("$event.type = 'start'").set_local("n", json!(0));
    PatternBuilder::new("counting")
        .reaction(ReactionBuilder::new("start").condition(start))
        .reaction(ReactionBuilder::new("count").condition(count))
        .build()
}

async fn started(mut config: EngineConfig, pattern: PatternModel) -> (Bed, Event) {
    config.react_limits.inbox = 4;
    let bed = Bed::builder().pattern(pattern).config(config).directory(Directory::new());
    let mut bed = bed.build().await.unwrap();
    let start = Event::builder("start", "ann").id("e0").build();
    bed.send(start.clone()).await.unwrap();
    (bed, start)
}

#[tokio::test]
async fn a_start_that_has_left_the_inbox_starts_nothing_and_ends() {
    let (mut bed, start) = started(EngineConfig::default(), counting()).await;
    let thred = bed.live_threds().await.unwrap()[0].id.clone();
    for n in 1..=6 {
        let event = Event::builder("count", "ann").id(format!("e{n}")).thred(thred.clone());
        bed.send(event.build()).await.unwrap();
    }
    timeout(Duration::from_secs(10), bed.send(start)).await.expect("it ends").unwrap();
    let threds = bed.live_threds().await.unwrap();
    assert_eq!(threds.len(), 1);
    assert_eq!((threds[0].version, &threds[0].locals["n"]), (7, &json!(6)));
}

#[tokio::test]
async fn a_start_delivered_again_takes_no_second_place() {
    let only = ConditionBuilder::filter("$event.type = 'start'").transition("$terminate");
    let single = PatternBuilder::new("single")
        .max_instances(1)
        .reaction(ReactionBuilder::new("only").condition(only));
    let (mut bed, start) = started(EngineConfig::default(), single.build()).await;
    bed.send(start).await.unwrap();
    let places = bed.engine().storage().reserved(&"single".into(), None, 10).await.unwrap();
    assert!(places.is_empty(), "{places:?}");
    assert_eq!(bed.all_threds().await.unwrap().len(), 1);
    assert!(bed.log().await.unwrap().iter().all(|record| record.detail.is_none()));
}

/// Whoever worked on the start died after the parent had been told, and before acknowledging it.
#[tokio::test]
async fn a_refused_child_does_not_start_once_its_parent_has_forgotten_it() {
    let spawn = json!({ "names": "single", "type": "child" });
    let order = ConditionBuilder::filter("$event.type = 'order'")
        .spawn(serde_json::from_value(spawn).unwrap());
    let wait = || ConditionBuilder::filter("$event.type = 'end'");
    let parent = PatternBuilder::new("parent")
        .reaction(ReactionBuilder::new("order").condition(order))
        .reaction(ReactionBuilder::new("wait").condition(wait()))
        .build();
    let single = PatternBuilder::new("single")
        .max_instances(1)
        .reaction(
            ReactionBuilder::new("start")
                .condition(ConditionBuilder::filter("$event.type = 'start'")),
        )
        .reaction(ReactionBuilder::new("wait").condition(wait()))
        .build();
    let mut bed = Bed::new([parent, single]).await.unwrap();
    bed.send(Event::builder("start", "ann").build()).await.unwrap();
    let busy = bed.live_threds().await.unwrap()[0].id.clone();

    let engine = bed.engine().clone();
    engine.accept(vec![Event::builder("order", "ann").build()]).await.unwrap();
    let start = loop {
        let received = next_items(&bed).await;
        let start = received.iter().find(|delivery| {
            matches!(&delivery.payload, Inbound::Command(command)
                if matches!(&**command, Command::Start(_)))
        });
        let start = start.cloned();
        engine.process(received).await.unwrap();
        if let Some(start) = start {
            break start;
        }
    };
    bed.settle().await.unwrap();
    bed.send(Event::builder("end", "ann").thred(busy).build()).await.unwrap();
    let parent = bed.live_threds().await.unwrap();
    assert!(parent.len() == 1 && parent[0].children.is_empty(), "{parent:?}");

    engine.process(vec![Delivery { attempt: 2, ..start }]).await.unwrap();
    bed.settle().await.unwrap();
    assert_eq!(bed.live_threds().await.unwrap(), parent);
}

async fn next_items(bed: &Bed) -> Vec<Delivery<Inbound>> {
    let event_q = bed.engine().event_q();
    for partition in 0..event_q.partitions() {
        if let Ok(received) = timeout(Duration::ZERO, event_q.receive(partition, 1)).await {
            return received.unwrap();
        }
    }
    panic!("nothing waits");
}

#[tokio::test]
async fn random_numbers_differ_by_event_and_stay_the_same_for_one() {
    let draw = ConditionBuilder::filter("$event.type = 'start'")
        .transform(json!({ "content": { "values": { "n": "$xpr($random())" } } }))
        .publish("ann");
    let pattern =
        PatternBuilder::new("draw").reaction(ReactionBuilder::new("draw").condition(draw)).build();
    let mut drawn = Vec::new();
    for id in ["a", "b", "a"] {
        let mut bed = Bed::new([pattern.clone()]).await.unwrap();
        bed.send(Event::builder("start", "ann").id(id).build()).await.unwrap();
        let message = bed.take_messages().remove(0);
        assert_eq!(&*message.event.event_type, event_type::TELL);
        drawn.push(message.event.value_named("n").and_then(|n| n.as_f64()).unwrap());
    }
    assert_ne!(drawn[0], drawn[1]);
    assert_eq!(drawn[0], drawn[2]);
}
