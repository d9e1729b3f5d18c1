//! The names of all keys.
//!
//! What changes together is kept under one hash tag, so that on a cluster it is on one server:
//! `{ns:p17}` for partition 17, `{ns:places:ID}` for the places of a pattern.

use thredlib::PatternId;

/// A hash tag: all keys that are under it are in one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    text: Box<str>,
    slot: u16,
}

impl Tag {
    /// The tag of `namespace:name`. Braces in the name are replaced: the first closing one would
    /// end the tag.
    pub fn new(namespace: &str, name: &str) -> Self {
        let name = name.replace('%', "%25").replace('{', "%7B").replace('}', "%7D");
        let inside = format!("{namespace}:{name}");
        let slot = crc16(inside.as_bytes()) % SLOTS;
        Self { text: format!("{{{inside}}}").into(), slot }
    }

    /// The tag of a partition.
    pub fn partition(namespace: &str, partition: u16) -> Self {
        Self::new(namespace, &format!("p{partition}"))
    }

    /// The slot of a cluster that all of its keys are in.
    pub fn slot(&self) -> u16 {
        self.slot
    }

    /// The name of a key.
    pub fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.text)
    }
}

/// How many slots a cluster has.
pub(crate) const SLOTS: u16 = 16384;

/// CRC16/XMODEM, by which Redis Cluster gives keys to slots.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => crc << 1 ^ 0x1021,
        })
    })
}

/// The keys of one partition of the storage.
#[derive(Debug)]
pub(crate) struct PartitionKeys {
    pub(crate) tag: Tag,
    /// Hash: thred → head, inbox and state.
    pub(crate) threds: String,
    /// Hash: thred → unpublished entries.
    pub(crate) outboxes: String,
    /// Hash: thred → when the oldest of those was made, and their ids.
    pub(crate) unpublished: String,
    /// Sorted set: thred by when its timer is due.
    pub(crate) timers: String,
    /// Sorted set, all scores 0: place and thred.
    pub(crate) listeners: String,
    /// Sorted set: thred by when it started.
    pub(crate) started: String,
    /// List: ended threds, in the order of their ending.
    pub(crate) ended: String,
    /// List, in the order of the commits: thred, step, and the outbox that came of it.
    pub(crate) history: String,
    /// Hash: number → record about an event that moved no thred, and `n`.
    pub(crate) unmoved: String,
    /// Hash: event and type → number in `unmoved`.
    pub(crate) unmoved_known: String,
    /// Written where nothing else is, so that there is something to wait for.
    pub(crate) mark: String,
}

impl PartitionKeys {
    pub(crate) fn new(namespace: &str, partition: u16) -> Self {
        let tag = Tag::partition(namespace, partition);
        let key = |name| tag.key(name);
        Self {
            threds: key("t"),
            outboxes: key("o"),
            unpublished: key("i"),
            timers: key("d"),
            listeners: key("l"),
            started: key("s"),
            ended: key("e"),
            history: key("h"),
            unmoved: key("u"),
            unmoved_known: key("k"),
            mark: key("m"),
            tag,
        }
    }
}

/// The keys that are of no partition, each kind under a tag of its own.
#[derive(Debug)]
pub(crate) struct SharedKeys {
    namespace: Box<str>,
    pub(crate) patterns: Tag,
    /// Hash: id and revision → text.
    pub(crate) pattern_texts: String,
    /// Hash: id → current revision.
    pub(crate) pattern_revisions: String,
    /// Counter of changes.
    pub(crate) patterns_version: String,
    pub(crate) leases: Tag,
    /// Hash: name → until and owner.
    pub(crate) lease_owners: String,
    /// Sorted set: name by until.
    pub(crate) lease_ends: String,
}

impl SharedKeys {
    pub(crate) fn new(namespace: &str) -> Self {
        let patterns = Tag::new(namespace, "patterns");
        let leases = Tag::new(namespace, "leases");
        Self {
            namespace: namespace.into(),
            pattern_texts: patterns.key("texts"),
            pattern_revisions: patterns.key("current"),
            patterns_version: patterns.key("version"),
            lease_owners: leases.key("owners"),
            lease_ends: leases.key("ends"),
            patterns,
            leases,
        }
    }

    /// The tag of a pattern's places.
    pub(crate) fn places(&self, pattern: &PatternId) -> Tag {
        Tag::new(&self.namespace, &format!("places:{pattern}"))
    }

    /// The channel that tells of changed patterns.
    pub(crate) fn patterns_channel(&self) -> String {
        format!("{}:patterns", self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // `CLUSTER KEYSLOT {thredcore:p17}:t` and `CLUSTER KEYSLOT foo`.
        assert_eq!(crc16(b"foo") % SLOTS, 12182);
    }

    #[test]
    fn all_keys_of_a_tag_hold_it_whole() {
        let tag = Tag::new("ns", "places:a}b{c%");
        assert_eq!(tag.key("x"), "{ns:places:a%7Db%7Bc%25}:x");
        assert_ne!(Tag::new("ns", "a}"), Tag::new("ns", "a%7D"));
    }
}
