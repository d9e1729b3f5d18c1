//! Where the brokers are, what the queues are called, and how much is held at one time.

use std::{sync::Arc, time::Duration};

use lapin::uri::{AMQPUri, SASLMechanism};
use thredcore::port::{Clock, SystemClock};

use crate::{AmqpError, names::Names};

/// Who makes the exchanges and queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Declare {
    /// The adapter; what exists already must be alike.
    #[default]
    Yes,
    /// Somebody else: the adapter declares nothing, and uses what the names say.
    No,
}

/// How the adapter uses RabbitMQ. Every bound has a default.
///
/// ```
/// use thredcore_amqp::AmqpConfig;
///
/// let config = AmqpConfig::new("amqp://guest:guest@one:5672/%2f,amqp://guest:guest@two:5672/%2f")?
///     .namespace("orders")
///     .partitions(32);
/// assert!(AmqpConfig::new("http://one").is_err());
/// # Ok::<(), thredcore_amqp::AmqpError>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct AmqpConfig {
    pub(crate) nodes: Vec<AMQPUri>,
    pub(crate) ca_certificate: Option<String>,
    pub(crate) declare: Declare,
    pub(crate) names: Names,
    pub(crate) partitions: u16,
    pub(crate) event_capacity: usize,
    pub(crate) message_capacity: usize,
    pub(crate) event_prefetch: u16,
    pub(crate) message_prefetch: u16,
    pub(crate) in_flight: usize,
    pub(crate) publish_channels: usize,
    pub(crate) delivery_limit: u32,
    pub(crate) max_item_bytes: usize,
    pub(crate) message_ttl: Option<Duration>,
    pub(crate) idle_expiry: Option<Duration>,
    pub(crate) dead_letters_time: Duration,
    pub(crate) dead_letters_bytes: u64,
    pub(crate) engine_users: Option<Vec<String>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) answer_timeout: Duration,
    pub(crate) confirm_timeout: Duration,
    pub(crate) alarm_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) first_pause: Duration,
    pub(crate) longest_pause: Duration,
    pub(crate) rebalance: Duration,
    pub(crate) clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for AmqpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nodes: Vec<_> = self.nodes.iter().map(address).collect();
        f.debug_struct("AmqpConfig")
            .field("nodes", &nodes)
            .field("declare", &self.declare)
            .field("names", &self.names)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

/// A node without its password.
pub(crate) fn address(node: &AMQPUri) -> String {
    format!("{}:{}/{}", node.authority.host, node.authority.port, node.vhost)
}

impl AmqpConfig {
    /// The nodes of a broker, separated by commas: each is tried in turn. `amqps://` is TLS; the
    /// path is the virtual host, `%2f` the one that is called `/`. A comma in a password is `%2c`.
    ///
    /// # Errors
    /// [`AmqpError::Url`] with what is wrong.
    pub fn new(urls: impl AsRef<str>) -> Result<Self, AmqpError> {
        let nodes = urls.as_ref().split(',').map(|url| node(url.trim())).collect::<Result<_, _>>();
        Ok(Self {
            nodes: nodes?,
            ca_certificate: None,
            declare: Declare::Yes,
            names: Names::default(),
            partitions: 16,
            event_capacity: 65_536,
            message_capacity: 65_536,
            event_prefetch: 256,
            message_prefetch: 64,
            in_flight: 512,
            publish_channels: 16,
            delivery_limit: 1_000_000_000,
            max_item_bytes: 15 << 20,
            message_ttl: None,
            idle_expiry: None,
            dead_letters_time: Duration::from_secs(30 * 24 * 3_600),
            dead_letters_bytes: 1 << 30,
            engine_users: None,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(10),
            confirm_timeout: Duration::from_secs(30),
            alarm_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(5),
            first_pause: Duration::from_millis(20),
            longest_pause: Duration::from_secs(2),
            rebalance: Duration::from_secs(5),
            clock: Arc::new(SystemClock),
        })
    }

    /// Adds a node, to be tried after the others.
    ///
    /// # Errors
    /// [`AmqpError::Url`] with what is wrong.
    pub fn url(mut self, url: impl AsRef<str>) -> Result<Self, AmqpError> {
        self.nodes.push(node(url.as_ref())?);
        Ok(self)
    }

    /// A certificate (PEM) that nodes are trusted by, besides those of the system.
    #[must_use]
    pub fn ca_certificate(mut self, pem: impl Into<String>) -> Self {
        self.ca_certificate = Some(pem.into());
        self
    }

