//! What goes out.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use thredcore::{
    memory::MemoryMessageQ,
    port::{
        DeadLetter, DeadLetterFilter, Delivery, DeliveryTag, MessageQ, PortError, PortErrorKind,
        Routed,
    },
};
use thredlib::Topic;

use super::{SUSPECT, buried, numbers, until_closed};
use crate::{
    error::Refusal,
    journal::{Journal, What, lock},
    segments::Body,
    tables::Queue,
};

/// A [`MessageQ`] in a directory.
///
/// Neither publishing nor acknowledging waits for the disk. What a crash may take away of it is
/// repeated: an outbox still holds the messages, and what was acknowledged comes again. Both are
/// written with the next group at the latest, in their order with all else.
///
/// Topics come into being when they are named.
pub struct RedbMessageQ {
    pub(crate) journal: Arc<Journal>,
    /// Held while messages enter or leave memory and the writer is told, so that it is told in the
    /// same order.
    order: Mutex<()>,
}

impl RedbMessageQ {
    pub(crate) fn new(journal: Arc<Journal>) -> Self {
        Self { journal, order: Mutex::default() }
    }

    fn inner(&self) -> &MemoryMessageQ {
        &self.journal.shared.message_q
    }

    /// Takes nothing more; consumers get what is in the queue, and
    /// [`Closed`](PortErrorKind::Closed) once all of that is acknowledged.
    pub fn close(&self) {
        self.inner().close();
    }

    /// How many dead letters were dropped for want of room since the directory was opened.
    pub fn dropped_dead_letters(&self) -> u64 {
        self.inner().dropped_dead_letters()
    }

    /// Like [`receive`](MessageQ::receive) of all topics there are and will be, in the order of
    /// publishing: for a process that is every topic's consumer.
    ///
    /// # Errors
    /// [`PortErrorKind::Closed`] when there will be no more.
    pub async fn receive_any(&self, max: usize) -> Result<Vec<Delivery<Routed>>, PortError> {
        let received = self.inner().receive_any(max);
        let batch = until_closed(&self.journal.shared, "receive messages", received).await?;
        self.tried(&batch)?;
        Ok(batch)
    }

    /// Has the attempts of redelivered messages written.
    fn tried(&self, batch: &[Delivery<Routed>]) -> Result<(), PortError> {
        let again = batch.iter().filter(|delivery| delivery.attempt >= SUSPECT);
        let tags: Vec<_> = again.map(|delivery| delivery.tag).collect();
        if tags.is_empty() {
            return Ok(());
        }
        let what = What::Tried { queue: Queue::Messages, attempts: self.inner().orders(&tags) };
        self.journal.defer("receive messages", what)
    }

    /// Publishes the first of some messages, until a topic is full; says how many.
    fn publish_first(&self, messages: &[Routed], bodies: &[Body]) -> Result<usize, PortError> {
        let _order = lock(&self.order);
        let orders = self.inner().publish_first(messages)?;
        let count = orders.len();
        if count > 0 {
            let messages = orders.into_iter().zip(bodies.iter().cloned()).collect();
            let what = What::Sent { messages, redriven: vec![] };
            self.journal.defer("publish messages", what)?;
        }
        Ok(count)
    }

    async fn publish_all(
        &self,
        messages: &[Routed],
        bodies: &[Body],
    ) -> Result<(), (usize, PortError)> {
        let shared = &self.journal.shared;
        let mut done = 0;
        loop {
            if shared.is_full() {
                return Err((done, Refusal::Full.port("publish messages")));
            }
            let room = self.inner().room_made();
            let first = self.publish_first(&messages[done..], &bodies[done..]);
            done += first.map_err(|error| (done, error))?;
            if done == messages.len() {
                self.journal.breathe().await;
                return Ok(());
            }
            let room = async { Ok(room.await) };
            until_closed(shared, "publish messages", room).await.map_err(|error| (done, error))?;
        }
    }
}

