//! What goes out.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use thredcore::port::{
    Backlog, DeadLetter, DeadLetterFilter, Delivery, DeliveryTag, MessageQ, PortError,
    PortErrorKind, Quarantine, Returned, Routed, TopicBacklog, Unreadable,
};
use thredlib::Topic;

use super::{
    Messages, SUSPECT,
    dead::{self, DeadLetters, Why},
    event_q::{left, page, too_large},
    lane::Item,
    until_closed,
};
use crate::{
    error::Refusal,
    journal::{Journal, Outcome, What},
    json,
    quarantine::Part,
    segments::Body,
    storage::{apart, failed, texts},
    tables::Queue,
};

/// A [`MessageQ`] in a directory.
///
/// Neither publishing nor acknowledging waits for the disk. What a crash may take away of it is
/// repeated: an outbox still holds the messages, and what was acknowledged comes again. Both are
/// written with the next group at the latest, in their order with all else.
///
/// Topics come into being when they are named, and go when nobody has had to do with them for
/// [`idle_expiry`](crate::RedbConfig::idle_expiry), if that is set.
pub struct RedbMessageQ {
    pub(crate) journal: Arc<Journal>,
    /// Held while messages enter or leave memory and the writer is told, so that it is told in the
    /// same order.
    order: Mutex<()>,
}

/// A longer delay outlives the process: a minute.
const LONG_DELAY: Duration = Duration::from_secs(60);

/// The reason of messages that have waited for too long.
const EXPIRED: &str = "EXPIRED";

impl RedbMessageQ {
    pub(crate) fn new(journal: Arc<Journal>) -> Self {
        Self { journal, order: Mutex::default() }
    }

    fn messages(&self) -> &Messages {
        &self.journal.shared.messages
    }

    fn dead(&self) -> &DeadLetters {
        &self.journal.shared.dead_messages
    }

    /// Takes nothing more; consumers get what is in the queue, and
    /// [`Closed`](PortErrorKind::Closed) once all of that is acknowledged.
    pub fn close(&self) {
        self.messages().close();
    }

    /// How many dead letters were dropped since the directory was opened: they were too old, or
    /// there were too many bytes.
    pub fn dropped_dead_letters(&self) -> u64 {
        self.dead().dropped()
    }

    /// Like [`receive`](MessageQ::receive) of all topics there are and will be, in the order of
    /// publishing: for a process that is every topic's consumer.
    ///
    /// # Errors
    /// [`PortErrorKind::Closed`] when there will be no more.
    pub async fn receive_any(&self, max: usize) -> Result<Vec<Delivery<Routed>>, PortError> {
        self.sweep(false)?;
        let received = self.messages().receive_any(max);
        let batch = until_closed(&self.journal.shared, "receive messages", received).await?;
        self.tried(batch).await
    }

    /// Has the attempts of redelivered messages written; before they are handed out, if they may be
    /// what kills the process.
    async fn tried(
        &self,
        batch: Vec<Delivery<Routed>>,
    ) -> Result<Vec<Delivery<Routed>>, PortError> {
        let again = batch.iter().filter(|delivery| delivery.attempt >= SUSPECT);
        let tags: Vec<_> = again.map(|delivery| delivery.tag).collect();
        if tags.is_empty() {
            return Ok(batch);
        }
        let what = What::Tried { queue: Queue::Messages, tried: self.messages().tried(&tags) };
        if batch.iter().all(|delivery| delivery.deaths() == 0) {
            self.journal.defer("receive messages", what)?;
            return Ok(batch);
        }
        let tags = batch.iter().map(|delivery| delivery.tag).collect();
        let guard = GiveBack { queue: self, tags };
        self.journal.write("receive messages", what).await?;
        guard.keep();
        Ok(batch)
    }

    /// Moves what has waited for too long to the dead letters.
    fn sweep(&self, at_once: bool) -> Result<(), PortError> {
        let now = self.journal.shared.now();
        let _order = self.order.lock();
        let expired = if at_once { self.messages().look(now) } else { self.messages().sweep(now) };
        if expired.is_empty() {
            return Ok(());
        }
        self.bury_items(expired, EXPIRED, now)
    }

    /// The items have left the queue.
    fn bury_items(
        &self,
        items: Vec<Item<Routed>>,
        reason: &str,
        now: i64,
    ) -> Result<(), PortError> {
        let body = |item: &Item<Routed>| {
            let attempts = item.tried.attempts;
            let why = Why { reason: reason.to_owned(), at: now, attempts, ..Why::default() };
            Ok((Some(item.payload.topic.clone()), dead::body(&why, &item.payload)?))
        };
        let bodies = items.iter().map(body).collect::<Result<_, _>>();
        let bodies = bodies.map_err(texts::unwritable("dead-letter"))?;
        let orders = items.iter().map(|item| item.order).collect();
        self.journal.defer("dead-letter", self.dead().add(orders, bodies, now))
    }

