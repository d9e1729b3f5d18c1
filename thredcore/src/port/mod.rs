//! The ports: what the engine needs from the world, as traits.
//!
//! All ports speak in batches; one is a batch of one. A write is one value and is done whole or
//! not at all. An adapter crate implements them and proves it with the
//! conformance suite.

mod accepted;
mod address;
mod clock;
mod error;
mod event_q;
mod handler;
mod message_q;
mod queue;
mod storage;

pub use accepted::{Accepted, Redriven};
pub use address::{AddressResolver, Directory, FixedDirectory};
pub use clock::{Clock, SystemClock};
pub(crate) use error::describe;
pub use error::{PortError, PortErrorKind};
pub use event_q::{Command, EventQ, Inbound, Start};
pub use handler::{AgentContext, HandlerError, MessageHandler};
pub use message_q::{MessageQ, Returned, Routed, TopicBacklog};
pub use queue::{Backlog, DeadLetter, DeadLetterFilter, Death, Delivery, DeliveryTag, REJECTED};
#[doc(hidden)]
pub use storage::forwarded;
pub(crate) use storage::json_size;
pub use storage::{
    Cleared, Commit, Committed, Due, Ended, Facts, History, Lease, LeaseStore, LimitStore, Loaded,
    LogRecord, LogType, OutboxEntry, Outgoing, ParkedTopic, PatternStore, PendingOutbox,
    Quarantine, Receipt, ReceiptRetention, RecordStore, Reservation, Reserved, Settlement, Storage,
    StoredPattern, ThredCount, ThredPage, ThredQuery, ThredStore, Timer, Unmoved, UnmovedPage,
    Unreadable,
};
