//! Backends that fail at a chosen call: for tests that walk through every crash point.
//!
//! A run with [`Fault::counting`] tells how many calls of ports a test makes. Then the test is run
//! again for each of them, each time with a fault at that call, and must end the same.

mod commits;
mod faulty;

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::{Either, select};
use tokio::sync::Notify;

use crate::port::{Delivery, DeliveryTag, PortError, PortErrorKind};

pub use commits::Commits;
pub use faulty::Faulty;

/// What happens at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// Nothing is done; the caller hears [`PortErrorKind::Unavailable`].
    Before,
    /// It is done, but the answer is lost: the caller hears [`PortErrorKind::Unknown`].
    AnswerLost,
    /// Nothing is done, by this call or any later one: the caller hears
    /// [`PortErrorKind::Closed`].
    Crash,
    /// It is done, and then nothing more: the caller hears [`PortErrorKind::Closed`].
    CrashAfter,
    /// Nothing is done, and never will be: the caller hears [`PortErrorKind::Rejected`].
    Rejected,
    /// It is done, and then the process aborts: for engines in processes of their own.
    Abort,
}

impl FaultKind {
    /// All kinds that an engine must get over without a trace, to walk through.
    pub const ALL: [Self; 4] = [Self::Before, Self::AnswerLost, Self::Crash, Self::CrashAfter];
}

/// A fault at one call, counted over all ports that share it.
#[derive(Debug)]
pub struct Fault {
    /// The call, from 1; 0 for none.
    at: u64,
    kind: FaultKind,
    /// The only operation whose calls count; all of them, if there is none.
    operation: Option<Box<str>>,
    calls: AtomicU64,
    /// Told at the crash, for those who wait for an item.
    crashed: Notify,
}

impl Fault {
    /// Counts calls and fails none.
    pub fn counting() -> Arc<Self> {
        Self::at(0, FaultKind::Before)
    }

    /// A fault at a call, counted from 1.
    pub fn at(call: u64, kind: FaultKind) -> Arc<Self> {
        Arc::new(Self::new(call, kind, None))
    }

    /// A fault at a call of one operation, as `commit`, counted from 1.
    pub fn at_operation(operation: &str, call: u64, kind: FaultKind) -> Arc<Self> {
        Arc::new(Self::new(call, kind, Some(operation.into())))
    }

