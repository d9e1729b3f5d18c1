//! Backends that meet faults.

use std::sync::Arc;

use async_trait::async_trait;
use thredlib::{EventKey, PatternId, ThredId, Topic};

use super::Fault;
use crate::{
    port::{
        Backlog, Cleared, Commit, Committed, DeadLetter, DeadLetterFilter, Death, Delivery,
        DeliveryTag, Due, Ended, EventQ, History, Inbound, Lease, LeaseStore, LimitStore, Loaded,
        LogRecord, MessageQ, ParkedTopic, PatternStore, PendingOutbox, PortError, Quarantine,
        Receipt, ReceiptRetention, RecordStore, Reservation, Reserved, Returned, Routed,
        Settlement, StoredPattern, ThredCount, ThredPage, ThredQuery, ThredStore, Timer,
        TopicBacklog, UnmovedPage, Unreadable,
    },
    state::{PatternKey, WaitKey},
};

/// A backend with a [`Fault`].
#[derive(Debug)]
pub struct Faulty<P: ?Sized> {
    port: Arc<P>,
    fault: Arc<Fault>,
}

impl<P: ?Sized> Faulty<P> {
    /// Makes a backend fail. Give the same fault to several, and it strikes once among them all.
    pub fn new(port: Arc<P>, fault: Arc<Fault>) -> Self {
        Self { port, fault }
    }
}

#[async_trait]
impl<P: EventQ + ?Sized> EventQ for Faulty<P> {
    fn partitions(&self) -> u16 {
        self.port.partitions()
    }

    fn max_item_bytes(&self) -> usize {
        self.port.max_item_bytes()
    }

    async fn room(&self) -> Result<(), PortError> {
        self.fault.call("room", self.port.room()).await
    }

    async fn publish(&self, items: Vec<Inbound>) -> Result<(), PortError> {
        self.fault.call("publish", self.port.publish(items)).await
    }

    async fn receive(
        &self,
        partition: u16,
        max: usize,
    ) -> Result<Vec<Delivery<Inbound>>, PortError> {
        let give_back = async |tags: Vec<DeliveryTag>| self.port.nack(&tags).await;
        self.fault.receive(self.port.receive(partition, max), give_back).await
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        self.fault.call("ack", self.port.ack(tags)).await
    }

    async fn nack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        self.fault.call("nack", self.port.nack(tags)).await
    }

    async fn dead_letter(&self, tag: DeliveryTag, death: &Death) -> Result<bool, PortError> {
        self.fault.call("dead_letter", self.port.dead_letter(tag, death)).await
    }

    async fn bury(&self, items: Vec<(Inbound, String)>) -> Result<(), PortError> {
        self.fault.call("bury", self.port.bury(items)).await
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Inbound>>, PortError> {
        self.fault.call("dead_letters", self.port.dead_letters(filter)).await
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.fault.call("redrive", self.port.redrive(filter)).await
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.fault.call("discard", self.port.discard(filter)).await
    }

    async fn depth(&self) -> Result<usize, PortError> {
        self.fault.call("depth", self.port.depth()).await
    }

    async fn backlog(&self) -> Result<Vec<Backlog>, PortError> {
        self.fault.call("backlog", self.port.backlog()).await
    }
}

#[async_trait]
impl<P: MessageQ + ?Sized> MessageQ for Faulty<P> {
    fn max_item_bytes(&self) -> usize {
        self.port.max_item_bytes()
    }

    async fn publish(&self, messages: Vec<Routed>) -> Vec<Result<(), PortError>> {
        self.fault.each("publish", messages.len(), self.port.publish(messages)).await
    }

    async fn receive(
        &self,
        topics: &[Topic],
        max: usize,
    ) -> Result<Vec<Delivery<Routed>>, PortError> {
        let give_back = async |tags: Vec<DeliveryTag>| {
            for tag in tags {
                self.port.nack(tag, 0, Returned::Failed).await?;
            }
            Ok(())
        };
        self.fault.receive(self.port.receive(topics, max), give_back).await
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        self.fault.call("ack", self.port.ack(tags)).await
    }

