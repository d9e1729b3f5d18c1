//! The queue of what goes out.

use std::{pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::select_all;
use parking_lot::Mutex;
use thredlib::Topic;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    dead_letters::{Buried, DeadLetters, Limits, queue_setters},
    lane::{Item, Kept, Lane},
    topics::{MessageTopic, Topics},
};
use crate::port::{
    Clock, DeadLetter, DeadLetterFilter, Death, Delivery, DeliveryTag, MessageQ, PortError,
    PortErrorKind, Quarantine, Returned, Routed, SystemClock, TopicBacklog, Unreadable,
};

/// Limits of a [`MemoryMessageQ`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemoryMessageQConfig {
    /// With so many messages waiting on a topic it is full: 65,536.
    pub capacity: usize,
    /// How long a message waits before it goes to the dead letters as
    /// [`EXPIRED`](MemoryMessageQ::EXPIRED): without end.
    pub message_ttl: Option<Duration>,
    /// How long a topic without messages and consumers stays: for good.
    pub idle_expiry: Option<Duration>,
    /// How large a message with its topic may be as JSON: 64 MiB. Said to the engine; a larger one
    /// is taken too.
    pub max_item_bytes: usize,
    /// How long dead letters are kept: 30 days.
    pub dead_letters_time: Duration,
    /// How many bytes of dead letters are kept: 64 MiB. With more the oldest is dropped. So is one
    /// whose time is over, each with a warning; [`MemoryMessageQ::dropped_dead_letters`] counts
    /// them.
    pub dead_letters_bytes: usize,
    /// Tells when a message was published or dead-lettered.
    pub clock: Arc<dyn Clock>,
}

impl Default for MemoryMessageQConfig {
    fn default() -> Self {
        Self {
            capacity: 65_536,
            message_ttl: None,
            idle_expiry: None,
            max_item_bytes: 64 << 20,
            dead_letters_time: super::DEAD_LETTERS_TIME,
            dead_letters_bytes: 64 << 20,
            clock: Arc::new(SystemClock),
        }
    }
}

impl MemoryMessageQConfig {
    /// Sets how many messages wait on a topic before it is full; at least 1.
    #[must_use]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages.max(1);
        self
    }

    /// Sets how long a message waits before it goes to the dead letters.
    #[must_use]
    pub fn message_ttl(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.message_ttl = time.into();
        self
    }

    /// Sets how long a topic without messages and consumers stays.
    #[must_use]
    pub fn idle_expiry(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.idle_expiry = time.into();
        self
    }

    queue_setters!();
}

/// A [`MessageQ`] in memory. Topics come into being when they are named.
#[derive(Debug)]
pub struct MemoryMessageQ {
    /// One lock for all topics keeps one order of all messages; it is taken once for a batch.
    state: Mutex<State>,
    config: MemoryMessageQConfig,
    /// Told when a message becomes ready anywhere.
    ready: Notify,
}

#[derive(Debug)]
struct State {
    topics: Topics,
    dead: DeadLetters<Routed>,
    /// When to look for what has expired.
    next_sweep: i64,
}

/// The longest delay; the runtime's clock cannot count much further.
const MAX_DELAY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Default for MemoryMessageQ {
    fn default() -> Self {
        Self::new(MemoryMessageQConfig::default())
    }
}

impl MemoryMessageQ {
    /// The reason of a message that nobody has taken in its time.
    pub const EXPIRED: &'static str = "EXPIRED";

    /// An empty queue.
    pub fn new(config: MemoryMessageQConfig) -> Self {
        let state = State {
            topics: Topics::default(),
            dead: DeadLetters::new(config.dead_letter_limits()),
            next_sweep: i64::MIN,
        };
        Self { state: Mutex::new(state), config, ready: Notify::new() }
    }

    fn now(&self) -> i64 {
        self.config.clock.now()
    }