    fn new(at: u64, kind: FaultKind, operation: Option<Box<str>>) -> Self {
        Self { at, kind, operation, calls: AtomicU64::new(0), crashed: Notify::new() }
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Whether the fault has happened.
    pub fn has_struck(&self) -> bool {
        self.at > 0 && self.calls() >= self.at
    }

    /// What happens to the next call.
    fn strike(&self, operation: &str) -> Option<FaultKind> {
        if self.operation.as_deref().is_some_and(|only| only != operation) {
            return None;
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if self.at == 0 || call < self.at {
            return None;
        }
        if self.is_crash() {
            self.crashed.notify_waiters();
            return Some(if call == self.at { self.kind } else { FaultKind::Crash });
        }
        (call == self.at).then_some(self.kind)
    }

    fn is_crash(&self) -> bool {
        matches!(self.kind, FaultKind::Crash | FaultKind::CrashAfter)
    }

    fn error(operation: &'static str, kind: FaultKind) -> PortError {
        let kind = match kind {
            FaultKind::Before => PortErrorKind::Unavailable,
            FaultKind::AnswerLost => PortErrorKind::Unknown,
            FaultKind::Rejected => PortErrorKind::Rejected,
            FaultKind::Crash | FaultKind::CrashAfter => PortErrorKind::Closed,
            FaultKind::Abort => std::process::abort(),
        };
        PortError::new(operation, kind, "an injected fault")
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, PortError>>,
    ) -> Result<T, PortError> {
        match self.strike(operation) {
            None => call.await,
            Some(kind @ (FaultKind::Before | FaultKind::Crash | FaultKind::Rejected)) => {
                Err(Self::error(operation, kind))
            }
            Some(kind @ FaultKind::Abort) => {
                let _ = call.await;
                Err(Self::error(operation, kind))
            }
            Some(kind) => {
                call.await?;
                Err(Self::error(operation, kind))
            }
        }
    }

    /// Waiting for an item is no call: handing it out is. What was handed out to nobody is given
    /// back, as a broker does when the connection is gone.
    async fn receive<T, G>(
        &self,
        call: impl Future<Output = Result<Vec<Delivery<T>>, PortError>>,
        give_back: impl FnOnce(Vec<DeliveryTag>) -> G,
    ) -> Result<Vec<Delivery<T>>, PortError>
    where
        G: Future<Output = Result<(), PortError>>,
    {
        let mut crashed = pin!(self.crashed.notified());
        crashed.as_mut().enable();
        if self.has_struck() && self.is_crash() {
            return Err(Self::error("receive", FaultKind::Crash));
        }
        let batch = match select(pin!(call), crashed).await {
            Either::Left((batch, _)) => batch?,
            Either::Right(_) => return Err(Self::error("receive", FaultKind::Crash)),
        };
        match self.strike("receive") {
            None => Ok(batch),
            Some(kind @ FaultKind::Abort) => Err(Self::error("receive", kind)),
            Some(kind) => {
                give_back(batch.iter().map(|delivery| delivery.tag).collect()).await?;
                Err(Self::error("receive", kind))
            }
        }
    }

    async fn each<T>(
        &self,
        operation: &'static str,
        count: usize,
        call: impl Future<Output = Vec<Result<T, PortError>>>,
    ) -> Vec<Result<T, PortError>> {
        let fail = |kind| (0..count).map(|_| Err(Self::error(operation, kind))).collect();
        match self.strike(operation) {
            None => call.await,
            Some(kind @ (FaultKind::Before | FaultKind::Crash | FaultKind::Rejected)) => fail(kind),
            Some(kind) => {
                call.await;
                fail(kind)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use thredlib::Event;

    use super::*;
    use crate::{
        memory::{MemoryEventQ, MemoryStorage},
        port::{Accepted, EventQ, Inbound, Storage},
    };

    fn item() -> Inbound {
        Inbound::Event(Accepted::new(Event::builder("a", "erp").id("e").build(), 1))
    }

    #[tokio::test]
    async fn the_fault_strikes_once_among_all_ports() {
        let fault = Fault::at(2, FaultKind::Before);
        let queue = Faulty::new(Arc::new(MemoryEventQ::default()), fault.clone());
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::default());
        let storage: Arc<dyn Storage> = Arc::new(Faulty::new(storage, fault.clone()));
        assert!(queue.publish(vec![item()]).await.is_ok());
        assert!(!fault.has_struck());
        let error = storage.load(&["a".into()]).await.unwrap_err();
        assert_eq!(error.kind(), PortErrorKind::Unavailable);
        assert!(storage.load(&["a".into()]).await.is_ok());
        assert_eq!(fault.calls(), 3);
    }

    #[tokio::test]
    async fn a_fault_of_one_operation_leaves_the_others_alone() {
        let fault = Fault::at_operation("depth", 2, FaultKind::Before);
        let queue = Faulty::new(Arc::new(MemoryEventQ::default()), fault.clone());
        assert!(queue.depth().await.is_ok());
        assert!(queue.publish(vec![item()]).await.is_ok());
        assert_eq!(fault.calls(), 1);
        assert!(queue.depth().await.is_err());
        assert!(queue.depth().await.is_ok());
    }

    #[tokio::test]
    async fn what_is_rejected_is_not_done() {
        let inner = Arc::new(MemoryEventQ::default());
        let queue = Faulty::new(inner.clone(), Fault::at(1, FaultKind::Rejected));
        let error = queue.publish(vec![item()]).await.unwrap_err();
        assert_eq!(error.kind(), PortErrorKind::Rejected);
        assert_eq!(inner.depth().await.unwrap(), 0);
        assert!(queue.publish(vec![item()]).await.is_ok());
    }

    #[tokio::test]
    async fn a_lost_answer_does_not_undo_the_call() {
        let inner = Arc::new(MemoryEventQ::default());
        let queue = Faulty::new(inner.clone(), Fault::at(1, FaultKind::AnswerLost));
        let error = queue.publish(vec![item()]).await.unwrap_err();
        assert_eq!(error.kind(), PortErrorKind::Unknown);
        assert_eq!(inner.depth().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_crash_ends_calls_that_wait_and_all_later_ones() {
        let inner = Arc::new(MemoryEventQ::with_partitions(1));
        let fault = Fault::at(1, FaultKind::Crash);
        let queue = Arc::new(Faulty::new(inner.clone(), fault));
        let waiting = queue.clone();
        let waiting = tokio::spawn(async move { waiting.receive(0, 1).await });
        tokio::task::yield_now().await;
        for _ in 0..2 {
            let error = queue.publish(vec![item()]).await.unwrap_err();
            assert_eq!(error.kind(), PortErrorKind::Closed);
        }
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), PortErrorKind::Closed);
        assert_eq!(inner.depth().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_delivery_to_nobody_is_given_back() {
        let inner = Arc::new(MemoryEventQ::with_partitions(1));
        inner.publish(vec![item()]).await.unwrap();
        let queue = Faulty::new(inner, Fault::at(1, FaultKind::AnswerLost));
        assert!(queue.receive(0, 1).await.is_err());
        assert_eq!(queue.receive(0, 1).await.unwrap()[0].attempt, 2);
    }
}
