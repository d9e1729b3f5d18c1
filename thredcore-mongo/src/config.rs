//! How MongoDB is used.

use std::time::Duration;

use thredcore::port::ReceiptRetention;

/// Where MongoDB is and how it is used. Writes are always acknowledged by a majority and journaled,
/// reads are of what a majority has: there is no option for less.
///
/// ```
/// use thredcore_mongo::MongoConfig;
///
/// let config = MongoConfig::new("mongodb://127.0.0.1:27017/?replicaSet=rs0")
///     .database("orders")
///     .prefix("test.");
/// # let _ = config;
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct MongoConfig {
    /// The servers, with user, password and TLS as the driver's URLs have them.
    pub url: String,
    /// The database; without one the URL's.
    pub database: Option<String>,
    /// The database when neither this nor the URL names one: `thredcore`.
    pub default_database: String,
    /// What the names of all collections start with: nothing.
    pub prefix: String,
    /// Whether what is missing is made: true. Without, a database that nobody has used is an error, no
    /// index is made or changed, and what other processes have left undone is left to others: for
    /// programs that only look.
    pub create: bool,
    /// The [format](thredcore::format) that a new database is made in: the newest. For tests, and for
    /// deployments in which programs of the version before take part.
    pub make_format: Option<u32>,
    /// Most connections to each server: 32.
    pub pool: u32,
    /// How long one call may take until its outcome counts as unknown: 10 s.
    pub time_limit: Duration,
    /// How long a server that can be written to is looked for before a call fails: 5 s.
    pub selection_limit: Duration,
    /// How many unpublished entries a thred may have before its next commit has to wait; those whose
    /// topic is full are not counted: 4,096.
    pub outbox_limit: u32,
    /// How many ended threds stay beside the live ones, so that late events are recognized; the
    /// archive keeps all of them: 10,000. One is kept longer while something that it has consumed may
    /// come again.
    pub ended_threds: usize,
    /// How long receipts are found at least, unless there are more of them than
    /// [`receipts_capacity`](Self::receipts_capacity): 24 h.
    pub receipts_time: Duration,
    /// How many receipts are found at least, unless they are older than
    /// [`receipts_time`](Self::receipts_time): 20 million, some 2 GB.
    pub receipts_capacity: u64,
    /// How long it is known that an event is among the dead letters; at least as long as the queue
    /// keeps those: 31 days.
    pub dead_letters_time: Duration,
    /// The largest step that is archived whole, in bytes; of a larger one what was decided is kept,
    /// with a note of its size: 14 MiB. At most [`MAX_DOCUMENT_BYTES`](Self::MAX_DOCUMENT_BYTES).
    pub archived_step_bytes: usize,
    /// How many steps may wait for the archive before commits have to wait: 10,000.
    pub backlog: usize,
    /// How long steps are gathered before they are archived together: 500 ms.
    pub linger: Duration,
    /// How long a step may wait until its process is taken for dead, and another one archives it: 5 s.
    pub left_behind: Duration,
    /// How long the key of a list of tasks is remembered: 7 days.
    pub redelivery_window: Duration,
    /// How long the work of a transaction may take, and how long it is tried anew after conflicts and
    /// lost answers: 10 s.
    pub transaction_limit: Duration,
}

impl MongoConfig {
    /// The largest document that is sent to MongoDB, which takes 16 MiB.
    pub const MAX_DOCUMENT_BYTES: usize = (16 << 20) - (64 << 10);

