//! The topics of the queue of messages.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use thredlib::Topic;
use tokio::{sync::Notify, time::Instant};

use super::{
    lane::{Item, Lane},
    tally::Waiting,
};
use crate::{
    hash::FastHash,
    port::{Backlog, Delivery, DeliveryTag, Routed, TopicBacklog},
};

/// All topics with their messages.
#[derive(Debug, Default)]
pub(super) struct Topics {
    /// By number; one that was removed leaves its number to a later one.
    pub(super) topics: Vec<MessageTopic>,
    numbers: HashMap<Topic, usize, FastHash>,
    free: Vec<usize>,
    pub(super) published: u64,
    received: usize,
    pub(super) closed: bool,
}

/// The messages of one topic.
#[derive(Debug)]
pub(super) struct MessageTopic {
    pub(super) name: Topic,
    pub(super) lane: Lane<Routed>,
    /// Given back, by when they are due and their old place.
    pub(super) delayed: BTreeMap<(Instant, u64), Item<Routed>>,
    /// Told when a message becomes ready on a topic that had none, and when the queue closes.
    pub(super) ready: Arc<Notify>,
    pub(super) waiting: Arc<Waiting>,
    /// When it was last seen with messages or consumers, milliseconds since the Unix epoch.
    pub(super) used_at: i64,
}

/// The third to get a message that two consumers have died of gets it alone.
const ALONE_FROM: u32 = 2;