    async fn nack(&self, tag: DeliveryTag, delay_ms: u64, why: Returned) -> Result<(), PortError> {
        self.fault.call("nack", self.port.nack(tag, delay_ms, why)).await
    }

    async fn dead_letter(&self, tag: DeliveryTag, reason: &str) -> Result<(), PortError> {
        self.fault.call("dead_letter", self.port.dead_letter(tag, reason)).await
    }

    async fn bury(&self, messages: Vec<(Routed, String)>) -> Result<(), PortError> {
        self.fault.call("bury", self.port.bury(messages)).await
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Routed>>, PortError> {
        self.fault.call("dead_letters", self.port.dead_letters(filter)).await
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.fault.call("redrive", self.port.redrive(filter)).await
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.fault.call("discard", self.port.discard(filter)).await
    }

    async fn depth(&self, topic: &Topic) -> Result<usize, PortError> {
        self.fault.call("depth", self.port.depth(topic)).await
    }

    async fn backlog(&self) -> Result<Vec<TopicBacklog>, PortError> {
        self.fault.call("backlog", self.port.backlog()).await
    }

    async fn purge(&self, topic: &Topic) -> Result<u64, PortError> {
        self.fault.call("purge", self.port.purge(topic)).await
    }

    async fn delete(&self, topic: &Topic) -> Result<u64, PortError> {
        self.fault.call("delete", self.port.delete(topic)).await
    }
}

#[async_trait]
impl<P: ThredStore + ?Sized> ThredStore for Faulty<P> {
    fn partitions(&self) -> u16 {
        self.port.partitions()
    }

    fn max_commit_bytes(&self) -> usize {
        self.port.max_commit_bytes()
    }

