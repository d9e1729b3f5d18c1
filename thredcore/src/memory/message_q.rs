//! The queue of what goes out.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::select_all;
use thredlib::Topic;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    lane::{Buried, DeadLetters, Item, Kept, Lane, dead_letter_setters},
    lock,
    topics::{MessageTopic, Topics},
};
use crate::port::{
    Clock, DeadLetter, DeadLetterFilter, Delivery, DeliveryTag, MessageQ, PortError, Routed,
    SystemClock,
};

/// Limits of a [`MemoryMessageQ`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemoryMessageQConfig {
    /// With so many messages waiting on a topic, its publishers wait: 65,536.
    pub capacity: usize,
    /// How many dead letters are kept: 10,000. With more the oldest is dropped, with a warning;
    /// [`MemoryMessageQ::dropped_dead_letters`] counts them.
    pub dead_letters: usize,
    /// Tells when a message was dead-lettered.
    pub clock: Arc<dyn Clock>,
}

impl Default for MemoryMessageQConfig {
    fn default() -> Self {
        Self { capacity: 65_536, dead_letters: 10_000, clock: Arc::new(SystemClock) }
    }
}

impl MemoryMessageQConfig {
    /// Sets how many messages wait on a topic before its publishers do; at least 1.
    #[must_use]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages.max(1);
        self
    }

    dead_letter_setters!();
}

/// A [`MessageQ`] in memory. Topics come into being when they are named.
#[derive(Debug)]
pub struct MemoryMessageQ {
    /// One lock for all topics keeps one order of all messages; it is taken once for a batch.
    state: Mutex<Topics>,
    capacity: usize,
    room: Notify,
    /// Told when a message becomes ready anywhere.
    ready: Notify,
}

impl Default for MemoryMessageQ {
    fn default() -> Self {
        Self::new(MemoryMessageQConfig::default())
    }
}

impl MemoryMessageQ {
    /// An empty queue.
    pub fn new(config: MemoryMessageQConfig) -> Self {
        Self {
            state: Mutex::new(Topics::new(DeadLetters::new(config.dead_letters, config.clock))),
            capacity: config.capacity.max(1),
            room: Notify::new(),
            ready: Notify::new(),
        }
    }

