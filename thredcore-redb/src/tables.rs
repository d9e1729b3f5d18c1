//! The tables of the file.

use redb::TableDefinition;

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
    /// Whether live items are moved out of segments that hold little else.
    pub(crate) gathers: bool,
}

/// States of threds; beside each the number of its last step.
pub(crate) const STATES: Kind = Kind { gathers: true, ..kind("states", "states live") };
/// The history, with the outboxes; live while something of the outbox is unpublished. Beside each
/// step the number of the one before it, of the same thred or of none.
pub(crate) const STEPS: Kind = Kind { keeps: true, ..kind("steps", "steps unpublished") };
/// The event queue; beside each item when it was published.
pub(crate) const EVENTS: Kind = kind("events", "events live");
/// The message queue; beside each message when it was published.
pub(crate) const MESSAGES: Kind = kind("messages", "messages live");

const fn kind(data: &'static str, live: &'static str) -> Kind {
    let (data, live) = (TableDefinition::new(data), TableDefinition::new(live));
    Kind { data, live, keeps: false, gathers: false }
}

/// Of steps with a part of the outbox published or parked: what is left.
pub(crate) const PARTLY: TableDefinition<u64, &[u8]> = TableDefinition::new("partly published");
/// Of queued items that were handed out more than once or wait for long: attempts, failures, and
/// until when they wait; by queue and order.
pub(crate) const ATTEMPTS: TableDefinition<(u8, u64), (u32, u32, i64)> =
    TableDefinition::new("attempts");
/// Dead letters, by queue and number.
pub(crate) const DEAD: TableDefinition<(u8, u64), &[u8]> = TableDefinition::new("dead letters");
/// When each dead letter came, its size, and the topic of a message.
pub(crate) const DEAD_SIZES: TableDefinition<(u8, u64), (i64, u64, Option<&str>)> =
    TableDefinition::new("sizes of dead letters");
/// Generations of receipts and of recorded events, and when each began; by [`Run`].
pub(crate) const GENERATIONS: TableDefinition<(u8, u64), i64> = TableDefinition::new("generations");
/// Receipts, many to an entry; by generation and number.
pub(crate) const RECEIPTS: Run = Run { number: 0, keys: TableDefinition::new("receipts") };
/// Records about events that changed nothing, by what they are known by; like [`RECEIPTS`].
pub(crate) const RECORDED: Run = Run { number: 1, keys: TableDefinition::new("recorded") };
/// Receipts of dead letters: how often, and when.
pub(crate) const DEAD_RECEIPTS: TableDefinition<&[u8; 16], (u32, i64)> =
    TableDefinition::new("receipts of dead letters");
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

/// Keys of 16 bytes, written one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// In [`GENERATIONS`].
    pub(crate) number: u8,
    pub(crate) keys: TableDefinition<'static, (u64, u64), &'static [u8]>,
}

/// One of the queues, as a part of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Queue {
    Events = 0,
    Messages = 1,
}

impl Queue {
    /// Its items.
    pub(crate) const fn kind(self) -> &'static Kind {
        match self {
            Self::Events => &EVENTS,
            Self::Messages => &MESSAGES,
        }
    }

    /// What one of them is called.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Events => "event",
            Self::Messages => "message",
        }
    }
}
