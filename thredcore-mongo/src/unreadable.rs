//! Documents that cannot be read: passed over, with one warning for each.

use std::collections::HashSet;

use mongodb::bson::{Bson, Document, RawDocument, deserialize_from_slice};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use thredcore::port::{PortError, PortErrorKind, Unreadable};
use tracing::warn;

/// What has been warned of.
#[derive(Debug, Default)]
pub(crate) struct Warned(Mutex<HashSet<String>>);

impl Warned {
    /// How many documents are remembered; of more of them there are more warnings.
    const CAPACITY: usize = 10_000;

    /// Warns of a document, unless it has been done.
    pub(crate) fn warn(&self, collection: &str, document: &RawDocument, error: &PortError) {
        let key = format!("{collection}/{}", key_of(document));
        let mut warned = self.0.lock();
        if warned.len() >= Self::CAPACITY {
            warned.clear();
        }
        if warned.insert(key.clone()) {
            warn!(%key, reason = reason(error), "a document cannot be read and is passed over");
        }
    }
}

/// A document as the type that it should hold.
pub(crate) fn decoded<D: DeserializeOwned>(document: &RawDocument) -> Result<D, PortError> {
    deserialize_from_slice(document.as_bytes())
        .map_err(|error| PortError::new("read a document", PortErrorKind::Rejected, error))
}

/// The id of a document, as text.
fn key_of(document: &RawDocument) -> String {
    match id_of(document) {
        Some(Bson::String(id)) => id,
        Some(id) => id.to_string(),
        None => "a document without an id".to_owned(),
    }
}

/// The id of a document.
pub(crate) fn id_of(document: &RawDocument) -> Option<Bson> {
    document.get("_id").ok().flatten().and_then(|id| Bson::try_from(id).ok())
}

/// What cannot be read, with what is there.
pub(crate) fn described(
    kind: &str,
    collection: &str,
    document: &RawDocument,
    error: &PortError,
) -> Unreadable {
    let content = match Document::try_from(document) {
        Ok(document) => document.to_string(),
        Err(_) => String::from_utf8_lossy(document.as_bytes()).into_owned(),
    };
    Unreadable {
        kind: kind.to_owned(),
        key: format!("{collection}/{}", key_of(document)),
        reason: reason(error),
        content: Unreadable::excerpt(content.as_bytes()),
    }
}

fn reason(error: &PortError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
