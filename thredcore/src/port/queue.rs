//! What both queues have in common.

use serde::{Deserialize, Serialize};

/// An item handed out by a queue, to be acknowledged, given back or dead-lettered.
#[derive(Clone, Debug)]
pub struct Delivery<T> {
    /// What was published.
    pub payload: T,
    /// Names this delivery to the queue.
    pub tag: DeliveryTag,
    /// How often the item has been handed out, this time included; from 1.
    pub attempt: u32,
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
}

/// Which dead letters are meant; all fields that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeadLetterFilter {
    /// Just these ids.
    pub ids: Option<Vec<String>>,
    /// Reasons that contain this text.
    pub reason: Option<String>,
    /// At most so many, oldest first.
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
