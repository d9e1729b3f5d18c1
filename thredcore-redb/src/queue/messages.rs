//! The messages that wait, as memory holds them.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use parking_lot::Mutex;
use thredcore::port::{
    Delivery, DeliveryTag, PortError, PortErrorKind, Returned, Routed, TopicBacklog,
};
use thredlib::Topic;
use tokio::{
    sync::{Notify, futures::Notified},
    time::{Instant, sleep_until},
};

use super::{
    events::Consumer,
    lane::{Item, Lane, Tried},
    topics::{TopicLine, Topics},
};
use crate::config::RedbConfig;

/// A line for each topic.
#[derive(Debug)]
pub(crate) struct Messages {
    /// One lock for all topics keeps one order of all messages; it is taken once for a batch.
    state: Mutex<Topics>,
    capacity: usize,
    time_to_live: Option<i64>,
    idle: Option<i64>,
    /// Told when a message becomes ready anywhere.
    ready: Notify,
}

/// What became of messages: the order of each, or why not.
pub(super) type Published = Vec<Result<u64, PortError>>;

fn full(topic: &Topic) -> PortError {
    let cause = format!("the topic {topic} is full");
    PortError::new("publish messages", PortErrorKind::Full, cause)
}

impl Messages {
    pub(crate) fn new(config: &RedbConfig) -> Self {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self {
            state: Mutex::new(Topics::new()),
            capacity: config.message_capacity,
            time_to_live: config.message_ttl.map(millis),
            idle: config.idle_expiry.map(millis),
            ready: Notify::new(),
        }
    }

