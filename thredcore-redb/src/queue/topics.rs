//! The topics of the queue of messages.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use thredcore::port::{Backlog, Delivery, DeliveryTag, Returned, Routed, TopicBacklog};
use thredlib::Topic;
use tokio::{sync::Notify, time::Instant};

use super::lane::{Item, Lane, Tried};

/// All topics with their messages.
#[derive(Debug)]
pub(super) struct Topics {
    /// A topic that is removed leaves a free place.
    pub(super) topics: Vec<Option<TopicLine>>,
    numbers: HashMap<Topic, usize>,
    /// Free places, each with the number of the last delivery there.
    free: Vec<(usize, u64)>,
    pub(super) published: u64,
    received: usize,
    pub(super) closed: bool,
    swept_at: i64,
}

/// The messages of one topic.
#[derive(Debug)]
pub(super) struct TopicLine {
    pub(super) topic: Topic,
    pub(super) lane: Lane<Routed>,
    /// Given back, by when they are due and their old place.
    pub(super) delayed: BTreeMap<(Instant, u64), Item<Routed>>,
    /// Told when a message becomes ready on a topic that had none, and when the queue closes.
    pub(super) ready: Arc<Notify>,
    pub(super) consumers: Arc<AtomicU32>,
    /// When somebody last had to do with it.
    used_at: i64,
}

impl TopicLine {
    pub(super) fn len(&self) -> usize {
        self.lane.len() + self.delayed.len()
    }

    fn is_consumed(&self) -> bool {
        self.consumers.load(Ordering::Acquire) > 0 || self.lane.out_count() > 0
    }

    /// Puts back what has been delayed for long enough.
    fn wake_delayed(&mut self) {
        if self.delayed.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(first) = self.delayed.first_entry()
            && first.key().0 <= now
        {
            let item = first.remove();
            self.lane.put_back(item);
        }
    }

    pub(super) fn next_delayed(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|((due, _), _)| *due)
    }

    /// Removes what is not handed out and meant.
    fn remove(&mut self, mut is_meant: impl FnMut(&Item<Routed>) -> bool) -> Vec<Item<Routed>> {
        let mut gone = self.lane.remove(&mut is_meant);
        gone.extend(self.delayed.extract_if(.., |_, item| is_meant(item)).map(|(_, item)| item));
        gone
    }

    fn first_is_suspect(&self) -> bool {
        self.lane.first().is_some_and(Item::is_suspect)
    }
}

