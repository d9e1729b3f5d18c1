//! Where the brokers are, what the queues are called, and how much is held at one time.

use std::{sync::Arc, time::Duration};

use lapin::uri::AMQPUri;
use thredcore::port::{Clock, SystemClock};

use crate::AmqpError;

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
    pub(crate) connect_timeout: Duration,
    pub(crate) confirm_timeout: Duration,
    pub(crate) first_pause: Duration,
    pub(crate) longest_pause: Duration,
    pub(crate) rebalance: Duration,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What exchanges and queues are called. `{namespace}` is filled in first, then `{partition}` or
/// `{topic}`.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) namespace: String,
    pub(crate) event_exchange: String,
    pub(crate) event_queue: String,
    pub(crate) tries_queue: String,
    pub(crate) engines_queue: String,
    pub(crate) message_exchange: String,
    pub(crate) message_queue: String,
    pub(crate) dead_exchange: String,
    pub(crate) dead_events: String,
    pub(crate) dead_messages: String,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            namespace: "thredcore".into(),
            event_exchange: "{namespace}.events".into(),
            event_queue: "{namespace}.events.{partition}".into(),
            tries_queue: "{namespace}.tries.{partition}".into(),
            engines_queue: "{namespace}.engines".into(),
            message_exchange: "{namespace}.messages".into(),
            message_queue: "{namespace}.messages.{topic}".into(),
            dead_exchange: "{namespace}.dead".into(),
            dead_events: "{namespace}.dead.events".into(),
            dead_messages: "{namespace}.dead.messages".into(),
        }
    }
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
            connect_timeout: Duration::from_secs(5),
            confirm_timeout: Duration::from_secs(30),
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

    /// With so many messages waiting on a topic its publishers wait; at least 1. Default 65,536.
    /// What other processes publish at the same time may go over it.
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
    /// Default 64. Those that wait for a delay count.
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

    /// How long connecting to a node may take. Default 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
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
        Some((front, host)) if scheme.is_empty() => match front.is_empty() {
            true => host.to_owned(),
            false => format!("…@{host}"),
        },
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
