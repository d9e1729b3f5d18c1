//! The topics of the queue of messages.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use thredlib::Topic;
use tokio::{sync::Notify, time::Instant};

use super::lane::{DeadLetters, Item, Lane};
use crate::{
    hash::FastHash,
    port::{Delivery, DeliveryTag, Routed},
};

/// All topics with their messages.
#[derive(Debug)]
pub(super) struct Topics {
    pub(super) topics: Vec<MessageTopic>,
    pub(super) numbers: HashMap<Topic, usize, FastHash>,
    pub(super) published: u64,
    pub(super) received: usize,
    pub(super) closed: bool,
    pub(super) dead: DeadLetters<Routed>,
}

/// The messages of one topic.
#[derive(Debug)]
pub(super) struct MessageTopic {
    pub(super) lane: Lane<Routed>,
    /// Given back, by when they are due and their old place.
    pub(super) delayed: BTreeMap<(Instant, u64), Item<Routed>>,
    /// Told when a message becomes ready on a topic that had none, and when the queue closes.
    pub(super) ready: Arc<Notify>,
}

impl MessageTopic {
    pub(super) fn len(&self) -> usize {
        self.lane.len() + self.delayed.len()
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
}

impl Topics {
    pub(super) fn new(dead: DeadLetters<Routed>) -> Self {
        Self {
            topics: vec![],
            numbers: HashMap::default(),
            published: 0,
            received: 0,
            closed: false,
            dead,
        }
    }

    pub(super) fn topic(&mut self, topic: &Topic) -> usize {
        if let Some(number) = self.numbers.get(topic) {
            return *number;
        }
        let number = self.topics.len();
        self.topics.push(MessageTopic {
            lane: Lane::new(number as u32),
            delayed: BTreeMap::new(),
            ready: Arc::default(),
        });
        self.numbers.insert(topic.clone(), number);
        number
    }

    /// Adds a message; says whether its topic had none ready.
    pub(super) fn push(&mut self, number: usize, message: Routed) -> bool {
        self.published += 1;
        let topic = &mut self.topics[number];
        let was_idle = topic.lane.ready() == 0;
        topic.lane.push(message, self.published);
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
        while batch.len() < max && !left.is_empty() {
            let share = ((max - batch.len()) / left.len()).max(1);
            left.retain(|number| {
                let lane = &mut self.topics[*number].lane;
                lane.take(share.min(max - batch.len()), &mut batch);
                lane.ready() > 0
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
            self.topics[first].lane.take(1, &mut batch);
        }
        batch
    }

    /// The topic of the oldest message that is ready.
    pub(super) fn first(&self) -> Option<usize> {
        let ready = self.topics.iter().enumerate();
        let ready = ready.filter_map(|(number, topic)| Some((topic.lane.first_order()?, number)));
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
