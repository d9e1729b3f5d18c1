//! What both queues are made of: a line of items, those handed out, and the dead letters.

use std::{collections::VecDeque, sync::Arc};

use crate::port::{Clock, DeadLetter, DeadLetterFilter, Delivery, DeliveryTag};

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
    /// What has been handed out so often is handed out alone.
    alone_from: u32,
}

/// An item in a line.
#[derive(Debug)]
pub(super) struct Item<T> {
    pub(super) payload: T,
    /// Its place among all items; kept when it is given back.
    order: u64,
    pub(super) attempts: u32,
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

    /// Hands out alone what has been handed out so often before.
    pub(super) fn hand_out_alone_from(&mut self, attempts: u32) {
        self.alone_from = attempts;
    }

    /// The lane that a tag belongs to.
    pub(super) fn of(tag: &DeliveryTag) -> usize {
        (tag.0 >> 32) as usize
    }

    /// Adds an item; `order` is higher than that of any before.
    pub(super) fn push(&mut self, payload: T, order: u64) {
        self.ready.push_back(Item { payload, order, attempts: 0 });
    }

    /// Adds a kept item; `order` is higher than that of any before.
    pub(super) fn restore(&mut self, kept: Kept<T>) {
        let Kept { payload, order, attempts } = kept;
        self.ready.push_back(Item { payload, order, attempts });
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

    /// Hands out up to `max` items.
    pub(super) fn take(&mut self, max: usize, into: &mut Vec<Delivery<T>>) {
        let mut count = max.min(self.ready.len());
        if self.alone_from < u32::MAX {
            let suspect = |item: &Item<T>| item.attempts >= self.alone_from;
            let innocent = self.ready.iter().take(count).take_while(|item| !suspect(item)).count();
            count = innocent.max(count.min(1));
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
            into.push(Delivery { payload: item.payload.clone(), tag, attempt: item.attempts });
            self.slots[slot as usize] = Slot { delivery: self.deliveries, item: Some(item) };
        }
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
        let (slots, free) = (&mut self.slots, &mut self.free);
        let mut out: Vec<_> = (slots.iter_mut().zip(0..))
            .filter_map(|(slot, number)| {
                let item = slot.item.take()?;
                free.push(number);
                Some(item)
            })
            .collect();
        // Latest first, so that nearly all go to the very front.
        out.sort_unstable_by_key(|item| std::cmp::Reverse(item.order));
        let count = out.len();
        out.into_iter().for_each(|item| self.put_back(item));
        count
    }

    /// Removes the first item without handing it out.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.ready.pop_front().map(|item| item.payload)
    }

    /// The order of the first item that is ready.
    pub(super) fn first_order(&self) -> Option<u64> {
        self.ready.front().map(|item| item.order)
    }

    /// How many items can be handed out.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many items there are, those handed out included.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.slots.len() - self.free.len()
    }
}

impl<T> Item<T> {
    pub(super) fn order(&self) -> u64 {
        self.order
    }

    pub(super) fn kept(self) -> Kept<T> {
        Kept { payload: self.payload, order: self.order, attempts: self.attempts }
    }
}

/// An item as a backend with a store below keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept<T> {
    /// What was published.
    pub payload: T,
    /// Its place among all items of its queue: unique and rising.
    pub order: u64,
    /// How often it has been handed out.
    pub attempts: u32,
}

/// What dead-lettering an item did.
#[derive(Clone, Debug)]
pub struct Buried<T> {
    /// The order of the item that left the queue.
    pub order: u64,
    /// Its dead letter.
    pub letter: DeadLetter<T>,
    /// The oldest letter, if it had to go for the new one.
    pub lost: Option<DeadLetter<T>>,
}

/// Items taken out of circulation: the latest so many.
#[derive(Debug)]
pub(super) struct DeadLetters<T> {
    letters: VecDeque<DeadLetter<T>>,
    limit: usize,
    made: u64,
    dropped: u64,
    clock: Arc<dyn Clock>,
}

impl<T: Clone> DeadLetters<T> {
    pub(super) fn new(limit: usize, clock: Arc<dyn Clock>) -> Self {
        Self { letters: VecDeque::new(), limit, made: 0, dropped: 0, clock }
    }

    /// Adds an item; returns the oldest letter if that has to go for it.
    pub(super) fn add(&mut self, item: Item<T>, reason: &str) -> Option<DeadLetter<T>> {
        self.made += 1;
        self.letters.push_back(DeadLetter {
            id: self.made.to_string(),
            payload: item.payload,
            reason: reason.to_owned(),
            at: self.clock.now(),
            attempts: item.attempts,
        });
        if self.letters.len() <= self.limit {
            return None;
        }
        self.dropped += 1;
        let lost = self.letters.pop_front();
        let (id, reason) = lost.as_ref().map_or(("", ""), |l| (&l.id, &l.reason));
        tracing::warn!(id, reason, limit = self.limit, "too many dead letters, one is lost");
        lost
    }

    /// The letter that came last.
    pub(super) fn last(&self) -> Option<&DeadLetter<T>> {
        self.letters.back()
    }

    /// Puts letters to their places by id; those of other hands than [`add`](Self::add) stand
    /// first.
    pub(super) fn restore(&mut self, letters: Vec<DeadLetter<T>>) {
        let number = |letter: &DeadLetter<T>| letter.id.parse::<u64>().unwrap_or(0);
        self.made = letters.iter().map(number).max().unwrap_or(0).max(self.made);
        self.letters.extend(letters);
        self.letters.make_contiguous().sort_by_key(number);
    }

    pub(super) fn list(&self, filter: &DeadLetterFilter) -> Vec<DeadLetter<T>> {
        let meant = self.letters.iter().filter(|letter| filter.matches(letter));
        meant.take(filter.limit.unwrap_or(usize::MAX)).cloned().collect()
    }

    /// Removes the letters that are meant.
    pub(super) fn remove(&mut self, filter: &DeadLetterFilter) -> Vec<DeadLetter<T>> {
        let mut left = filter.limit.unwrap_or(usize::MAX);
        let (mut removed, mut kept) = (Vec::new(), VecDeque::new());
        for letter in self.letters.drain(..) {
            if left > 0 && filter.matches(&letter) {
                left -= 1;
                removed.push(letter);
            } else {
                kept.push_back(letter);
            }
        }
        self.letters = kept;
        removed
    }

    /// How many were dropped for want of room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}
