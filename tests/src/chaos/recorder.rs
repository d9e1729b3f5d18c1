//! The agent of a run: reports what it receives.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use thredcore::port::{AgentContext, HandlerError, MessageHandler, Routed};
use thredcore::{
    Ports,
    agent::{AgentConfig, AgentRunner, RunningAgent},
};
use thredlib::{Event, Message, MessageId};

use super::{
    patterns::{AGENT, SESSIONS, TRIED},
    protocol::AgentSpec,
};

/// Reports messages before they are acknowledged, so that none is taken from the queue that the
/// test has not seen.
pub struct Recorder {
    spec: AgentSpec,
    report: Box<dyn Fn(Routed) + Send + Sync>,
    met: Mutex<HashSet<MessageId>>,
}

impl Recorder {
    /// Starts agents that report to a function: one for the messages of marks, one for notices.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub async fn start(
        ports: &Ports,
        spec: AgentSpec,
        report: impl Fn(Routed) + Send + Sync + 'static,
    ) -> Vec<RunningAgent> {
        let handler = Arc::new(Self { spec, report: Box::new(report), met: Mutex::default() });
        let mut agents = Vec::new();
        for topic in [AGENT, SESSIONS] {
            let mut config = AgentConfig::default();
            config.concurrency = 256;
            config.first_pause = std::time::Duration::from_millis(10);
            config.longest_pause = std::time::Duration::from_millis(200);
            config.max_attempts = spec.attempts.unwrap_or(1_000);
            let (message_q, event_q) = (ports.message_q.clone(), ports.event_q.clone());
            let agent = AgentRunner::new(topic, handler.clone(), message_q, event_q).config(config);
            agents.push(agent.start().await.expect("a recorder starts"));
        }
        agents
    }

    fn meets_first(&self, message: &Message) -> bool {
        self.met.lock().insert(message.id.clone())
    }
}

#[async_trait::async_trait]
impl MessageHandler for Recorder {
    async fn process_message(
        &self,
        message: &Message,
        agent: &AgentContext,
    ) -> Result<Vec<Event>, HandlerError> {
        let third = message.id.as_str().bytes().map(u32::from).sum::<u32>().is_multiple_of(3);
        if self.spec.stumbles && third && self.meets_first(message) {
            return Err(HandlerError::retryable("the agent stumbles"));
        }
        (self.report)(Routed {
            topic: agent.node_type.clone(),
            message: Arc::new(message.clone()),
        });
        if let Some(poison) = message.event.value_named("poison") {
            return Err(if poison == TRIED {
                HandlerError::retryable("the agent cannot bear this, whenever")
            } else {
                HandlerError::terminal("the agent cannot bear this")
            });
        }
        let marked = message.event.value_named("mark").filter(|_| self.spec.answers);
        Ok(marked
            .map(|mark| agent.answer(message).values(serde_json::json!({ "mark": mark })).build())
            .into_iter()
            .collect())
    }
}
