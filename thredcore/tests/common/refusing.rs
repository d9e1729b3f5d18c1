//! An event queue that refuses some items for good.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use thredcore::{
    memory::MemoryEventQ,
    port::{
        Backlog, DeadLetter, DeadLetterFilter, Death, Delivery, DeliveryTag, EventQ, Inbound,
        PortError, PortErrorKind, Quarantine, Unreadable,
    },
};

/// Refuses what is meant, and its dead letters too if told so.
pub(crate) struct Refusing {
    inner: MemoryEventQ,
    meant: fn(&Inbound) -> bool,
    pub(crate) letters_too: AtomicBool,
}

impl Refusing {
    pub(crate) fn new(meant: fn(&Inbound) -> bool) -> Self {
        Self { inner: MemoryEventQ::default(), meant, letters_too: AtomicBool::new(false) }
    }

    fn check<'i>(&self, items: impl IntoIterator<Item = &'i Inbound>) -> Result<(), PortError> {
        if items.into_iter().any(self.meant) {
            Err(PortError::new("publish events", PortErrorKind::Rejected, "too odd"))
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl EventQ for Refusing {
    fn partitions(&self) -> u16 {
        self.inner.partitions()
    }

    fn max_item_bytes(&self) -> usize {
        self.inner.max_item_bytes()
    }

    async fn room(&self) -> Result<(), PortError> {
        self.inner.room().await
    }

    async fn publish(&self, items: Vec<Inbound>) -> Result<(), PortError> {
        self.check(&items)?;
        self.inner.publish(items).await
    }

    async fn receive(
        &self,
        partition: u16,
        max: usize,
    ) -> Result<Vec<Delivery<Inbound>>, PortError> {
        self.inner.receive(partition, max).await
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        self.inner.ack(tags).await
    }

    async fn nack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        self.inner.nack(tags).await
    }

    async fn dead_letter(&self, tag: DeliveryTag, death: &Death) -> Result<bool, PortError> {
        self.inner.dead_letter(tag, death).await
    }

    async fn bury(&self, items: Vec<(Inbound, String)>) -> Result<(), PortError> {
        if self.letters_too.load(Ordering::Relaxed) {
            self.check(items.iter().map(|(item, _)| item))?;
        }
        self.inner.bury(items).await
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Inbound>>, PortError> {
        self.inner.dead_letters(filter).await
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.inner.redrive(filter).await
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.inner.discard(filter).await
    }

    async fn depth(&self) -> Result<usize, PortError> {
        self.inner.depth().await
    }

    async fn backlog(&self) -> Result<Vec<Backlog>, PortError> {
        self.inner.backlog().await
    }
}

#[async_trait]
impl Quarantine for Refusing {
    async fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        self.inner.unreadable(limit).await
    }

    async fn move_out(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        self.inner.move_out(limit).await
    }
}
