use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use serde_json::{Value, json};
use thredlib::{Event, Message, task::TaskList};

use super::*;
use crate::port::{
    AgentContext, Clock, HandlerError, MessageHandler, PortError, PortErrorKind, SystemClock,
};

#[derive(Debug)]
struct At(i64);

impl Clock for At {
    fn now(&self) -> i64 {
        self.0
    }
}

#[tokio::test]
async fn memory_conforms() {
    conformance::persistence(Arc::new(MemoryPersistence::new())).await;
}

fn message(tasks: Value) -> Message {
    let event = Event::builder("org.wt.tell", "SYSTEM")
        .id("e1")
        .thred("t1")
        .content_field("tasks", tasks)
        .build();
    Message { id: "m1".into(), event: Arc::new(event), to: vec![], timestamp: 0 }
}

fn context() -> AgentContext {
    AgentContext { node_type: "org.wt.persistence".into(), node_id: "org.wt.persistence1".into() }
}

async fn handle<P: Persistence + 'static>(store: P, tasks: Value) -> Result<Event, HandlerError> {
    let agent = PersistenceAgent::new(Arc::new(store), Arc::new(At(5)));
    let mut answers = agent.process_message(&message(tasks), &context()).await?;
    assert_eq!(answers.len(), 1);
    Ok(answers.remove(0))
}

#[tokio::test]
async fn results_are_the_values_of_the_answer() {
    let tasks = json!([
        { "op": "put", "params": { "type": "t", "values": { "id": "a", "n": 1 } } },
        [{ "op": "getOne", "params": { "type": "t", "matcher": { "n": 1 } } }]
    ]);
    let answer = handle(MemoryPersistence::new(), tasks).await.unwrap();
    let found = json!({ "id": "a", "n": 1, "created": 5, "modified": 5 });
    assert_eq!(answer.values(), Some(&json!(["a", [found]])));
    assert_eq!(&*answer.event_type, "org.wt.persistence");
    assert_eq!(answer.source.id, "org.wt.persistence1");
    assert_eq!(answer.re.unwrap(), "e1");
    assert_eq!(answer.thred_id.unwrap(), "t1");
}

#[tokio::test]
async fn refused_tasks_are_answered_with_an_error() {
    let cases = [
        (json!("x"), "tasks: `tasks` is a list, not a text"),
        (
            json!([{ "op": "get", "params": { "type": "t", "matcher": { "$where": "1" } } }]),
            "tasks[0].params.matcher.$where: \"$where\" is no match operator; there are $gt $gte \
             $lt $lte $ne $not $in $nin $or $re",
        ),
        (
            json!([[{ "op": "run", "name": "p" }]]),
            "tasks[0][0] failed: there is no procedure `p`; register it with the store",
        ),
    ];
    for (tasks, reason) in cases {
        let answer = handle(MemoryPersistence::new(), tasks).await.unwrap();
        let expected = json!({ "message": reason, "code": "TASK_ERROR" });
        assert_eq!(answer.error(), Some(&expected));
        assert_eq!(answer.re.unwrap(), "e1");
    }
}

#[tokio::test]
async fn a_message_without_tasks_is_answered_with_an_error() {
    let event = Event::builder("org.wt.tell", "SYSTEM").id("e1").build();
    let message = Message { id: "m1".into(), event: Arc::new(event), to: vec![], timestamp: 0 };
    let agent = PersistenceAgent::new(Arc::new(MemoryPersistence::new()), Arc::new(SystemClock));
    let answers = agent.process_message(&message, &context()).await.unwrap();
    assert_eq!(answers[0].error().unwrap()["code"], "TASK_ERROR");
    assert_eq!(answers[0].thred_id, None);
}

struct Broken(PortErrorKind);

#[async_trait]
impl Persistence for Broken {
    async fn execute(
        &self,
        _: &[Task],
        _: &TaskContext<'_>,
    ) -> Result<Vec<Value>, PersistenceError> {
        Err(PortError::new("execute tasks", self.0, "no connection").into())
    }
}

