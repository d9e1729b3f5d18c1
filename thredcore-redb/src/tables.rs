//! The tables of the file.

use redb::TableDefinition;
use thredcore::format::Formats;

/// The versions of the file that are read. A version is raised with every change of what is stored
/// that an older program does not read as it is meant; the one before is still read, and a file that
/// has it keeps it.
pub(crate) const FORMATS: Formats = Formats::new(1, 1);

/// Named numbers.
pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// [`META`]: the format.
pub(crate) const META_FORMAT: &str = "format";
/// [`META`]: whether the directory was closed in order.
pub(crate) const META_CLEAN: &str = "clean";
/// [`META`]: raised with each change of the current patterns.
pub(crate) const META_PATTERNS: &str = "patterns version";
/// [`META`]: the last step that moved no thred.
pub(crate) const META_UNMOVED: &str = "last unmoved";

/// Segments of numbered items; see [`Segments`](crate::segments::Segments).
pub(crate) struct Kind {
    /// The items, by the number of the first.
    pub(crate) data: TableDefinition<'static, u64, &'static [u8]>,
    /// Which of them are live, one bit each, by the number of the first.
    pub(crate) live: TableDefinition<'static, u64, &'static [u8]>,
    /// Whether items stay when they are not live any more.
    pub(crate) keeps: bool,
}

/// States of threds.
pub(crate) const STATES: Kind = kind("states", "states live", false);
/// The history, with the outboxes; live while something of the outbox is unpublished.
pub(crate) const STEPS: Kind = kind("steps", "steps unpublished", true);
/// The event queue.
pub(crate) const EVENTS: Kind = kind("events", "events live", false);
/// The message queue.
pub(crate) const MESSAGES: Kind = kind("messages", "messages live", false);

const fn kind(data: &'static str, live: &'static str, keeps: bool) -> Kind {
    Kind { data: TableDefinition::new(data), live: TableDefinition::new(live), keeps }
}

/// Of steps with a part of the outbox published: the ids of the rest.
pub(crate) const PARTLY: TableDefinition<u64, &[u8]> = TableDefinition::new("partly published");
/// Attempts of queued items beyond the first, by queue and order.
pub(crate) const ATTEMPTS: TableDefinition<(u8, u64), u32> = TableDefinition::new("attempts");
/// Dead letters, by queue and number.
pub(crate) const DEAD: TableDefinition<(u8, u64), &[u8]> = TableDefinition::new("dead letters");
/// Threds that take up places, by pattern.
pub(crate) const PLACES: TableDefinition<(&str, &str), ()> = TableDefinition::new("places");
/// When the last place of a pattern was taken.
pub(crate) const PLACE_TIMES: TableDefinition<&str, i64> = TableDefinition::new("place times");
/// Leases that may outlive the process.
pub(crate) const LEASES: TableDefinition<&str, &[u8]> = TableDefinition::new("leases");
/// All revisions of patterns.
pub(crate) const PATTERNS: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("patterns");
/// The current revisions.
pub(crate) const CURRENT: TableDefinition<&str, u64> = TableDefinition::new("current patterns");

/// One of the queues, as a part of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Queue {
    Events = 0,
    Messages = 1,
}
