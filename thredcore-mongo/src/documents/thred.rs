//! A thred's document: its state, and what waits in it.

use mongodb::bson::{Binary, Bson, Document, doc, oid::ObjectId};
use serde::Deserialize;
use thredcore::{
    port::{PortError, PortErrorKind},
    state::{Consumed, ThredState},
};
use thredlib::EventKey;

use super::{
    EntryDocument, EventDocument, binary, json, parsed, revision_text, signed, step::StepDocument,
};

/// What is stored of a thred's state, live or ended. Inbox and participants stand beside the text,
/// once: MongoDB looks for them.
pub(crate) fn state_fields(state: &ThredState) -> Result<Document, PortError> {
    let bare = ThredState { inbox: Vec::new(), participants: Vec::new(), ..state.clone() };
    let inbox: Vec<_> = state.inbox.iter().map(|it| binary(it.key.as_bytes())).collect();
    let participants: Vec<_> = state.participants.iter().map(|id| id.as_str()).collect();
    Ok(doc! {
        "v": signed(state.version),
        "status": state.status.as_str(),
        "started": state.started_at,
        "modified": state.modified_at,
        "pattern": state.pattern.id.as_str(),
        "revision": revision_text(state.pattern.revision),
        "reaction": &*state.reaction,
        "participants": participants,
        "inbox": inbox,
        "consumed": binary(&origins(&state.inbox)),
        "state": json(&bare)?,
    })
}

/// How many bytes tell when something was consumed, and where its receipt is filed.
const ORIGIN: usize = 6;

fn origins(inbox: &[Consumed]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(inbox.len() * ORIGIN);
    for Consumed { at, partition, .. } in inbox {
        bytes.extend(at.to_be_bytes());
        bytes.extend(partition.to_be_bytes());
    }
    bytes
}

/// The key in a binary value.
pub(crate) fn key_of(binary: &Binary) -> Result<EventKey, PortError> {
    let bytes = <[u8; 16]>::try_from(&*binary.bytes);
    bytes.map(EventKey::from_bytes).map_err(|_| damaged("a key is not of 16 bytes"))
}

fn damaged(cause: &'static str) -> PortError {
    PortError::new("read a document", PortErrorKind::Rejected, cause)
}

/// A state as it is read.
#[derive(Debug, Deserialize)]
pub(crate) struct StateDocument {
    #[serde(rename = "_id")]
    pub(crate) id: String,
    state: String,
    participants: Vec<String>,
    inbox: Vec<Binary>,
    consumed: Binary,
    #[serde(default)]
    pub(crate) outbox: Vec<EntryDocument>,
    /// What messages in outbox and steps tell, each event once.
    #[serde(default)]
    pub(crate) events: Vec<EventDocument>,
    #[serde(default)]
    pub(super) past: Vec<StepDocument>,
    /// There while messages of it are parked; another one each time.
    #[serde(default)]
    pub(crate) parked: Option<ObjectId>,
}

impl StateDocument {
    /// The fields that make the state.
    pub(crate) fn fields() -> Document {
        doc! { "state": 1, "participants": 1, "inbox": 1, "consumed": 1 }
    }

    /// The state.
    pub(crate) fn state(&self) -> Result<ThredState, PortError> {
        let state: ThredState = parsed(&self.state)?;
        if *state.id.as_str() != *self.id {
            return Err(damaged("the state is another thred's"));
        }
        let participants = self.participants.iter().map(|id| id.as_str().into()).collect();
        Ok(ThredState { inbox: self.inbox()?, participants, ..state })
    }

    /// What it has consumed that may come again.
    pub(crate) fn inbox(&self) -> Result<Vec<Consumed>, PortError> {
        inbox(&self.inbox, &self.consumed)
    }
}

fn inbox(keys: &[Binary], origins: &Binary) -> Result<Vec<Consumed>, PortError> {
    if keys.len() * ORIGIN != origins.bytes.len() {
        return Err(damaged("an inbox does not say of each event where it is from"));
    }
    let origins = origins.bytes.chunks_exact(ORIGIN);
    let consumed = keys.iter().zip(origins).map(|(key, origin)| {
        let at = u32::from_be_bytes([origin[0], origin[1], origin[2], origin[3]]);
        let partition = u16::from_be_bytes([origin[4], origin[5]]);
        Ok(Consumed { key: key_of(key)?, at, partition })
    });
    consumed.collect()
}

/// The wait keys under which a thred is found.
pub(crate) fn wait_keys(state: &ThredState) -> Vec<Bson> {
    state.waits.iter().map(|key| binary(key.as_bytes())).collect()
}
