//! Events as the door has let them in.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thredlib::{Event, EventKey, ParticipantId, ThredId, Topic};

/// An event, with what the door knew of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// The event as it was sent.
    pub event: Arc<Event>,
    /// Who sent it, authenticated; `None`: its source did, or the host vouches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<ParticipantId>,
    /// Of an agent's answer, the type of the agent: another agent of that type, given the same
    /// message, gives the same answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Topic>,
    /// When the door took it in, milliseconds since the Unix epoch.
    pub accepted_at: i64,
    /// Of an event that comes out of the dead letters again: its life so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven: Option<Arc<Redriven>>,
}

/// What is known of an event that was among the dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redriven {
    /// How often it had been put among the dead letters, from 1.
    pub times: u32,
    /// The threds that it has moved before it failed in others: it moves them no second time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<ThredId>,
}

impl Accepted {
    /// An event that its source or the host has sent.
    pub fn new(event: impl Into<Arc<Event>>, accepted_at: i64) -> Self {
        Self { event: event.into(), principal: None, agent: None, accepted_at, redriven: None }
    }

    /// Under which it has one effect: of its source (of an agent's answer, the type of the agent)
    /// and its id.
    pub fn key(&self) -> EventKey {
        let source = match &self.agent {
            Some(agent) => agent.as_str(),
            None => self.event.source.id.as_str(),
        };
        EventKey::of(source, self.event.id.as_str())
    }

    /// How often it had been put among the dead letters before; 0 for a fresh one.
    pub fn times_dead(&self) -> u32 {
        self.redriven.as_ref().map_or(0, |redriven| redriven.times)
    }

    /// Whether it has moved a thred in an earlier life.
    pub fn has_moved(&self, thred: &ThredId) -> bool {
        self.redriven.as_ref().is_some_and(|redriven| redriven.moved.contains(thred))
    }
}
