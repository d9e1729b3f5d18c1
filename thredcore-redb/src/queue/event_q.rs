//! What comes in.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use thredcore::{
    memory::MemoryEventQ,
    port::{DeadLetter, DeadLetterFilter, Delivery, DeliveryTag, EventQ, Inbound, PortError},
};

use super::{SUSPECT, buried, numbers, until_closed};
use crate::{
    journal::{Journal, What},
    segments::Body,
    storage::texts,
    tables::Queue,
};

/// An [`EventQ`] in a directory.
///
/// Published items are handed out when they are durable. Acknowledging does not wait for the disk:
/// after a crash the last acknowledged items may come again. An item that has been handed out
/// before comes alone, and its attempt is durable before it comes; so one that kills the process
/// is found out, and no other is taken for it.
pub struct RedbEventQ {
    pub(crate) journal: Arc<Journal>,
}

impl RedbEventQ {
    fn inner(&self) -> &MemoryEventQ {
        &self.journal.shared.event_q
    }

    /// Takes nothing more; consumers get what is in the queue, and
    /// [`Closed`](thredcore::port::PortErrorKind::Closed) once all of that is acknowledged.
    pub fn close(&self) {
        self.inner().close();
    }

    /// How many dead letters were dropped for want of room since the directory was opened.
    pub fn dropped_dead_letters(&self) -> u64 {
        self.inner().dropped_dead_letters()
    }

    async fn add(
        &self,
        operation: &'static str,
        items: Vec<Inbound>,
        redriven: Vec<u64>,
    ) -> Result<(), PortError> {
        if self.inner().is_closed() {
            return Err(PortError::closed(operation));
        }
        let with_text =
            |item: Inbound| serde_json::to_vec(&item).map(|text| (item, Body::new(text)));
        let items = items.into_iter().map(with_text).collect::<Result<Vec<_>, _>>();
        let items = items.map_err(texts::unwritable(operation))?;
        self.journal.write(operation, What::Publish { items, redriven }).await.map(drop)
    }
}

#[async_trait]
impl EventQ for RedbEventQ {
    fn partitions(&self) -> u16 {
        self.inner().partitions()
    }

    async fn room(&self) -> Result<(), PortError> {
        until_closed(&self.journal.shared, "publish events", self.inner().room()).await
    }

    async fn publish(&self, items: Vec<Inbound>) -> Result<(), PortError> {
        match items.is_empty() {
            true => Ok(()),
            false => self.add("publish events", items, vec![]).await,
        }
    }

    async fn receive(
        &self,
        partition: u16,
        max: usize,
    ) -> Result<Vec<Delivery<Inbound>>, PortError> {
        let received = self.inner().receive(partition, max);
        let batch = until_closed(&self.journal.shared, "receive events", received).await?;
        if batch.iter().all(|delivery| delivery.attempt < SUSPECT) {
            return Ok(batch);
        }
        let tags: Vec<_> = batch.iter().map(|delivery| delivery.tag).collect();
        let attempts = self.inner().orders(&tags);
        let guard = GiveBack { queue: self.inner(), tags };
        let what = What::Tried { queue: Queue::Events, attempts };
        self.journal.write("receive events", what).await?;
        guard.keep();
        Ok(batch)
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        let done = self.inner().finish(tags);
        if done.is_empty() {
            return Ok(());
        }
        let tried = done.iter().filter(|kept| kept.attempts >= SUSPECT);
        let tried = tried.map(|kept| kept.order).collect();
        let orders = done.iter().map(|kept| kept.order).collect();
        let what = What::Left { queue: Queue::Events, orders, tried };
        self.journal.defer("acknowledge events", what)?;
        self.journal.breathe().await;
        Ok(())
    }

    async fn nack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        self.inner().nack(tags).await
    }

    async fn dead_letter(&self, tag: DeliveryTag, reason: &str) -> Result<(), PortError> {
        match self.inner().bury(tag, reason) {
            None => Ok(()),
            Some(one) => self.journal.defer("dead-letter", buried(Queue::Events, &one)?),
        }
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Inbound>>, PortError> {
        self.inner().dead_letters(filter).await
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        let letters = self.inner().exhume(filter);
        if letters.is_empty() {
            return Ok(0);
        }
        let items = letters.iter().map(|letter| letter.payload.clone()).collect();
        let added = self.add("redrive events", items, numbers(&letters)).await;
        let count = letters.len();
        // A call that is given up leaves them to the next start, in one place or the other.
        added.inspect_err(|_| self.inner().restore_dead(letters)).map(|()| count)
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        let letters = self.inner().exhume(filter);
        if letters.is_empty() {
            return Ok(0);
        }
        let count = letters.len();
        let what = What::Discard(Queue::Events, numbers(&letters));
        let gone = self.journal.write("discard events", what).await;
        gone.inspect_err(|_| self.inner().restore_dead(letters)).map(|_| count)
    }

    async fn depth(&self) -> Result<usize, PortError> {
        self.inner().depth().await
    }
}

/// Gives items back when the call that was to hand them out ends early.
struct GiveBack<'q> {
    queue: &'q MemoryEventQ,
    tags: Vec<DeliveryTag>,
}

impl GiveBack<'_> {
    fn keep(mut self) {
        self.tags.clear();
    }
}

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        if !self.tags.is_empty() {
            self.queue.give_back(&self.tags);
        }
    }
}

impl fmt::Debug for RedbEventQ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbEventQ").finish_non_exhaustive()
    }
}
