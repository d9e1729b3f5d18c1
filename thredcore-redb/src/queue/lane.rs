//! A line of items, and those handed out.

use std::collections::VecDeque;

use thredcore::port::{Delivery, DeliveryTag};

use super::SUSPECT;

/// A first-in-first-out line. Items that are handed out sit in slots that their tags name, so that
/// acknowledging takes no search; a slot knows its delivery, so that an old tag does nothing.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    number: u32,
    /// Sorted by order.
    ready: VecDeque<Item<T>>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    deliveries: u64,
}

/// An item in a line.
#[derive(Clone, Debug)]
pub(crate) struct Item<T> {
    pub(crate) payload: T,
    /// Its place among all items of its queue: unique and rising; kept when it is given back.
    pub(crate) order: u64,
    /// When it was published.
    pub(crate) at: i64,
    pub(crate) tried: Tried,
}

/// What has been tried with an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tried {
    /// How often it was handed out.
    pub(crate) attempts: u32,
    /// How often it was given back since it failed.
    pub(crate) failures: u32,
    /// Until when it waited last, milliseconds since the Unix epoch; 0 when it never did.
    pub(crate) due: i64,
}

impl Tried {
    /// How often whoever had it has ended with it in hand.
    pub(crate) fn deaths(self) -> u32 {
        self.attempts.saturating_sub(self.failures)
    }
}

#[derive(Debug)]
struct Slot<T> {
    delivery: u64,
    item: Option<Item<T>>,
}

impl<T> Item<T> {
    /// Whether it may be what kills the process.
    pub(crate) fn is_suspect(&self) -> bool {
        self.tried.deaths() >= SUSPECT
    }

    fn known(&self) -> (u64, Tried) {
        (self.order, self.tried)
    }
}

impl<T: Clone> Lane<T> {
    /// A line whose first delivery has a higher number than that.
    pub(crate) fn new(number: u32, deliveries: u64) -> Self {
        Self { number, ready: VecDeque::new(), slots: vec![], free: vec![], deliveries }
    }

    pub(crate) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// The lane that a tag belongs to.
    pub(crate) fn of(tag: &DeliveryTag) -> usize {
        (tag.0 >> 32) as usize
    }

    /// Adds an item; its order is higher than that of any before.
    pub(crate) fn push(&mut self, item: Item<T>) {
        self.ready.push_back(item);
    }

    /// Counts one attempt for the first items that have none.
    pub(crate) fn suspect_first(&mut self, count: usize) {
        for item in self.ready.iter_mut().take(count) {
            item.tried.attempts = item.tried.attempts.max(1);
        }
    }

    /// The first item that is ready.
    pub(crate) fn first(&self) -> Option<&Item<T>> {
        self.ready.front()
    }

    /// Hands out up to `max` items; a suspect one alone.
    pub(crate) fn take(&mut self, max: usize, into: &mut Vec<Delivery<T>>) {
        let count = max.min(self.ready.len());
        let innocent = self.ready.iter().take(count).take_while(|item| !item.is_suspect()).count();
        let count = innocent.max(count.min(1));
        into.reserve(count);
        for mut item in self.ready.drain(..count) {
            item.tried.attempts += 1;
            self.deliveries += 1;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.slots.push(Slot { delivery: 0, item: None });
                (self.slots.len() - 1) as u32
            });
            let tag = DeliveryTag(u64::from(self.number) << 32 | u64::from(slot), self.deliveries);
            let Tried { attempts: attempt, failures, .. } = item.tried;
            into.push(Delivery { payload: item.payload.clone(), tag, attempt, failures });
            self.slots[slot as usize] = Slot { delivery: self.deliveries, item: Some(item) };
        }
    }

    /// An item that is handed out.
    pub(crate) fn out(&self, tag: &DeliveryTag) -> Option<(u64, Tried)> {
        let slot = self.slots.get(tag.0 as u32 as usize)?;
        slot.item.as_ref().filter(|_| slot.delivery == tag.1).map(Item::known)
    }

    /// Ends a delivery; `None` when it has ended already.
    pub(crate) fn end(&mut self, tag: &DeliveryTag) -> Option<Item<T>> {
        let number = tag.0 as u32;
        let slot = self.slots.get_mut(number as usize)?;
        if slot.delivery != tag.1 {
            return None;
        }
        let item = slot.item.take()?;
        self.free.push(number);
        Some(item)
    }

    /// What has been tried with all that is handed out or has been given back.
    pub(crate) fn tried(&self) -> impl Iterator<Item = (u64, Tried)> {
        let out = self.slots.iter().filter_map(|slot| slot.item.as_ref());
        // Those stand in front.
        out.chain(self.ready.iter().filter(|item| item.tried.attempts > 0)).map(Item::known)
    }

    /// Puts an item back to its old place.
    pub(crate) fn put_back(&mut self, item: Item<T>) {
        match self.ready.front() {
            Some(first) if first.order < item.order => {
                let place = self.ready.partition_point(|other| other.order < item.order);
                self.ready.insert(place, item);
            }
            _ => self.ready.push_front(item),
        }
    }

    /// Removes the items that are ready and meant, without handing them out.
    pub(crate) fn remove(&mut self, mut is_meant: impl FnMut(&Item<T>) -> bool) -> Vec<Item<T>> {
        if !self.ready.iter().any(&mut is_meant) {
            return vec![];
        }
        let mut gone = vec![];
        for item in std::mem::take(&mut self.ready) {
            if is_meant(&item) { gone.push(item) } else { self.ready.push_back(item) }
        }
        gone
    }

    /// How many items can be handed out.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many items are handed out.
    pub(crate) fn out_count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many items there are, those handed out included.
    pub(crate) fn len(&self) -> usize {
        self.ready.len() + self.out_count()
    }

    /// When the oldest item was published.
    pub(crate) fn oldest(&self) -> Option<i64> {
        let out = self.slots.iter().filter_map(|slot| slot.item.as_ref());
        out.chain(self.ready.front()).map(|item| item.at).min()
    }
}
