//! Events and messages of [thredcore] over RabbitMQ.
//!
//! [`AmqpQueues`] gives an [`EventQ`](thredcore::port::EventQ) and a
//! [`MessageQ`](thredcore::port::MessageQ) over one broker, 3.10 or newer:
//!
//! ```no_run
//! use thredcore_amqp::{AmqpConfig, AmqpQueues};
//!
//! # async fn connect() -> Result<(), thredcore_amqp::AmqpError> {
//! let config = AmqpConfig::new("amqp://guest:guest@127.0.0.1:5672/%2f")?.namespace("orders");
//! let queues = AmqpQueues::connect(config).await?;
//! // An engine takes `queues.event_q` and `queues.message_q`.
//! for depth in queues.depths().await? {
//!     println!("{}: {} waiting, {} held here", depth.queue, depth.waiting, depth.held);
//! }
//! queues.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What is at the broker
//!
//! | name | what |
//! |---|---|
//! | `{namespace}.events` | direct exchange; routing key: the partition's number |
//! | `{namespace}.events.{partition}` | quorum queue with a single active consumer |
//! | `{namespace}.tries.{partition}` | quorum queue of one message: who has had which suspect |
//! | `{namespace}.engines` | classic queue, always empty; its consumers are the engines |
//! | `{namespace}.messages` | direct exchange; routing key: the topic |
//! | `{namespace}.messages.{topic}` | quorum queue |
//! | `{namespace}.delayed.{minutes}.{topic}` | quorum queue: messages given back for more than a minute |
//! | `{namespace}.tries.of.{topic}` | quorum queue of one message: who has had which suspect |
//! | `{namespace}.topics` | quorum queue with a message for each topic |
//! | `{namespace}.dead` | direct exchange of the dead letters; routing key: the queue's name |
//! | `{namespace}.dead.events`, `{namespace}.dead.messages` | quorum queues |
//! | `{namespace}.dead.dropped` | quorum queue: dead letters that the broker drops, to be counted |
//! | `{namespace}.lock.…` | exclusive queues, always empty: who has declared one does what only one may |
//! | `{namespace}.ingresses` | quorum queue with a message for each ingress queue |
//! | an [ingress](AmqpIngress) queue | direct exchange and quorum queue, unless there is such a queue |
//! | `….dead`, `….tries` of an ingress queue | quorum queues |
//!
//! The adapter declares all of it when it is first used, and again when the broker says that it is
//! gone. A queue that exists with other limits is used as it is, with a warning that says what
//! differs; a policy may change them. With [`Declare::No`] it declares nothing, and the names can be
//! those of what is there. Payloads are JSON: an [`Inbound`](thredcore::port::Inbound) in a
//! partition, a [`Message`](thredlib::Message) on a topic.
//!
//! Other programs publish events to an [ingress](AmqpIngress) queue. Commands travel in the
//! partitions: what somebody else puts there than an [engine](AmqpConfig::engine_users) is not taken.
//! The broker should not let others write to `{namespace}.events` and the queues behind it either.
//!
//! # What is guaranteed
//!
//! - What is published is confirmed by the broker: on disk at a majority of the queue's nodes.
//!   Without an answer its fate is [unknown](thredcore::port::PortErrorKind::Unknown). A message
//!   that no queue is bound for is an error, not lost.
//! - Delivery is at least once. An acknowledgement belongs to the channel that its item came by;
//!   when that is lost the acknowledgement is dropped, and the item comes again.
//! - Items of a partition are delivered in order, to one process at a time, also when another
//!   takes over.
//! - While the broker is short of memory or disk, publishing waits, up to
//!   [a minute](AmqpConfig::alarm_timeout) a call. Receiving and acknowledging go on, over a
//!   connection of their own.
//! - No call waits for ever for a broker that does not answer, and [closing](AmqpQueues::close) ends
//!   within a stated time.
//! - An item is dead-lettered by whoever asks for it, never by the broker's delivery limit. Dead
//!   letters are kept for [30 days](AmqpConfig::dead_letters_time), up to
//!   [a gigabyte](AmqpConfig::dead_letters_bytes); what the broker drops is
//!   [counted](AmqpQueues::dropped_dead_letters), with a warning.
//!
//! RabbitMQ closes a channel with an item that is not acknowledged for 30 minutes (its
//! `consumer_timeout`); the item comes again then.

mod config;
mod names;

mod answer;
mod declare;
mod error;
mod link;
mod lock;
mod topology;

mod cargo;
mod counts;
mod publisher;

mod balance;
mod consuming;
mod depth;
mod gauge;
mod inflow;
mod pump;
mod tries;

mod browse;
mod dead_letters;
mod dropped;
mod letter;

mod delays;
mod idle;
mod list;
mod topics;

mod event_q;
mod ingress;
mod message_q;
mod queues;

pub use config::{AmqpConfig, Declare};
pub use depth::QueueDepth;
pub use error::AmqpError;
pub use event_q::AmqpEventQ;
pub use ingress::{
    Admission, AmqpIngress, Door, Incoming, IngressConfig, IngressCounts, Principals, Submission,
};
pub use message_q::AmqpMessageQ;
pub use queues::AmqpQueues;
