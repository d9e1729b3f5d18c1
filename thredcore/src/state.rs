//! The durable state of a thred: plain data.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thin_vec::ThinVec;
use thredlib::{
    EventId, ParticipantId, PatternId, ThredId,
    expr::{Locals, no_locals},
};

/// Names one revision of a pattern. A thred keeps the revision that it started with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PatternKey {
    /// The pattern.
    pub id: PatternId,
    /// A hash of its text; equal texts are one revision.
    pub revision: u64,
}

/// Where a thred is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// It reacts to events.
    #[default]
    Active,
    /// It is past its last reaction, but still relays broadcasts.
    Finished,
    /// It has ended. The state is kept for a while, so that a redelivered event is recognized.
    Terminated,
}

impl Status {
    /// Whether the thred has not ended.
    pub fn is_live(self) -> bool {
        self != Self::Terminated
    }

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Finished => "finished",
            Self::Terminated => "terminated",
        }
    }
}

/// The state of a thred, as it is stored.
///
/// There may be millions of them, so its size counts: the lists that most threds leave empty are
/// one pointer wide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThredState {
    /// The thred.
    pub id: ThredId,
    /// The pattern that it runs.
    pub pattern: Arc<PatternKey>,
    /// How many commits it has seen; raised by exactly one with each.
    pub version: u64,
    /// Where it is in its life.
    #[serde(default)]
    pub status: Status,
    /// The name of its reaction; of its last one when it has ended.
    pub reaction: Arc<str>,
    /// Whether it waits for unbound events too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub listening: bool,
    /// The version at which it entered its reaction.
    pub entry: u64,
    /// When it entered its reaction, milliseconds since the Unix epoch.
    pub entered_at: i64,
    /// When its reaction expires, milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// When it started, milliseconds since the Unix epoch.
    pub started_at: i64,
    /// When it last changed, milliseconds since the Unix epoch.
    pub modified_at: i64,
    /// What `$setLocal` has stored.
    #[serde(default = "no_locals", skip_serializing_if = "locals_is_empty")]
    pub locals: Locals,
    /// Who has taken part, in the order of their joining; services included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub participants: Vec<ParticipantId>,
    /// The operands of `and` conditions that have matched in this reaction, as preorder numbers
    /// in its condition tree; sorted.
    #[serde(default, skip_serializing_if = "ThinVec::is_empty")]
    pub matched: ThinVec<u16>,
    /// The ids of the events and commands that it consumed last, oldest first.
    pub inbox: Vec<EventId>,
    /// What it is about, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Arc<str>>,
    /// What last happened, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Arc<str>>,
    /// The icon of what last happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<Arc<str>>,
    /// The thred that it ends with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ThredId>,
    /// The live threds that end with it.
    #[serde(default, skip_serializing_if = "ThinVec::is_empty")]
    pub children: ThinVec<ThredId>,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn locals_is_empty(locals: &Locals) -> bool {
    locals.is_empty()
}

impl ThredState {
    /// Whether an event or command has been consumed already, as far as the window reaches back.
    pub fn has_consumed(&self, id: &EventId) -> bool {
        self.inbox.contains(id)
    }

    /// The running timer: when it is due, and the version of the entry that armed it.
    pub fn timer(&self) -> Option<(i64, u64)> {
        match self.status {
            Status::Active => Some((self.expires_at?, self.entry)),
            _ => None,
        }
    }

    /// The partition that a thred belongs to, of so many.
    pub fn partition(id: &ThredId, partitions: u16) -> u16 {
        partition_of(id.as_str(), partitions)
    }
}

/// The partition of a key, of so many: the same in every process and release (XXH3, 64 bits).
pub fn partition_of(key: &str, partitions: u16) -> u16 {
    let partitions = u64::from(partitions.max(1));
    u16::try_from(xxhash_rust::xxh3::xxh3_64(key.as_bytes()) % partitions).unwrap_or(0)
}
