//! The storage: threds and all that must change together with them.

mod facts;
mod forward;
mod limits;
mod patterns;
mod query;
mod records;
mod threds;

pub use facts::Facts;
#[doc(hidden)]
pub use forward::names as forwarded;
pub use limits::{Lease, LeaseStore, LimitStore, Reservation, Reserved};
pub use patterns::{PatternStore, StoredPattern};
pub use query::{ThredPage, ThredQuery};
pub use records::{History, LogRecord, LogType, RecordStore};
pub use threds::{
    Commit, Committed, Due, Loaded, OutboxEntry, Outgoing, PendingOutbox, ThredStore, Timer,
};

/// All that the engine keeps. Implemented by whatever implements its parts.
pub trait Storage: ThredStore + RecordStore + LimitStore + LeaseStore + PatternStore {}

impl<S: ThredStore + RecordStore + LimitStore + LeaseStore + PatternStore + ?Sized> Storage for S {}