    /// Takes nothing more; consumers get what is in the queue, and
    /// [`Closed`](crate::port::PortErrorKind::Closed) once all of that is acknowledged.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.topics.closed = true;
        self.tell_all(&state.topics);
    }

    fn tell_all(&self, topics: &Topics) {
        topics.topics.iter().for_each(|topic| topic.ready.notify_waiters());
        self.ready.notify_waiters();
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
                let mut state = self.state.lock();
                self.sweep(&mut state, false);
                let topics = &mut state.topics;
                let batch = topics.take_any(max.max(1));
                if !batch.is_empty() {
                    return Ok(batch);
                }
                if topics.is_over(0..topics.topics.len()) {
                    return Err(PortError::closed("receive messages"));
                }
                topics.topics.iter().filter_map(MessageTopic::next_delayed).min()
            };
            wait(ready, next).await;
        }
    }

    /// Removes all messages that are ready, of all topics, in the order of publishing.
    pub fn take_all(&self) -> Vec<Routed> {
        let mut all = Vec::new();
        let mut state = self.state.lock();
        self.sweep(&mut state, false);
        let topics = &mut state.topics;
        topics.topics.iter_mut().for_each(MessageTopic::wake_delayed);
        while let Some(first) = topics.first() {
            all.extend(topics.topics[first].lane.pop().map(|item| item.payload));
        }
        all
    }

    /// Gives back all that is handed out, as a broker does when it loses a consumer; says how many
    /// messages. For tests and programs that replace an agent within one process.
    pub fn redeliver_unacked(&self) -> usize {
        let mut state = self.state.lock();
        let topics = &mut state.topics;
        let count = topics.topics.iter_mut().map(|topic| topic.lane.put_all_back()).sum();
        self.tell_all(topics);
        count
    }

    /// How many dead letters were dropped, since their time was over or for want of room.
    pub fn dropped_dead_letters(&self) -> u64 {
        self.state.lock().dead.dropped()
    }

    /// Takes up messages that are kept elsewhere, at the ends of their topics; in the order of
    /// their `order`, which is higher than that of any message before.
    ///
    /// This and the following are for a backend that has its messages in a store as well, and
    /// this queue as the way to its consumers. It leaves `message_ttl` unset here, and calls
    /// [`expire`](Self::expire).
    pub fn restore(&self, messages: impl IntoIterator<Item = Kept<Routed>>) {
        let now = self.now();
        let mut state = self.state.lock();
        let topics = &mut state.topics;
        for kept in messages {
            topics.published = topics.published.max(kept.order);
            let number = topics.topic(&kept.payload.topic, now);
            topics.topics[number].lane.restore(kept);
            topics.topics[number].ready.notify_waiters();
        }
        self.ready.notify_waiters();
    }

    /// Gives the next message this order or a higher one.
    pub fn start_at(&self, order: u64) {
        let topics = &mut self.state.lock().topics;
        topics.published = topics.published.max(order.saturating_sub(1));
    }

    /// Publishes messages of topics that are not full; says the order of each.
    pub fn publish_each(&self, messages: &[Routed]) -> Vec<Result<u64, PortError>> {
        self.push_each(messages.iter().cloned())
    }

    /// Counts an attempt for the first so many messages of each topic, unless they have one: they
    /// may have been handed out by a process that died.
    pub fn suspect_first(&self, count: usize) {
        let topics = &mut self.state.lock().topics;
        topics.topics.iter_mut().for_each(|topic| topic.lane.suspect_first(count));
    }

    /// The orders and attempts of what the tags have out.
    pub fn orders(&self, tags: &[DeliveryTag]) -> Vec<(u64, u32)> {
        let state = self.state.lock();
        let order = |tag: &DeliveryTag| {
            let item = state.topics.topics.get(Lane::<Routed>::of(tag))?.lane.out(tag)?;
            Some((item.order(), item.attempts))
        };
        tags.iter().filter_map(order).collect()
    }

    /// Acknowledges; says what has left by that.
    pub fn finish(&self, tags: &[DeliveryTag]) -> Vec<Kept<Routed>> {
        // Freed after the lock is.
        let mut done = Vec::with_capacity(tags.len());
        let mut state = self.state.lock();
        done.extend(tags.iter().filter_map(|tag| state.topics.end(tag)).map(Item::kept));
        self.left(&state.topics);
        drop(state);
        done
    }

    /// Dead-letters a message; says what that did.
    pub fn bury_delivery(&self, tag: DeliveryTag, reason: &str) -> Option<Buried<Routed>> {
        let mut state = self.state.lock();
        let item = state.topics.end(&tag)?;
        let buried = state.dead.add(item, because(reason));
        self.left(&state.topics);
        Some(buried)
    }

    /// Dead-letters a message that was never published; says what that did.
    pub fn bury_unpublished(&self, message: Routed, reason: &str) -> Buried<Routed> {
        self.state.lock().dead.add_payload(message, 0, because(reason))
    }

    /// Dead-letters what was published at a time (milliseconds since the Unix epoch) or before and
    /// is not handed out; says what that did.
    pub fn expire(&self, published_until: i64) -> Vec<Buried<Routed>> {
        self.state.lock().expire(published_until)
    }

    /// Drops dead letters whose time is over; says which.
    pub fn expire_dead(&self) -> Vec<DeadLetter<Routed>> {
        self.state.lock().dead.expire()
    }

    /// Takes up dead letters that are kept elsewhere.
    pub fn restore_dead(&self, letters: Vec<DeadLetter<Routed>>) {
        self.state.lock().dead.restore(letters);
    }

    /// Removes the dead letters that are meant.
    pub fn exhume(&self, filter: &DeadLetterFilter) -> Vec<DeadLetter<Routed>> {
        self.state.lock().dead.remove(filter)
    }

    /// Publishes whatever the capacity; says the order of each.
    ///
    /// # Errors
    /// [`PortErrorKind::Closed`](crate::port::PortErrorKind::Closed).
    pub fn publish_over(&self, messages: &[Routed]) -> Result<Vec<u64>, PortError> {
        let now = self.now();
        let topics = &mut self.state.lock().topics;
        if topics.closed {
            return Err(PortError::closed("redrive messages"));
        }
        let mut orders = Vec::with_capacity(messages.len());
        for message in messages {
            let number = topics.topic(&message.topic, now);
            topics.push(number, message.clone(), now);
            orders.push(topics.published);
        }
        self.ready.notify_waiters();
        Ok(orders)
    }

    /// Removes what waits on a topic and is not handed out.
    pub fn purged(&self, topic: &Topic) -> Vec<Kept<Routed>> {
        let mut state = self.state.lock();
        let items = state.topics.find_mut(topic).map_or(vec![], MessageTopic::purge);
        self.left(&state.topics);
        items.into_iter().map(Item::kept).collect()
    }

    /// Removes a topic with all that waits on it.
    ///
    /// # Errors
    /// [`PortErrorKind::Rejected`]: it has consumers.
    pub fn removed(&self, topic: &Topic) -> Result<Vec<Kept<Routed>>, PortError> {
        let mut state = self.state.lock();
        if state.topics.find(topic).is_some_and(|topic| topic.consumers() > 0) {
            let cause = "the topic has consumers";
            return Err(PortError::new("delete a topic", PortErrorKind::Rejected, cause));
        }
        let items = state.topics.remove(topic);
        self.left(&state.topics);
        Ok(items.into_iter().map(Item::kept).collect())
    }

    /// Gives a message back; says what it is now.
    pub fn give_back(
        &self,
        tag: DeliveryTag,
        delay_ms: u64,
        why: Returned,
    ) -> Option<Kept<Routed>> {
        let mut state = self.state.lock();
        let mut item = state.topics.end(&tag)?;
        match why {
            Returned::Failed => item.failures += 1,
            Returned::Untried => item.attempts -= 1,
        }
        let kept = item.known();
        let topic = &mut state.topics.topics[Lane::<Routed>::of(&tag)];
        match delay_ms {
            0 => topic.lane.put_back(item),
            _ => {
                let due = Instant::now() + Duration::from_millis(delay_ms).min(MAX_DELAY);
                topic.delayed.insert((due, item.order()), item);
            }
        }
        // Who waits for a message sees it now, or until when to wait for it.
        topic.ready.notify_waiters();
        self.ready.notify_waiters();
        Some(kept)
    }

    /// The orders and attempts of all that is handed out or given back.
    pub fn all_tried(&self) -> Vec<(u64, u32)> {
        let state = self.state.lock();
        let tried = |topic: &MessageTopic| -> Vec<_> {
            let known = |item: &Item<Routed>| (item.order(), item.attempts);
            let all = topic.lane.all_out().chain(topic.delayed.values());
            all.map(known).chain(topic.lane.tried().map(known)).collect()
        };
        state.topics.topics.iter().flat_map(tried).collect()
    }

    fn push_each(
        &self,
        messages: impl ExactSizeIterator<Item = Routed>,
    ) -> Vec<Result<u64, PortError>> {
        let now = self.now();
        let mut state = self.state.lock();
        self.sweep(&mut state, false);
        let mut woke = false;
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            answers.push(match self.push(&mut state.topics, message, now) {
                Ok(was_idle) => {
                    woke |= was_idle;
                    Ok(state.topics.published)
                }
                Err(error) => Err(error),
            });
        }
        if woke {
            self.ready.notify_waiters();
        }
        answers
    }

    /// Says whether the topic had no message ready.
    fn push(&self, topics: &mut Topics, message: Routed, now: i64) -> Result<bool, PortError> {
        if topics.closed {
            return Err(PortError::closed("publish messages"));
        }
        let number = topics.topic(&message.topic, now);
        if topics.topics[number].len() >= self.config.capacity.max(1) {
            let cause = format!("{} messages wait on {}", self.config.capacity, message.topic);
            return Err(PortError::new("publish messages", PortErrorKind::Full, cause));
        }
        Ok(topics.push(number, message, now))
    }

    /// Looks for what has expired, from time to time or at once.
    fn sweep(&self, state: &mut State, at_once: bool) {
        let (ttl, idle) = (self.config.message_ttl, self.config.idle_expiry);
        let Some(shortest) = ttl.into_iter().chain(idle).min() else { return };
        let now = self.now();
        if !at_once && now < state.next_sweep {
            return;
        }
        // Late by no more than a tenth.
        state.next_sweep = now.saturating_add((millis(shortest) / 10).min(10_000));
        if let Some(ttl) = ttl {
            state.expire(now.saturating_sub(millis(ttl)));
        }
        if let Some(idle) = idle {
            state.topics.remove_idle(now, now.saturating_sub(millis(idle)));
        }
    }

    /// Tells those who wait for the end that messages have left.
    fn left(&self, topics: &Topics) {
        if topics.closed {
            self.tell_all(topics);
        }
    }
}

