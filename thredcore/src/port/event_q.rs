//! The queue of what comes into the engine.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thredlib::{
    Event, EventId, EventKey, ParticipantId, PatternId, SYSTEM, ThredId, derive_id, expr::Locals,
};

use super::{
    accepted::Accepted,
    error::PortError,
    queue::{Backlog, DeadLetter, DeadLetterFilter, Death, Delivery, DeliveryTag},
    storage::Quarantine,
};
use crate::state::Consumed;

/// Brings events and commands to the engine.
///
/// The queue has a fixed number of partitions. Items with equal
/// [partition keys](Inbound::partition_key) are delivered in the order of their publishing, and a
/// partition is delivered to one consumer at a time.
#[async_trait]
pub trait EventQ: Quarantine {
    /// How many partitions there are; at least 1, the same for every process.
    fn partitions(&self) -> u16;

    /// How large an item may be as JSON, in bytes. The door refuses what is larger.
    fn max_item_bytes(&self) -> usize;

    /// Waits until the queue has room. The door calls this before it publishes events from outside.
    ///
    /// [`publish`](Self::publish) itself never waits: what the engine and its agents publish belongs
    /// to work under way, and would wait for room that only this work makes. Callers at one time
    /// may together go over the bound by what each publishes.
    ///
    /// # Errors
    /// When the queue is closed or cannot be reached.
    async fn room(&self) -> Result<(), PortError>;

    /// Adds items at the end of their partitions. When it returns without an error, all of them
    /// are as durable as the queue ever makes them.
    ///
    /// # Errors
    /// Some or all items may not be in the queue; publishing them again may double them, which
    /// their ids make harmless.
    async fn publish(&self, items: Vec<Inbound>) -> Result<(), PortError>;

    /// Hands out up to `max` items of a partition, in order; waits until there is one. Dropping
    /// the future loses nothing.
    ///
    /// # Errors
    /// [`PortErrorKind::Closed`](super::PortErrorKind::Closed) when there will be no more items.
    async fn receive(
        &self,
        partition: u16,
        max: usize,
    ) -> Result<Vec<Delivery<Inbound>>, PortError>;

    /// Removes items for good. A tag that is not out (any more) is ignored.
    ///
    /// # Errors
    /// Items may be delivered again.
    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError>;

    /// Gives items back, to be delivered again in their old order before all others.
    ///
    /// # Errors
    /// They are delivered again at the latest when this consumer is gone.
    async fn nack(&self, tags: &[DeliveryTag]) -> Result<(), PortError>;

    /// Moves an item to the dead letters, with the reason and what it has done before. Says whether
    /// it has: not if the item is no longer this consumer's, but is, or will be, delivered to another,
    /// whose it is to say what becomes of it.
    ///
    /// # Errors
    /// The item may be delivered again.
    async fn dead_letter(&self, tag: DeliveryTag, death: &Death) -> Result<bool, PortError>;

    /// Puts items among the dead letters that the queue has refused, each with the reason. They count
    /// as never handed out: 0 attempts. Doing it twice may leave them there twice.
    ///
    /// # Errors
    /// Some may be there.
    async fn bury(&self, items: Vec<(Inbound, String)>) -> Result<(), PortError>;

    /// The dead letters that are meant, oldest first. They leave by
    /// [`redrive`](Self::redrive), by [`discard`](Self::discard), or after a retention that the
    /// queue states.
    ///
    /// # Errors
    /// When the queue cannot be reached.
    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Inbound>>, PortError>;

    /// Publishes dead letters again and removes them from the dead letters; says how many. An event
    /// carries on with [`Accepted::redriven`]: how often it was dead, and the threds that it has
    /// moved.
    ///
    /// # Errors
    /// Some may be in both places.
    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError>;

    /// Removes dead letters for good; says how many.
    ///
    /// # Errors
    /// Some may still be there.
    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError>;

    /// How many items wait, those handed out included.
    ///
    /// # Errors
    /// When the queue cannot be reached.
    async fn depth(&self) -> Result<usize, PortError>;

    /// What waits in each partition, in their order.
    ///
    /// # Errors
    /// When the queue cannot be reached.
    async fn backlog(&self) -> Result<Vec<Backlog>, PortError>;
}

/// What comes into the engine.
///
/// Events come from outside, commands from the engine itself: no event can pass for a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Inbound {
    /// Something happened.
    Event(Accepted),
    /// The engine tells a thred what to do.
    Command(Arc<Command>),
}

impl Inbound {
    /// What is ordered together: the thred of a bound event or a command, the source of an unbound
    /// event.
    pub fn partition_key(&self) -> &str {
        match self {
            Self::Event(accepted) => match &accepted.event.thred_id {
                Some(thred) => thred.as_str(),
                None => accepted.event.source.id.as_str(),
            },
            Self::Command(command) => command.thred_id().as_str(),
        }
    }