    /// Who makes the exchanges and queues. Default [`Declare::Yes`].
    #[must_use]
    pub fn declare(mut self, declare: Declare) -> Self {
        self.declare = declare;
        self
    }

    /// What all names begin with, as long as they are not set. Default `thredcore`.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.names.namespace = namespace.into();
        self
    }

    /// The exchange that events are published to, with the partition's number as the routing key.
    /// Default `{namespace}.events`, a direct exchange.
    #[must_use]
    pub fn event_exchange(mut self, name: impl Into<String>) -> Self {
        self.names.event_exchange = name.into();
        self
    }

    /// The queues of the event partitions. Default `{namespace}.events.{partition}`.
    #[must_use]
    pub fn event_queue(mut self, name: impl Into<String>) -> Self {
        self.names.event_queue = name.into();
        self
    }

    /// The queues in which engines note what they are just about to try once more. Default
    /// `{namespace}.tries.{partition}`. With [`Declare::No`] they may be missing: then an item's
    /// attempts count the broker's returns up to two, and what this process has handed out.
    #[must_use]
    pub fn tries_queue(mut self, name: impl Into<String>) -> Self {
        self.names.tries_queue = name.into();
        self
    }

    /// The queue whose consumers are the engines: it never holds a message. Default
    /// `{namespace}.engines`.
    #[must_use]
    pub fn engines_queue(mut self, name: impl Into<String>) -> Self {
        self.names.engines_queue = name.into();
        self
    }

    /// The exchange that messages are published to, with the topic as the routing key. Default
    /// `{namespace}.messages`, a direct exchange.
    #[must_use]
    pub fn message_exchange(mut self, name: impl Into<String>) -> Self {
        self.names.message_exchange = name.into();
        self
    }

    /// The queues in which agents note which messages they are just about to try once more. Default
    /// `{namespace}.tries.of.{topic}`. With [`Declare::No`] they may be missing, as those of the
    /// partitions.
    #[must_use]
    pub fn topic_tries_queue(mut self, name: impl Into<String>) -> Self {
        self.names.topic_tries_queue = name.into();
        self
    }

    /// The queues in which messages wait that are given back for more than a minute: for 1, 4, 16,
    /// … minutes, one after the other. Default `{namespace}.delayed.{minutes}.{topic}`. With
    /// [`Declare::No`] they may be missing: then messages wait in the process.
    #[must_use]
    pub fn delay_queue(mut self, name: impl Into<String>) -> Self {
        self.names.delay_queue = name.into();
        self
    }

    /// The queue with the list of the topics. Default `{namespace}.topics`. With [`Declare::No`]
    /// it may be missing: then a process knows the topics that it has used.
    #[must_use]
    pub fn topics_queue(mut self, name: impl Into<String>) -> Self {
        self.names.topics_queue = name.into();
        self
    }

    /// The queue with the list of the [ingress](crate::AmqpIngress) queues. Default
    /// `{namespace}.ingresses`. With [`Declare::No`] it may be missing: then a process knows those
    /// that it has opened.
    #[must_use]
    pub fn ingresses_queue(mut self, name: impl Into<String>) -> Self {
        self.names.ingresses_queue = name.into();
        self
    }

    /// The queues of the topics. Default `{namespace}.messages.{topic}`.
    #[must_use]
    pub fn message_queue(mut self, name: impl Into<String>) -> Self {
        self.names.message_queue = name.into();
        self
    }

    /// The dead-letter exchange of all queues. Default `{namespace}.dead`, a direct exchange.
    #[must_use]
    pub fn dead_exchange(mut self, name: impl Into<String>) -> Self {
        self.names.dead_exchange = name.into();
        self
    }

    /// The queues of dead events and of dead messages; their names are their routing keys too.
    /// Default `{namespace}.dead.events` and `{namespace}.dead.messages`.
    #[must_use]
    pub fn dead_queues(mut self, events: impl Into<String>, messages: impl Into<String>) -> Self {
        self.names.dead_events = events.into();
        self.names.dead_messages = messages.into();
        self
    }

    /// How many partitions events are spread over, the same in all processes; at least 1.
    /// Default 16.
    #[must_use]
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = partitions.max(1);
        self
    }

    /// With so many items waiting there is no room for events from outside; at least 1. Default
    /// 65,536. What other processes publish at the same time may go over it.
    #[must_use]
    pub fn event_capacity(mut self, items: usize) -> Self {
        self.event_capacity = items.max(1);
        self
    }

    /// With so many messages waiting on a topic it is full, and takes no more; at least 1. Default
    /// 65,536. What other processes publish within a quarter of a second may go over it.
    #[must_use]
    pub fn message_capacity(mut self, messages: usize) -> Self {
        self.message_capacity = messages.max(1);
        self
    }

    /// How many items of a partition a process holds without having acknowledged them; at least
    /// 1. Default 256.
    #[must_use]
    pub fn event_prefetch(mut self, items: u16) -> Self {
        self.event_prefetch = items.max(1);
        self
    }

    /// How many messages of a topic a process holds without having acknowledged them; at least 1.
    /// Default 64. Those that wait for a delay of up to a minute count.
    #[must_use]
    pub fn message_prefetch(mut self, messages: u16) -> Self {
        self.message_prefetch = messages.max(1);
        self
    }

    /// How many messages of a call are sent before the first is confirmed; at least 1. Default
    /// 512.
    #[must_use]
    pub fn in_flight(mut self, messages: usize) -> Self {
        self.in_flight = messages.max(1);
        self
    }

    /// How many calls publish at one time, each on a channel of its own; at least 1. Default 16.
    #[must_use]
    pub fn publish_channels(mut self, channels: usize) -> Self {
        self.publish_channels = channels.max(1);
        self
    }

    /// After how many returns the broker takes an item out of circulation. Default 1,000,000,000,
    /// for the broker counts items that were merely held by a process that died, and would punish
    /// the innocent; the engine counts on its own.
    #[must_use]
    pub fn delivery_limit(mut self, returns: u32) -> Self {
        self.delivery_limit = returns;
        self
    }

    /// How large an item may be as JSON, in bytes. Default 15 MiB: a broker from version 4.0 on takes
    /// 16 MiB (`max_message_size`), and a dead letter is larger than its item. A larger one is
    /// refused before it is sent.
    #[must_use]
    pub fn max_item_bytes(mut self, bytes: usize) -> Self {
        self.max_item_bytes = bytes;
        self
    }

    /// How long a message waits on a topic before it goes to the dead letters as `EXPIRED`; up to 49
    /// days. What is delayed or handed out does not wait. Default `None`: as long as it takes. Given
    /// to the queues when they are made.
    #[must_use]
    pub fn message_ttl(mut self, limit: Option<Duration>) -> Self {
        self.message_ttl = limit.map(expressible);
        self
    }

    /// After how long a topic without consumers and without messages is removed. Default `None`:
    /// never.
    #[must_use]
    pub fn idle_expiry(mut self, limit: Option<Duration>) -> Self {
        self.idle_expiry = limit;
        self
    }

    /// How long dead letters are kept; up to 49 days. Default 30 days. Given to their queues when
    /// these are made; what is dropped is counted, with a warning.
    #[must_use]
    pub fn dead_letters_time(mut self, limit: Duration) -> Self {
        self.dead_letters_time = expressible(limit);
        self
    }

    /// How many bytes dead events, and how many dead messages, may take; the oldest are dropped. At
    /// least 64 KiB, default 1 GiB. Given to their queues when these are made; what is dropped is
    /// counted, with a warning.
    #[must_use]
    pub fn dead_letters_bytes(mut self, bytes: u64) -> Self {
        self.dead_letters_bytes = bytes.clamp(64 << 10, i64::MAX as u64);
        self
    }

    /// The users of the broker that processes with engines and agents connect as. What others put
    /// into a partition is not taken: commands travel there. Default: the users that the addresses
    /// of the nodes name, or, when a certificate says who connects, no check.
    #[must_use]
    pub fn engine_users<U: Into<String>>(mut self, users: impl IntoIterator<Item = U>) -> Self {
        self.engine_users = Some(users.into_iter().map(Into::into).collect());
        self
    }

    /// How long connecting to a node may take. Default 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long the broker may take to answer anything but a published message. Default 10 s. Then
    /// the connection is given up, and the next is made to another node, if there is one.
    #[must_use]
    pub fn answer_timeout(mut self, limit: Duration) -> Self {
        self.answer_timeout = limit;
        self
    }

    /// How long publishing waits while the broker takes nothing, for want of memory or disk. Default
    /// a minute; then the call fails, and may be made again.
    #[must_use]
    pub fn alarm_timeout(mut self, limit: Duration) -> Self {
        self.alarm_timeout = limit;
        self
    }

    /// How long closing may take in all, whatever the broker does. Default 5 s.
    #[must_use]
    pub fn close_timeout(mut self, limit: Duration) -> Self {
        self.close_timeout = limit;
        self
    }

    /// How long a confirm may take, the time of an alarm of the broker not counted. Default 30 s.
    #[must_use]
    pub fn confirm_timeout(mut self, limit: Duration) -> Self {
        self.confirm_timeout = limit;
        self
    }

    /// The pauses between tries to connect: the first, doubled with each failure up to the
    /// longest. Default 20 ms and 2 s.
    #[must_use]
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.first_pause = first;
        self.longest_pause = longest.max(first);
        self
    }

    /// How often engines even out the partitions among themselves; zero means never. Default 5 s.
    #[must_use]
    pub fn rebalance(mut self, every: Duration) -> Self {
        self.rebalance = every;
        self
    }

    /// Tells when an item was dead-lettered. Default the system's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

