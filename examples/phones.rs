//! The phones of the people who have to do with a UAV, and what the people answer.

use async_trait::async_trait;
use serde_json::{Value, json};
use thredcore::port::{AgentContext, HandlerError, MessageHandler};
use thredlib::{Event, Message, event_type};
use tokio::sync::Notify;

/// The session node: gets the messages to everyone who is online.
#[derive(Default)]
pub(crate) struct Phones {
    closed: Notify,
}

impl Phones {
    /// Waits until somebody has closed the case.
    pub(crate) async fn closed(&self) {
        self.closed.notified().await;
    }
}

#[async_trait]
impl MessageHandler for Phones {
    async fn process_message(
        &self,
        message: &Message,
        _agent: &AgentContext,
    ) -> Result<Vec<Event>, HandlerError> {
        let to: Vec<_> = message.to.iter().map(|id| id.as_str()).collect();
        let title = message.event.title().unwrap_or_default();
        println!("{}: {title}", to.join(", "));

        let answer = |who: &'static str, values: Value| {
            println!("  {who} answers {values}");
            let thred = message.event.thred_id.clone();
            let thred = thred.ok_or(HandlerError::terminal("the message has no thred"))?;
            let answer = Event::builder(event_type::CLIENT_TELL, who).thred(thred);
            Ok(vec![answer.re(message.event.id.clone()).values(values).build()])
        };
        if title.starts_with("UAV detected") {
            return answer("carol", json!({ "confirmed": true }));
        }
        if title.starts_with("Video") {
            return answer("ann", json!({ "closed": true }));
        }
        self.closed.notify_one();
        Ok(vec![])
    }
}