impl Topics {
    pub(super) fn new() -> Self {
        Self {
            topics: vec![],
            numbers: HashMap::new(),
            free: vec![],
            published: 0,
            received: 0,
            closed: false,
            swept_at: 0,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &TopicLine> {
        self.topics.iter().flatten()
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut TopicLine> {
        self.topics.iter_mut().flatten()
    }

    pub(super) fn known(&self, topic: &Topic) -> Option<&TopicLine> {
        self.topics[*self.numbers.get(topic)?].as_ref()
    }

    /// The line of a topic; it comes into being when it is named.
    pub(super) fn line(&mut self, topic: &Topic, now: i64) -> (usize, &mut TopicLine) {
        let number = match self.numbers.get(topic) {
            Some(number) => *number,
            None => {
                let (number, deliveries) = self.free.pop().unwrap_or_else(|| {
                    self.topics.push(None);
                    (self.topics.len() - 1, 0)
                });
                self.numbers.insert(topic.clone(), number);
                self.topics[number] = Some(TopicLine {
                    topic: topic.clone(),
                    lane: Lane::new(number as u32, deliveries),
                    delayed: BTreeMap::new(),
                    ready: Arc::default(),
                    consumers: Arc::default(),
                    used_at: now,
                });
                number
            }
        };
        match &mut self.topics[number] {
            Some(line) => {
                line.used_at = line.used_at.max(now);
                (number, line)
            }
            None => unreachable!("a topic that has a number is there"),
        }
    }

    /// Adds a message; says its order, and whether its topic had none ready.
    pub(super) fn push(&mut self, payload: Routed, now: i64) -> (u64, bool) {
        self.published += 1;
        let order = self.published;
        let (_, line) = self.line(&payload.topic.clone(), now);
        let was_idle = line.lane.ready() == 0;
        line.lane.push(Item { payload, order, at: now, tried: Tried::default() });
        if was_idle {
            line.ready.notify_waiters();
        }
        (order, was_idle)
    }

    /// Takes up a message of the file.
    pub(super) fn restore(&mut self, item: Item<Routed>, now: i64) {
        self.published = self.published.max(item.order);
        let (_, line) = self.line(&item.payload.topic.clone(), now);
        let wait = u64::try_from(item.tried.due.saturating_sub(now)).unwrap_or(0);
        match Instant::now().checked_add(Duration::from_millis(wait)) {
            Some(due) if wait > 0 => _ = line.delayed.insert((due, item.order), item),
            _ => line.lane.push(item),
        }
    }

    /// Hands out messages of some topics, to each topic an equal part as far as it has so many; a
    /// suspect one alone.
    pub(super) fn take(&mut self, numbers: &[usize], max: usize) -> Vec<Delivery<Routed>> {
        let mut batch = Vec::new();
        let mut left: Vec<usize> = Vec::with_capacity(numbers.len());
        // Another topic goes first each time, for batches smaller than the number of topics.
        self.received = self.received.wrapping_add(1);
        for place in 0..numbers.len() {
            let number = numbers[(place + self.received) % numbers.len()];
            let Some(line) = &mut self.topics[number] else { continue };
            line.wake_delayed();
            if line.lane.ready() > 0 {
                left.push(number);
            }
        }
        while batch.len() < max && !left.is_empty() {
            let share = ((max - batch.len()) / left.len()).max(1);
            let mut is_alone = false;
            left.retain(|number| {
                let Some(line) = &mut self.topics[*number] else { return false };
                if is_alone || (line.first_is_suspect() && !batch.is_empty()) {
                    return false;
                }
                is_alone = line.first_is_suspect();
                line.lane.take(share.min(max - batch.len()), &mut batch);
                !is_alone && line.lane.ready() > 0 && !line.first_is_suspect()
            });
            if is_alone {
                break;
            }
        }
        batch
    }

    /// Hands out messages of all topics in the order of their publishing; a suspect one alone.
    pub(super) fn take_any(&mut self, max: usize) -> Vec<Delivery<Routed>> {
        let mut batch = Vec::new();
        self.all_mut().for_each(TopicLine::wake_delayed);
        while batch.len() < max {
            let ready = self.all_mut().filter_map(|line| Some((line.lane.first()?.order, line)));
            let Some((_, line)) = ready.min_by_key(|(order, _)| *order) else { break };
            let is_suspect = line.first_is_suspect();
            if is_suspect && !batch.is_empty() {
                break;
            }
            line.lane.take(1, &mut batch);
            if is_suspect {
                break;
            }
        }
        batch
    }

    pub(super) fn end(&mut self, tag: &DeliveryTag) -> Option<Item<Routed>> {
        self.topics.get_mut(Lane::<Routed>::of(tag))?.as_mut()?.lane.end(tag)
    }

    /// Gives a message back; says what has been tried with it and until when it waits.
    pub(super) fn give_back(
        &mut self,
        tag: &DeliveryTag,
        delay: Duration,
        why: Returned,
        now: i64,
    ) -> Option<(u64, Tried)> {
        let line = self.topics.get_mut(Lane::<Routed>::of(tag))?.as_mut()?;
        let mut item = line.lane.end(tag)?;
        line.used_at = line.used_at.max(now);
        match why {
            Returned::Failed => item.tried.failures += 1,
            Returned::Untried => item.tried.attempts = item.tried.attempts.saturating_sub(1),
        }
        let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        let known = match Instant::now().checked_add(delay) {
            Some(due) if !delay.is_zero() => {
                item.tried.due = now.saturating_add(delay_ms);
                let known = (item.order, item.tried);
                line.delayed.insert((due, item.order), item);
                known
            }
            _ => {
                let known = (item.order, item.tried);
                line.lane.put_back(item);
                known
            }
        };
        // Who waits for a message sees it now, or until when to wait for it.
        line.ready.notify_waiters();
        Some(known)
    }

    /// Whether there will be no more messages on some topics.
    pub(super) fn is_over(&self, mut numbers: impl Iterator<Item = usize>) -> bool {
        let is_empty = |number: usize| {
            self.topics.get(number).is_none_or(|line| line.as_ref().is_none_or(|it| it.len() == 0))
        };
        self.closed && numbers.all(is_empty)
    }

    /// Removes all that waits on a topic.
    pub(super) fn purge(&mut self, topic: &Topic) -> Vec<Item<Routed>> {
        let Some(number) = self.numbers.get(topic) else { return vec![] };
        self.topics[*number].as_mut().map_or(vec![], |line| line.remove(|_| true))
    }

    /// Removes a topic with all that waits on it; `None` when it has consumers.
    pub(super) fn delete(&mut self, topic: &Topic) -> Option<Vec<Item<Routed>>> {
        let Some(number) = self.numbers.get(topic).copied() else { return Some(vec![]) };
        if self.topics[number].as_ref().is_some_and(TopicLine::is_consumed) {
            return None;
        }
        let gone = self.purge(topic);
        self.remove(number);
        Some(gone)
    }

    fn remove(&mut self, number: usize) {
        if let Some(line) = self.topics[number].take() {
            self.numbers.remove(&line.topic);
            self.free.push((number, line.lane.deliveries()));
        }
    }

    /// Now and then: removes topics that nobody has to do with, and takes out messages that have
    /// waited for too long.
    pub(super) fn sweep(
        &mut self,
        now: i64,
        time_to_live: Option<i64>,
        idle: Option<i64>,
    ) -> Vec<Item<Routed>> {
        const EVERY: i64 = 1000;
        if (time_to_live.is_none() && idle.is_none())
            || (now.saturating_sub(self.swept_at) < EVERY && now >= self.swept_at)
        {
            return vec![];
        }
        self.swept_at = now;
        self.look(now, time_to_live, idle)
    }

    /// Like [`sweep`](Self::sweep), whenever that was last done.
    pub(super) fn look(
        &mut self,
        now: i64,
        time_to_live: Option<i64>,
        idle: Option<i64>,
    ) -> Vec<Item<Routed>> {
        let mut expired = vec![];
        if let Some(time) = time_to_live {
            for line in self.all_mut() {
                expired.extend(line.remove(|item| now.saturating_sub(item.at) >= time));
            }
        }
        if let Some(time) = idle {
            let is_idle = |line: &TopicLine| {
                line.len() == 0 && !line.is_consumed() && now.saturating_sub(line.used_at) >= time
            };
            let idle: Vec<usize> = (self.topics.iter().enumerate())
                .filter_map(|(number, line)| line.as_ref().is_some_and(is_idle).then_some(number))
                .collect();
            idle.into_iter().for_each(|number| self.remove(number));
        }
        expired
    }

    /// What waits on each topic.
    pub(super) fn backlog(&self) -> Vec<TopicBacklog> {
        let backlog = |line: &TopicLine| {
            let delayed = line.delayed.values().map(|item| item.at).min();
            // Who has something in hand is about to ask for more.
            let waiting = line.consumers.load(Ordering::Acquire);
            let consumers = waiting.max(u32::from(line.lane.out_count() > 0));
            TopicBacklog {
                topic: line.topic.clone(),
                backlog: Backlog {
                    depth: line.len() as u64,
                    oldest: line.lane.oldest().into_iter().chain(delayed).min(),
                    consumers: Some(consumers),
                    dead_letters: 0,
                },
            }
        };
        self.all().map(backlog).collect()
    }
}
