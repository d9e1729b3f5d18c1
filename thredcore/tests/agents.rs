//! The agent runner: answers, redelivery, dead letters.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::json;
use thredcore::{
    agent::{AgentConfig, AgentRunner},
    memory::{MemoryEventQ, MemoryMessageQ},
    port::{
        AgentContext, DeadLetterFilter, EventQ, HandlerError, Inbound, MessageHandler, MessageQ,
        Routed,
    },
    testing::fault::{Fault, FaultKind, Faulty},
};
use thredlib::{Event, Message};
use tokio::time::timeout;

const TYPE: &str = "org.example.lookup";

/// Fails as it is told, then answers.
struct Handler {
    calls: AtomicU32,
    failures: u32,
    failure: Failure,
}

#[derive(Clone, Copy)]
enum Failure {
    Retryable,
    Terminal,
    Panic,
    Slow,
}

#[async_trait]
impl MessageHandler for Handler {
    async fn process_message(
        &self,
        message: &Message,
        agent: &AgentContext,
    ) -> Result<Vec<Event>, HandlerError> {
        if self.calls.fetch_add(1, Ordering::SeqCst) >= self.failures {
            return Ok(vec![agent.answer(message).values(json!({ "found": true })).build()]);
        }
        match self.failure {
            Failure::Retryable => Err(HandlerError::retryable("not now").caused_by("no route")),
            Failure::Terminal => Err(HandlerError::terminal("never")),
            Failure::Panic => panic!("a defect of the agent"),
            Failure::Slow => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Ok(vec![])
            }
        }
    }
}

struct Outcome {
    calls: u32,
    event: Event,
    reasons: Vec<String>,
    left: usize,
}

/// Sends one message to an agent and waits for the event that follows.
async fn handled(failures: u32, failure: Failure) -> Outcome {
    let (event_q, message_q) =
        (Arc::new(MemoryEventQ::with_partitions(1)), Arc::new(MemoryMessageQ::default()));
    let handler = Arc::new(Handler { calls: AtomicU32::new(0), failures, failure });
    let mut config = AgentConfig::default();
    config.first_pause = Duration::from_millis(2);
    config.longest_pause = Duration::from_millis(5);
    config.time_limit = Duration::from_millis(50);
    config.max_attempts = 3;
    let agent = AgentRunner::new(TYPE, handler.clone(), message_q.clone(), event_q.clone());
    let agent = agent.config(config).start().await.unwrap();
    let question = Event::builder("org.wt.tell", "SYSTEM").id("q").thred("t").build();
    let message =
        Message { id: "m".into(), event: Arc::new(question), to: vec![TYPE.into()], timestamp: 0 };
    let routed = Routed { topic: TYPE.into(), message: Arc::new(message) };
    assert!(message_q.publish(vec![routed]).await.remove(0).is_ok());
    let received = timeout(Duration::from_secs(10), event_q.receive(0, 9)).await;
    let mut received = received.expect("an event follows").unwrap();
    assert_eq!(received.len(), 1);
    let Inbound::Event(accepted) = received.remove(0).payload else { panic!("a command") };
    let event = accepted.event;
    // The message is settled after its answer is out.
    while message_q.depth(&TYPE.into()).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let letters = message_q.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert!(agent.shutdown().await);
    Outcome {
        calls: handler.calls.load(Ordering::SeqCst),
        event: (*event).clone(),
        reasons: letters.into_iter().map(|letter| letter.reason).collect(),
        left: message_q.depth(&TYPE.into()).await.unwrap(),
    }
}

#[tokio::test]
async fn an_answer_is_bound_to_the_thred_under_a_derived_id() {
    let first = handled(0, Failure::Terminal).await;
    assert_eq!(&*first.event.event_type, TYPE);
    assert_eq!(first.event.thred_id.as_ref().unwrap(), &"t");
    assert_eq!(first.event.re.as_ref().unwrap(), &"q");
    assert_eq!(first.event.source.id, "org.example.lookup1");
    assert_eq!((first.calls, first.left, first.reasons.len()), (1, 0, 0));
    assert_eq!(first.event.id, handled(0, Failure::Terminal).await.event.id);
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for failure in [Failure::Retryable, Failure::Panic, Failure::Slow] {
        let outcome = handled(2, failure).await;
        assert_eq!((outcome.calls, outcome.reasons.len()), (3, 0));
        assert_eq!(outcome.event.value_named("found"), Some(&json!(true)));
    }
}

#[tokio::test]
async fn after_its_attempts_a_message_is_a_dead_letter_and_the_thred_hears_of_it() {
    let outcome = handled(u32::MAX, Failure::Retryable).await;
    assert_eq!((outcome.calls, outcome.left), (3, 0));
    assert_eq!(outcome.reasons, ["not now: no route"]);
    let error = outcome.event.error().unwrap();
    assert_eq!(error["code"], "AGENT_FAILED");
    assert_eq!(outcome.event.re.as_ref().unwrap(), &"q");
}

#[tokio::test]
async fn a_terminal_failure_is_not_tried_again() {
    let outcome = handled(u32::MAX, Failure::Terminal).await;
    assert_eq!(outcome.calls, 1);
    assert_eq!(outcome.reasons, ["never"]);
    assert_eq!(outcome.event.error().unwrap()["code"], "TASK_ERROR");
}

