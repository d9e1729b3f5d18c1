//! What comes in.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use thredcore::port::{
    Accepted, Backlog, DeadLetter, DeadLetterFilter, Death, Delivery, DeliveryTag, EventQ, Inbound,
    PortError, PortErrorKind, Quarantine, Redriven, Unreadable,
};

use super::{
    Events, SUSPECT,
    dead::{self, DeadLetters, Why},
    lane::{Item, Tried},
    until_closed,
};
use crate::{
    journal::{Journal, What},
    json,
    quarantine::Part,
    segments::Body,
    storage::{apart, failed, texts},
    tables::Queue,
};

/// An [`EventQ`] in a directory.
///
/// Published items are handed out when they are durable. Acknowledging does not wait for the disk:
/// after a crash the last acknowledged items may come again. An item that has been handed out
/// before comes alone, and its attempt is durable before it comes; so one that kills the process
/// is found out, and no other is taken for it.
///
/// Dead letters stay in the file until they are redriven or discarded, for as long and as many bytes
/// as [`RedbConfig`](crate::RedbConfig) says; what goes for another reason is counted, with a
/// warning.
pub struct RedbEventQ {
    pub(crate) journal: Arc<Journal>,
}

impl RedbEventQ {
    fn events(&self) -> &Events {
        &self.journal.shared.events
    }

    fn dead(&self) -> &DeadLetters {
        &self.journal.shared.dead_events
    }

    /// Takes nothing more; consumers get what is in the queue, and
    /// [`Closed`](thredcore::port::PortErrorKind::Closed) once all of that is acknowledged.
    pub fn close(&self) {
        self.events().close();
    }

    /// How many dead letters were dropped since the directory was opened: they were too old, or
    /// there were too many bytes.
    pub fn dropped_dead_letters(&self) -> u64 {
        self.dead().dropped()
    }

    async fn add(
        &self,
        operation: &'static str,
        items: Vec<Inbound>,
        redriven: Vec<u64>,
    ) -> Result<(), PortError> {
        if self.events().is_closed() {
            return Err(PortError::closed(operation));
        }
        let most = self.journal.shared.config.max_item_bytes;
        let with_text = |item: Inbound| {
            let text = json::to_vec(&item).map_err(texts::unwritable(operation))?;
            if text.len() > most {
                Err(too_large(operation, text.len(), most))
            } else {
                Ok((item, Body::new(text)))
            }
        };
        let items = items.into_iter().map(with_text).collect::<Result<Vec<_>, _>>()?;
        let at = self.journal.shared.now();
        self.journal.write(operation, What::Publish { items, redriven, at }).await.map(drop)
    }

    /// Some of the dead letters that are meant.
    async fn letters(
        &self,
        filter: &DeadLetterFilter,
        last: u64,
    ) -> Result<Vec<(u64, DeadLetter<Inbound>)>, PortError> {
        dead::check(filter)?;
        let filter = filter.clone();
        let read = apart(&self.journal.shared, move |shared| {
            shared.dead_events.list(shared, &filter, last)
        });
        read.await?.map_err(failed("list dead letters"))
    }
}

/// An item that no publishing will ever take.
pub(super) fn too_large(operation: &'static str, bytes: usize, most: usize) -> PortError {
    let cause = format!("it takes {bytes} bytes, more than {most} (max_item_bytes)");
    PortError::new(operation, PortErrorKind::Rejected, cause)
}

/// How many dead letters are in memory at a time while many are redriven or discarded.
pub(super) const PAGE: usize = 256;

/// The next page of a filter that means many.
pub(super) fn page(filter: &DeadLetterFilter, done: usize, after: Option<u64>) -> DeadLetterFilter {
    let left = filter.limit.map_or(PAGE, |limit| limit.saturating_sub(done).min(PAGE));
    let after = after.map(|after| after.to_string()).or_else(|| filter.after.clone());
    DeadLetterFilter { limit: Some(left), after, ..filter.clone() }
}

fn redriven(letter: DeadLetter<Inbound>) -> Inbound {
    match letter.payload {
        Inbound::Event(accepted) => {
            let life = Redriven { times: letter.times.max(1), moved: letter.moved };
            Inbound::Event(Accepted { redriven: Some(Arc::new(life)), ..accepted })
        }
        command @ Inbound::Command(_) => command,
    }
}

#[async_trait]
impl EventQ for RedbEventQ {
    fn partitions(&self) -> u16 {
        self.events().partitions()
    }

    fn max_item_bytes(&self) -> usize {
        self.journal.shared.config.max_item_bytes
    }

    async fn room(&self) -> Result<(), PortError> {
        until_closed(&self.journal.shared, "publish events", self.events().room()).await
    }

    async fn publish(&self, items: Vec<Inbound>) -> Result<(), PortError> {
        if items.is_empty() { Ok(()) } else { self.add("publish events", items, vec![]).await }
    }