    async fn load(&self, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, PortError> {
        self.fault.call("load", self.port.load(ids)).await
    }

    async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Result<Committed, PortError>> {
        self.fault.each("commit", commits.len(), self.port.commit(commits)).await
    }

    async fn clear_outbox(&self, cleared: &[Cleared]) -> Result<(), PortError> {
        self.fault.call("clear_outbox", self.port.clear_outbox(cleared)).await
    }

    async fn pending_outboxes(
        &self,
        partition: u16,
        made_before: i64,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        self.fault
            .call("pending_outboxes", self.port.pending_outboxes(partition, made_before, limit))
            .await
    }

    async fn parked_topics(&self) -> Result<Vec<ParkedTopic>, PortError> {
        self.fault.call("parked_topics", self.port.parked_topics()).await
    }

    async fn parked_outboxes(
        &self,
        partition: u16,
        topic: &Topic,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        let call = self.port.parked_outboxes(partition, topic, limit);
        self.fault.call("parked_outboxes", call).await
    }

    async fn due(
        &self,
        partition: u16,
        at: i64,
        after: Option<&Timer>,
        limit: usize,
    ) -> Result<Due, PortError> {
        self.fault.call("due", self.port.due(partition, at, after, limit)).await
    }

    async fn threds(&self, query: &ThredQuery) -> Result<ThredPage, PortError> {
        self.fault.call("threds", self.port.threds(query)).await
    }

    async fn counts(&self) -> Result<Vec<ThredCount>, PortError> {
        self.fault.call("counts", self.port.counts()).await
    }

    async fn waiting(
        &self,
        keys: &[WaitKey],
        after: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<ThredId>, PortError> {
        self.fault.call("waiting", self.port.waiting(keys, after, limit)).await
    }

    async fn surplus(
        &self,
        partition: u16,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Ended>, PortError> {
        self.fault.call("surplus", self.port.surplus(partition, skip, limit)).await
    }

    async fn forget(&self, threds: &[ThredId]) -> Result<(), PortError> {
        self.fault.call("forget", self.port.forget(threds)).await
    }
}

#[async_trait]
impl<P: RecordStore + ?Sized> RecordStore for Faulty<P> {
    async fn settle(&self, partition: u16, settlement: &Settlement) -> Result<(), PortError> {
        self.fault.call("settle", self.port.settle(partition, settlement)).await
    }

    async fn receipts(
        &self,
        partition: u16,
        keys: &[EventKey],
    ) -> Result<Vec<Option<Receipt>>, PortError> {
        self.fault.call("receipts", self.port.receipts(partition, keys)).await
    }

    async fn recorded(&self, keys: &[EventKey]) -> Result<Vec<bool>, PortError> {
        self.fault.call("recorded", self.port.recorded(keys)).await
    }

    fn retention(&self) -> ReceiptRetention {
        self.port.retention()
    }

    async fn history(
        &self,
        thred: &ThredId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        self.fault.call("history", self.port.history(thred, before, limit)).await
    }

    async fn unmoved(&self, before: Option<&str>, limit: usize) -> Result<UnmovedPage, PortError> {
        self.fault.call("unmoved", self.port.unmoved(before, limit)).await
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        self.fault.call("log", self.port.log(limit)).await
    }
}

#[async_trait]
impl<P: LimitStore + ?Sized> LimitStore for Faulty<P> {
    async fn reserve(&self, reservation: &Reservation) -> Result<Reserved, PortError> {
        self.fault.call("reserve", self.port.reserve(reservation)).await
    }

    async fn release(&self, places: &[(PatternId, ThredId)]) -> Result<(), PortError> {
        self.fault.call("release", self.port.release(places)).await
    }

    async fn reserved(
        &self,
        pattern: &PatternId,
        after: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<ThredId>, PortError> {
        self.fault.call("reserved", self.port.reserved(pattern, after, limit)).await
    }
}

#[async_trait]
impl<P: Quarantine + ?Sized> Quarantine for Faulty<P> {
    async fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        self.fault.call("unreadable", self.port.unreadable(limit)).await
    }

    async fn move_out(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        self.fault.call("move_out", self.port.move_out(limit)).await
    }
}

#[async_trait]
impl<P: LeaseStore + ?Sized> LeaseStore for Faulty<P> {
    async fn acquire(&self, lease: &Lease, now: i64) -> Result<bool, PortError> {
        self.fault.call("acquire", self.port.acquire(lease, now)).await
    }

    async fn give_back(&self, name: &str, owner: &str) -> Result<(), PortError> {
        self.fault.call("give_back", self.port.give_back(name, owner)).await
    }

    async fn leases(&self, prefix: &str, now: i64) -> Result<Vec<Lease>, PortError> {
        self.fault.call("leases", self.port.leases(prefix, now)).await
    }
}

#[async_trait]
impl<P: PatternStore + ?Sized> PatternStore for Faulty<P> {
    async fn put_pattern(&self, pattern: StoredPattern) -> Result<(), PortError> {
        self.fault.call("put_pattern", self.port.put_pattern(pattern)).await
    }

    async fn remove_pattern(&self, id: &PatternId) -> Result<(), PortError> {
        self.fault.call("remove_pattern", self.port.remove_pattern(id)).await
    }

    async fn patterns(&self) -> Result<Vec<StoredPattern>, PortError> {
        self.fault.call("patterns", self.port.patterns()).await
    }

    async fn pattern(&self, key: &PatternKey) -> Result<Option<StoredPattern>, PortError> {
        self.fault.call("pattern", self.port.pattern(key)).await
    }

    async fn listening_patterns(&self) -> Result<Vec<PatternKey>, PortError> {
        self.fault.call("listening_patterns", self.port.listening_patterns()).await
    }

    async fn patterns_version(&self) -> Result<u64, PortError> {
        self.fault.call("patterns_version", self.port.patterns_version()).await
    }
}
