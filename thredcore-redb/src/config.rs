//! Bounds and choices.

use std::{fmt, io, sync::Arc, time::Duration};

use redb::StorageBackend;
use thredcore::port::{Clock, ReceiptRetention, SystemClock};

/// Bounds and choices of a directory of threds.
///
/// ```
/// use thredcore_redb::RedbConfig;
///
/// let config = RedbConfig::default().event_partitions(4).history_steps(50_000);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct RedbConfig {
    /// How many partitions timers and outboxes are kept in: 64.
    pub partitions: u16,
    /// How many partitions the event queue has: 16. May differ from one opening to the next.
    pub event_partitions: u16,
    /// With so many events waiting, the door waits: 65,536.
    pub event_capacity: usize,
    /// With so many messages waiting on a topic it is full: 65,536.
    pub message_capacity: usize,
    /// How long a message waits before it goes to the dead letters as `EXPIRED`: without end.
    pub message_ttl: Option<Duration>,
    /// How long a topic without messages and consumers stays: for good.
    pub idle_expiry: Option<Duration>,
    /// How large an event, a command, or a message with its topic may be as JSON, in bytes: 64 MiB.
    pub max_item_bytes: usize,
    /// How large a commit may be ([`Commit::size`](thredcore::port::Commit::size)), in bytes: 64 MiB.
    pub max_commit_bytes: usize,
    /// How long each queue keeps dead letters: 30 days.
    pub dead_letters_time: Duration,
    /// How many bytes of dead letters each queue keeps in the file: 1 GiB. With more the oldest is
    /// dropped. So is one whose time is over, each with a warning;
    /// [`RedbEventQ::dropped_dead_letters`](crate::RedbEventQ::dropped_dead_letters) counts them.
    pub dead_letters_bytes: u64,
    /// How long receipts are kept at least, unless there are too many: a day.
    pub receipts_time: Duration,
    /// How many receipts are kept at least, unless they are too old: the latest 4,000,000. They are
    /// in memory, at some 25 bytes each: 100 MB once there are so many.
    pub receipts_capacity: u64,
    /// How many steps of history are kept, of all threds together: the latest 500,000, some
    /// hundreds of bytes each beside the event and the messages in them. A replay of a thred with
    /// older steps finds a gap.
    pub history_steps: u64,
    /// How many ended threds are kept to be looked at: the latest 200,000, and those of which
    /// something is unpublished or may come again.
    pub ended_threds: usize,
    /// How many states of live threds are held in memory: the latest 50,000 used, at most twice as
    /// many.
    pub cached_threds: usize,
    /// Memory for the pages of the file: 64 MiB.
    pub cache_bytes: usize,
    /// What is written with one `fsync` at most, in bytes: 4 MiB.
    pub group_bytes: usize,
    /// What may wait to be written without anybody waiting for it (acknowledgements, messages that
    /// an outbox still holds), in bytes: 64 MiB. With more, its makers wait.
    pub deferred_bytes: usize,
    /// Whether a directory that holds no store yet is made one: true. Without, opening it is an error,
    /// and nothing is written by that.
    pub create: bool,
    /// The [format](thredcore::format) that a new directory is made in: the newest. For tests, and
    /// for whoever may go back to a program of the version before.
    pub make_format: Option<u32>,
    /// Whether a directory of the format before is raised to the newest when it is opened: false. The
    /// program of the version before does not open it after that.
    pub upgrade: bool,
    /// Tells when an item was dead-lettered.
    pub clock: Arc<dyn Clock>,
    pub(crate) on_fatal: OnFatal,
    pub(crate) backend: Option<MakeBackend>,
}

type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;
type MakeBackend = Arc<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync>;

impl Default for RedbConfig {
    fn default() -> Self {
        Self {
            partitions: 64,
            event_partitions: 16,
            event_capacity: 65_536,
            message_capacity: 65_536,
            message_ttl: None,
            idle_expiry: None,
            max_item_bytes: 64 << 20,
            max_commit_bytes: 64 << 20,
            dead_letters_time: Duration::from_secs(30 * 24 * 3600),
            dead_letters_bytes: 1 << 30,
            receipts_time: ReceiptRetention::DEFAULT_TIME,
            receipts_capacity: 4_000_000,
            history_steps: 500_000,
            ended_threds: 200_000,
            cached_threds: 50_000,
            cache_bytes: 64 << 20,
            group_bytes: 4 << 20,
            deferred_bytes: 64 << 20,
            create: true,
            make_format: None,
            upgrade: false,
            clock: Arc::new(SystemClock),
            on_fatal: Arc::new(end_process),
            backend: None,
        }
    }
}

/// What was not synced may be gone from the system's cache while later reads still see it: nothing
/// that this process knows can be trusted any more.
fn end_process(why: &str) {
    tracing::error!(why, "the process ends: what is stored is uncertain until it is opened again");
    eprintln!("error: {why}; the process ends, start it again");
    std::process::exit(RedbConfig::FATAL_STATUS);
}

impl RedbConfig {
    /// The exit status after a write that failed: 70.
    pub const FATAL_STATUS: i32 = 70;