    async fn receive(
        &self,
        partition: u16,
        max: usize,
    ) -> Result<Vec<Delivery<Inbound>>, PortError> {
        let received = self.events().receive(partition, max);
        let batch = until_closed(&self.journal.shared, "receive events", received).await?;
        if batch.iter().all(|delivery| delivery.attempt < SUSPECT) {
            return Ok(batch);
        }
        let tags: Vec<_> = batch.iter().map(|delivery| delivery.tag).collect();
        let tried = self.events().tried(&tags);
        let guard = GiveBack { queue: self.events(), tags };
        let what = What::Tried { queue: Queue::Events, tried };
        self.journal.write("receive events", what).await?;
        guard.keep();
        Ok(batch)
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        let done = self.events().finish(tags);
        if done.is_empty() {
            return Ok(());
        }
        self.journal.defer("acknowledge events", left(Queue::Events, &done))?;
        self.journal.breathe().await;
        Ok(())
    }

    async fn nack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        self.events().give_back(tags);
        Ok(())
    }

    async fn dead_letter(&self, tag: DeliveryTag, death: &Death) -> Result<bool, PortError> {
        let Some(item) = self.events().finish(&[tag]).pop() else { return Ok(false) };
        let now = self.journal.shared.now();
        let Death { reason, times, moved } = death.clone();
        let why = Why { reason, at: now, attempts: item.tried.attempts, times, moved };
        let body = dead::body(&why, &item.payload).map_err(texts::unwritable("dead-letter"))?;
        let what = self.dead().add(vec![item.order], vec![(None, body)], now);
        self.journal.defer("dead-letter", what)?;
        self.journal.breathe().await;
        Ok(true)
    }

    async fn bury(&self, items: Vec<(Inbound, String)>) -> Result<(), PortError> {
        if items.is_empty() {
            return Ok(());
        }
        let now = self.journal.shared.now();
        let bodies = items.iter().map(|(item, reason)| {
            let why = Why { reason: reason.clone(), at: now, ..Why::default() };
            Ok((None, dead::body(&why, item)?))
        });
        let bodies = bodies.collect::<Result<_, _>>().map_err(texts::unwritable("bury"))?;
        let what = self.dead().add(vec![], bodies, now);
        self.journal.write("bury events", what).await.map(drop)
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Inbound>>, PortError> {
        if let Some(what) = self.dead().expire(self.journal.shared.now()) {
            self.journal.defer("drop dead letters", what)?;
        }
        let letters = self.letters(filter, u64::MAX).await?;
        Ok(letters.into_iter().map(|(_, letter)| letter).collect())
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        // What dies again meanwhile is not redriven twice.
        let last = self.dead().last();
        let (mut done, mut after) = (0, None);
        loop {
            let letters = self.letters(&page(filter, done, after), last).await?;
            let Some((end, _)) = letters.last() else { return Ok(done) };
            after = Some(*end);
            let claimed = self.dead().claim(letters.iter().map(|(number, _)| *number));
            let numbers: Vec<u64> = claimed.iter().map(|(number, _)| *number).collect();
            let ours = letters.into_iter().filter(|(number, _)| numbers.contains(number));
            let items = ours.map(|(_, letter)| redriven(letter)).collect();
            // A call that is given up leaves them to the next start, in one place or the other.
            let added = self.add("redrive events", items, numbers).await;
            let count = claimed.len();
            added.inspect_err(|_| self.dead().put_back(claimed))?;
            done += count;
        }
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        let last = self.dead().last();
        let (mut done, mut after) = (0, None);
        loop {
            let letters = self.letters(&page(filter, done, after), last).await?;
            let Some((end, _)) = letters.last() else { return Ok(done) };
            after = Some(*end);
            let claimed = self.dead().claim(letters.iter().map(|(number, _)| *number));
            let numbers = claimed.iter().map(|(number, _)| *number).collect();
            let what = What::Discard(Queue::Events, numbers);
            let gone = self.journal.write("discard events", what).await;
            let count = claimed.len();
            gone.inspect_err(|_| self.dead().put_back(claimed))?;
            done += count;
        }
    }

    async fn depth(&self) -> Result<usize, PortError> {
        Ok(self.events().depth())
    }

    async fn backlog(&self) -> Result<Vec<Backlog>, PortError> {
        Ok(self.events().backlog())
    }
}

/// What acknowledging items leaves to be written.
pub(super) fn left<T>(queue: Queue, done: &[Item<T>]) -> What {
    // Of the others nothing was written.
    let is_noted = |tried: Tried| tried.attempts >= SUSPECT || tried.failures > 0 || tried.due > 0;
    let tried = done.iter().filter(|item| is_noted(item.tried));
    let tried = tried.map(|item| item.order).collect();
    let orders = done.iter().map(|item| item.order).collect();
    What::Left { queue, orders, tried }
}

/// Gives items back when the call that was to hand them out ends early.
struct GiveBack<'q> {
    queue: &'q Events,
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

#[async_trait]
impl Quarantine for RedbEventQ {
    async fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        self.journal.unreadable(Part::Queue(Queue::Events), limit).await
    }

    async fn move_out(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        self.journal.move_out(Part::Queue(Queue::Events), limit).await
    }
}

impl fmt::Debug for RedbEventQ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbEventQ").finish_non_exhaustive()
    }
}