    async fn letters(
        &self,
        filter: &DeadLetterFilter,
        last: u64,
    ) -> Result<Vec<(u64, DeadLetter<Routed>)>, PortError> {
        dead::check(filter)?;
        let filter = filter.clone();
        let read = apart(&self.journal.shared, move |shared| {
            shared.dead_messages.list(shared, &filter, last)
        });
        read.await?.map_err(failed("list dead letters"))
    }

    /// Publishes dead letters again; they are written later.
    fn publish_again(&self, letters: Vec<(u64, DeadLetter<Routed>)>) -> Result<usize, PortError> {
        let now = self.journal.shared.now();
        let _order = self.order.lock();
        let claimed = self.dead().claim(letters.iter().map(|(number, _)| *number));
        let numbers: Vec<u64> = claimed.iter().map(|(number, _)| *number).collect();
        let ours = letters.into_iter().filter(|(number, _)| numbers.contains(number));
        let messages: Vec<Routed> = ours.map(|(_, letter)| letter.payload).collect();
        let bodies = messages.iter().map(|it| json::to_vec(it).map(Body::new));
        let published = bodies
            .collect::<Result<Vec<_>, _>>()
            .map_err(texts::unwritable("redrive messages"))
            .and_then(|bodies| {
                let orders = self.messages().publish(messages, true, now);
                Ok(orders.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().zip(bodies))
            });
        match published {
            Ok(messages) => {
                let messages = messages.map(|(order, body)| (order, now, body)).collect();
                let what = What::Sent { messages, redriven: numbers };
                self.journal.defer("redrive messages", what)?;
                Ok(claimed.len())
            }
            Err(error) => {
                self.dead().put_back(claimed);
                Err(error)
            }
        }
    }

    /// Messages have left their topic for good.
    async fn gone(&self, items: Vec<Item<Routed>>) -> Result<u64, PortError> {
        if items.is_empty() {
            return Ok(0);
        }
        self.journal.write("remove messages", left(Queue::Messages, &items)).await?;
        Ok(items.len() as u64)
    }
}

#[async_trait]
impl MessageQ for RedbMessageQ {
    fn max_item_bytes(&self) -> usize {
        self.journal.shared.config.max_item_bytes
    }

    async fn publish(&self, messages: Vec<Routed>) -> Vec<Result<(), PortError>> {
        let shared = &self.journal.shared;
        if shared.is_full() {
            let full = |_| Err(Refusal::Full.port("publish messages"));
            return messages.iter().map(full).collect();
        }
        let most = shared.config.max_item_bytes;
        let mut answers: Vec<Result<(), PortError>> = Vec::with_capacity(messages.len());
        let (mut good, mut bodies) = (Vec::with_capacity(messages.len()), vec![]);
        for message in messages {
            let text = json::to_vec(&message).map_err(texts::unwritable("publish messages"));
            match text {
                Ok(text) if text.len() > most => {
                    answers.push(Err(too_large("publish messages", text.len(), most)));
                }
                Ok(text) => {
                    answers.push(Ok(()));
                    good.push(message);
                    bodies.push(Body::new(text));
                }
                Err(error) => answers.push(Err(error)),
            }
        }
        if let Err(error) = self.sweep(false) {
            tracing::warn!(%error, "messages that have expired are not moved");
        }
        let published = {
            let now = shared.now();
            let _order = self.order.lock();
            let published = self.messages().publish(good, false, now);
            let orders = published.iter().zip(bodies);
            let messages =
                orders.filter_map(|(order, body)| Some((*order.as_ref().ok()?, now, body)));
            let messages: Vec<_> = messages.collect();
            let sent = if messages.is_empty() {
                Ok(())
            } else {
                let what = What::Sent { messages, redriven: vec![] };
                self.journal.defer("publish messages", what)
            };
            match sent {
                Ok(()) => published,
                Err(_) => {
                    published.iter().map(|_| Err(PortError::closed("publish messages"))).collect()
                }
            }
        };
        self.journal.breathe().await;
        let mut published = published.into_iter();
        let places = answers.iter_mut().filter(|answer| answer.is_ok());
        places.for_each(|place| *place = published.next().map_or(Ok(()), |it| it.map(drop)));
        answers
    }

