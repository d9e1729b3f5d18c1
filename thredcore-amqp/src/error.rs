//! What can go wrong with a broker.

use std::time::Duration;

use thredcore::port::{PortError, PortErrorKind};

/// A failure of the adapter. Clones share their cause.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AmqpError {
    /// The address of a node cannot be read.
    #[error(
        "`{url}` is not an address of RabbitMQ: {reason}; write amqp://user:password@host:port/vhost"
    )]
    Url {
        /// The address, without its password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No node could be connected to.
    #[error(
        "cannot connect to RabbitMQ at {address}; check that it runs, the user, and the virtual host"
    )]
    Connect {
        /// The node that was tried last, as `host:port/vhost`.
        address: String,
        /// Why.
        #[source]
        source: Box<lapin::Error>,
    },
    /// A node did not answer while connecting.
    #[error("RabbitMQ at {address} did not answer within {limit:?}; check that it runs")]
    Silent {
        /// The node.
        address: String,
        /// The time limit.
        limit: Duration,
    },
    /// A connection or channel was closed. What was under way may or may not have been done.
    #[error("the connection to RabbitMQ was lost")]
    Lost {
        /// Why.
        #[source]
        source: Box<lapin::Error>,
    },
    /// A message was not confirmed in time. It may or may not be in its queue.
    #[error("RabbitMQ did not confirm within {0:?}")]
    Unconfirmed(Duration),
    /// The broker did not answer in time. What was asked may or may not have been done.
    #[error("RabbitMQ did not answer within {0:?}")]
    Unanswered(Duration),
    /// Other calls have taken all channels, and have not given one back in time.
    #[error("{channels} calls publish already, and none was done within {limit:?}")]
    Occupied {
        /// How many there are.
        channels: usize,
        /// The time limit.
        limit: Duration,
    },
    /// An item is larger than what is taken.
    #[error("{bytes} bytes are more than the {limit} that an item may have")]
    TooLarge {
        /// Its size as JSON.
        bytes: usize,
        /// What is taken.
        limit: usize,
    },
    /// A topic has as much as it may hold.
    #[error("the topic `{topic}` is full: {capacity} messages wait there")]
    Full {
        /// The topic.
        topic: String,
        /// How many it may hold.
        capacity: usize,
    },
    /// A topic is in use.
    #[error("the topic `{topic}` has {consumers} consumers; stop them first")]
    InUse {
        /// The topic.
        topic: String,
        /// How many there are.
        consumers: u32,
    },
    /// Commands or messages travel in a queue, so that others must not publish there.
    #[error(
        "the queue `{0}` is the engine's own, where no others may publish; \
         take another queue for an ingress"
    )]
    NotAnIngress(String),
    /// Another process does something that only one may do.
    #[error("another process holds `{0}`; try again when it is done")]
    Locked(String),
    /// A message had nowhere to go.
    #[error(
        "no queue is bound to the exchange `{exchange}` with the key `{key}`; bind one, or let the adapter declare it"
    )]
    Unroutable {
        /// The exchange.
        exchange: String,
        /// The routing key.
        key: String,
    },
    /// A queue did not take a message.
    #[error("a queue of `{exchange}` with the key `{key}` refused the message; it is full or gone")]
    Refused {
        /// The exchange.
        exchange: String,
        /// The routing key.
        key: String,
    },
    /// The broker has taken a queue away from its consumers.
    #[error("the queue `{0}` was deleted, or its node is gone")]
    Gone(String),
    /// A message was not sent because an earlier one failed.
    #[error("an earlier message of the batch failed")]
    NotTried,
    /// A message was sent, but does not count as sent because an earlier one of its topic failed.
    #[error("an earlier message of the topic failed")]
    Overtaking,
    /// An exchange or queue is missing, or is not what it should be.
    #[error("the {what} `{name}` is missing or is declared otherwise; {remedy}")]
    Topology {
        /// `exchange` or `queue`.
        what: &'static str,
        /// Its name.
        name: String,
        /// How to mend it.
        remedy: &'static str,
        /// What the broker said.
        #[source]
        source: Box<lapin::Error>,
    },
    /// The queues that exist were made for another number of partitions.
    #[error(
        "the queues of `{namespace}` are for {found} partitions than {configured}; configure all processes alike, or delete the empty queues"
    )]
    Partitions {
        /// The namespace.
        namespace: String,
        /// `more` or `fewer`.
        found: &'static str,
        /// How many were configured.
        configured: u16,
    },
    /// A name of an exchange or a queue, or a topic, is too long for AMQP.
    #[error("the name `{0}` is longer than 255 bytes; choose a shorter namespace or topic")]
    Name(String),
    /// Something cannot be written as JSON.
    #[error("cannot write as JSON: {0}")]
    Json(String),
    /// Another process looks through the dead letters.
    #[error("the dead letters in `{0}` are in use by another process; try again when it is done")]
    Busy(String),
    /// The adapter has been closed.
    #[error("the queues are closed")]
    Closed,
}

impl AmqpError {
    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        let is_lasting = matches!(self, Self::Topology { .. } | Self::Partitions { .. });
        let kind = self.kind();
        !is_lasting && !matches!(kind, PortErrorKind::Rejected | PortErrorKind::Closed)
    }

    /// What follows for the port.
    pub(crate) fn kind(&self) -> PortErrorKind {
        match self {
            Self::Lost { .. } | Self::Unconfirmed(_) | Self::Unanswered(_) | Self::Overtaking => {
                PortErrorKind::Unknown
            }
            Self::Url { .. }
            | Self::Name(_)
            | Self::Json(_)
            | Self::TooLarge { .. }
            | Self::InUse { .. }
            | Self::NotAnIngress(_) => PortErrorKind::Rejected,
            Self::Full { .. } => PortErrorKind::Full,
            Self::Closed => PortErrorKind::Closed,
            // A missing queue is nothing that the item has done: it waits until there is one.
            _ => PortErrorKind::Unavailable,
        }
    }

    /// Whether the item is to blame, so that others are not concerned.
    pub(crate) fn is_own_fault(&self) -> bool {
        self.kind() == PortErrorKind::Rejected
    }

    /// As the error of a port's operation.
    pub(crate) fn at(self, operation: &'static str) -> PortError {
        PortError::new(operation, self.kind(), self)
    }

    /// Whether the broker says that an exchange or queue is not there.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::Unroutable { .. } | Self::Topology { .. } => true,
            Self::Lost { source } => is_not_found(source),
            _ => false,
        }
    }
}

/// Whether the broker closed a channel because something is not there.
pub(crate) fn is_not_found(error: &lapin::Error) -> bool {
    const NOT_FOUND: u16 = 404;
    has_code(error, NOT_FOUND)
}

/// Whether the broker closed a channel for this reason.
pub(crate) fn has_code(error: &lapin::Error, code: u16) -> bool {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => error.get_id() == code,
        _ => false,
    }
}

impl From<lapin::Error> for AmqpError {
    fn from(source: lapin::Error) -> Self {
        Self::Lost { source: Box::new(source) }
    }
}