    /// MongoDB at a URL, with the defaults.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            database: None,
            default_database: "thredcore".to_owned(),
            prefix: String::new(),
            create: true,
            make_format: None,
            pool: 32,
            time_limit: Duration::from_secs(10),
            selection_limit: Duration::from_secs(5),
            outbox_limit: 4_096,
            ended_threds: 10_000,
            receipts_time: ReceiptRetention::DEFAULT_TIME,
            receipts_capacity: 20_000_000,
            dead_letters_time: Duration::from_secs(31 * 24 * 60 * 60),
            archived_step_bytes: 14 << 20,
            backlog: 10_000,
            linger: Duration::from_millis(500),
            left_behind: Duration::from_secs(5),
            redelivery_window: Duration::from_secs(7 * 24 * 60 * 60),
            transaction_limit: Duration::from_secs(10),
        }
    }

    /// Sets the database.
    #[must_use]
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = Some(name.into());
        self
    }

    /// Sets the database that is used if nothing else names one.
    #[must_use]
    pub fn default_database(mut self, name: impl Into<String>) -> Self {
        self.default_database = name.into();
        self
    }

    /// Sets what the names of all collections start with.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the format that a new database is made in; the nearest that this version writes.
    #[must_use]
    pub fn make_format(mut self, format: u32) -> Self {
        self.make_format = Some(format);
        self
    }

    /// Sets whether what is missing is made.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets the most connections to each server; at least 1.
    #[must_use]
    pub fn pool(mut self, connections: u32) -> Self {
        self.pool = connections.max(1);
        self
    }

    /// Sets how long one call may take.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Sets how long a server that can be written to is looked for.
    #[must_use]
    pub fn selection_limit(mut self, limit: Duration) -> Self {
        self.selection_limit = limit;
        self
    }

    /// Sets how many unpublished entries a thred may have; at least 1.
    #[must_use]
    pub fn outbox_limit(mut self, entries: u32) -> Self {
        self.outbox_limit = entries.max(1);
        self
    }

    /// Sets how many ended threds stay beside the live ones.
    #[must_use]
    pub fn ended_threds(mut self, threds: usize) -> Self {
        self.ended_threds = threds;
        self
    }

    /// Sets how long receipts are found at least.
    #[must_use]
    pub fn receipts_time(mut self, time: Duration) -> Self {
        self.receipts_time = time;
        self
    }

    /// Sets how many receipts are found at least; at least 2.
    #[must_use]
    pub fn receipts_capacity(mut self, receipts: u64) -> Self {
        self.receipts_capacity = receipts.max(2);
        self
    }

    /// Sets how long it is known that an event is among the dead letters.
    #[must_use]
    pub fn dead_letters_time(mut self, time: Duration) -> Self {
        self.dead_letters_time = time;
        self
    }

    /// Sets the largest step that is archived whole, in bytes.
    #[must_use]
    pub fn archived_step_bytes(mut self, bytes: usize) -> Self {
        self.archived_step_bytes = bytes.min(Self::MAX_DOCUMENT_BYTES);
        self
    }

    /// Sets how many steps may wait for the archive; at least 1.
    #[must_use]
    pub fn backlog(mut self, steps: usize) -> Self {
        self.backlog = steps.max(1);
        self
    }

    /// Sets how long steps are gathered before they are archived together.
    #[must_use]
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
        self
    }

    /// Sets how long a step may wait until its process is taken for dead.
    #[must_use]
    pub fn left_behind(mut self, time: Duration) -> Self {
        self.left_behind = time;
        self
    }

    /// Sets how long the key of a list of tasks is remembered.
    #[must_use]
    pub fn redelivery_window(mut self, time: Duration) -> Self {
        self.redelivery_window = time;
        self
    }

    /// Sets how long a transaction may take, and is tried anew.
    #[must_use]
    pub fn transaction_limit(mut self, time: Duration) -> Self {
        self.transaction_limit = time;
        self
    }
}

impl std::fmt::Debug for MongoConfig {
    /// Without the URL: it may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MongoConfig")
            .field("database", &self.database)
            .field("default_database", &self.default_database)
            .field("prefix", &self.prefix)
            .field("create", &self.create)
            .field("make_format", &self.make_format)
            .field("time_limit", &self.time_limit)
            .finish_non_exhaustive()
    }
}
