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
//! | `{namespace}.dead` | direct exchange of the dead letters; routing key: the queue's name |
//! | `{namespace}.dead.events`, `{namespace}.dead.messages` | quorum queues |
//!
//! The adapter declares all of it when it is first used, and again when the broker says that it is
//! gone. With [`Declare::No`] it declares nothing, and the names can be those of what is there.
//! Payloads are JSON: a [`Message`](thredlib::Message); an
//! [`Inbound`](thredcore::port::Inbound), or a bare [`Event`](thredlib::Event) that another
//! program has published to a partition.
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
//! - While the broker is short of memory or disk, publishing waits. Receiving and acknowledging go
//!   on, over a connection of their own.
//! - An item is dead-lettered by whoever asks for it, never by the broker's delivery limit.
//!
//! RabbitMQ closes a channel with an item that is not acknowledged for 30 minutes (its
//! `consumer_timeout`); the item comes again then.

mod balance;
mod cargo;
mod config;
mod consuming;
mod dead_letters;
mod depth;
mod error;
mod event_q;
mod gauge;
mod inflow;
mod link;
mod message_q;
mod publisher;
mod pump;
mod queues;
mod topology;
mod tries;

pub use config::{AmqpConfig, Declare};
pub use depth::QueueDepth;
pub use error::AmqpError;
pub use event_q::AmqpEventQ;
pub use message_q::AmqpMessageQ;
pub use queues::AmqpQueues;