    async fn receive(
        &self,
        topics: &[Topic],
        max: usize,
    ) -> Result<Vec<Delivery<Routed>>, PortError> {
        self.sweep(false)?;
        let received = self.messages().receive(topics, max, self.journal.shared.now());
        let batch = until_closed(&self.journal.shared, "receive messages", received).await?;
        self.tried(batch).await
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        let done = {
            let _order = self.order.lock();
            let done = self.messages().finish(tags);
            if !done.is_empty() {
                self.journal.defer("acknowledge messages", left(Queue::Messages, &done))?;
            }
            done
        };
        // Freed after the lock is.
        drop(done);
        self.journal.breathe().await;
        Ok(())
    }

    async fn nack(&self, tag: DeliveryTag, delay_ms: u64, why: Returned) -> Result<(), PortError> {
        let delay = Duration::from_millis(delay_ms);
        let now = self.journal.shared.now();
        let _order = self.order.lock();
        match self.messages().give_back(&tag, delay, why, now) {
            Some(tried) if delay > LONG_DELAY => {
                let what = What::Tried { queue: Queue::Messages, tried: vec![tried] };
                self.journal.defer("give back a message", what)
            }
            _ => Ok(()),
        }
    }

    async fn dead_letter(&self, tag: DeliveryTag, reason: &str) -> Result<(), PortError> {
        {
            let _order = self.order.lock();
            let items = self.messages().finish(&[tag]);
            if !items.is_empty() {
                self.bury_items(items, reason, self.journal.shared.now())?;
            }
        }
        self.journal.breathe().await;
        Ok(())
    }

    async fn bury(&self, messages: Vec<(Routed, String)>) -> Result<(), PortError> {
        if messages.is_empty() {
            return Ok(());
        }
        let now = self.journal.shared.now();
        let bodies = messages.iter().map(|(message, reason)| {
            let why = Why { reason: reason.clone(), at: now, ..Why::default() };
            Ok((Some(message.topic.clone()), dead::body(&why, message)?))
        });
        let bodies = bodies.collect::<Result<_, _>>().map_err(texts::unwritable("bury"))?;
        let what = self.dead().add(vec![], bodies, now);
        self.journal.write("bury messages", what).await.map(drop)
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Routed>>, PortError> {
        self.sweep(true)?;
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
            done += self.publish_again(letters)?;
            let Outcome::Done = self.journal.write("redrive messages", What::Flush).await? else {
                return Ok(done);
            };
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
            let what = What::Discard(Queue::Messages, numbers);
            let gone = self.journal.write("discard messages", what).await;
            let count = claimed.len();
            gone.inspect_err(|_| self.dead().put_back(claimed))?;
            done += count;
        }
    }

    async fn depth(&self, topic: &Topic) -> Result<usize, PortError> {
        self.sweep(true)?;
        Ok(self.messages().depth(topic))
    }

    async fn backlog(&self) -> Result<Vec<TopicBacklog>, PortError> {
        self.sweep(true)?;
        let mut letters = self.dead().counts();
        let mut backlog = self.messages().backlog();
        for one in &mut backlog {
            one.backlog.dead_letters = letters.remove(&one.topic).unwrap_or(0);
        }
        // A topic that is gone may have left some.
        backlog.extend(letters.into_iter().map(|(topic, dead_letters)| {
            let consumers = Some(0);
            TopicBacklog {
                topic,
                backlog: Backlog { dead_letters, consumers, ..Backlog::default() },
            }
        }));
        backlog.sort_by(|a, b| a.topic.cmp(&b.topic));
        Ok(backlog)
    }

    async fn purge(&self, topic: &Topic) -> Result<u64, PortError> {
        let gone = {
            let _order = self.order.lock();
            self.messages().purge(topic)
        };
        self.gone(gone).await
    }

    async fn delete(&self, topic: &Topic) -> Result<u64, PortError> {
        let gone = {
            let _order = self.order.lock();
            self.messages().delete(topic)
        };
        let gone = gone.ok_or_else(|| {
            let cause = format!("the topic {topic} has consumers");
            PortError::new("delete a topic", PortErrorKind::Rejected, cause)
        })?;
        self.gone(gone).await
    }
}

/// Gives messages back when the call that was to hand them out ends early.
struct GiveBack<'q> {
    queue: &'q RedbMessageQ,
    tags: Vec<DeliveryTag>,
}

impl GiveBack<'_> {
    fn keep(mut self) {
        self.tags.clear();
    }
}

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        let now = self.queue.journal.shared.now();
        for tag in &self.tags {
            self.queue.messages().give_back(tag, Duration::ZERO, Returned::Untried, now);
        }
    }
}

#[async_trait]
impl Quarantine for RedbMessageQ {
    async fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        self.journal.unreadable(Part::Queue(Queue::Messages), limit).await
    }

    async fn move_out(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        self.journal.move_out(Part::Queue(Queue::Messages), limit).await
    }
}

impl fmt::Debug for RedbMessageQ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbMessageQ").finish_non_exhaustive()
    }
}
