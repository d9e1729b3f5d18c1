//! Dead letters of all queues.

use std::sync::Arc;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use thredcore::port::{Command, DeadLetter, Inbound, Routed, Unreadable};
use thredcore_amqp::Incoming;
use thredlib::Event;

/// A kind of queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Queue {
    /// What comes in: events, and the engine's own commands.
    Events,
    /// What goes out.
    Messages,
    /// What other programs publish to ingress queues.
    Ingress,
}

impl Queue {
    pub(crate) const ALL: [Self; 3] = [Self::Events, Self::Messages, Self::Ingress];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Messages => "messages",
            Self::Ingress => "ingress",
        }
    }
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Letter {
    pub(crate) queue: Queue,
    /// The queue's id for it.
    pub(crate) id: String,
    /// When it was given up, milliseconds since the Unix epoch.
    pub(crate) at: i64,
    /// How often it had been tried.
    pub(crate) attempts: u32,
    pub(crate) reason: String,
    #[serde(flatten)]
    pub(crate) item: Item,
}

/// What was given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Item {
    Event(Arc<Event>),
    Command(Arc<Command>),
    Routed(Routed),
    Submission(Submission),
}

/// What was refused at an ingress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Submission {
    /// The ingress queue.
    pub(crate) queue: String,
    /// The user of the broker who has published it, if the broker vouches for one.
    pub(crate) user: Option<String>,
    /// The id that it was published with.
    pub(crate) message_id: Option<String>,
    /// How long it is.
    pub(crate) bytes: usize,
    /// It as text, as [`Unreadable::excerpt`] gives it.
    pub(crate) body: String,
}

impl From<DeadLetter<Incoming>> for Letter {
    fn from(letter: DeadLetter<Incoming>) -> Self {
        let DeadLetter { id, payload, reason, at, attempts, .. } = letter;
        let item = Item::Submission(Submission {
            bytes: payload.body.len(),
            body: Unreadable::excerpt(&payload.body),
            queue: payload.queue,
            user: payload.user,
            message_id: payload.message_id,
        });
        Self { queue: Queue::Ingress, id, at, attempts, reason, item }
    }
}

impl From<DeadLetter<Inbound>> for Letter {
    fn from(letter: DeadLetter<Inbound>) -> Self {
        let DeadLetter { id, payload, reason, at, attempts, .. } = letter;
        let item = match payload {
            Inbound::Event(accepted) => Item::Event(accepted.event),
            Inbound::Command(command) => Item::Command(command),
        };
        Self { queue: Queue::Events, id, at, attempts, reason, item }
    }
}

impl From<DeadLetter<Routed>> for Letter {
    fn from(letter: DeadLetter<Routed>) -> Self {
        let DeadLetter { id, payload, reason, at, attempts, .. } = letter;
        Self { queue: Queue::Messages, id, at, attempts, reason, item: Item::Routed(payload) }
    }
}

impl Letter {
    /// The id by which the commands know it, over all queues.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.queue.name(), self.id)
    }

    /// The id of the event, command or message.
    pub(crate) fn item_id(&self) -> String {
        match &self.item {
            Item::Event(event) => event.id.to_string(),
            Item::Command(command) => command.id().to_string(),
            Item::Routed(routed) => routed.message.id.to_string(),
            Item::Submission(it) => it.message_id.clone().unwrap_or_else(|| "-".to_owned()),
        }
    }

    /// What it is, in few words.
    pub(crate) fn what(&self) -> String {
        match &self.item {
            Item::Event(event) => match &event.thred_id {
                Some(thred) => format!("{} for {thred}", event.event_type),
                None => format!("{} from {}", event.event_type, event.source.id),
            },
            Item::Command(command) => format!("command for {}", command.thred_id()),
            Item::Routed(routed) => format!("to {}", routed.topic),
            Item::Submission(it) => {
                let user = it.user.as_deref().unwrap_or("nobody");
                format!("{} bytes of {user} in {}", it.bytes, it.queue)
            }
        }
    }
}
