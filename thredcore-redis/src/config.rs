//! Where the servers are, and how they are used.

use std::time::Duration;

use thredcore::port::ReceiptRetention;

/// How threds are kept on Redis. Every limit has a default.
///
/// ```
/// use thredcore_redis::RedisConfig;
///
/// let config = RedisConfig::new("rediss://threds:secret@redis.example.org:6380")
///     .namespace("billing")
///     .partitions(32);
/// assert!(config.durable);
/// ```
///
/// # URLs
///
/// | | |
/// |---|---|
/// | one server | `redis://[user:password@]host[:port][/db]` |
/// | Sentinel | `redis+sentinel://[user:password@]host:port,host:port/name[/db]`, the name being that of the master; for sentinels that ask for a password too, `?sentinelUser=…&sentinelPassword=…` |
/// | Cluster | `redis+cluster://[user:password@]host:port,host:port`: some of its nodes; the others are found. Several URLs of single servers mean the same |
///
/// `rediss` in place of `redis` means TLS. Users and passwords are percent-encoded.
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisConfig {
    /// Where the servers are.
    pub urls: Vec<String>,
    /// The certificates that the servers' are checked against, in PEM; `None` for the system's.
    pub root_certificates: Option<Vec<u8>>,
    /// Our certificate and key, in PEM, for servers that ask for one.
    pub client_certificate: Option<(Vec<u8>, Vec<u8>)>,
    /// What the names of all keys begin with, so that several deployments can share a server:
    /// `thredcore`. No braces.
    pub namespace: String,
    /// How many partitions threds are kept in: 16. Partitions spread the work over the masters of
    /// a cluster; the commits of one partition that are sent together are one script call, so
    /// fewer are cheaper. The number must never change for a namespace.
    pub partitions: u16,
    /// How long a server may take to answer: 5 s. After that the outcome is unknown, and the
    /// connection is replaced.
    pub response_limit: Duration,
    /// How long making a connection may take: 1 s.
    pub connect_limit: Duration,
    /// The longest pause between two tries to connect: 1 s. They begin at 10 ms and double.
    pub reconnect_pause: Duration,
    /// How many connections to each server requests share: 1. A server works on one thing at a
    /// time, so more help only if one task of ours cannot feed it.
    pub connections: usize,
    /// Whether servers that may lose what they have accepted are refused: true. See
    /// [`open`](crate::Connection::open) for what is asked of them.
    pub durable: bool,
    /// Whether a namespace that nobody has used yet is made: true. Without, opening it is an error,
    /// and nothing is written by that.
    pub create: bool,
    /// The [format](thredcore::format) that a new namespace is made in: the newest. For tests, and for
    /// deployments in which programs of the version before take part.
    pub make_format: Option<u32>,
    /// Whether a write counts only when replicas have it: `None`.
    pub wait: Option<Wait>,
    /// How many ended threds are kept, so that a redelivered event is recognized and the thred can
    /// be looked at: the latest 100,000 (about 80 MB), divided among the partitions; and those with
    /// unpublished entries.
    pub ended_threds: usize,
    /// How many steps of history are kept, with their events, log records and messages: the latest
    /// 100,000 (about 100 MB), divided among the partitions. A thred can be replayed from its start
    /// as long as its first step is among them. 0 keeps none.
    pub history_steps: usize,
    /// How large a commit may be: 64 MiB. Redis takes no text above 512 MB, and does nothing else
    /// while it reads one.
    pub max_commit_bytes: usize,
    /// How long it is known which events are settled: a day.
    pub receipts_time: Duration,
    /// How many of those are known at least, if there are more in that time: the latest
    /// 20,000,000. Each takes about 20 bytes; up to twice as many are held.
    pub receipts_capacity: u64,
    /// How long it is known that an event was among the dead letters: 31 days, a day more than they
    /// are kept.
    pub dead_receipts_time: Duration,
}

