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
    /// What is there, as [`Unreadable::excerpt`] gives it.
    pub content: String,
}

impl Unreadable {
    /// The most of a record that is shown, in bytes.
    pub const EXCERPT: usize = 64 << 10;

    /// A record as text: bytes that are no text are replaced, and what goes beyond
    /// [`EXCERPT`](Self::EXCERPT) is left out.
    #[must_use]
    pub fn excerpt(record: &[u8]) -> String {
        let mut text =
            String::from_utf8_lossy(&record[..record.len().min(Self::EXCERPT)]).into_owned();
        text.truncate(text.floor_char_boundary(Self::EXCERPT));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_text_of_bounded_size() {
        assert_eq!(Unreadable::excerpt(b"a\xffb"), "a\u{fffd}b");
        let long = "ä".repeat(Unreadable::EXCERPT);
        assert_eq!(Unreadable::excerpt(long.as_bytes()).len(), Unreadable::EXCERPT);
        // A replaced byte takes three.
        let nonsense = vec![0xff; Unreadable::EXCERPT * 2];
        assert!(Unreadable::excerpt(&nonsense).len() <= Unreadable::EXCERPT);
    }
}
