//! An event that finds no place for a thred of its own meets whoever holds the place.

mod common;

use std::{sync::Arc, time::Duration};

use common::{settle, threds};
use serde_json::{Value, json};
use thredcore::{
    Engine,
    port::{LogType, Reservation},
    state::Status,
    thred::started_id,
};
use thredlib::{Event, EventKey, PatternModel};
use tokio::time::timeout;

/// Collects two items in one thred, and sends them.
fn collector() -> PatternModel {
    let add = json!({ "list": "$xpr($append($local('list'), $valueNamed('n')))" });
    serde_json::from_value(json!({ "name": "Batch", "maxInstances": 1, "reactions": [
        { "name": "first", "condition": {
            "type": "filter",
            "xpr": "$event.type = 'item'",
            "onTrue": { "setLocal": { "list": "$xpr([$valueNamed('n')])" } }
        } },
        { "name": "collect", "allowUnboundEvents": true, "condition": {
            "type": "filter",
            "xpr": "$event.type = 'item'",
            "onTrue": { "setLocal": add },
            "transition": { "name": "flush", "input": "forward" }
        } },
        { "name": "flush", "condition": {
            "type": "filter",
            "xpr": "true",
            "transform": { "eventDataTemplate": { "content": { "values": {
                "list": "$xpr($local('list'))"
            } } } },
            "publish": { "to": "sink" },
            "transition": "$terminate"
        } }
    ] }))
    .unwrap()
}

fn item(n: i64, source: &str) -> Event {
    Event::builder("item", source).id(format!("i{n}")).values(json!({ "n": n })).build()
}

async fn sent(engine: &Engine) -> Value {
    let q = engine.message_q().clone();
    let topics = ["org.wt.session".into()];
    let receiving = q.receive(&topics, 1);
    let received = timeout(Duration::from_secs(20), receiving).await.expect("a message").unwrap();
    received[0].payload.message.event.value_named("list").unwrap().clone()
}

/// The place is taken, the thred that has it is about to start.
#[tokio::test]
async fn what_is_refused_waits_for_the_holder_of_the_place() {
    let engine = Engine::builder().pattern(collector()).build().await.unwrap();
    let pattern = engine.library().entries()[0].key.id.clone();
    let holder = started_id(&EventKey::of("a", "i0"), &pattern);
    let place = Reservation {
        pattern,
        thred: holder.clone(),
        max_instances: 1,
        interval: 0,
        now: engine.now(),
    };
    engine.storage().reserve(&place).await.unwrap();
    engine.accept(vec![item(1, "b")]).await.unwrap();
    settle(&engine).await;
    assert!(threds(&engine).await.is_empty(), "there is no place for a second one");
    engine.accept(vec![item(0, "a")]).await.unwrap();
    settle(&engine).await;
    assert_eq!(sent(&engine).await, json!([0, 1]));
    let all = threds(&engine).await;
    assert_eq!((all.len(), all[0].status, &all[0].id), (1, Status::Terminated, &holder));
}

/// The holder of the place never starts; its place is freed.
#[tokio::test]
async fn what_waits_for_a_place_that_is_freed_takes_it() {
    let engine = Engine::builder().pattern(collector()).build().await.unwrap();
    let pattern = engine.library().entries()[0].key.id.clone();
    let place = Reservation {
        pattern: pattern.clone(),
        thred: "never".into(),
        max_instances: 1,
        interval: 0,
        now: engine.now(),
    };
    engine.storage().reserve(&place).await.unwrap();
    engine.accept(vec![item(1, "b")]).await.unwrap();
    settle(&engine).await;
    engine.storage().release(&[(pattern, "never".into())]).await.unwrap();
    let started = async {
        while threds(&engine).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), started).await.expect("a thred starts");
    let all = threds(&engine).await;
    assert_eq!(all[0].id, started_id(&EventKey::of("b", "i1"), &all[0].pattern.id));
}

/// Nobody takes it: the holder listens for something else.
#[tokio::test]
async fn what_no_holder_takes_is_on_record() {
    let mut pattern = collector();
    let other = json!({
        "name": "collect", "allowUnboundEvents": true,
        "condition": { "type": "filter", "xpr": "$event.type = 'other'" }
    });
    pattern.reactions[1] = serde_json::from_value(other).unwrap();
    let engine = Engine::builder().pattern(pattern).build().await.unwrap();
    for n in 0..2 {
        engine.accept(vec![item(n, "a")]).await.unwrap();
        settle(&engine).await;
    }
    let log = engine.storage().log(10).await.unwrap();
    let refused = log.iter().filter(|record| record.log_type == LogType::Constrained);
    assert_eq!(refused.count(), 1, "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_of_one_instance_loses_nothing() {
    for round in 0..30 {
        let engine = Engine::builder().pattern(collector()).build().await.unwrap();
        let running = engine.start();
        let engine = Arc::new(engine);
        engine.accept(vec![item(0, "a"), item(1, "b")]).await.unwrap();
        let Value::Array(mut list) = sent(&engine).await else { panic!("no list") };
        list.sort_by_key(Value::as_i64);
        assert_eq!(list, [json!(0), json!(1)], "round {round}");
        running.shutdown().await;
    }
}
