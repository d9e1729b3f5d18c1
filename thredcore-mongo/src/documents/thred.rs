//! A thred's document: its state, and what waits in it.

use std::sync::Arc;

use mongodb::bson::{Binary, Bson, Document, doc, oid::ObjectId};
use serde::Deserialize;
use thredcore::{
    format::{StateFields, StateForm, StateText},
    port::{PortError, PortErrorKind},
    state::{Consumed, PatternKey, Status, ThredState, WaitKey},
};
use thredlib::EventKey;

use super::{
    EntryDocument, EventDocument, binary, json, revision_of, revision_text, signed,
    step::StepDocument, unparsed,
};

/// What is stored of a thred's state, live or ended, as a format has it. What MongoDB looks for stands
/// beside the text; the wait keys of a live thred are added by whoever stores it.
pub(crate) fn state_fields(state: &ThredState, format: u32) -> Result<Document, PortError> {
    let text = if format < 3 {
        StateText::new(state, StateForm::Full).with_waits_if(true)
    } else {
        // Those of a thred that waits stand beside it, for the index.
        StateText::new(state, StateForm::Compact).with_waits_if(!state.is_listening())
    };
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
        "state": json(&text)?,
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
    v: i64,
    status: Status,
    started: i64,
    pattern: String,
    revision: String,
    reaction: String,
    #[serde(default)]
    waits: Vec<Binary>,
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
        doc! {
            "state": 1, "v": 1, "status": 1, "started": 1, "pattern": 1, "revision": 1, "reaction": 1,
            "waits": 1, "participants": 1, "inbox": 1, "consumed": 1,
        }
    }

    /// The state.
    pub(crate) fn state(&self) -> Result<ThredState, PortError> {
        let pattern =
            PatternKey { id: self.pattern.as_str().into(), revision: revision_of(&self.revision)? };
        let waits = self.waits.iter().map(|key| Ok(WaitKey::from_bytes(*key_of(key)?.as_bytes())));
        let fields = StateFields {
            id: self.id.as_str().into(),
            pattern: Arc::new(pattern),
            version: Some(u64::try_from(self.v).map_err(|_| damaged("its version is negative"))?),
            status: self.status,
            reaction: self.reaction.as_str().into(),
            started_at: self.started,
            participants: self.participants.iter().map(|id| id.as_str().into()).collect(),
            waits: waits.collect::<Result<_, PortError>>()?,
            inbox: self.inbox()?,
        };
        fields.with_text(self.state.as_bytes()).map_err(unparsed)
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
