//! Messages: an event with resolved recipients.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Event, MessageId, ParticipantId};

/// An event addressed to recipients. Published again after a crash it carries the same id, so that
/// a receiver can drop the repetition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Stable id, derived from what made the message.
    pub id: MessageId,
    /// What is told.
    pub event: Arc<Event>,
    /// Participants or services that it is for.
    pub to: Vec<ParticipantId>,
    /// When it was made, milliseconds since the Unix epoch.
    pub timestamp: i64,
}
