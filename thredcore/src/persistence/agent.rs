//! A store behind messages.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use thredlib::{
    ErrorCode, Event, EventError, Message,
    task::{TaskLimits, TaskList},
};

use super::{Persistence, TaskContext, execute_list};
use crate::port::{AgentContext, Clock, HandlerError, MessageHandler};

/// The agent that executes the tasks of the messages it gets, and answers with their results as
/// `values`, by position.
///
/// Tasks that are malformed, or that the store refuses, are answered with an error of code
/// `TASK_ERROR`; the groups of the list before the refused one have been done. A store that fails
/// for the moment brings the message back, and what was done the first time is not done again.
pub struct PersistenceAgent<P: ?Sized> {
    clock: Arc<dyn Clock>,
    limits: TaskLimits,
    persistence: Arc<P>,
}

impl<P: Persistence + ?Sized> PersistenceAgent<P> {
    /// An agent on a store.
    pub fn new(persistence: Arc<P>, clock: Arc<dyn Clock>) -> Self {
        Self { clock, limits: TaskLimits::default(), persistence }
    }

    /// Sets how large tasks may be.
    pub fn with_limits(mut self, limits: TaskLimits) -> Self {
        self.limits = limits;
        self
    }

    async fn results(&self, message: &Message) -> Result<Vec<Value>, Failure> {
        let tasks = message.event.content().and_then(|content| content.get("tasks"));
        let tasks = tasks.ok_or_else(|| {
            Failure::Refused("the event has no tasks; write a list at data.content.tasks".into())
        })?;
        let list = TaskList::from_value_within(tasks, &self.limits)
            .map_err(|error| Failure::Refused(error.to_string()))?;
        let context = TaskContext { key: message.id.as_str(), now: self.clock.now() };
        execute_list(&*self.persistence, &list, &context).await.map_err(|error| {
            if error.source.is_retryable() {
                Failure::Retry(HandlerError::retryable(error.to_string()).caused_by(error))
            } else {
                Failure::Refused(error.to_string())
            }
        })
    }
}

enum Failure {
    /// The answer says so.
    Refused(String),
    /// The message comes back.
    Retry(HandlerError),
}

#[async_trait]
impl<P: Persistence + ?Sized> MessageHandler for PersistenceAgent<P> {
    async fn process_message(
        &self,
        message: &Message,
        agent: &AgentContext,
    ) -> Result<Vec<Event>, HandlerError> {
        let answer = agent.answer(message);
        let answer = match self.results(message).await {
            Ok(results) => answer.values(results),
            Err(Failure::Refused(reason)) => {
                answer.error(&EventError::new(ErrorCode::TaskError, reason))
            }
            Err(Failure::Retry(error)) => return Err(error),
        };
        Ok(vec![answer.timestamp(self.clock.now()).build()])
    }
}
