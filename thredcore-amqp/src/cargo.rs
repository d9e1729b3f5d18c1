//! What the two kinds of queues carry, as bytes.

use std::sync::Arc;

use thredcore::{
    port::{Inbound, Routed},
    state::partition_of,
};
use thredlib::{Event, Message, Topic};

use crate::{
    AmqpError,
    publisher::Parcel,
    topology::{Topology, short},
};

/// An item of a queue.
pub(crate) trait Cargo: Clone + Send + Sync + 'static {
    /// Its id.
    fn id(&self) -> String;

    /// Where it came from, as [`read`](Self::read) needs it: the topic of a message.
    fn origin(&self) -> &str;

    /// The item on its way to its queue.
    fn parcel(&self, topology: &Topology) -> Result<Parcel, AmqpError>;

    /// Reads what a queue delivers.
    fn read(origin: &str, body: &[u8]) -> Result<Self, serde_json::Error>;
}

impl Cargo for Inbound {
    fn id(&self) -> String {
        Inbound::id(self).to_string()
    }

    fn origin(&self) -> &str {
        ""
    }

    fn parcel(&self, topology: &Topology) -> Result<Parcel, AmqpError> {
        let partition = partition_of(self.partition_key(), topology.partitions());
        Ok(Parcel {
            exchange: topology.event_exchange()?,
            key: partition.to_string().into(),
            id: Cargo::id(self),
            headers: None,
            body: serde_json::to_vec(self).map_err(|error| AmqpError::Json(error.to_string()))?,
        })
    }

    /// Besides what this adapter writes, a bare event: other programs may publish those.
    fn read(_origin: &str, body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body).or_else(|error| {
            let event = serde_json::from_slice::<Event>(body);
            event.map(|event| Self::Event(Arc::new(event))).map_err(|_| error)
        })
    }
}

impl Cargo for Routed {
    fn id(&self) -> String {
        self.message.id.to_string()
    }

    fn origin(&self) -> &str {
        self.topic.as_str()
    }

    fn parcel(&self, topology: &Topology) -> Result<Parcel, AmqpError> {
        let body = serde_json::to_vec(&*self.message);
        Ok(Parcel {
            exchange: topology.message_exchange()?,
            key: short(self.topic.as_str())?,
            id: Cargo::id(self),
            headers: None,
            body: body.map_err(|error| AmqpError::Json(error.to_string()))?,
        })
    }

    fn read(origin: &str, body: &[u8]) -> Result<Self, serde_json::Error> {
        let message: Message = serde_json::from_slice(body)?;
        Ok(Self { topic: Topic::from(origin), message: Arc::new(message) })
    }
}