/// How many replicas must have a write before it counts. Without that, a failover may lose the
/// last writes of a master, though they were acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// How many replicas; at least 1.
    pub replicas: usize,
    /// How long they are waited for; then the outcome is unknown.
    pub limit: Duration,
}

impl RedisConfig {
    /// The servers at a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            root_certificates: None,
            client_certificate: None,
            namespace: "thredcore".into(),
            partitions: 16,
            response_limit: Duration::from_secs(5),
            connect_limit: Duration::from_secs(1),
            reconnect_pause: Duration::from_secs(1),
            connections: 1,
            durable: true,
            create: true,
            make_format: None,
            wait: None,
            ended_threds: 100_000,
            history_steps: 100_000,
            max_commit_bytes: 64 << 20,
            receipts_time: ReceiptRetention::DEFAULT_TIME,
            receipts_capacity: 20_000_000,
            dead_receipts_time: Duration::from_secs(31 * 24 * 3600),
        }
    }

    /// A cluster, some of whose nodes are at these URLs.
    pub fn cluster<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> Self {
        Self { urls: urls.into_iter().map(Into::into).collect(), ..Self::new("") }
    }

    /// Sets the certificates (PEM) that the servers' are checked against.
    #[must_use]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates = Some(pem.into());
        self
    }

    /// Sets our own certificate and its key (PEM).
    #[must_use]
    pub fn client_certificate(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// Sets what the names of all keys begin with.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Sets the number of partitions; at least 1.
    #[must_use]
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = partitions.max(1);
        self
    }

    /// Sets how long a server may take to answer.
    #[must_use]
    pub fn response_limit(mut self, limit: Duration) -> Self {
        self.response_limit = limit;
        self
    }

    /// Sets how long making a connection may take.
    #[must_use]
    pub fn connect_limit(mut self, limit: Duration) -> Self {
        self.connect_limit = limit;
        self
    }

    /// Sets the longest pause between two tries to connect.
    #[must_use]
    pub fn reconnect_pause(mut self, pause: Duration) -> Self {
        self.reconnect_pause = pause;
        self
    }

    /// Sets how many connections to each server requests share; at least 1.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// Sets whether servers that may lose what they have accepted are refused.
    #[must_use]
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Sets the format that a new namespace is made in; the nearest that this version writes.
    #[must_use]
    pub fn make_format(mut self, format: u32) -> Self {
        self.make_format = Some(format);
        self
    }

    /// Sets whether a namespace that nobody has used yet is made.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Has each write wait for replicas.
    #[must_use]
    pub fn wait(mut self, replicas: usize, limit: Duration) -> Self {
        self.wait = Some(Wait { replicas: replicas.max(1), limit });
        self
    }

    /// Sets how many ended threds are kept.
    #[must_use]
    pub fn ended_threds(mut self, threds: usize) -> Self {
        self.ended_threds = threds;
        self
    }

    /// Sets how many steps of history are kept.
    #[must_use]
    pub fn history_steps(mut self, steps: usize) -> Self {
        self.history_steps = steps;
        self
    }

    /// Sets how large a commit may be; at most 256 MiB.
    #[must_use]
    pub fn max_commit_bytes(mut self, bytes: usize) -> Self {
        self.max_commit_bytes = bytes.min(256 << 20);
        self
    }

    /// Sets how long it is known which events are settled.
    #[must_use]
    pub fn receipts_time(mut self, time: Duration) -> Self {
        self.receipts_time = time;
        self
    }

    /// Sets how many settled events are known at least; at least 1.
    #[must_use]
    pub fn receipts_capacity(mut self, receipts: u64) -> Self {
        self.receipts_capacity = receipts.max(1);
        self
    }

    /// Sets how long it is known that an event was among the dead letters.
    #[must_use]
    pub fn dead_receipts_time(mut self, time: Duration) -> Self {
        self.dead_receipts_time = time;
        self
    }
}

impl std::fmt::Debug for RedisConfig {
    /// Without the URLs: they may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisConfig")
            .field("namespace", &self.namespace)
            .field("partitions", &self.partitions)
            .field("durable", &self.durable)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
