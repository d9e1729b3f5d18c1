//! What both queues are made of: a line of items, and those handed out.

use std::collections::VecDeque;

use crate::port::{Delivery, DeliveryTag};

/// A first-in-first-out line. Items that are handed out sit in slots that their tags name, so that
/// acknowledging takes no search; a slot knows its delivery, so that an old tag does nothing.
#[derive(Debug)]
pub(super) struct Lane<T> {
    number: u32,
    /// Sorted by order.
    ready: VecDeque<Item<T>>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    deliveries: u64,
    /// What so many consumers have died of is handed out alone.
    alone_from: u32,
}

/// An item in a line.
#[derive(Debug)]
pub(super) struct Item<T> {
    pub(super) payload: T,
    /// Its place among all items; kept when it is given back.
    order: u64,
    /// When it was published, milliseconds since the Unix epoch.
    pub(super) at: i64,
    pub(super) attempts: u32,
    /// How many of the attempts ended with its being given back as failed.
    pub(super) failures: u32,
}

#[derive(Debug)]
struct Slot<T> {
    delivery: u64,
    item: Option<Item<T>>,
}

impl<T: Clone> Lane<T> {
    pub(super) fn new(number: u32) -> Self {
        Self {
            number,
            ready: VecDeque::new(),
            slots: vec![],
            free: vec![],
            deliveries: 0,
            alone_from: u32::MAX,
        }
    }

    /// Hands out alone what has been handed out so often before without having failed.
    pub(super) fn hand_out_alone_from(&mut self, attempts: u32) {
        self.alone_from = attempts;
    }

    fn is_suspect(&self, item: &Item<T>) -> bool {
        self.alone_from < u32::MAX && item.attempts.saturating_sub(item.failures) >= self.alone_from
    }

    /// The lane that a tag belongs to.
    pub(super) fn of(tag: &DeliveryTag) -> usize {
        (tag.0 >> 32) as usize
    }

    /// Adds an item; `order` is higher than that of any before.
    pub(super) fn push(&mut self, payload: T, order: u64, at: i64) {
        self.ready.push_back(Item { payload, order, at, attempts: 0, failures: 0 });
    }

    /// Adds a kept item; `order` is higher than that of any before.
    pub(super) fn restore(&mut self, kept: Kept<T>) {
        let Kept { payload, order, at, attempts, failures } = kept;
        self.ready.push_back(Item { payload, order, at, attempts, failures });
    }

    /// Counts one attempt for the first items that have none.
    pub(super) fn suspect_first(&mut self, count: usize) {
        for item in self.ready.iter_mut().take(count) {
            item.attempts = item.attempts.max(1);
        }
    }

    /// An item that is handed out.
    pub(super) fn out(&self, tag: &DeliveryTag) -> Option<&Item<T>> {
        let slot = self.slots.get(tag.0 as u32 as usize)?;
        slot.item.as_ref().filter(|_| slot.delivery == tag.1)
    }

    /// The items that are handed out, in no order.
    pub(super) fn all_out(&self) -> impl Iterator<Item = &Item<T>> {
        self.slots.iter().filter_map(|slot| slot.item.as_ref())
    }

