//! What the kinds of queues carry, as bytes.

use std::sync::Arc;

use lapin::BasicProperties;
use thredcore::{
    port::{Accepted, Inbound, Redriven, Routed},
    state::partition_of,
};
use thredlib::{Message, ThredId, Topic};

use crate::{AmqpError, names::short, publisher::Parcel, topology::Topology};

/// An item of a queue.
pub(crate) trait Cargo: Clone + Send + Sync + 'static {
    /// What it is, for people.
    const KIND: &'static str;

    /// Whether attempts are counted by what is handed out. Otherwise they are counted by how they
    /// ended.
    const COUNTS_HAND_OUTS: bool;

    /// Its id, for people.
    fn id(&self) -> String;

    /// What it is known by while it is tried: another one for each of its lives.
    fn key(&self) -> String;

    /// Where it came from, as [`read`](Self::read) needs it: the topic of a message.
    fn origin(&self) -> &str;

    /// The item on its way to its queue.
    fn parcel(&self, topology: &Topology) -> Result<Parcel, AmqpError>;

    /// Reads what a queue delivers.
    fn read(origin: &str, properties: &BasicProperties, body: &[u8]) -> Result<Self, String>;

    /// How often it had been dead, and what it has moved.
    fn past(&self) -> Redriven {
        Redriven::default()
    }

    /// The item of a letter, whose queue it goes back to. `is_ours`: the letter was written by an
    /// engine, not put there by the broker as somebody had sent it.
    fn of_letter(self, _home: &str, _is_ours: bool) -> Self {
        self
    }

    /// The item as it comes out of the dead letters.
    fn revived(self, _times: u32, _moved: Vec<ThredId>) -> Self {
        self
    }
}

pub(crate) fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, AmqpError> {
    serde_json::to_vec(value).map_err(|error| AmqpError::Json(error.to_string()))
}

impl Cargo for Inbound {
    const KIND: &'static str = "event";
    const COUNTS_HAND_OUTS: bool = true;

    fn id(&self) -> String {
        Inbound::id(self).to_string()
    }

    fn key(&self) -> String {
        format!("{}#{}", Inbound::key(self), self.past().times)
    }

    fn origin(&self) -> &str {
        ""
    }

    fn parcel(&self, topology: &Topology) -> Result<Parcel, AmqpError> {
        let partition = partition_of(self.partition_key(), topology.config.partitions);
        Ok(Parcel {
            exchange: topology.names().event_exchange()?,
            key: partition.to_string().into(),
            id: Cargo::id(self),
            headers: None,
            body: json(self)?,
        })
    }

    fn read(_origin: &str, _properties: &BasicProperties, body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| error.to_string())
    }

    fn past(&self) -> Redriven {
        match self {
            Self::Event(accepted) => accepted.redriven.as_deref().cloned().unwrap_or_default(),
            Self::Command(_) => Redriven::default(),
        }
    }

    fn revived(self, times: u32, moved: Vec<ThredId>) -> Self {
        match self {
            Self::Event(accepted) => {
                let redriven = Some(Arc::new(Redriven { times, moved }));
                Self::Event(Accepted { redriven, ..accepted })
            }
            command => command,
        }
    }
}

impl Cargo for Routed {
    const KIND: &'static str = "message";
    const COUNTS_HAND_OUTS: bool = false;

    fn id(&self) -> String {
        self.message.id.to_string()
    }

    fn key(&self) -> String {
        Cargo::id(self)
    }

    fn origin(&self) -> &str {
        self.topic.as_str()
    }

    fn parcel(&self, topology: &Topology) -> Result<Parcel, AmqpError> {
        Ok(Parcel {
            exchange: topology.names().message_exchange()?,
            key: short(self.topic.as_str())?,
            id: Cargo::id(self),
            headers: None,
            body: json(&*self.message)?,
        })
    }

    fn read(origin: &str, _properties: &BasicProperties, body: &[u8]) -> Result<Self, String> {
        let message: Message = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        Ok(Self { topic: Topic::from(origin), message: Arc::new(message) })
    }
}
