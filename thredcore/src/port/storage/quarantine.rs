//! What is stored and cannot be read.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::port::error::PortError;

/// Knows what is kept and cannot be read. Such a record stops nothing: a backend passes it over,
/// with a warning that names it, and leaves it where it is until it is moved out.
#[async_trait]
pub trait Quarantine: Send + Sync {
    /// Looks for what cannot be read, all through the store: the first `limit` finds.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, PortError>;

    /// Takes out of the store what cannot be read, and gives it, the first `limit` finds, so that it
    /// can be kept elsewhere. What can be read is not touched.
    ///
    /// # Errors
    /// Some may still be there.
    async fn move_out(&self, limit: usize) -> Result<Vec<Unreadable>, PortError>;
}

/// Something that is kept and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unreadable {
    /// What it should be: `thred`, `step`, `record`, `event`, `message`, `pattern`, `user`.
    pub kind: String,
    /// Where it is, in the words of the backend: a key, an id, a number.
    pub key: String,
    /// Why it cannot be read.
    pub reason: String,
    /// What is there, as text; bytes that are no text are replaced. Cut after 64 KiB.
    pub content: String,
}