impl State {
    fn expire(&mut self, published_until: i64) -> Vec<Buried<Routed>> {
        let mut all = vec![];
        for topic in &mut self.topics.topics {
            for item in topic.expired(published_until) {
                all.push(self.dead.add(item, because(MemoryMessageQ::EXPIRED)));
            }
        }
        all
    }
}

fn because(reason: &str) -> Death {
    Death { reason: reason.to_owned(), ..Death::default() }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
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
    fn max_item_bytes(&self) -> usize {
        self.config.max_item_bytes
    }

    async fn publish(&self, messages: Vec<Routed>) -> Vec<Result<(), PortError>> {
        let answers = self.push_each(messages.into_iter());
        answers.into_iter().map(|answer| answer.map(|_order| ())).collect()
    }

    async fn receive(
        &self,
        topics: &[Topic],
        max: usize,
    ) -> Result<Vec<Delivery<Routed>>, PortError> {
        let (numbers, signals): (Vec<_>, Vec<_>) = {
            let now = self.now();
            let mut state = self.state.lock();
            self.sweep(&mut state, false);
            let numbers: Vec<_> =
                topics.iter().map(|topic| state.topics.topic(topic, now)).collect();
            let batch = state.topics.take(&numbers, max.max(1));
            if !batch.is_empty() {
                return Ok(batch);
            }
            let topic = |number: usize| {
                let topic = &mut state.topics.topics[number];
                topic.used_at = now;
                (number, (topic.ready.clone(), topic.waiting.clone()))
            };
            numbers.into_iter().map(topic).unzip()
        };
        // A topic with a consumer is not removed, so that the numbers stay right.
        let _waiting: Vec<_> = signals.iter().map(|(_, waiting)| waiting.enter()).collect();
        loop {
            let mut told: Vec<_> =
                signals.iter().map(|(ready, _)| Box::pin(ready.notified())).collect();
            for told in &mut told {
                told.as_mut().enable();
            }
            let next = {
                let mut state = self.state.lock();
                self.sweep(&mut state, false);
                let batch = state.topics.take(&numbers, max.max(1));
                if !batch.is_empty() {
                    return Ok(batch);
                }
                if state.topics.is_over(numbers.iter().copied()) {
                    return Err(PortError::closed("receive messages"));
                }
                let topics = numbers.iter().map(|number| &state.topics.topics[*number]);
                topics.filter_map(MessageTopic::next_delayed).min()
            };
            if told.is_empty() {
                std::future::pending().await
            } else {
                wait(async { _ = select_all(told).await }, next).await
            }
        }
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        self.finish(tags);
        Ok(())
    }

    async fn nack(&self, tag: DeliveryTag, delay_ms: u64, why: Returned) -> Result<(), PortError> {
        self.give_back(tag, delay_ms, why);
        Ok(())
    }

    async fn dead_letter(&self, tag: DeliveryTag, reason: &str) -> Result<(), PortError> {
        self.bury_delivery(tag, reason);
        Ok(())
    }

    async fn bury(&self, messages: Vec<(Routed, String)>) -> Result<(), PortError> {
        let mut state = self.state.lock();
        for (message, reason) in messages {
            state.dead.add_payload(message, 0, because(&reason));
        }
        Ok(())
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Routed>>, PortError> {
        let mut state = self.state.lock();
        self.sweep(&mut state, true);
        state.dead.expire();
        Ok(state.dead.list(filter))
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        let now = self.now();
        let mut state = self.state.lock();
        if state.topics.closed {
            return Err(PortError::closed("redrive messages"));
        }
        state.dead.expire();
        let letters = state.dead.remove(filter);
        let count = letters.len();
        for message in letters.into_iter().map(|letter| letter.payload) {
            let number = state.topics.topic(&message.topic, now);
            state.topics.push(number, message, now);
        }
        self.ready.notify_waiters();
        Ok(count)
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        Ok(self.exhume(filter).len())
    }

    async fn depth(&self, topic: &Topic) -> Result<usize, PortError> {
        let mut state = self.state.lock();
        self.sweep(&mut state, true);
        Ok(state.topics.find(topic).map_or(0, MessageTopic::len))
    }

    async fn backlog(&self) -> Result<Vec<TopicBacklog>, PortError> {
        let mut state = self.state.lock();
        self.sweep(&mut state, true);
        state.dead.expire();
        let mut topics = state.topics.backlog();
        for letter in state.dead.iter() {
            if let Some(topic) = topics.get_mut(&letter.payload.topic) {
                topic.backlog.dead_letters += 1;
            }
        }
        Ok(topics.into_values().collect())
    }

    async fn purge(&self, topic: &Topic) -> Result<u64, PortError> {
        Ok(self.purged(topic).len() as u64)
    }

    async fn delete(&self, topic: &Topic) -> Result<u64, PortError> {
        Ok(self.removed(topic)?.len() as u64)
    }
}

/// Nothing is ever written down here that would have to be read again.
#[async_trait]
impl Quarantine for MemoryMessageQ {
    async fn unreadable(&self, _limit: usize) -> Result<Vec<Unreadable>, PortError> {
        Ok(vec![])
    }

    async fn move_out(&self, _limit: usize) -> Result<Vec<Unreadable>, PortError> {
        Ok(vec![])
    }
}
