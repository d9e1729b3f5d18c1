//! The durable state of a thred: plain data.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thin_vec::ThinVec;
use thredlib::{
    EventKey, ParticipantId, PatternId, ThredId,
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
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
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
    /// What it is found by while it waits for unbound events: sorted, each once. Empty when it
    /// waits for none.
    #[serde(default, skip_serializing_if = "ThinVec::is_empty")]
    pub waits: ThinVec<WaitKey>,
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
    /// How many events with an error it has reported since its last transition.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub errors: u8,
    /// The operands of `and` conditions that have matched in this reaction, as preorder numbers
    /// in its condition tree; sorted.
    #[serde(default, skip_serializing_if = "ThinVec::is_empty")]
    pub matched: ThinVec<u16>,
    /// The events and commands that it has consumed and that may come again, oldest first. One
    /// leaves when it has a [receipt](crate::port::Receipt), or is older than receipts are kept.
    pub inbox: Vec<Consumed>,
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

fn is_zero(count: &u8) -> bool {
    *count == 0
}

fn locals_is_empty(locals: &Locals) -> bool {
    locals.is_empty()
}

impl ThredState {
    /// Whether an event or command is in the inbox.
    pub fn has_consumed(&self, key: &EventKey) -> bool {
        self.inbox.iter().any(|consumed| consumed.key == *key)
    }

    /// Whether it waits for unbound events.
    pub fn is_listening(&self) -> bool {
        self.status == Status::Active && !self.waits.is_empty()
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

/// An event or command that a thred has consumed.
///
/// As JSON the text `key/partition/at`; the partition is empty where there will be no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "std::borrow::Cow<'_, str>", into = "String")]
pub struct Consumed {
    /// What it is known by.
    pub key: EventKey,
    /// When it was accepted, seconds since the Unix epoch.
    pub at: u32,
    /// The partition of the storage that its receipt is filed in;
    /// [`NO_RECEIPT`](Self::NO_RECEIPT) for a command that has no second effect anyway.
    pub partition: u16,
}

impl Consumed {
    /// In place of a partition: there will be no receipt, and none is needed.
    pub const NO_RECEIPT: u16 = u16::MAX;

    /// Something accepted at a time, in milliseconds since the Unix epoch.
    pub fn new(key: EventKey, at_millis: i64, partition: u16) -> Self {
        let at = u32::try_from(at_millis.max(0) / 1000).unwrap_or(u32::MAX);
        Self { key, at, partition }
    }

    /// Whether its receipt says when it is settled.
    pub fn needs_receipt(&self) -> bool {
        self.partition != Self::NO_RECEIPT
    }
}

impl From<Consumed> for String {
    fn from(consumed: Consumed) -> Self {
        let Consumed { key, at, .. } = consumed;
        if consumed.needs_receipt() {
            format!("{key}/{}/{at}", consumed.partition)
        } else {
            format!("{key}//{at}")
        }
    }
}

impl TryFrom<std::borrow::Cow<'_, str>> for Consumed {
    type Error = &'static str;

    fn try_from(text: std::borrow::Cow<'_, str>) -> Result<Self, Self::Error> {
        const WRONG: &str = "not of the form `key/partition/seconds`";
        let mut parts = text.split('/');
        let mut next = || parts.next().ok_or(WRONG);
        let (key, partition, at) = (next()?, next()?, next()?);
        let partition = match partition {
            "" => Self::NO_RECEIPT,
            number => number.parse().map_err(|_| WRONG)?,
        };
        let key = key.parse().map_err(|_| WRONG)?;
        Ok(Self { key, at: at.parse().map_err(|_| WRONG)?, partition })
    }
}

/// What a waiting thred is found by: a hash of its pattern's revision, its reaction, and the value
/// that an event must have to concern it. As text 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaitKey(EventKey);

impl WaitKey {
    /// The most keys that one thred is filed under; where there would be more, it is the any-key of
    /// its reaction.
    pub const MAX_OF_THRED: usize = 64;

    /// The key of a hash.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(EventKey::from_bytes(bytes))
    }

    /// The hash itself.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl std::str::FromStr for WaitKey {
    type Err = thredlib::NotAKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl std::fmt::Display for WaitKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The partition of a key, of so many: the same in every process and release (XXH3, 64 bits).
pub fn partition_of(key: &str, partitions: u16) -> u16 {
    let partitions = u64::from(partitions.max(1));
    u16::try_from(xxhash_rust::xxh3::xxh3_64(key.as_bytes()) % partitions).unwrap_or(0)
}