impl AmqpConfig {
    /// Whether a user may put something into a partition.
    pub(crate) fn is_engine(&self, user: Option<&str>) -> bool {
        match &self.engine_users {
            Some(users) => user.is_some_and(|user| users.iter().any(|it| it == user)),
            None if self.nodes.iter().any(has_certificate) => true,
            None => user.is_some_and(|it| {
                self.nodes.iter().any(|node| node.authority.userinfo.username == it)
            }),
        }
    }
}

impl AmqpConfig {
    /// Whether a user is surely an engine, so that it can say who had sent something.
    pub(crate) fn vouches(&self, user: Option<&str>) -> bool {
        let is_known = self.engine_users.is_some() || !self.nodes.iter().any(has_certificate);
        is_known && self.is_engine(user)
    }
}

/// Whether a certificate, not a name, says who connects.
pub(crate) fn has_certificate(node: &AMQPUri) -> bool {
    matches!(
        node.query.auth_mechanism,
        Some(SASLMechanism::External | SASLMechanism::Anonymous | SASLMechanism::RabbitCrDemo)
    )
}

/// What the broker can be told: milliseconds, in 32 bits.
fn expressible(limit: Duration) -> Duration {
    limit.clamp(Duration::from_millis(1), Duration::from_secs(49 * 24 * 3_600))
}

