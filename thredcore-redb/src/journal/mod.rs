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
//! - publishing a message: an outbox still holds it, or the event that it answers is not
//!   acknowledged, since both are written later than the message.
//!
//! All others are answered when they are durable.

mod group;
mod load;
mod writer;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use thredcore::port::{
    Commit, Committed, Inbound, Lease, LogRecord, PortError, Reservation, Reserved, StoredPattern,
};
use thredlib::{Event, PatternId, ThredId};
use tokio::sync::{Notify, oneshot};

use crate::{error::Refusal, segments::Body, shared::Shared, tables::Queue};

pub(crate) use load::{StoredLetter, open};

/// The way to the writer. The last one to go closes the directory.
pub(crate) struct Journal {
    sender: mpsc::Sender<Op>,
    pub(crate) shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

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
    },
    /// Records about events that moved no thred.
    Unmoved(Vec<(LogRecord, Arc<Event>, Body)>),
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
    /// New messages by order; dead letters by number that they come from.
    Sent {
        messages: Vec<(u64, Body)>,
        redriven: Vec<u64>,
    },
    Buried {
        queue: Queue,
        order: u64,
        number: u64,
        letter: Body,
        lost: Option<u64>,
    },
    /// Attempts of items that have been handed out again.
    Tried {
        queue: Queue,
        attempts: Vec<(u64, u32)>,
    },
    /// Nothing: to know that all before is written.
    Flush,
    /// The end, with the attempts of what is handed out.
    Close(Vec<(Queue, u64, u32)>),
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
    /// Which of the records are new.
    New(Vec<bool>),
}

impl What {
    /// Whether it has been done in memory, so that it is never given up.
    fn is_deferred(&self) -> bool {
        matches!(
            self,
            Self::Cleared { .. }
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
            Self::Unmoved(records) => records.iter().map(|(_, _, body)| body.len() + 64).sum(),
            Self::PutPattern(_, body) => body.len(),
            Self::Cleared { whole, partly } => {
                ROW * whole.len() + partly.iter().map(|(_, ids)| ids.len() + ROW).sum::<usize>()
            }
            Self::Left { orders, tried, .. } => ROW * (orders.len() + tried.len()),
            Self::Sent { messages, .. } => messages.iter().map(|(_, body)| body.len() + ROW).sum(),
            Self::Buried { letter, .. } => letter.len(),
            Self::Tried { attempts, .. } => ROW * attempts.len(),
            Self::Discard(_, numbers) => ROW * numbers.len(),
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
        let (answer, answered) = oneshot::channel();
        let deferred = what.is_deferred().then(|| what.size());
        self.shared.deferred.bytes.fetch_add(deferred.unwrap_or(0), Ordering::AcqRel);
        let op = Op { what, answer: Some(answer) };
        self.sender.send(op).map_err(|_| Refusal::Closed)?;
        answered.await.unwrap_or(Err(Refusal::Closed))
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
        let is_much = || deferred.bytes.load(Ordering::Acquire) > self.shared.deferred_limit;
        while is_much() && !self.shared.is_closed() {
            let eased = deferred.eased.notified();
            if is_much() && !self.shared.is_closed() {
                eased.await;
            }
        }
    }

    /// Writes what is deferred and closes the directory.
    pub(crate) async fn close(&self) {
        _ = self.send(What::Close(self.shared.all_tried())).await;
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        _ = self.sender.send(Op { what: What::Close(self.shared.all_tried()), answer: None });
        if let Some(thread) = lock(&self.thread).take() {
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

/// A panic elsewhere leaves no half-made change: all writes follow their checks.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