    /// Who it comes from, for people and logs.
    pub fn source(&self) -> &str {
        match self {
            Self::Event(accepted) => accepted.event.source.id.as_str(),
            Self::Command(_) => SYSTEM,
        }
    }

    /// Its id, for people and logs.
    pub fn id(&self) -> EventId {
        match self {
            Self::Event(accepted) => accepted.event.id.clone(),
            Self::Command(command) => command.id(),
        }
    }

    /// What it is known by: the key under which it has one effect.
    pub fn key(&self) -> EventKey {
        match self {
            Self::Event(accepted) => accepted.key(),
            Self::Command(command) => command.key(),
        }
    }
}

/// What one part of the engine tells a thred. Idempotent: the id is derived from what caused it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Command {
    /// Start as a spawned thred.
    Start(Start),
    /// The expiry of a reaction is due.
    Expire {
        /// The thred.
        thred_id: ThredId,
        /// The version at which the reaction was entered; not the current one: nothing happens.
        entry: u64,
        /// When it was due, milliseconds since the Unix epoch: the thred reacts as at this time, or
        /// at a later one by the clock of whoever has the command.
        at: i64,
    },
    /// Take an unbound event that has found no place for a thred of its own, if it concerns the
    /// thred; the thred may still be about to start.
    Offer {
        /// The thred that holds the place.
        thred_id: ThredId,
        /// Its pattern.
        pattern_id: PatternId,
        /// The event.
        accepted: Accepted,
        /// What a thred's inbox keeps of the event: it has one effect, however it comes there.
        consumed: Consumed,
    },
    /// Take a transition, by order of an administrator.
    Transition {
        /// The thred.
        thred_id: ThredId,
        /// The name of a reaction, or a reserved name.
        to: String,
        /// The event that ordered it.
        cause: EventKey,
    },
    /// End.
    Terminate {
        /// The thred.
        thred_id: ThredId,
        /// What ended it: the event that ended its parent, or an administrator's.
        cause: EventKey,
    },
    /// A child has ended or could not start.
    Disown {
        /// The parent.
        thred_id: ThredId,
        /// The child.
        child: ThredId,
    },
}

/// What a spawned thred starts from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// The id of the new thred.
    pub thred_id: ThredId,
    /// Its pattern.
    pub pattern_id: PatternId,
    /// The thred that spawned it, if it is to end with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ThredId>,
    /// The event that the spawning thred reacted to.
    pub cause: Arc<Event>,
    /// What the spawning thred's inbox has kept of it: it is not for the new thred, should it come
    /// again.
    pub consumed: Consumed,
    /// The event that the new thred is given at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Arc<Event>>,
    /// The locals that it starts with.
    #[serde(default, skip_serializing_if = "map_is_empty")]
    pub locals: Locals,
    /// The participants that it starts with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub participants: Vec<ParticipantId>,
}

fn map_is_empty(locals: &Locals) -> bool {
    locals.is_empty()
}

impl Command {
    /// The thred that is told.
    pub fn thred_id(&self) -> &ThredId {
        match self {
            Self::Start(start) => &start.thred_id,
            Self::Expire { thred_id, .. }
            | Self::Offer { thred_id, .. }
            | Self::Transition { thred_id, .. }
            | Self::Terminate { thred_id, .. }
            | Self::Disown { thred_id, .. } => thred_id,
        }
    }

    /// The id under which the command has one effect.
    pub fn id(&self) -> EventId {
        let thred = self.thred_id().as_str();
        EventId::new(match self {
            Self::Start(_) => derive_id("start", &[thred]),
            Self::Expire { entry, at, .. } => {
                derive_id("expire", &[thred, &entry.to_string(), &at.to_string()])
            }
            Self::Offer { accepted, .. } => {
                derive_id("offer", &[thred, accepted.key().encode(&mut [0; 32])])
            }
            Self::Transition { cause, .. } => {
                derive_id("transition", &[thred, cause.encode(&mut [0; 32])])
            }
            Self::Terminate { cause, .. } => {
                derive_id("terminate", &[thred, cause.encode(&mut [0; 32])])
            }
            Self::Disown { child, .. } => derive_id("disown", &[thred, child.as_str()]),
        })
    }

    /// What it is known by.
    pub fn key(&self) -> EventKey {
        EventKey::of(SYSTEM, self.id().as_str())
    }

    /// Whether doing it twice would have a second effect, so that a receipt must keep it from that.
    /// Expiring, ending and disowning find nothing to do the second time.
    pub fn needs_receipt(&self) -> bool {
        matches!(self, Self::Start(_) | Self::Offer { .. } | Self::Transition { .. })
    }
}