fn node(url: &str) -> Result<AMQPUri, AmqpError> {
    let mut node: AMQPUri = url.parse().map_err(|reason: String| {
        let shown = without_password(url);
        // It may repeat the address.
        let reason = reason.replace(url, &shown);
        AmqpError::Url { url: shown, reason }
    })?;
    node.query.heartbeat.get_or_insert(10);
    Ok(node)
}

/// An address without what may be a password. A part of one that has a comma in it looks like an
/// address of its own: so only what stands behind an `@` is a host.
fn without_password(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let user = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
    match rest.rsplit_once('@') {
        Some((front, host)) if scheme.is_empty() => {
            if front.is_empty() {
                host.to_owned()
            } else {
                format!("…@{host}")
            }
        }
        Some((front, host)) => format!("{scheme}{}@{host}", user(front)),
        None if scheme.is_empty() => "…".to_owned(),
        None => match rest.split_once(':') {
            Some((host, _)) => format!("{scheme}{host}:…"),
            None => url.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_passwords() {
        let error = AmqpConfig::new("amqp://ann:secret@host:x/vhost").unwrap_err().to_string();
        assert!(error.contains("amqp://ann@host:x/vhost"), "{error}");
        assert!(!error.contains("secret"), "{error}");
        let config = AmqpConfig::new("amqp://ann:secret@a:1/v, amqps://b").unwrap();
        let shown = format!("{config:?}");
        assert!(shown.contains("a:1/v") && shown.contains("b:5671//"), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn passwords_are_shown_nowhere() {
        for url in [
            "amqp://ann:secret@a:1/v",
            "http://ann:secret@host",
            "amqp://ann:secret@host:port",
            "amqp://ann:secret@@host:port",
            "amqp://ann:x/secret@host:port",
            "amqp://ann:secret,secret@host",
            "amqp://ann:x,secret",
            "amqp://ann:secret",
            "ann:secret@host",
            ":secret",
            "secret",
            "amqp://ann:secret@host/v/w",
            "amqp://ann:secret@host?heartbeat=x",
        ] {
            let shown = match AmqpConfig::new(url) {
                Ok(config) => format!("{config:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("secret"), "{url}: {shown}");
        }
    }
}