#[async_trait]
impl MessageQ for RedbMessageQ {
    async fn publish(&self, messages: Vec<Routed>) -> Vec<Result<(), PortError>> {
        let bodies = messages.iter().map(|message| serde_json::to_vec(message).map(Body::new));
        let bodies: Vec<_> = match bodies.collect() {
            Ok(bodies) => bodies,
            Err(error) => {
                let error: serde_json::Error = error;
                return all_failed(&messages, PortErrorKind::Rejected, &error);
            }
        };
        let Err((done, error)) = self.publish_all(&messages, &bodies).await else {
            return messages.iter().map(|_| Ok(())).collect();
        };
        let kind = error.kind();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let mut answers: Vec<_> = messages[..done].iter().map(|_| Ok(())).collect();
        answers.extend(all_failed(&messages[done..], kind, &cause));
        answers
    }

    async fn receive(
        &self,
        topics: &[Topic],
        max: usize,
    ) -> Result<Vec<Delivery<Routed>>, PortError> {
        let received = self.inner().receive(topics, max);
        let batch = until_closed(&self.journal.shared, "receive messages", received).await?;
        self.tried(&batch)?;
        Ok(batch)
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        let left = {
            let _order = lock(&self.order);
            let done = self.inner().finish(tags);
            let tried = done.iter().filter(|kept| kept.attempts >= SUSPECT);
            let tried = tried.map(|kept| kept.order).collect();
            let orders: Vec<_> = done.iter().map(|kept| kept.order).collect();
            if !orders.is_empty() {
                let what = What::Left { queue: Queue::Messages, orders, tried };
                self.journal.defer("acknowledge messages", what)?;
            }
            done
        };
        // Freed after the lock is.
        drop(left);
        self.journal.breathe().await;
        Ok(())
    }

    async fn nack(&self, tag: DeliveryTag, delay_ms: u64) -> Result<(), PortError> {
        self.inner().nack(tag, delay_ms).await
    }

    async fn dead_letter(&self, tag: DeliveryTag, reason: &str) -> Result<(), PortError> {
        let _order = lock(&self.order);
        match self.inner().bury(tag, reason) {
            None => Ok(()),
            Some(one) => self.journal.defer("dead-letter", buried(Queue::Messages, &one)?),
        }
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Routed>>, PortError> {
        self.inner().dead_letters(filter).await
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        let count = {
            let _order = lock(&self.order);
            let letters = self.inner().exhume(filter);
            let messages: Vec<_> = letters.iter().map(|letter| letter.payload.clone()).collect();
            let bodies = messages.iter().map(|message| serde_json::to_vec(message).map(Body::new));
            let bodies: Result<Vec<_>, _> = bodies.collect();
            let published = match bodies {
                Ok(bodies) => self.inner().publish_over(&messages).map(|orders| (orders, bodies)),
                Err(error) => {
                    Err(PortError::new("redrive messages", PortErrorKind::Rejected, error))
                }
            };
            match published {
                Ok((orders, bodies)) => {
                    let messages = orders.into_iter().zip(bodies).collect();
                    let what = What::Sent { messages, redriven: numbers(&letters) };
                    self.journal.defer("redrive messages", what)?;
                    letters.len()
                }
                Err(error) => {
                    self.inner().restore_dead(letters);
                    return Err(error);
                }
            }
        };
        self.journal.write("redrive messages", What::Flush).await?;
        Ok(count)
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        let letters = self.inner().exhume(filter);
        if letters.is_empty() {
            return Ok(0);
        }
        let count = letters.len();
        let what = What::Discard(Queue::Messages, numbers(&letters));
        let gone = self.journal.write("discard messages", what).await;
        gone.inspect_err(|_| self.inner().restore_dead(letters)).map(|_| count)
    }

    async fn depth(&self, topic: &Topic) -> Result<usize, PortError> {
        self.inner().depth(topic).await
    }
}

fn all_failed(
    messages: &[Routed],
    kind: PortErrorKind,
    cause: &impl ToString,
) -> Vec<Result<(), PortError>> {
    let failed = |_| Err(PortError::new("publish messages", kind, cause.to_string()));
    messages.iter().map(failed).collect()
}

impl fmt::Debug for RedbMessageQ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbMessageQ").finish_non_exhaustive()
    }
}
