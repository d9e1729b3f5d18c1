//! What the documents look like. States, events and messages are JSON texts in them, so that they
//! come back byte for byte; beside the text stand the fields that MongoDB has to see.
//!
//! | collection | `_id` | holds |
//! |---|---|---|
//! | `threds` | thred | state, inbox, outbox, steps that are not archived yet, and once the events that both refer to |
//! | `parked` | thred and message | a message whose topic is full |
//! | `receipts.N` | key of an event | nothing more: it is settled; a collection for each generation |
//! | `dead` | key of an event | how often it has been put among the dead letters |
//! | `history` | thred and version, or key of an event and type | a step of the past |
//! | `ended` | thred | the last state of an ended thred |
//! | `places` | pattern and thred | nothing more: the thred takes up a place |
//! | `taken` | pattern | how many places are taken, and when the last one was |
//! | `leases` | name | owner and end |
//! | `revisions` | pattern and revision | the pattern's text |
//! | `patterns` | pattern | the current revision, and whether it is active |
//! | `counters` | name | numbers that only grow |
//! | `users` | participant | groups and roles |
//! | `executed` | key of a list of tasks | its results |
//! | `meta` | `format` | the [version](thredcore::format) of all this |
//! | `records.TYPE` | record | a record of the pattern language's tasks |

mod outbox;
mod size;
mod step;
mod thred;

pub(crate) use outbox::{EntryDocument, EventDocument, Events, Packed, ParkedDocument, parked_id};
pub(crate) use size::bytes_of;
pub(crate) use step::{Past, Step, unmoved};
pub(crate) use thred::{StateDocument, key_of, state_fields, wait_keys};

use mongodb::bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use serde::{Serialize, de::DeserializeOwned};
use thredcore::{
    port::{PortError, PortErrorKind},
    state::PatternKey,
};

pub(crate) const THREDS: &str = "threds";
pub(crate) const PARKED: &str = "parked";
pub(crate) const RECEIPTS: &str = "receipts.";
pub(crate) const DEAD: &str = "dead";
pub(crate) const HISTORY: &str = "history";
pub(crate) const ENDED: &str = "ended";
pub(crate) const PLACES: &str = "places";
pub(crate) const TAKEN: &str = "taken";
pub(crate) const LEASES: &str = "leases";
pub(crate) const REVISIONS: &str = "revisions";
pub(crate) const PATTERNS: &str = "patterns";
pub(crate) const COUNTERS: &str = "counters";
pub(crate) const USERS: &str = "users";
pub(crate) const EXECUTED: &str = "executed";
pub(crate) const RECORDS: &str = "records.";

/// A value as JSON text.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, PortError> {
    let rejected = |error| PortError::new("write JSON", PortErrorKind::Rejected, error);
    serde_json::to_string(value).map_err(rejected)
}

/// A value from JSON text.
pub(crate) fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, PortError> {
    serde_json::from_str(text).map_err(unparsed)
}

/// JSON that does not say what it should.
pub(crate) fn unparsed(error: serde_json::Error) -> PortError {
    PortError::new("read JSON that MongoDB holds", PortErrorKind::Rejected, error)
}

/// Versions and counts stay far below the range of `i64`.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// BSON knows no unsigned numbers, and a revision uses all 64 bits.
pub(crate) fn revision_text(revision: u64) -> String {
    format!("{revision:016x}")
}

pub(crate) fn revision_of(text: &str) -> Result<u64, PortError> {
    let damaged = |error| PortError::new("read a revision", PortErrorKind::Rejected, error);
    u64::from_str_radix(text, 16).map_err(damaged)
}

/// Where active threds listen, as one text: MongoDB walks over distinct texts from one to the next.
pub(crate) fn listening_text(key: &PatternKey) -> String {
    format!("{}/{}", revision_text(key.revision), key.id)
}

pub(crate) fn listening_key(text: &str) -> Result<PatternKey, PortError> {
    let (revision, id) = text.split_once('/').unwrap_or((text, ""));
    Ok(PatternKey { id: id.into(), revision: revision_of(revision)? })
}

/// A key of 16 bytes.
pub(crate) fn binary(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() })
}

/// Texts as they stand in an expression, where one that starts with `$` would name a field.
pub(crate) fn literal(values: impl IntoIterator<Item = impl Into<Bson>>) -> Document {
    doc! { "$literal": values.into_iter().map(Into::into).collect::<Vec<Bson>>() }
}