    /// Sets the number of partitions of timers and outboxes; at least 1.
    #[must_use]
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = partitions.max(1);
        self
    }

    /// Sets the number of partitions of the event queue; at least 1.
    #[must_use]
    pub fn event_partitions(mut self, partitions: u16) -> Self {
        self.event_partitions = partitions.max(1);
        self
    }

    /// Sets how many events wait before the door does; at least 1.
    #[must_use]
    pub fn event_capacity(mut self, events: usize) -> Self {
        self.event_capacity = events.max(1);
        self
    }

    /// Sets how many messages wait on a topic before it is full; at least 1.
    #[must_use]
    pub fn message_capacity(mut self, messages: usize) -> Self {
        self.message_capacity = messages.max(1);
        self
    }

    /// Sets how long a message waits before it goes to the dead letters.
    #[must_use]
    pub fn message_ttl(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.message_ttl = time.into();
        self
    }

    /// Sets how long a topic without messages and consumers stays.
    #[must_use]
    pub fn idle_expiry(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.idle_expiry = time.into();
        self
    }

    /// Sets how large an item of a queue may be.
    #[must_use]
    pub fn max_item_bytes(mut self, bytes: usize) -> Self {
        self.max_item_bytes = bytes;
        self
    }

    /// Sets how large a commit may be.
    #[must_use]
    pub fn max_commit_bytes(mut self, bytes: usize) -> Self {
        self.max_commit_bytes = bytes;
        self
    }

    /// Sets how long dead letters are kept.
    #[must_use]
    pub fn dead_letters_time(mut self, time: Duration) -> Self {
        self.dead_letters_time = time;
        self
    }

    /// Sets how many bytes of dead letters each queue keeps.
    #[must_use]
    pub fn dead_letters_bytes(mut self, bytes: u64) -> Self {
        self.dead_letters_bytes = bytes;
        self
    }

    /// Sets how long receipts are kept.
    #[must_use]
    pub fn receipts_time(mut self, time: Duration) -> Self {
        self.receipts_time = time;
        self
    }

    /// Sets how many receipts are kept; at least 1.
    #[must_use]
    pub fn receipts_capacity(mut self, receipts: u64) -> Self {
        self.receipts_capacity = receipts.max(1);
        self
    }

    pub(crate) fn retention(&self) -> ReceiptRetention {
        ReceiptRetention { time: self.receipts_time, capacity: self.receipts_capacity }
    }

    /// Sets how many steps of history are kept.
    #[must_use]
    pub fn history_steps(mut self, steps: u64) -> Self {
        self.history_steps = steps;
        self
    }

    /// Sets how many ended threds are kept.
    #[must_use]
    pub fn ended_threds(mut self, threds: usize) -> Self {
        self.ended_threds = threds;
        self
    }

    /// Sets how many states are held in memory.
    #[must_use]
    pub fn cached_threds(mut self, threds: usize) -> Self {
        self.cached_threds = threds;
        self
    }

    /// Sets the memory for pages, in bytes.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Sets how much is written with one `fsync` at most, in bytes. A single operation is never
    /// split; 0 writes each for itself.
    #[must_use]
    pub fn group_bytes(mut self, bytes: usize) -> Self {
        self.group_bytes = bytes;
        self
    }

    /// Sets how much may wait to be written without anybody waiting for it, in bytes.
    #[must_use]
    pub fn deferred_bytes(mut self, bytes: usize) -> Self {
        self.deferred_bytes = bytes;
        self
    }

    /// Sets whether a directory that holds no store yet is made one.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets the format that a new directory is made in; the nearest that this version writes.
    #[must_use]
    pub fn make_format(mut self, format: u32) -> Self {
        self.make_format = Some(format);
        self
    }

    /// Sets whether a directory of the format before is upgraded when it is opened.
    #[must_use]
    pub fn upgrade(mut self, upgrade: bool) -> Self {
        self.upgrade = upgrade;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets what happens when a write or an `fsync` fails for another reason than a full disk.
    ///
    /// By default the process ends with [`FATAL_STATUS`](Self::FATAL_STATUS). If the function
    /// returns, the directory is closed: nothing is acknowledged after that.
    #[must_use]
    pub fn on_fatal(mut self, end: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_fatal = Arc::new(end);
        self
    }

    /// Sets what the database is written to, in place of a file in the directory: for tests with
    /// faults. The function is called at each opening; a full disk makes the directory open anew.
    #[must_use]
    pub fn backend(
        mut self,
        make: impl Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync + 'static,
    ) -> Self {
        self.backend = Some(Arc::new(make));
        self
    }
}

impl fmt::Debug for RedbConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbConfig")
            .field("partitions", &self.partitions)
            .field("event_partitions", &self.event_partitions)
            .field("event_capacity", &self.event_capacity)
            .field("message_capacity", &self.message_capacity)
            .field("message_ttl", &self.message_ttl)
            .field("idle_expiry", &self.idle_expiry)
            .field("max_item_bytes", &self.max_item_bytes)
            .field("max_commit_bytes", &self.max_commit_bytes)
            .field("dead_letters_time", &self.dead_letters_time)
            .field("dead_letters_bytes", &self.dead_letters_bytes)
            .field("receipts_time", &self.receipts_time)
            .field("receipts_capacity", &self.receipts_capacity)
            .field("history_steps", &self.history_steps)
            .field("ended_threds", &self.ended_threds)
            .field("cached_threds", &self.cached_threds)
            .field("cache_bytes", &self.cache_bytes)
            .field("group_bytes", &self.group_bytes)
            .field("deferred_bytes", &self.deferred_bytes)
            .field("create", &self.create)
            .field("make_format", &self.make_format)
            .field("upgrade", &self.upgrade)
            .finish_non_exhaustive()
    }
}
