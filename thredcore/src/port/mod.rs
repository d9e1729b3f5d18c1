//! The ports: what the engine needs from the world, as traits.
//!
//! All ports speak in batches; one is a batch of one. A write is one value and is done whole or
//! not at all. An adapter crate implements them and proves it with the
//! conformance suite.

mod address;
mod clock;
mod error;
mod event_q;
mod handler;
mod message_q;
mod queue;
mod storage;

pub use address::{AddressResolver, Directory, FixedDirectory};
pub use clock::{Clock, SystemClock};
pub use error::{PortError, PortErrorKind};
pub use event_q::{Command, EventQ, Inbound, Start};
pub use handler::{AgentContext, HandlerError, MessageHandler};
pub use message_q::{MessageQ, Routed};
pub use queue::{DeadLetter, DeadLetterFilter, Delivery, DeliveryTag};
#[doc(hidden)]
pub use storage::forwarded;
pub use storage::{
    Commit, Committed, Due, Facts, History, Lease, LeaseStore, LimitStore, Loaded, LogRecord,
    LogType, OutboxEntry, Outgoing, PatternStore, PendingOutbox, RecordStore, Reservation,
    Reserved, Storage, StoredPattern, ThredPage, ThredQuery, ThredStore, Timer,
};
