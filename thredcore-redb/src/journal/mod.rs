//! The one writer: what is to be written, in one order, many operations with one `fsync`.
//!
//! # What waits and what does not
//!
//! Operations are written in the order in which they were sent; a crash takes away an end of that
//! order and nothing in the middle. So an operation that only makes sense after another one need
//! not wait for the disk itself: if it is lost, so is all that came later, and the earlier ones
//! lead to it again. An operation is *deferred* (it is done in memory at once and written with a
//! later group) if its loss only repeats what may be repeated anyway:
//!
//! - clearing an outbox: the entries are published again, under the same ids;
//! - acknowledging: the item is delivered again;
//! - receipts, and records about events that changed nothing: the acknowledgement comes later, so
//!   that the item is delivered again;
//! - publishing a message: an outbox still holds it, or the event that it answers is not
//!   acknowledged, since both are written later than the message.
//!
//! All others are answered when they are durable.

mod files;
mod group;
mod load;
mod tidy;
mod writer;
mod written;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use parking_lot::Mutex;
use thredcore::port::{
    Commit, Committed, Inbound, Lease, LogType, PortError, Reservation, Reserved, StoredPattern,
    Unreadable,
};
use thredlib::{PatternId, ThredId};
use tokio::sync::{Notify, oneshot};

use crate::{
    error::Refusal,
    quarantine::{Find, Part, Spot, find},
    queue::{Tried, dead::NewLetter},
    receipts::Settled,
    segments::Body,
    shared::Shared,
    storage::{apart, failed},
    tables::Queue,
};

pub(crate) use load::open;

/// The way to the writer. The last one to go closes the directory.
pub(crate) struct Journal {
    sender: mpsc::Sender<Op>,
    pub(crate) shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Tells how an operation ended.
pub(crate) type Answered = oneshot::Receiver<Result<Outcome, Refusal>>;

/// Something to write, and who waits for it.
pub(crate) struct Op {
    pub(crate) what: What,
    pub(crate) answer: Option<oneshot::Sender<Result<Outcome, Refusal>>>,
}

/// What is to be written.
pub(crate) enum What {
    /// Changes of threds.
    Commit(Vec<Draft>),
    /// New items of the event queue; dead letters by number that they come from.
    Publish {
        items: Vec<(Inbound, Body)>,
        redriven: Vec<u64>,
        at: i64,
    },
    Reserve(Reservation),
    Release(Vec<(PatternId, ThredId)>),
    PutPattern(StoredPattern, Body),
    RemovePattern(PatternId),
    Acquire(Lease, i64),
    GiveBack {
        name: String,
        owner: String,
    },
    /// Dead letters by number that are gone.
    Discard(Queue, Vec<u64>),
    /// Ended threds that may go.
    Forget(Vec<ThredId>),
    /// What cannot be read and is to go.
    MoveOut(Vec<Spot>),
    /// What follows has been done in memory.
    Cleared {
        whole: Vec<u64>,
        partly: Vec<(u64, Body)>,
    },
    /// Items that are acknowledged; of some, attempts are kept.
    Left {
        queue: Queue,
        orders: Vec<u64>,
        tried: Vec<u64>,
    },
    /// Receipts, and records about events that changed nothing.
    Settle {
        unmoved: Vec<Recorded>,
        receipts: Settled,
    },
    /// New messages by order, with when they were published; dead letters by number that they come
    /// from.
    Sent {
        messages: Vec<(u64, i64, Body)>,
        redriven: Vec<u64>,
    },
    /// Items that have left a queue, new dead letters, and old ones that had to go.
    Buried {
        queue: Queue,
        orders: Vec<u64>,
        letters: Vec<NewLetter>,
        gone: Vec<u64>,
    },
    /// What has been tried with items that are handed out again or wait for long.
    Tried {
        queue: Queue,
        tried: Vec<(u64, Tried)>,
    },
    /// Nothing: to know that all before is written.
    Flush,
    /// The end, with what has been tried with items.
    Close(Vec<(Queue, u64, Tried)>),
}

/// A record about an event that changed nothing.
pub(crate) struct Recorded {
    pub(crate) decision: LogType,
    /// By what the record is known, and the event.
    pub(crate) marks: [[u8; 16]; 2],
    pub(crate) body: Body,
}

/// A commit with its texts, made by the caller: the writer thread has no time for that.
pub(crate) struct Draft {
    pub(crate) commit: Arc<Commit>,
    pub(crate) state: Body,
    pub(crate) step: Body,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    Committed(Vec<Committed>),
    Reserved(Reserved),
    Held(bool),
}

impl What {
    /// Whether it has been done in memory, so that it is never given up.
    fn is_deferred(&self) -> bool {
        matches!(
            self,
            Self::Cleared { .. }
                | Self::Settle { .. }
                | Self::Left { .. }
                | Self::Sent { .. }
                | Self::Buried { .. }
                | Self::Tried { .. }
        )
    }