#[tokio::test]
async fn a_failing_store_brings_the_message_back() {
    let tasks = json!([{ "op": "count", "params": { "type": "t" } }]);
    let error = handle(Broken(PortErrorKind::Unknown), tasks.clone()).await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(error.to_string(), "tasks[0] failed: execute tasks failed");
    let answer = handle(Broken(PortErrorKind::Rejected), tasks).await.unwrap();
    assert_eq!(answer.error().unwrap()["code"], "TASK_ERROR");
}

async fn execute(store: &MemoryPersistence, key: &str, tasks: Value) -> Vec<Value> {
    let list = TaskList::from_value(&tasks).unwrap();
    execute_list(store, &list, &TaskContext { key, now: 1 }).await.unwrap()
}

#[tokio::test]
async fn procedures_run_by_name() {
    let store = MemoryPersistence::new().with_procedure("double", |argument| {
        argument["n"].as_i64().map(|n| json!(n * 2)).ok_or_else(|| "`n` is no integer".into())
    });
    let run = json!([{ "op": "run", "name": "double", "params": { "values": { "n": 4 } } }]);
    assert_eq!(execute(&store, "k", run).await, [json!(8)]);
    let list = TaskList::from_value(&json!([{ "op": "run", "name": "double" }])).unwrap();
    let error = execute_list(&store, &list, &TaskContext { key: "l", now: 1 }).await.unwrap_err();
    assert_eq!(error.to_string(), "tasks[0] failed: `n` is no integer");
}

#[tokio::test]
async fn the_window_bounds_what_is_remembered() {
    let store = MemoryPersistence::new().with_window(2);
    let inc = json!([{ "op": "upsert",
        "params": { "type": "t", "matcher": { "id": "a" }, "values": { "$inc": { "n": 1 } } } }]);
    let n =
        json!([{ "op": "getOne", "params": { "type": "t", "selector": { "include": ["n"] } } }]);
    for (key, expected) in [("a", 1), ("b", 2), ("b", 2), ("a", 2), ("c", 3), ("b", 3), ("a", 4)] {
        execute(&store, key, inc.clone()).await;
        let found = execute(&store, "read", n.clone()).await;
        assert_eq!(found, [json!({ "id": "a", "n": expected })], "{key}");
    }
}

#[tokio::test]
async fn a_message_delivered_again_has_no_second_effect() {
    let agent = PersistenceAgent::new(Arc::new(MemoryPersistence::new()), Arc::new(At(5)));
    let tasks = json!([
        { "op": "put", "params": { "type": "t", "values": { "n": 1 } } },
        { "op": "update", "params": { "type": "t", "matcher": {}, "values": { "$inc": { "n": 1 } } } },
        { "op": "get", "params": { "type": "t", "selector": { "include": ["n"], "exclude": ["id"] } } }
    ]);
    for _ in 0..2 {
        let answers = agent.process_message(&message(tasks.clone()), &context()).await.unwrap();
        assert_eq!(answers[0].values().unwrap()[2], json!([{ "n": 2 }]));
    }
}

#[tokio::test]
async fn a_panic_in_a_procedure_leaves_nothing_behind() {
    let store = MemoryPersistence::new().with_procedure("bad", |_| panic!("bad procedure"));
    let list = json!([[
        { "op": "put", "params": { "type": "t", "values": { "id": "a" } } },
        { "op": "run", "name": "bad" }
    ]]);
    let list = TaskList::from_value(&list).unwrap();
    let context = TaskContext { key: "k", now: 1 };
    let execution = execute_list(&store, &list, &context);
    assert!(AssertUnwindSafe(execution).catch_unwind().await.is_err());
    let count = json!([{ "op": "count", "params": { "type": "t" } }]);
    assert_eq!(execute(&store, "l", count).await, [json!(0)]);
}