/// Messages of one thred, with a queue that fails once; how many answers there are in the end, and
/// how many calls the agent made of the queues.
async fn answered_with(fault: Arc<Fault>) -> (usize, u64) {
    const MESSAGES: usize = 3;
    let (event_q, message_q) =
        (Arc::new(MemoryEventQ::with_partitions(1)), Arc::new(MemoryMessageQ::default()));
    let handler = Handler { calls: AtomicU32::new(0), failures: 1, failure: Failure::Retryable };
    let mut config = AgentConfig::default();
    config.first_pause = Duration::from_millis(1);
    config.longest_pause = Duration::from_millis(2);
    let messages = (0..MESSAGES).map(|number| {
        let question = Event::builder("org.wt.tell", "SYSTEM").id(format!("q{number}")).thred("t");
        let event = Arc::new(question.build());
        let id = format!("m{number}").into();
        let message = Arc::new(Message { id, event, to: vec![TYPE.into()], timestamp: 0 });
        Routed { topic: TYPE.into(), message }
    });
    message_q.publish(messages.collect()).await;
    let faulty_events: Arc<dyn EventQ> = Arc::new(Faulty::new(event_q.clone(), fault.clone()));
    let faulty: Arc<dyn MessageQ> = Arc::new(Faulty::new(message_q.clone(), fault.clone()));
    let agent = AgentRunner::new(TYPE, Arc::new(handler), faulty, faulty_events);
    let agent = agent.config(config).start().await.unwrap();
    let settled = async {
        while message_q.depth(&TYPE.into()).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let settled = timeout(Duration::from_secs(5), settled).await;
    assert!(settled.is_ok(), "a message is left: {fault:?}");
    assert!(agent.shutdown().await);
    let events = event_q.receive(0, 99).await.unwrap();
    let ids: HashSet<_> = events.iter().map(|delivery| delivery.payload.id()).collect();
    (ids.len(), fault.calls())
}

#[tokio::test]
async fn a_queue_that_fails_once_leaves_no_message_behind() {
    let (answers, calls) = answered_with(Fault::counting()).await;
    assert_eq!(answers, 3);
    assert!(calls >= 8, "{calls} calls");
    for call in 1..=calls {
        for kind in [FaultKind::Before, FaultKind::AnswerLost] {
            assert_eq!(answered_with(Fault::at(call, kind)).await.0, 3, "{kind:?} at {call}");
        }
    }
}

fn message(n: usize) -> Routed {
    let event = Event::builder("t", "SYSTEM").thred(format!("t{n}")).build();
    let message = Message {
        id: format!("m{n}").as_str().into(),
        event: Arc::new(event),
        to: vec![TYPE.into()],
        timestamp: 0,
    };
    Routed { topic: TYPE.into(), message: Arc::new(message) }
}

/// The first message takes until it is let go, the others no time.
struct OneSlow {
    begun: AtomicU32,
    let_go: tokio::sync::Semaphore,
}

#[async_trait]
impl MessageHandler for OneSlow {
    async fn process_message(
        &self,
        _: &Message,
        _: &AgentContext,
    ) -> Result<Vec<Event>, HandlerError> {
        if self.begun.fetch_add(1, Ordering::SeqCst) == 0 {
            let _ = self.let_go.acquire().await;
        }
        Ok(vec![])
    }
}

#[tokio::test]
async fn a_slow_message_holds_one_slot_and_nothing_else() {
    let (event_q, message_q) =
        (Arc::new(MemoryEventQ::default()), Arc::new(MemoryMessageQ::default()));
    let handler =
        Arc::new(OneSlow { begun: AtomicU32::new(0), let_go: tokio::sync::Semaphore::new(0) });
    let agent = AgentRunner::new(TYPE, handler.clone(), message_q.clone(), event_q);
    let agent = agent.start().await.unwrap();
    let begun = |count| {
        let handler = handler.clone();
        timeout(Duration::from_secs(10), async move {
            while handler.begun.load(Ordering::SeqCst) < count {
                tokio::task::yield_now().await;
            }
        })
    };
    message_q.publish(vec![message(0)]).await;
    begun(1).await.expect("it is taken in");
    message_q.publish((1..200).map(message).collect()).await;
    begun(200).await.expect("the others do not wait for it");
    handler.let_go.add_permits(1);
    assert!(agent.shutdown().await);
}

/// Takes the process down, as far as a test can tell: it never ends.
struct Deadly(AtomicU32);

#[async_trait]
impl MessageHandler for Deadly {
    async fn process_message(
        &self,
        _: &Message,
        _: &AgentContext,
    ) -> Result<Vec<Event>, HandlerError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_message_that_kills_its_agent_is_dead_lettered_at_its_limit() {
    let (event_q, message_q) =
        (Arc::new(MemoryEventQ::default()), Arc::new(MemoryMessageQ::default()));
    let handler = Arc::new(Deadly(AtomicU32::new(0)));
    message_q.publish(vec![message(0)]).await;
    for life in 1..=5 {
        let agent = AgentRunner::new(TYPE, handler.clone(), message_q.clone(), event_q.clone());
        let agent = agent.start().await.unwrap();
        let tried = async {
            while handler.0.load(Ordering::SeqCst) < life {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), tried).await.expect("it is tried");
        drop(agent);
        message_q.redeliver_unacked();
    }
    let agent = AgentRunner::new(TYPE, handler.clone(), message_q.clone(), event_q);
    let agent = agent.start().await.unwrap();
    let dead = async {
        while message_q.dead_letters(&DeadLetterFilter::all()).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), dead).await.expect("it is given up");
    assert_eq!(handler.0.load(Ordering::SeqCst), 5);
    let reason = &message_q.dead_letters(&DeadLetterFilter::all()).await.unwrap()[0].reason;
    assert!(reason.contains("ended 5 times"), "{reason}");
    agent.shutdown().await;
}