    /// Takes nothing more; consumers get what is there, and `Closed` once all is acknowledged.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.tell_all(&state);
    }

    fn tell_all(&self, state: &Topics) {
        state.all().for_each(|line| line.ready.notify_waiters());
        self.ready.notify_waiters();
    }

    /// Takes up messages of the file, in their order.
    pub(crate) fn restore(&self, items: impl IntoIterator<Item = Item<Routed>>, now: i64) {
        let mut state = self.state.lock();
        items.into_iter().for_each(|item| state.restore(item, now));
        self.tell_all(&state);
    }

    /// Gives the next message this order or a higher one.
    pub(crate) fn start_at(&self, order: u64) {
        let mut state = self.state.lock();
        state.published = state.published.max(order.saturating_sub(1));
    }

    /// Publishes messages whose text is known; those of a topic that is full are refused, and all
    /// later ones of the same topic.
    pub(super) fn publish(&self, messages: Vec<Routed>, over: bool, now: i64) -> Published {
        let mut state = self.state.lock();
        if state.closed {
            let closed = |_| Err(PortError::closed("publish messages"));
            return messages.iter().map(closed).collect();
        }
        let mut refused: Vec<Topic> = vec![];
        let mut woke = false;
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            let depth = state.known(&message.topic).map_or(0, TopicLine::len);
            if !over && (depth >= self.capacity || refused.contains(&message.topic)) {
                answers.push(Err(full(&message.topic)));
                if !refused.contains(&message.topic) {
                    refused.push(message.topic);
                }
                continue;
            }
            let (order, was_idle) = state.push(message, now);
            woke |= was_idle;
            answers.push(Ok(order));
        }
        if woke {
            self.ready.notify_waiters();
        }
        answers
    }

    /// Messages that have waited for too long, now and then; and topics that nobody has to do with
    /// are gone.
    pub(super) fn sweep(&self, now: i64) -> Vec<Item<Routed>> {
        self.state.lock().sweep(now, self.time_to_live, self.idle)
    }

    /// Like [`sweep`](Self::sweep), at once.
    pub(super) fn look(&self, now: i64) -> Vec<Item<Routed>> {
        self.state.lock().look(now, self.time_to_live, self.idle)
    }

    pub(super) async fn receive(
        &self,
        topics: &[Topic],
        max: usize,
        now: i64,
    ) -> Result<Vec<Delivery<Routed>>, PortError> {
        let mut numbers = vec![];
        let mut signals = vec![];
        let mut counts = vec![];
        {
            let mut state = self.state.lock();
            for topic in topics {
                let (number, line) = state.line(topic, now);
                numbers.push(number);
                signals.push(line.ready.clone());
                counts.push(line.consumers.clone());
            }
            let batch = state.take(&numbers, max.max(1));
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
        let _consumers: Vec<_> = counts.iter().map(|count| Consumer::of(count)).collect();
        loop {
            let mut told: Vec<Pin<Box<Notified<'_>>>> =
                signals.iter().map(|signal: &Arc<Notify>| Box::pin(signal.notified())).collect();
            for told in &mut told {
                told.as_mut().enable();
            }
            let next = {
                let mut state = self.state.lock();
                let batch = state.take(&numbers, max.max(1));
                if !batch.is_empty() {
                    return Ok(batch);
                }
                if state.is_over(numbers.iter().copied()) {
                    return Err(PortError::closed("receive messages"));
                }
                let lines = numbers.iter().filter_map(|number| state.topics[*number].as_ref());
                lines.filter_map(TopicLine::next_delayed).min()
            };
            let any = std::future::poll_fn(|cx| {
                if told.iter_mut().any(|told| told.as_mut().poll(cx).is_ready()) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
            wait(any, next).await;
        }
    }

    /// Messages of all topics there are and will be, in the order of publishing.
    pub(super) async fn receive_any(&self, max: usize) -> Result<Vec<Delivery<Routed>>, PortError> {
        loop {
            let mut ready = pin!(self.ready.notified());
            ready.as_mut().enable();
            let next = {
                let mut state = self.state.lock();
                let batch = state.take_any(max.max(1));
                if !batch.is_empty() {
                    return Ok(batch);
                }
                if state.is_over(0..state.topics.len()) {
                    return Err(PortError::closed("receive messages"));
                }
                state.all().filter_map(TopicLine::next_delayed).min()
            };
            wait(ready, next).await;
        }
    }

    /// Counts an attempt for the first so many messages of each topic, unless they have one: they
    /// may have been handed out by a process that died.
    pub(crate) fn suspect_first(&self, count: usize) {
        let mut state = self.state.lock();
        state.topics.iter_mut().flatten().for_each(|line| line.lane.suspect_first(count));
    }

    /// What has been tried with what the tags have out.
    pub(super) fn tried(&self, tags: &[DeliveryTag]) -> Vec<(u64, Tried)> {
        let state = self.state.lock();
        let tried =
            |tag: &DeliveryTag| state.topics.get(Lane::<Routed>::of(tag))?.as_ref()?.lane.out(tag);
        tags.iter().filter_map(tried).collect()
    }

    /// What has been tried with all that is handed out, has been given back or waits.
    pub(crate) fn all_tried(&self) -> Vec<(u64, Tried)> {
        let state = self.state.lock();
        let tried = |line: &TopicLine| -> Vec<_> {
            let delayed = line.delayed.values().map(|item| (item.order, item.tried));
            line.lane.tried().chain(delayed).collect()
        };
        state.all().flat_map(tried).collect()
    }

    /// Ends deliveries; says what has left by that.
    pub(super) fn finish(&self, tags: &[DeliveryTag]) -> Vec<Item<Routed>> {
        // Freed after the lock is.
        let mut done = Vec::with_capacity(tags.len());
        let mut state = self.state.lock();
        done.extend(tags.iter().filter_map(|tag| state.end(tag)));
        if state.closed {
            self.tell_all(&state);
        }
        drop(state);
        done
    }

    /// Gives a message back; says what has been tried with it.
    pub(super) fn give_back(
        &self,
        tag: &DeliveryTag,
        delay: Duration,
        why: Returned,
        now: i64,
    ) -> Option<(u64, Tried)> {
        let known = self.state.lock().give_back(tag, delay, why, now);
        self.ready.notify_waiters();
        known
    }

    pub(super) fn purge(&self, topic: &Topic) -> Vec<Item<Routed>> {
        let mut state = self.state.lock();
        let gone = state.purge(topic);
        if state.closed {
            self.tell_all(&state);
        }
        gone
    }

    /// `None` when the topic has consumers.
    pub(super) fn delete(&self, topic: &Topic) -> Option<Vec<Item<Routed>>> {
        self.state.lock().delete(topic)
    }

    pub(super) fn depth(&self, topic: &Topic) -> usize {
        self.state.lock().known(topic).map_or(0, TopicLine::len)
    }

    pub(super) fn backlog(&self) -> Vec<TopicBacklog> {
        self.state.lock().backlog()
    }
}

/// Waits to be told, or for a time.
async fn wait(told: impl Future<Output = ()>, until: Option<Instant>) {
    match until {
        None => told.await,
        Some(until) => tokio::select! {
            () = told => {}
            () = sleep_until(until) => {}
        },
    }
}