    /// Takes nothing more; consumers get what is in the queue, and
    /// [`Closed`](crate::port::PortErrorKind::Closed) once all of that is acknowledged.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.topics.iter().for_each(|topic| topic.ready.notify_waiters());
        self.ready.notify_waiters();
        self.room.notify_waiters();
    }

    /// Like [`receive`](MessageQ::receive) of all topics there are and will be, in the order of
    /// publishing: for a process that is every topic's consumer.
    ///
    /// # Errors
    /// [`PortErrorKind::Closed`](crate::port::PortErrorKind::Closed) when there will be no more.
    pub async fn receive_any(&self, max: usize) -> Result<Vec<Delivery<Routed>>, PortError> {
        loop {
            let mut ready = pin!(self.ready.notified());
            ready.as_mut().enable();
            let next = {
                let mut state = lock(&self.state);
                let batch = state.take_any(max.max(1));
                if !batch.is_empty() {
                    return Ok(batch);
                }
                if state.is_over(0..state.topics.len()) {
                    return Err(PortError::closed("receive messages"));
                }
                state.topics.iter().filter_map(MessageTopic::next_delayed).min()
            };
            wait(ready, next).await;
        }
    }

    /// Removes all messages that are ready, of all topics, in the order of publishing.
    pub fn take_all(&self) -> Vec<Routed> {
        let mut all = Vec::new();
        let mut state = lock(&self.state);
        state.topics.iter_mut().for_each(MessageTopic::wake_delayed);
        while let Some(first) = state.first() {
            all.extend(state.topics[first].lane.pop());
        }
        self.room.notify_waiters();
        all
    }

    /// Gives back all that is handed out, as a broker does when it loses a consumer; says how many
    /// messages. For tests and programs that replace an agent within one process.
    pub fn redeliver_unacked(&self) -> usize {
        let mut state = lock(&self.state);
        let count = state.topics.iter_mut().map(|topic| topic.lane.put_all_back()).sum();
        state.topics.iter().for_each(|topic| topic.ready.notify_waiters());
        self.ready.notify_waiters();
        count
    }

    /// How many dead letters were dropped for want of room.
    pub fn dropped_dead_letters(&self) -> u64 {
        lock(&self.state).dead.dropped()
    }

    /// Takes up messages that are kept elsewhere, at the ends of their topics; in the order of
    /// their `order`, which is higher than that of any message before.
    ///
    /// This and the following are for a backend that has its messages in a store as well, and
    /// this queue as the way to its consumers.
    pub fn restore(&self, messages: impl IntoIterator<Item = Kept<Routed>>) {
        let mut state = lock(&self.state);
        for kept in messages {
            state.published = state.published.max(kept.order);
            let number = state.topic(&kept.payload.topic);
            state.topics[number].lane.restore(kept);
            state.topics[number].ready.notify_waiters();
        }
        self.ready.notify_waiters();
    }

    /// Gives the next message this order or a higher one.
    pub fn start_at(&self, order: u64) {
        let mut state = lock(&self.state);
        state.published = state.published.max(order.saturating_sub(1));
    }

    /// Publishes the first of some messages, until a topic is full; says the order of each.
    ///
    /// # Errors
    /// [`PortErrorKind::Closed`](crate::port::PortErrorKind::Closed).
    pub fn publish_first(&self, messages: &[Routed]) -> Result<Vec<u64>, PortError> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(PortError::closed("publish messages"));
        }
        let mut orders = Vec::with_capacity(messages.len());
        let mut woke = false;
        for message in messages {
            let number = state.topic(&message.topic);
            if state.topics[number].len() >= self.capacity {
                break;
            }
            woke |= state.push(number, message.clone());
            orders.push(state.published);
        }
        if woke {
            self.ready.notify_waiters();
        }
        Ok(orders)
    }

    /// Ends when some message has left its topic, or the queue closes, after this call.
    pub fn room_made(&self) -> impl Future<Output = ()> + Send + '_ {
        // It counts from its making on, polled or not.
        self.room.notified()
    }

    /// Counts an attempt for the first so many messages of each topic, unless they have one: they
    /// may have been handed out by a process that died.
    pub fn suspect_first(&self, count: usize) {
        let mut state = lock(&self.state);
        state.topics.iter_mut().for_each(|topic| topic.lane.suspect_first(count));
    }

    /// The orders and attempts of what the tags have out.
    pub fn orders(&self, tags: &[DeliveryTag]) -> Vec<(u64, u32)> {
        let state = lock(&self.state);
        let order = |tag: &DeliveryTag| {
            let item = state.topics.get(Lane::<Routed>::of(tag))?.lane.out(tag)?;
            Some((item.order(), item.attempts))
        };
        tags.iter().filter_map(order).collect()
    }

    /// Acknowledges; says what has left by that.
    pub fn finish(&self, tags: &[DeliveryTag]) -> Vec<Kept<Routed>> {
        // Freed after the lock is.
        let mut done = Vec::with_capacity(tags.len());
        let mut state = lock(&self.state);
        done.extend(tags.iter().filter_map(|tag| state.end(tag)).map(Item::kept));
        self.left(&state);
        drop(state);
        done
    }

    /// Dead-letters a message; says its order, its letter, and the one that had to go for it.
    pub fn bury(&self, tag: DeliveryTag, reason: &str) -> Option<Buried<Routed>> {
        let mut state = lock(&self.state);
        let item = state.end(&tag)?;
        let order = item.order();
        let lost = state.dead.add(item, reason);
        self.left(&state);
        state.dead.last().cloned().map(|letter| Buried { order, letter, lost })
    }

    /// Takes up dead letters that are kept elsewhere.
    pub fn restore_dead(&self, letters: Vec<DeadLetter<Routed>>) {
        lock(&self.state).dead.restore(letters);
    }

    /// Removes the dead letters that are meant.
    pub fn exhume(&self, filter: &DeadLetterFilter) -> Vec<DeadLetter<Routed>> {
        lock(&self.state).dead.remove(filter)
    }

    /// Publishes whatever the capacity; says the order of each.
    ///
    /// # Errors
    /// [`PortErrorKind::Closed`](crate::port::PortErrorKind::Closed).
    pub fn publish_over(&self, messages: &[Routed]) -> Result<Vec<u64>, PortError> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(PortError::closed("redrive messages"));
        }
        let mut orders = Vec::with_capacity(messages.len());
        for message in messages {
            let number = state.topic(&message.topic);
            state.push(number, message.clone());
            orders.push(state.published);
        }
        self.ready.notify_waiters();
        Ok(orders)
    }

    /// The orders and attempts of all that is handed out or given back.
    pub fn all_tried(&self) -> Vec<(u64, u32)> {
        let state = lock(&self.state);
        let tried = |topic: &MessageTopic| -> Vec<_> {
            let known = |item: &Item<Routed>| (item.order(), item.attempts);
            let all = topic.lane.all_out().chain(topic.delayed.values());
            all.map(known).chain(topic.lane.tried().map(known)).collect()
        };
        state.topics.iter().flat_map(tried).collect()
    }

    /// Publishes until a topic is full; says which message has to wait.
    fn push_some(
        &self,
        messages: &mut std::iter::Peekable<std::vec::IntoIter<Routed>>,
        answers: &mut Vec<Result<(), PortError>>,
    ) {
        let mut state = lock(&self.state);
        let mut woke = false;
        while let Some(message) = messages.peek() {
            let number = state.topic(&message.topic);
            if !state.closed && state.topics[number].len() >= self.capacity {
                break;
            }
            let Some(message) = messages.next() else { break };
            answers.push(match state.closed {
                true => Err(PortError::closed("publish messages")),
                false => {
                    woke |= state.push(number, message);
                    Ok(())
                }
            });
        }
        if woke {
            self.ready.notify_waiters();
        }
    }

    /// Tells those who wait for room, or for the end, that messages have left.
    fn left(&self, state: &Topics) {
        self.room.notify_waiters();
        if state.closed {
            state.topics.iter().for_each(|topic| topic.ready.notify_waiters());
            self.ready.notify_waiters();
        }
    }
}