    /// Hands out up to `max` items; says whether what is handed out has to stay alone.
    pub(super) fn take(&mut self, max: usize, into: &mut Vec<Delivery<T>>) -> bool {
        let mut count = max.min(self.ready.len());
        let mut is_alone = false;
        if self.alone_from < u32::MAX {
            let innocent =
                self.ready.iter().take(count).take_while(|item| !self.is_suspect(item)).count();
            is_alone = innocent == 0 && count > 0 && into.is_empty();
            count = if is_alone { 1 } else { innocent };
        }
        into.reserve(count);
        for mut item in self.ready.drain(..count) {
            item.attempts += 1;
            self.deliveries += 1;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.slots.push(Slot { delivery: 0, item: None });
                (self.slots.len() - 1) as u32
            });
            let tag = DeliveryTag(u64::from(self.number) << 32 | u64::from(slot), self.deliveries);
            into.push(Delivery {
                payload: item.payload.clone(),
                tag,
                attempt: item.attempts,
                failures: item.failures,
            });
            self.slots[slot as usize] = Slot { delivery: self.deliveries, item: Some(item) };
        }
        is_alone
    }

    /// Ends a delivery; `None` when it has ended already.
    pub(super) fn end(&mut self, tag: &DeliveryTag) -> Option<Item<T>> {
        let number = tag.0 as u32;
        let slot = self.slots.get_mut(number as usize)?;
        if slot.delivery != tag.1 {
            return None;
        }
        let item = slot.item.take()?;
        self.free.push(number);
        Some(item)
    }

    /// The items that have been handed out before and wait again; they stand in front.
    pub(super) fn tried(&self) -> impl Iterator<Item = &Item<T>> {
        self.ready.iter().filter(|item| item.attempts > 0)
    }

    /// Puts an item back to its old place.
    pub(super) fn put_back(&mut self, item: Item<T>) {
        match self.ready.front() {
            Some(first) if first.order < item.order => {
                let place = self.ready.partition_point(|other| other.order < item.order);
                self.ready.insert(place, item);
            }
            _ => self.ready.push_front(item),
        }
    }

    /// Puts back all that is handed out, as after the loss of its consumer; says how many.
    pub(super) fn put_all_back(&mut self) -> usize {
        let mut out = self.drain_out();
        // Latest first, so that nearly all go to the very front.
        out.sort_unstable_by_key(|item| std::cmp::Reverse(item.order));
        let count = out.len();
        out.into_iter().for_each(|item| self.put_back(item));
        count
    }

    /// Removes the first item without handing it out.
    pub(super) fn pop(&mut self) -> Option<Item<T>> {
        self.ready.pop_front()
    }

    /// Removes all that is ready.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Item<T>> {
        self.ready.drain(..)
    }

    /// Removes what is handed out; its tags are worth nothing any more.
    pub(super) fn drain_out(&mut self) -> Vec<Item<T>> {
        let (slots, free) = (&mut self.slots, &mut self.free);
        let out = slots.iter_mut().zip(0..).filter_map(|(slot, number)| {
            let item = slot.item.take()?;
            free.push(number);
            Some(item)
        });
        out.collect()
    }

    /// The first item that is ready.
    pub(super) fn first(&self) -> Option<&Item<T>> {
        self.ready.front()
    }

    /// When the oldest item was published, those handed out included.
    pub(super) fn oldest(&self) -> Option<i64> {
        let out = self.all_out().map(|item| item.at);
        out.chain(self.ready.front().map(|item| item.at)).min()
    }

    /// How many items can be handed out.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many items are handed out.
    pub(super) fn out_count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many items there are, those handed out included.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.out_count()
    }
}

impl<T: Clone> Item<T> {
    /// What a backend with a store below keeps of it.
    pub(super) fn known(&self) -> Kept<T> {
        let Self { payload, order, at, attempts, failures } = self;
        let (order, at, attempts, failures) = (*order, *at, *attempts, *failures);
        Kept { payload: payload.clone(), order, at, attempts, failures }
    }
}

impl<T> Item<T> {
    pub(super) fn order(&self) -> u64 {
        self.order
    }

    pub(super) fn kept(self) -> Kept<T> {
        let Self { payload, order, at, attempts, failures } = self;
        Kept { payload, order, at, attempts, failures }
    }
}

/// An item as a backend with a store below keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept<T> {
    /// What was published.
    pub payload: T,
    /// Its place among all items of its queue: unique and rising.
    pub order: u64,
    /// When it was published, milliseconds since the Unix epoch.
    pub at: i64,
    /// How often it has been handed out.
    pub attempts: u32,
    /// How many of the attempts ended with its being given back as failed.
    pub failures: u32,
}
