//! The agent's side of a message.

use std::error::Error;

use async_trait::async_trait;
use thredlib::{Event, EventBuilder, Message, ParticipantId, Topic};

/// What an agent does with the messages sent to it. The agent runner calls it.
///
/// ```
/// use thredcore::port::{AgentContext, HandlerError, MessageHandler};
/// use thredlib::{Event, Message};
///
/// struct Lookup;
///
/// #[async_trait::async_trait]
/// impl MessageHandler for Lookup {
///     async fn process_message(
///         &self,
///         message: &Message,
///         agent: &AgentContext,
///     ) -> Result<Vec<Event>, HandlerError> {
///         let Some(key) = message.event.value_named("key") else {
///             return Err(HandlerError::terminal("the value `key` is missing"));
///         };
///         Ok(vec![agent.answer(message).values(serde_json::json!({ "found": key })).build()])
///     }
/// }
/// ```
#[async_trait]
pub trait MessageHandler: Send + Sync {
    /// Called once, before the first message.
    ///
    /// # Errors
    /// The agent does not start.
    async fn initialize(&self, agent: &AgentContext) -> Result<(), HandlerError> {
        let _ = agent;
        Ok(())
    }

    /// Handles a message and returns the events that answer it. They get ids derived from the
    /// message's, so that a redelivered message answers under the same ids.
    ///
    /// A message may come more than once: it was redelivered if its id was here before.
    ///
    /// # Errors
    /// A retryable error brings the message back after a pause, up to the runner's limit. A
    /// terminal one, or the last retryable one, dead-letters it and sends an error event to the
    /// thred.
    async fn process_message(
        &self,
        message: &Message,
        agent: &AgentContext,
    ) -> Result<Vec<Event>, HandlerError>;

    /// Called once, after the last message.
    async fn shutdown(&self) {}
}

/// Who the agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentContext {
    /// The kind of agent, as `org.wt.persistence`; the type of its answers.
    pub node_type: Topic,
    /// This agent among those of its kind, as `org.wt.persistence1`.
    pub node_id: Topic,
}

impl AgentContext {
    /// An answer to a message: of the agent's type, from the agent, bound to the message's thred,
    /// with `re` the message's event.
    pub fn answer(&self, message: &Message) -> EventBuilder {
        let builder = Event::builder(
            self.node_type.as_arc().clone(),
            ParticipantId::new(self.node_id.as_arc().clone()),
        )
        .re(message.event.id.clone())
        .trace(message.event.trace.clone());
        match &message.event.thred_id {
            Some(thred) => builder.thred(thred.clone()),
            None => builder,
        }
    }
}

/// Why a message could not be handled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerError {
    /// Trying again may help.
    #[error("{message}")]
    Retryable {
        /// What went wrong.
        message: String,
        /// The error below.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// Trying again will not help.
    #[error("{message}")]
    Terminal {
        /// What went wrong.
        message: String,
        /// The error below.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl HandlerError {
    /// An error after which trying again may help.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::Retryable { message: message.into(), source: None }
    }

    /// An error after which trying again will not help.
    pub fn terminal(message: impl Into<String>) -> Self {
        Self::Terminal { message: message.into(), source: None }
    }

    /// Adds the error below.
    pub fn caused_by(self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = Some(cause.into());
        match self {
            Self::Retryable { message, .. } => Self::Retryable { message, source },
            Self::Terminal { message, .. } => Self::Terminal { message, source },
        }
    }

    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Retryable { .. })
    }
}
