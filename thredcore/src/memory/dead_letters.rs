//! Items taken out of circulation.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde::Serialize;

use super::lane::Item;
use crate::port::{Clock, DeadLetter, DeadLetterFilter, Death, json_size};

/// What dead-lettering an item did.
#[derive(Clone, Debug)]
pub struct Buried<T> {
    /// The order of the item that left the queue; `None` for one that was never in it.
    pub order: Option<u64>,
    /// Its dead letter.
    pub letter: DeadLetter<T>,
    /// Letters that had to go: for the new one, or since their time was over.
    pub lost: Vec<DeadLetter<T>>,
}

/// The dead letters of a queue: as many bytes as the quota allows, for so long.
#[derive(Debug)]
pub(super) struct DeadLetters<T> {
    /// With their size in bytes.
    letters: VecDeque<(DeadLetter<T>, usize)>,
    bytes: usize,
    limits: Limits,
    made: u64,
    dropped: u64,
}

/// How long dead letters are kept, and how many.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) time: Duration,
    pub(super) bytes: usize,
    pub(super) clock: Arc<dyn Clock>,
}

impl<T: Clone + Serialize> DeadLetters<T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self { letters: VecDeque::new(), bytes: 0, limits, made: 0, dropped: 0 }
    }

    /// Adds an item.
    pub(super) fn add(&mut self, item: Item<T>, death: Death) -> Buried<T> {
        let order = item.order();
        let buried = self.add_payload(item.payload, item.attempts, death);
        Buried { order: Some(order), ..buried }
    }

    /// Adds what was never in the queue, or has left it.
    pub(super) fn add_payload(&mut self, payload: T, attempts: u32, death: Death) -> Buried<T> {
        self.made += 1;
        let Death { reason, times, moved } = death;
        let id = self.made.to_string();
        let at = self.limits.clock.now();
        let letter = DeadLetter { id, payload, reason, at, attempts, times, moved };
        let size = json_size(&letter);
        self.bytes += size;
        self.letters.push_back((letter.clone(), size));
        let mut lost = self.expire();
        // The new one is kept even if it alone is beyond the quota.
        while self.bytes > self.limits.bytes
            && self.letters.len() > 1
            && let Some(oldest) = self.drop_first("too many dead letters, one is lost")
        {
            lost.push(oldest);
        }
        Buried { order: None, letter, lost }
    }

    /// Drops those whose time is over.
    pub(super) fn expire(&mut self) -> Vec<DeadLetter<T>> {
        let time = i64::try_from(self.limits.time.as_millis()).unwrap_or(i64::MAX);
        let Some(kept_from) = self.limits.clock.now().checked_sub(time) else { return vec![] };
        let mut lost = vec![];
        while self.letters.front().is_some_and(|(first, _)| first.at <= kept_from)
            && let Some(first) =
                self.drop_first("a dead letter has been kept for its time and goes")
        {
            lost.push(first);
        }
        lost
    }

    fn drop_first(&mut self, why: &'static str) -> Option<DeadLetter<T>> {
        let (letter, size) = self.letters.pop_front()?;
        self.bytes -= size;
        self.dropped += 1;
        let Limits { time, bytes, .. } = self.limits;
        tracing::warn!(id = letter.id, reason = letter.reason, ?time, bytes, "{why}");
        Some(letter)
    }

    /// Puts letters to their places by id; those of other hands than [`add`](Self::add) stand
    /// first.
    pub(super) fn restore(&mut self, letters: Vec<DeadLetter<T>>) {
        self.made = letters.iter().map(number).max().unwrap_or(0).max(self.made);
        for letter in letters {
            let size = json_size(&letter);
            self.bytes += size;
            self.letters.push_back((letter, size));
        }
        self.letters.make_contiguous().sort_by_key(|(letter, _)| number(letter));
    }

    /// The letters that are meant, oldest first.
    pub(super) fn list(&self, filter: &DeadLetterFilter) -> Vec<DeadLetter<T>> {
        let meant = self.letters.range(self.start(filter)..).map(|(letter, _)| letter);
        let meant = meant.filter(|letter| filter.matches(letter));
        meant.take(filter.limit.unwrap_or(usize::MAX)).cloned().collect()
    }

    /// Removes the letters that are meant.
    pub(super) fn remove(&mut self, filter: &DeadLetterFilter) -> Vec<DeadLetter<T>> {
        let mut left = filter.limit.unwrap_or(usize::MAX);
        let rest = self.letters.split_off(self.start(filter));
        let mut removed = Vec::new();
        for (letter, size) in rest {
            if left > 0 && filter.matches(&letter) {
                left -= 1;
                self.bytes -= size;
                removed.push(letter);
            } else {
                self.letters.push_back((letter, size));
            }
        }
        removed
    }

    /// Where the page begins.
    fn start(&self, filter: &DeadLetterFilter) -> usize {
        let Some(after) = &filter.after else { return 0 };
        match after.parse::<u64>() {
            Ok(after) => self.letters.partition_point(|(letter, _)| number(letter) <= after),
            Err(_) => {
                let place = self.letters.iter().position(|(letter, _)| letter.id == *after);
                place.map_or(self.letters.len(), |place| place + 1)
            }
        }
    }

    /// All letters, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &DeadLetter<T>> {
        self.letters.iter().map(|(letter, _)| letter)
    }

    /// How many were dropped, since their time was over or for want of room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

fn number<T>(letter: &DeadLetter<T>) -> u64 {
    letter.id.parse().unwrap_or(0)
}

/// The setters that the configurations of both queues have.
macro_rules! queue_setters {
    () => {
        /// Sets how large an item may be, in bytes of JSON.
        #[must_use]
        pub fn max_item_bytes(mut self, bytes: usize) -> Self {
            self.max_item_bytes = bytes;
            self
        }

        /// Sets how long dead letters are kept.
        #[must_use]
        pub fn dead_letters_time(mut self, time: Duration) -> Self {
            self.dead_letters_time = time;
            self
        }

        /// Sets how many bytes of dead letters are kept.
        #[must_use]
        pub fn dead_letters_bytes(mut self, bytes: usize) -> Self {
            self.dead_letters_bytes = bytes;
            self
        }

        /// Sets the clock.
        #[must_use]
        pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
            self.clock = clock;
            self
        }

        fn dead_letter_limits(&self) -> Limits {
            Limits {
                time: self.dead_letters_time,
                bytes: self.dead_letters_bytes,
                clock: self.clock.clone(),
            }
        }
    };
}
pub(super) use queue_setters;
