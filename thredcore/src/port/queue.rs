//! What both queues have in common.

use serde::{Deserialize, Serialize};
use thredlib::ThredId;

/// An item handed out by a queue, to be acknowledged, given back or dead-lettered.
#[derive(Clone, Debug)]
pub struct Delivery<T> {
    /// What was published.
    pub payload: T,
    /// Names this delivery to the queue.
    pub tag: DeliveryTag,
    /// How often the item has been handed out, this time included; from 1.
    pub attempt: u32,
    /// How often it was given back because it failed; the rest of the attempts ended with whoever
    /// had it. Always 0 in an event queue.
    pub failures: u32,
}

impl<T> Delivery<T> {
    /// How often whoever had the item has ended with it in hand.
    pub fn deaths(&self) -> u32 {
        self.attempt.saturating_sub(1).saturating_sub(self.failures)
    }
}

/// A queue's name for a delivery; opaque to everyone else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryTag(pub u64, pub u64);

/// An item that was taken out of circulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter<T> {
    /// The queue's id for it, for redriving and dropping.
    pub id: String,
    /// What was published.
    pub payload: T,
    /// Why it is here.
    pub reason: String,
    /// When it came here, milliseconds since the Unix epoch.
    pub at: i64,
    /// How often it had been handed out.
    pub attempts: u32,
    /// Of an event, how often it has come here; from 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub times: u32,
    /// Of an event, the threds that it has moved: redriven, it moves them no second time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<ThredId>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Why an event goes to the dead letters, and what it has done before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Death {
    /// What failed.
    pub reason: String,
    /// How often it has come to this; from 1.
    pub times: u32,
    /// The threds that it has moved, in this life and in earlier ones.
    pub moved: Vec<ThredId>,
}

/// What the reason of a dead letter begins with that the queue has refused for good, so that it was
/// never handed out.
pub const REJECTED: &str = "REJECTED: ";

/// What waits in one line of a queue: a partition or a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backlog {
    /// How many items wait, those handed out included.
    pub depth: u64,
    /// When the oldest was published, milliseconds since the Unix epoch; `None` when nothing waits, or
    /// the queue cannot tell.
    pub oldest: Option<i64>,
    /// How many consumers it has at this moment; `None` when the queue cannot tell.
    pub consumers: Option<u32>,
    /// How many dead letters there are; 0 for a partition, whose queue keeps them together.
    pub dead_letters: u64,
}

/// Which dead letters are meant; all fields that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeadLetterFilter {
    /// Just these ids.
    pub ids: Option<Vec<String>>,
    /// Reasons that contain this text.
    pub reason: Option<String>,
    /// Those after the dead letter of this id, in the order of the list: the next page.
    pub after: Option<String>,
    /// Maximum number, oldest first; none given: all of them.
    pub limit: Option<usize>,
}

impl DeadLetterFilter {
    /// All dead letters.
    pub fn all() -> Self {
        Self::default()
    }

    /// One dead letter.
    pub fn id(id: impl Into<String>) -> Self {
        Self { ids: Some(vec![id.into()]), ..Self::default() }
    }

    /// Whether a dead letter is meant, its place in the list aside.
    pub fn matches<T>(&self, letter: &DeadLetter<T>) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&letter.id))
            && self.reason.as_ref().is_none_or(|text| letter.reason.contains(text))
    }
}
