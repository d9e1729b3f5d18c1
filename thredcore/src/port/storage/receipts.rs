//! Receipts: which events and commands are settled, for a stated time.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use thredlib::{Event, EventKey};

use super::LogRecord;

/// How far an event or command has come: it only ever goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Receipt {
    /// It was put among the dead letters, for the n-th time. Only the copy that is redriven from
    /// there, and carries this number, is worked on again.
    Dead(u32),
    /// It has had all the effect that it will have.
    Settled,
}

/// How long receipts are kept: whichever ends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptRetention {
    /// At least this long.
    pub time: Duration,
    /// At least the latest so many.
    pub capacity: u64,
}

impl ReceiptRetention {
    /// A day.
    pub const DEFAULT_TIME: Duration = Duration::from_secs(24 * 3600);
}

/// The end of deliveries: what is written before they are acknowledged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settlement {
    /// Events that moved no thred, or changed nothing of one, with what was decided.
    pub unmoved: Vec<Unmoved>,
    /// What is settled, or among the dead letters.
    pub receipts: Vec<(EventKey, Receipt)>,
    /// The time, milliseconds since the Unix epoch.
    pub now: i64,
}

impl Settlement {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.unmoved.is_empty() && self.receipts.is_empty()
    }
}

/// A decision about an event that changed nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unmoved {
    /// What the event is known by.
    pub key: EventKey,
    /// What was decided.
    pub record: LogRecord,
    /// The event.
    pub event: Arc<Event>,
}
