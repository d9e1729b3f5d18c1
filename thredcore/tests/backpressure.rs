//! What happens when work comes in faster than it goes out.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use thredcore::{
    Engine, EngineConfig,
    agent::AgentRunner,
    memory::{MemoryEventQ, MemoryEventQConfig, MemoryMessageQ, MemoryMessageQConfig},
    persistence::{MemoryPersistence, PersistenceAgent},
    port::{Directory, FixedDirectory, MessageQ, SystemClock},
};
use thredlib::{ConditionBuilder, Event, PatternBuilder, PatternModel, ReactionBuilder};
use tokio::time::timeout;

const SERVICE: &str = "org.wt.persistence";

fn lookup() -> PatternModel {
    let task = json!({ "op": "getOne", "params": { "type": "c", "matcher": { "id": "n" } } });
    let ask = ConditionBuilder::filter("$event.type = 'lookup'")
        .transform(json!({ "content": { "tasks": [task] } }))
        .publish(SERVICE);
    let answered = ConditionBuilder::filter("$event.re != ''").transition("$terminate");
    PatternBuilder::new("lookup")
        .reaction(ReactionBuilder::new("ask").condition(ask))
        .reaction(ReactionBuilder::new("answered").condition(answered))
        .build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_queues_on_both_sides_of_engine_and_agent_do_not_lock() {
    let mut directory = Directory::new();
    directory.add_service(SERVICE).add_service(format!("{SERVICE}1"));
    let event_q = Arc::new(MemoryEventQ::new(MemoryEventQConfig::default().capacity(64)));
    let message_q = Arc::new(MemoryMessageQ::new(MemoryMessageQConfig::default().capacity(8)));
    let engine = Engine::builder()
        .event_q(event_q.clone())
        .message_q(message_q.clone())
        .resolver(Arc::new(FixedDirectory::new(directory)))
        .pattern(lookup())
        .build()
        .await
        .unwrap();
    let store = Arc::new(MemoryPersistence::new());
    let handler = Arc::new(PersistenceAgent::new(store, Arc::new(SystemClock)));
    let agent = AgentRunner::new(SERVICE, handler, message_q.clone(), event_q);
    let agent = agent.start().await.unwrap();
    let running = engine.start();
    let feed = async {
        for n in 0..5_000 {
            let event = Event::builder("lookup", format!("source {}", n % 100)).build();
            engine.accept(vec![event]).await.unwrap();
        }
        while !(engine.event_q().depth().await.unwrap() == 0
            && message_q.depth(&SERVICE.into()).await.unwrap() == 0)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), feed).await.expect("it does not stand still");
    assert!(agent.shutdown().await);
    assert!(running.shutdown().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_at_once_does_not_publish_the_question_again() {
    let engine = Engine::builder().pattern(conversation()).build().await.unwrap();
    let running = engine.start();
    let topic = ["org.wt.session".into()];
    let client = tokio::spawn({
        let engine = engine.clone();
        async move {
            let mut came = 0;
            while let Ok(received) =
                timeout(Duration::from_millis(500), engine.message_q().receive(&topic, 64)).await
            {
                for delivery in received.unwrap() {
                    came += 1;
                    let question = &delivery.payload.message.event;
                    let answer = Event::builder("answer", "ann")
                        .id(format!("re {}", question.id))
                        .thred(question.thred_id.clone().unwrap());
                    engine.accept(vec![answer.build()]).await.unwrap();
                    engine.message_q().ack(&[delivery.tag]).await.unwrap();
                }
            }
            came
        }
    });
    for n in 0..3_000 {
        let ask = Event::builder("ask", format!("source {}", n % 50)).build();
        engine.accept(vec![ask]).await.unwrap();
    }
    assert_eq!(client.await.unwrap(), 3_000);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_topic_is_not_taken_for_a_forgotten_outbox() {
    let message_q = Arc::new(MemoryMessageQ::new(MemoryMessageQConfig::default().capacity(1)));
    let mut config = EngineConfig::default();
    config.relay_age = Duration::from_millis(20);
    config.sweep_interval = Duration::from_millis(5);
    let engine = Engine::builder()
        .message_q(message_q.clone())
        .config(config)
        .pattern(conversation())
        .build();
    let engine = engine.await.unwrap();
    let running = engine.start();
    for n in 0..3 {
        let ask = Event::builder("ask", format!("source {n}")).build();
        engine.accept(vec![ask]).await.unwrap();
    }
    // Long enough for the relay to look many times.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let topic = ["org.wt.session".into()];
    let mut came = 0;
    while let Ok(received) =
        timeout(Duration::from_millis(300), engine.message_q().receive(&topic, 64)).await
    {
        for delivery in received.unwrap() {
            came += 1;
            engine.message_q().ack(&[delivery.tag]).await.unwrap();
        }
    }
    assert_eq!(came, 3);
    assert!(running.shutdown().await);
}

fn conversation() -> PatternModel {
    let ask = ConditionBuilder::filter("$event.type = 'ask'")
        .transform(json!({ "title": "?" }))
        .publish("ann");
    let answer = ConditionBuilder::filter("$event.type = 'answer'").transition("$terminate");
    PatternBuilder::new("conversation")
        .reaction(ReactionBuilder::new("ask").condition(ask))
        .reaction(ReactionBuilder::new("answer").condition(answer))
        .build()
}