impl MessageTopic {
    fn new(name: Topic, number: usize, used_at: i64) -> Self {
        let mut lane = Lane::new(number as u32);
        lane.hand_out_alone_from(ALONE_FROM);
        Self {
            name,
            lane,
            delayed: BTreeMap::new(),
            ready: Arc::default(),
            waiting: Arc::default(),
            used_at,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lane.len() + self.delayed.len()
    }

    /// How many consumers it has.
    pub(super) fn consumers(&self) -> u32 {
        self.waiting.consumers(self.lane.out_count() > 0)
    }

    /// Puts back what has been delayed for long enough.
    pub(super) fn wake_delayed(&mut self) {
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

    /// Removes what waits and is not handed out.
    pub(super) fn purge(&mut self) -> Vec<Item<Routed>> {
        let delayed = std::mem::take(&mut self.delayed).into_values();
        let mut all: Vec<_> = self.lane.drain().chain(delayed).collect();
        all.sort_unstable_by_key(Item::order);
        all
    }

    /// Removes what was published at a time or before and is not handed out.
    pub(super) fn expired(&mut self, published_until: i64) -> Vec<Item<Routed>> {
        let mut expired = vec![];
        // What is ready stands in the order of its publishing.
        while self.lane.first().is_some_and(|first| first.at <= published_until) {
            expired.extend(self.lane.pop());
        }
        expired.extend(
            self.delayed.extract_if(.., |_, item| item.at <= published_until).map(|(_, item)| item),
        );
        expired
    }

    fn backlog(&self) -> Backlog {
        let delayed = self.delayed.values().map(|item| item.at);
        Backlog {
            depth: self.len() as u64,
            oldest: delayed.chain(self.lane.oldest()).min(),
            consumers: Some(self.consumers()),
            dead_letters: 0,
        }
    }
}

impl Topics {
    /// The number of a topic, which is made if there is none of this name.
    pub(super) fn topic(&mut self, topic: &Topic, now: i64) -> usize {
        if let Some(number) = self.numbers.get(topic) {
            return *number;
        }
        let number = match self.free.pop() {
            Some(number) => {
                // The lane stays, for it tells its deliveries from those of the topic before.
                let free = &mut self.topics[number];
                (free.name, free.used_at) = (topic.clone(), now);
                number
            }
            None => {
                let number = self.topics.len();
                self.topics.push(MessageTopic::new(topic.clone(), number, now));
                number
            }
        };
        self.numbers.insert(topic.clone(), number);
        number
    }

    pub(super) fn find(&self, topic: &Topic) -> Option<&MessageTopic> {
        self.numbers.get(topic).map(|number| &self.topics[*number])
    }

    pub(super) fn find_mut(&mut self, topic: &Topic) -> Option<&mut MessageTopic> {
        self.numbers.get(topic).map(|number| &mut self.topics[*number])
    }

    /// Removes a topic with all that is in it.
    pub(super) fn remove(&mut self, topic: &Topic) -> Vec<Item<Routed>> {
        let Some(number) = self.numbers.remove(topic) else { return vec![] };
        self.free.push(number);
        let topic = &mut self.topics[number];
        let mut all = topic.purge();
        all.extend(topic.lane.drain_out());
        all
    }

    /// Removes topics that have had neither messages nor consumers since a time.
    pub(super) fn remove_idle(&mut self, now: i64, idle_since: i64) {
        let mut idle = vec![];
        for number in self.numbers.values() {
            let topic = &mut self.topics[*number];
            if topic.len() > 0 || topic.consumers() > 0 {
                topic.used_at = now;
            } else if topic.used_at <= idle_since {
                idle.push(topic.name.clone());
            }
        }
        idle.iter().for_each(|topic| _ = self.remove(topic));
    }

    /// What waits on each topic, sorted.
    pub(super) fn backlog(&self) -> BTreeMap<Topic, TopicBacklog> {
        let topics = self.numbers.values().map(|number| &self.topics[*number]);
        let backlog = topics.map(|topic| {
            let name = topic.name.clone();
            (name.clone(), TopicBacklog { topic: name, backlog: topic.backlog() })
        });
        backlog.collect()
    }

    /// Adds a message; says whether its topic had none ready.
    pub(super) fn push(&mut self, number: usize, message: Routed, at: i64) -> bool {
        self.published += 1;
        let topic = &mut self.topics[number];
        topic.used_at = at;
        let was_idle = topic.lane.ready() == 0;
        topic.lane.push(message, self.published, at);
        if was_idle {
            topic.ready.notify_waiters();
        }
        was_idle
    }

    /// Hands out messages of some topics, to each topic an equal part as far as it has so many.
    pub(super) fn take(&mut self, numbers: &[usize], max: usize) -> Vec<Delivery<Routed>> {
        let mut batch = Vec::new();
        let mut left: Vec<usize> = Vec::with_capacity(numbers.len());
        // Another topic goes first each time, for batches smaller than the number of topics.
        self.received = self.received.wrapping_add(1);
        for place in 0..numbers.len() {
            let number = numbers[(place + self.received) % numbers.len()];
            self.topics[number].wake_delayed();
            if self.topics[number].lane.ready() > 0 {
                left.push(number);
            }
        }
        let mut is_alone = false;
        while batch.len() < max && !left.is_empty() && !is_alone {
            let share = ((max - batch.len()) / left.len()).max(1);
            left.retain(|number| {
                let lane = &mut self.topics[*number].lane;
                let before = batch.len();
                if !is_alone {
                    is_alone = lane.take(share.min(max - before), &mut batch);
                }
                // One that gives nothing has a message in front that has to go alone.
                lane.ready() > 0 && batch.len() > before
            });
        }
        batch
    }

    /// Hands out messages of all topics in the order of their publishing.
    pub(super) fn take_any(&mut self, max: usize) -> Vec<Delivery<Routed>> {
        let mut batch = Vec::new();
        self.topics.iter_mut().for_each(MessageTopic::wake_delayed);
        while batch.len() < max
            && let Some(first) = self.first()
        {
            let before = batch.len();
            if self.topics[first].lane.take(1, &mut batch) || batch.len() == before {
                break;
            }
        }
        batch
    }

    /// The topic of the oldest message that is ready.
    pub(super) fn first(&self) -> Option<usize> {
        let ready = self.topics.iter().enumerate();
        let ready = ready.filter_map(|(number, topic)| Some((topic.lane.first()?.order(), number)));
        ready.min().map(|(_, number)| number)
    }

    pub(super) fn end(&mut self, tag: &DeliveryTag) -> Option<Item<Routed>> {
        self.topics.get_mut(Lane::<Routed>::of(tag))?.lane.end(tag)
    }

    /// Whether there will be no more messages on some topics.
    pub(super) fn is_over(&self, mut numbers: impl Iterator<Item = usize>) -> bool {
        self.closed && numbers.all(|number| self.topics[number].len() == 0)
    }
}