/// Waits to be told, or for a time.
async fn wait(told: impl Future<Output = ()>, until: Option<Instant>) {
    match until {
        None => told.await,
        Some(until) => {
            futures::future::select(pin!(told), pin!(sleep_until(until))).await;
        }
    }
}

#[async_trait]
impl MessageQ for MemoryMessageQ {
    async fn publish(&self, messages: Vec<Routed>) -> Vec<Result<(), PortError>> {
        let mut answers = Vec::with_capacity(messages.len());
        let mut messages = messages.into_iter().peekable();
        loop {
            self.push_some(&mut messages, &mut answers);
            if messages.peek().is_none() {
                return answers;
            }
            let mut room = pin!(self.room.notified());
            room.as_mut().enable();
            self.push_some(&mut messages, &mut answers);
            if messages.peek().is_none() {
                return answers;
            }
            room.await;
        }
    }

    async fn receive(
        &self,
        topics: &[Topic],
        max: usize,
    ) -> Result<Vec<Delivery<Routed>>, PortError> {
        let (numbers, signals): (Vec<_>, Vec<_>) = {
            let mut state = lock(&self.state);
            let numbers: Vec<_> = topics.iter().map(|topic| state.topic(topic)).collect();
            let batch = state.take(&numbers, max.max(1));
            if !batch.is_empty() {
                return Ok(batch);
            }
            numbers.into_iter().map(|number| (number, state.topics[number].ready.clone())).unzip()
        };
        loop {
            let mut told: Vec<_> =
                signals.iter().map(|signal| Box::pin(signal.notified())).collect();
            for told in &mut told {
                told.as_mut().enable();
            }
            let next = {
                let mut state = lock(&self.state);
                let batch = state.take(&numbers, max.max(1));
                if !batch.is_empty() {
                    return Ok(batch);
                }
                if state.is_over(numbers.iter().copied()) {
                    return Err(PortError::closed("receive messages"));
                }
                numbers.iter().filter_map(|number| state.topics[*number].next_delayed()).min()
            };
            match told.is_empty() {
                true => std::future::pending().await,
                false => wait(async { _ = select_all(told).await }, next).await,
            }
        }
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        self.finish(tags);
        Ok(())
    }

    async fn nack(&self, tag: DeliveryTag, delay_ms: u64) -> Result<(), PortError> {
        let mut state = lock(&self.state);
        let Some(item) = state.end(&tag) else { return Ok(()) };
        let topic = &mut state.topics[Lane::<Routed>::of(&tag)];
        match Instant::now().checked_add(Duration::from_millis(delay_ms)) {
            Some(due) if delay_ms > 0 => _ = topic.delayed.insert((due, item.order()), item),
            _ => topic.lane.put_back(item),
        }
        // Who waits for a message sees it now, or until when to wait for it.
        topic.ready.notify_waiters();
        self.ready.notify_waiters();
        Ok(())
    }

    async fn dead_letter(&self, tag: DeliveryTag, reason: &str) -> Result<(), PortError> {
        self.bury(tag, reason);
        Ok(())
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Routed>>, PortError> {
        Ok(lock(&self.state).dead.list(filter))
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(PortError::closed("redrive messages"));
        }
        let letters = state.dead.remove(filter);
        let count = letters.len();
        for message in letters.into_iter().map(|letter| letter.payload) {
            let number = state.topic(&message.topic);
            state.push(number, message);
        }
        self.ready.notify_waiters();
        Ok(count)
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        Ok(lock(&self.state).dead.remove(filter).len())
    }

    async fn depth(&self, topic: &Topic) -> Result<usize, PortError> {
        let state = lock(&self.state);
        Ok(state.numbers.get(topic).map_or(0, |number| state.topics[*number].len()))
    }
}
