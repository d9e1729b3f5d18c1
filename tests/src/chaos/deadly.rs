//! Events that end the process which works on them.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use thredcore::port::{
    Backlog, DeadLetter, DeadLetterFilter, Death, Delivery, DeliveryTag, EventQ, Inbound, PortError,
};
use thredlib::Event;

/// The type of the events that are deadly.
const DEADLY: &str = "chaos.deadly";

/// An event that is deadly.
pub fn deadly_event(number: usize) -> Event {
    Event::builder(DEADLY, "bob").id(format!("deadly {number}")).build()
}

/// A queue whose deadly events end the process when it is done with them, before it can say so: as
/// if it had died over them.
pub struct Deadly {
    queue: Arc<dyn EventQ>,
    out: Mutex<HashSet<DeliveryTag>>,
}

impl Deadly {
    /// Makes the events of a queue deadly that are to be.
    pub fn new(queue: Arc<dyn EventQ>) -> Self {
        Self { queue, out: Mutex::default() }
    }
}

thredcore::forward_store!(Quarantine for Deadly => queue);

#[async_trait]
impl EventQ for Deadly {
    fn max_item_bytes(&self) -> usize {
        self.queue.max_item_bytes()
    }

    fn partitions(&self) -> u16 {
        self.queue.partitions()
    }

    async fn room(&self) -> Result<(), PortError> {
        self.queue.room().await
    }

    async fn publish(&self, items: Vec<Inbound>) -> Result<(), PortError> {
        self.queue.publish(items).await
    }

    async fn receive(
        &self,
        partition: u16,
        max: usize,
    ) -> Result<Vec<Delivery<Inbound>>, PortError> {
        let batch = self.queue.receive(partition, max).await?;
        let is_deadly = |delivery: &&Delivery<Inbound>| match &delivery.payload {
            Inbound::Event(accepted) => &*accepted.event.event_type == DEADLY,
            Inbound::Command(_) => false,
        };
        let tags = batch.iter().filter(is_deadly).map(|delivery| delivery.tag);
        self.out.lock().unwrap_or_else(PoisonError::into_inner).extend(tags);
        Ok(batch)
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        {
            let out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
            if tags.iter().any(|tag| out.contains(tag)) {
                std::process::abort();
            }
        }
        self.queue.ack(tags).await
    }

    async fn nack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        self.queue.nack(tags).await
    }

    async fn dead_letter(&self, tag: DeliveryTag, death: &Death) -> Result<(), PortError> {
        self.queue.dead_letter(tag, death).await
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Inbound>>, PortError> {
        self.queue.dead_letters(filter).await
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.queue.redrive(filter).await
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.queue.discard(filter).await
    }

    async fn depth(&self) -> Result<usize, PortError> {
        self.queue.depth().await
    }

    async fn backlog(&self) -> Result<Vec<Backlog>, PortError> {
        self.queue.backlog().await
    }
}
