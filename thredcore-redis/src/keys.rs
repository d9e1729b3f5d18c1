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
///
/// Members of the sorted sets without scores are texts in lexical order: what they are looked up by,
/// then the thred, with tabs between. Numbers in them are [sortable](crate::storage::sortable).
#[derive(Debug)]
pub(crate) struct PartitionKeys {
    pub(crate) tag: Tag,
    /// Hash: thred → head, inbox and state.
    pub(crate) threds: String,
    /// Hash: thred → unpublished entries.
    pub(crate) outboxes: String,
    /// Hash: thred → a line for each of those: whether it is parked, its id, time and topic.
    pub(crate) entries: String,
    /// Sorted set: thred by the time of the oldest of those that is not parked.
    pub(crate) pending: String,
    /// Sorted set without scores: topic, time, thred and id of parked entries.
    pub(crate) parked: String,
    /// Hash: topic → how many entries are parked for it.
    pub(crate) parked_topics: String,
    /// Sorted set without scores: when a timer is due, thred, entry.
    pub(crate) timers: String,
    /// Sorted set without scores: wait key and thred.
    pub(crate) waits: String,
    /// Sorted set without scores: place, start and thred of those that live.
    pub(crate) places: String,
    /// Hash: place → how many live threds are there.
    pub(crate) counts: String,
    /// Sorted set without scores: participant, start and thred of those that live.
    pub(crate) participants: String,
    /// Sorted set: ended threds in the order of their ends.
    pub(crate) ended: String,
    /// Sorted set without scores: start and thred of those.
    pub(crate) ended_starts: String,
    /// List, in the order of the commits: version and thred, step, and what was put out with it.
    pub(crate) history: String,
    /// Hash: version and thred → number of the step.
    pub(crate) history_index: String,
    /// Hash: number → record about an event that changed nothing, and `n`.
    pub(crate) unmoved: String,
    /// Hash: event → types of its records.
    pub(crate) unmoved_known: String,
    /// Hash: the first bytes of keys → the rest of those that are settled.
    pub(crate) receipts: String,
    /// The generation before.
    pub(crate) receipts_before: String,
    /// Hash: key → how often its event was among the dead letters.
    pub(crate) dead: String,
    /// Sorted set: those keys by when that was.
    pub(crate) dead_times: String,
    /// Hash of numbers: `ended`, how many threds have ended; `steps`, how many there were;
    /// `generation`, that of the receipts.
    pub(crate) numbers: String,
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
            entries: key("i"),
            pending: key("p"),
            parked: key("y"),
            parked_topics: key("z"),
            timers: key("d"),
            waits: key("l"),
            places: key("x"),
            counts: key("n"),
            participants: key("a"),
            ended: key("e"),
            ended_starts: key("f"),
            history: key("h"),
            history_index: key("j"),
            unmoved: key("u"),
            unmoved_known: key("k"),
            receipts: key("r"),
            receipts_before: key("s"),
            dead: key("v"),
            dead_times: key("w"),
            numbers: key("c"),
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
    pub(crate) receipts: Tag,
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
            receipts: Tag::new(namespace, "receipts"),
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
