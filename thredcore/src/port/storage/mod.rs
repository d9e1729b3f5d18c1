//! The storage: threds and all that must change together with them.

mod facts;
mod forward;
mod limits;
mod patterns;
mod quarantine;
mod query;
mod receipts;
mod records;
mod size;
mod threds;

pub use facts::Facts;
#[doc(hidden)]
pub use forward::names as forwarded;
pub use limits::{Lease, LeaseStore, LimitStore, Reservation, Reserved};
pub use patterns::{PatternStore, StoredPattern};
pub use quarantine::{Quarantine, Unreadable};
pub use query::{ThredCount, ThredPage, ThredQuery};
pub use receipts::{Receipt, ReceiptRetention, Settlement, Unmoved};
pub use records::{History, LogRecord, LogType, RecordStore, UnmovedPage};
pub(crate) use size::json_size;
pub use threds::{
    Cleared, Commit, Committed, Due, Ended, Loaded, OutboxEntry, Outgoing, ParkedTopic,
    PendingOutbox, ThredStore, Timer,
};

/// All that the engine keeps. Implemented by whatever implements its parts.
pub trait Storage:
    ThredStore + RecordStore + LimitStore + LeaseStore + PatternStore + Quarantine
{
}

impl<S> Storage for S where
    S: ThredStore + RecordStore + LimitStore + LeaseStore + PatternStore + Quarantine + ?Sized
{
}
