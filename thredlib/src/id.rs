//! Identifiers as newtypes.
//!
//! An id is an opaque string: ids made elsewhere are taken as they are. The ids that the engine
//! makes itself are *derived* ([`derive_id`]): doing a thing twice gives the same id, which is what
//! makes a repeated publish or a redelivered event harmless.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes any string as an id.
            pub fn new(id: impl Into<Arc<str>>) -> Self {
                Self(id.into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The shared text of the id.
            pub fn as_arc(&self) -> &Arc<str> {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.into())
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(id.into())
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(ArcStr).map(Self)
            }
        }
    };
}

string_id!(
    /// The id of an event; doubles as its idempotency key.
    EventId
);
string_id!(
    /// The id of a running thred.
    ThredId
);
string_id!(
    /// The id of a pattern.
    PatternId
);
string_id!(
    /// The id of a message; the same message published again carries the same id.
    MessageId
);
string_id!(
    /// The id of a participant: a person, a device or a service.
    ParticipantId
);
string_id!(
    /// Where a message goes: an agent's node id or node type, or a session node.
    Topic
);

/// Reads a JSON string straight into the shared form, without a `String` in between.
struct ArcStr;

impl serde::de::Visitor<'_> for ArcStr {
    type Value = Arc<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Self::Value, E> {
        Ok(v.into())
    }

    fn visit_string<E: serde::de::Error>(self, v: String) -> Result<Self::Value, E> {
        Ok(v.into())
    }
}

/// Derives an id from what it stands for: equal parts give an equal id.
///
/// The id is a UUID (version 8, "custom") made of a BLAKE3 hash over a domain word and the parts,
/// each with its length, so that no two lists of parts are taken for one another and nobody can
/// choose an event id that collides with another thred's.
///
/// ```
/// use thredlib::derive_id;
/// assert_eq!(derive_id("thred", &["event-1", "pattern"]), derive_id("thred", &["event-1", "pattern"]));
/// assert_ne!(derive_id("thred", &["event-1", "pattern"]), derive_id("thred", &["event-1p", "attern"]));
/// ```
pub fn derive_id(domain: &str, parts: &[&str]) -> Arc<str> {
    let bytes = hash_parts(domain, parts.iter().map(|part| part.as_bytes()));
    let uuid = uuid::Builder::from_custom_bytes(bytes).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    Arc::from(&*uuid.as_hyphenated().encode_lower(&mut text))
}

/// The first 16 bytes of a BLAKE3 hash over a domain word and parts, each with its length: two lists
/// that differ have different hashes.
pub fn hash_parts<'a>(domain: &'a str, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 16] {
    // One contiguous buffer hashes faster than many small updates.
    let mut input = Buffer::new();
    for part in std::iter::once(domain.as_bytes()).chain(parts) {
        input.push(&(part.len() as u64).to_le_bytes());
        input.push(part);
    }
    let hash = blake3::hash(input.as_slice());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    bytes
}

/// An id of parts written one after the other.
pub fn join_id(parts: &[&str]) -> Arc<str> {
    let mut text = Buffer::new();
    parts.iter().for_each(|part| text.push(part.as_bytes()));
    match str::from_utf8(text.as_slice()) {
        Ok(text) => text.into(),
        Err(_) => unreachable!("whole texts, one after the other"),
    }
}

/// Bytes on the stack, as long as there are few: most ids fit.
struct Buffer {
    first: [u8; Self::FEW],
    len: usize,
    /// All of them, when there are more.
    many: Vec<u8>,
}

impl Buffer {
    const FEW: usize = 256;

    fn new() -> Self {
        Self { first: [0; Self::FEW], len: 0, many: Vec::new() }
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        match self.first.get_mut(self.len..end) {
            Some(place) if self.many.is_empty() => place.copy_from_slice(bytes),
            _ => {
                if self.many.is_empty() {
                    self.many.extend_from_slice(&self.first[..self.len]);
                }
                self.many.extend_from_slice(bytes);
            }
        }
        self.len = end;
    }

    fn as_slice(&self) -> &[u8] {
        if self.len <= Self::FEW { &self.first[..self.len] } else { &self.many }
    }
}

/// A new, time-ordered id (UUID version 7) for an event made by this process.
pub fn new_event_id() -> EventId {
    EventId::new(uuid::Uuid::now_v7().to_string())
}

/// A stable 64-bit hash of a text, the same in every process and release of this library.
///
/// Used to tell revisions of a pattern apart.
pub fn stable_hash(text: &[u8]) -> u64 {
    let hash = blake3::hash(text);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ids_are_joined_like_short_ones() {
        for length in [0, 1, 127, 128, 129, 255, 256, 257, 1000] {
            let (a, b) = ("a".repeat(length), "b".repeat(length));
            assert_eq!(*join_id(&[&a, ".", &b, ""]), format!("{a}.{b}"));
        }
    }

    #[test]
    fn long_ids_are_derived_like_short_ones() {
        for length in [0, 1, 229, 230, 231, 232, 1000] {
            let part = "e".repeat(length);
            let mut input = 5_u64.to_le_bytes().to_vec();
            input.extend(b"thred");
            input.extend((length as u64).to_le_bytes());
            input.extend(part.as_bytes());
            let hash = blake3::hash(&input).as_bytes()[..16].try_into().unwrap();
            let uuid = uuid::Builder::from_custom_bytes(hash).into_uuid();
            assert_eq!(*derive_id("thred", &[&part]), uuid.to_string());
        }
    }
}
