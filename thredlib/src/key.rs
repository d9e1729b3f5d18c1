//! Keys: what an event is known by, wherever it has one effect.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::hash_parts;

/// Under which an event or command has one effect: a hash of its source and its id.
///
/// Ids are the senders' own: two sources may use the same one, by accident or to spoil the other's.
/// Their keys differ. BLAKE3, the first 16 bytes; as text 32 hexadecimal digits.
///
/// ```
/// use thredlib::EventKey;
///
/// let key = EventKey::of("ann", "event-1");
/// assert_eq!(key, EventKey::of("ann", "event-1"));
/// assert_ne!(key, EventKey::of("mallory", "event-1"));
/// assert_eq!(key.to_string().parse(), Ok(key));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey([u8; 16]);

impl EventKey {
    /// The key of an id from a source.
    pub fn of(source: &str, id: &str) -> Self {
        Self(hash_parts("event", [source.as_bytes(), id.as_bytes()]))
    }

    /// The key of these bytes, as [`as_bytes`](Self::as_bytes) gave them.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The hash itself.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Writes the 32 digits, without an allocation.
    pub fn encode<'a>(&self, text: &'a mut [u8; 32]) -> &'a str {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for (byte, pair) in self.0.iter().zip(text.chunks_exact_mut(2)) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        str::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Display for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encode(&mut [0; 32]))
    }
}

impl fmt::Debug for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key of 32 hexadecimal digits in lower case")]
pub struct NotAKey;

impl std::str::FromStr for EventKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        // In one form only: equal keys are equal texts.
        if text.len() != 32 || !text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(NotAKey);
        }
        u128::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes())).map_err(|_| NotAKey)
    }
}

impl Serialize for EventKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text() {
        for bytes in [[0; 16], [255; 16], *b"0123456789abcdef"] {
            let key = EventKey::from_bytes(bytes);
            let json = serde_json::to_string(&key).unwrap();
            assert_eq!(serde_json::from_str::<EventKey>(&json).unwrap(), key);
        }
        for text in ["", "zz", "+0000000000000000000000000000000", &"A".repeat(32), &"0".repeat(33)]
        {
            assert_eq!(text.parse::<EventKey>(), Err(NotAKey), "{text}");
        }
    }
}