    /// About how much memory it takes.
    fn size(&self) -> usize {
        const ROW: usize = 24;
        match self {
            Self::Commit(drafts) => {
                drafts.iter().map(|draft| draft.state.len() + draft.step.len() + 64).sum()
            }
            Self::Publish { items, .. } => items.iter().map(|(_, body)| body.len() + 32).sum(),
            Self::PutPattern(_, body) => body.len(),
            Self::Cleared { whole, partly } => {
                ROW * whole.len() + partly.iter().map(|(_, ids)| ids.len() + ROW).sum::<usize>()
            }
            Self::Left { orders, tried, .. } => ROW * (orders.len() + tried.len()),
            Self::Settle { unmoved, receipts } => {
                let records = unmoved.iter().map(|record| record.body.len() + 64);
                let Settled { settled, dead, not_dead, .. } = receipts;
                records.sum::<usize>() + ROW * (1 + settled.len() + dead.len() + not_dead.len())
            }
            Self::Sent { messages, .. } => {
                messages.iter().map(|(_, _, body)| body.len() + ROW).sum()
            }
            Self::Buried { letters, orders, gone, .. } => {
                let bodies = letters.iter().map(|letter| letter.body.len() + 64);
                bodies.sum::<usize>() + ROW * (orders.len() + gone.len())
            }
            Self::Tried { tried, .. } => ROW * tried.len(),
            Self::Discard(_, numbers) => ROW * numbers.len(),
            Self::Forget(ids) => ids.iter().map(|id| id.as_str().len() + ROW).sum(),
            _ => 128,
        }
    }
}

/// How much is deferred, and who waits for it to be written.
#[derive(Default)]
pub(crate) struct Deferred {
    bytes: AtomicUsize,
    eased: Notify,
}

impl Deferred {
    pub(crate) fn written(&self, bytes: usize) {
        if bytes > 0 {
            self.bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.eased.notify_waiters();
        }
    }
}

impl Journal {
    /// Sends an operation and waits until it is durable.
    pub(crate) async fn write(
        &self,
        operation: &'static str,
        what: What,
    ) -> Result<Outcome, PortError> {
        self.send(what).await.map_err(|refusal| refusal.port(operation))
    }

    async fn send(&self, what: What) -> Result<Outcome, Refusal> {
        self.sent(what)?.await.unwrap_or(Err(Refusal::Closed))
    }

    /// Sends an operation now; what comes tells when it is durable. May be called under a lock.
    pub(crate) fn sent(&self, what: What) -> Result<Answered, Refusal> {
        let (answer, answered) = oneshot::channel();
        let deferred = what.is_deferred().then(|| what.size());
        self.shared.deferred.bytes.fetch_add(deferred.unwrap_or(0), Ordering::AcqRel);
        let op = Op { what, answer: Some(answer) };
        self.sender.send(op).map_err(|_| Refusal::Closed)?;
        Ok(answered)
    }

    /// Sends an operation that has been done in memory; it is written in its order. May be called
    /// under a lock.
    pub(crate) fn defer(&self, operation: &'static str, what: What) -> Result<(), PortError> {
        debug_assert!(what.is_deferred());
        self.shared.deferred.bytes.fetch_add(what.size(), Ordering::AcqRel);
        let sent = self.sender.send(Op { what, answer: None });
        sent.map_err(|_| PortError::closed(operation))
    }

    /// Waits while too much is deferred.
    pub(crate) async fn breathe(&self) {
        let deferred = &self.shared.deferred;
        let is_much = || deferred.bytes.load(Ordering::Acquire) > self.shared.config.deferred_bytes;
        while is_much() && !self.shared.is_closed() {
            let eased = deferred.eased.notified();
            if is_much() && !self.shared.is_closed() {
                eased.await;
            }
        }
    }

    /// Looks for what cannot be read.
    pub(crate) async fn unreadable(
        &self,
        part: Part,
        limit: usize,
    ) -> Result<Vec<Unreadable>, PortError> {
        let finds = self.finds(part, limit).await?;
        Ok(finds.into_iter().map(|find| find.unreadable).collect())
    }

    async fn finds(&self, part: Part, limit: usize) -> Result<Vec<Find>, PortError> {
        let look = move |shared: &Shared| shared.read(|txn| find(txn, part, limit));
        apart(&self.shared, look).await?.map_err(failed("look for what cannot be read"))
    }

    /// Takes out what cannot be read.
    pub(crate) async fn move_out(
        &self,
        part: Part,
        limit: usize,
    ) -> Result<Vec<Unreadable>, PortError> {
        let finds = self.finds(part, limit).await?;
        if finds.is_empty() {
            return Ok(vec![]);
        }
        let (spots, unreadable) =
            finds.into_iter().map(|find| (find.spot, find.unreadable)).unzip();
        self.write("take out what cannot be read", What::MoveOut(spots)).await?;
        Ok(unreadable)
    }

    /// Writes what is deferred and closes the directory.
    pub(crate) async fn close(&self) {
        _ = self.send(What::Close(self.shared.all_tried())).await;
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        _ = self.sender.send(Op { what: What::Close(self.shared.all_tried()), answer: None });
        if let Some(thread) = self.thread.lock().take() {
            _ = thread.join();
        }
    }
}

/// Whether operations are refused, for those that are done in memory first.
#[derive(Default)]
pub(crate) struct Condition {
    pub(crate) full: AtomicBool,
    pub(crate) closed: AtomicBool,
    pub(crate) told: Notify,
}
