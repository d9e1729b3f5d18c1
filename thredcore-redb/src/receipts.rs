//! Which events and commands are settled, in memory: 16 bytes each, in generations.
//!
//! A receipt is found for a stated time, or until a stated number of newer ones have come, whichever
//! ends first. A generation ends after a quarter of either; the oldest one goes as a whole, and its
//! runs in the file with it.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

use thredcore::port::{Receipt, ReceiptRetention};
use thredlib::EventKey;

/// The parts that a retention is divided into.
const PARTS: u64 = 4;

/// Keys of 16 bytes, about 20 of memory each once there are many.
#[derive(Debug, Default)]
struct KeySet {
    /// 0 is a free place.
    slots: Vec<u128>,
    len: usize,
}

/// A key, and where the search for it begins.
#[derive(Clone, Copy, Debug)]
struct Hashed {
    key: u128,
    hash: u64,
}

impl Hashed {
    fn new(key: u128, hasher: &RandomState) -> Self {
        let key = key.max(1);
        Self { key, hash: hasher.hash_one(key) }
    }
}

impl KeySet {
    const FEW: usize = 1024;

    fn len(&self) -> usize {
        self.len
    }

    /// The place of a key, or the free one that it would have. Some place is always free.
    fn place(&self, key: Hashed) -> usize {
        let spread = u128::from(key.hash) * self.slots.len() as u128;
        let mut place = (spread >> 64) as usize;
        while self.slots[place] != 0 && self.slots[place] != key.key {
            place = if place + 1 == self.slots.len() { 0 } else { place + 1 };
        }
        place
    }

    fn contains(&self, key: Hashed) -> bool {
        self.len > 0 && self.slots[self.place(key)] == key.key
    }

    /// Says whether it is new; `limit` is the number that is reckoned with at most.
    fn insert(&mut self, key: Hashed, limit: usize, hasher: &RandomState) -> bool {
        if (self.len + 1) * 5 > self.slots.len() * 4 {
            self.grow(limit, hasher);
        }
        let place = self.place(key);
        let is_new = self.slots[place] == 0;
        self.slots[place] = key.key;
        self.len += usize::from(is_new);
        is_new
    }

    fn grow(&mut self, limit: usize, hasher: &RandomState) {
        let wanted = (2 * self.slots.len()).max(Self::FEW);
        let enough = limit / 4 * 5 + 16;
        let next = if enough > self.slots.len() { wanted.min(enough) } else { wanted };
        let slots = vec![0; next.max(self.slots.len() + 16)];
        let old = std::mem::replace(&mut self.slots, slots);
        for key in old.into_iter().filter(|key| *key != 0) {
            let place = self.place(Hashed::new(key, hasher));
            self.slots[place] = key;
        }
    }
}

/// The keys that came between two times.
#[derive(Debug)]
struct Generation {
    number: u64,
    opened_at: i64,
    keys: KeySet,
}

/// A generation that has begun, for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) number: u64,
    pub(crate) at: i64,
    /// The oldest generation that is still needed.
    pub(crate) oldest: u64,
}

/// Keys, each found for a time or until there are so many newer ones.
#[derive(Debug)]
pub(crate) struct Generations {
    all: VecDeque<Generation>,
    capacity: u64,
    time: i64,
    /// Nobody outside knows where a key comes to stand.
    hasher: RandomState,
}

impl Generations {
    pub(crate) fn new(capacity: u64, time: i64) -> Self {
        Self { all: VecDeque::new(), capacity, time, hasher: RandomState::new() }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }

    fn part(&self) -> usize {
        usize::try_from(self.capacity / PARTS).unwrap_or(usize::MAX / 8).max(1)
    }

    /// Takes up a generation of the file; they come in their order.
    pub(crate) fn restore(&mut self, number: u64, opened_at: i64) {
        self.all.push_back(Generation { number, opened_at, keys: KeySet::default() });
    }

    /// Takes up a key of the file.
    pub(crate) fn restore_key(&mut self, number: u64, key: u128) {
        let part = self.part();
        if let Some(generation) = self.all.iter_mut().rev().find(|it| it.number == number) {
            generation.keys.insert(Hashed::new(key, &self.hasher), part, &self.hasher);
        }
    }

    pub(crate) fn contains(&self, key: u128) -> bool {
        let key = Hashed::new(key, &self.hasher);
        self.all.iter().rev().any(|generation| generation.keys.contains(key))
    }

    /// Begins a new generation if it is time for one.
    pub(crate) fn advance(&mut self, now: i64) -> Option<Opened> {
        let number = match self.all.back() {
            None => 1,
            Some(current) => {
                let is_full = current.keys.len() >= self.part();
                let is_old = now.saturating_sub(current.opened_at) >= self.time / PARTS as i64;
                if current.keys.len() == 0 || !(is_full || is_old) {
                    return None;
                }
                current.number + 1
            }
        };
        self.restore(number, now);
        while let Some(next) = self.all.get(1) {
            // The time at which the oldest one ended.
            let is_old = now.saturating_sub(next.opened_at) >= self.time;
            let newer: usize = self.all.iter().skip(1).map(|newer| newer.keys.len()).sum();
            if !is_old && (newer as u64) < self.capacity {
                break;
            }
            self.all.pop_front();
        }
        let oldest = self.all.front().map_or(number, |oldest| oldest.number);
        Some(Opened { number, at: now, oldest })
    }

    /// Adds a key to the latest generation, unless it is in any; says whether it was added.
    pub(crate) fn insert(&mut self, key: u128) -> bool {
        let (key, part) = (Hashed::new(key, &self.hasher), self.part());
        if self.all.iter().rev().any(|generation| generation.keys.contains(key)) {
            return false;
        }
        let current = self.all.back_mut();
        current.is_some_and(|current| current.keys.insert(key, part, &self.hasher))
    }

    /// The number of the latest generation.
    pub(crate) fn current(&self) -> u64 {
        self.all.back().map_or(0, |current| current.number)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.all.iter().map(|generation| generation.keys.len()).sum()
    }
}

/// A dead letter's receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dead {
    pub(crate) times: u32,
    pub(crate) at: i64,
}

/// All receipts.
#[derive(Debug)]
pub(crate) struct Receipts {
    settled: Generations,
    /// Those of dead letters live as long as these may.
    dead: HashMap<u128, Dead>,
    dead_time: i64,
    swept_at: i64,
}

/// What a settlement changes, as it is written.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Settled {
    pub(crate) opened: Option<Opened>,
    pub(crate) generation: u64,
    pub(crate) settled: Vec<[u8; 16]>,
    pub(crate) dead: Vec<([u8; 16], Dead)>,
    pub(crate) not_dead: Vec<[u8; 16]>,
}

impl Receipts {
    /// How often receipts of dead letters that were not redriven are looked through: an hour.
    const SWEEP: i64 = 3_600_000;

    pub(crate) fn new(retention: ReceiptRetention, dead_time: i64) -> Self {
        let time = i64::try_from(retention.time.as_millis()).unwrap_or(i64::MAX);
        let settled = Generations::new(retention.capacity, time);
        Self { settled, dead: HashMap::new(), dead_time, swept_at: 0 }
    }

    pub(crate) fn settled(&mut self) -> &mut Generations {
        &mut self.settled
    }

    pub(crate) fn restore_dead(&mut self, key: [u8; 16], dead: Dead) {
        self.dead.insert(u128::from_be_bytes(key), dead);
    }

    pub(crate) fn get(&self, partition: u16, key: &EventKey) -> Option<Receipt> {
        let key = filed(partition, key);
        if self.settled.contains(key) {
            return Some(Receipt::Settled);
        }
        self.dead.get(&key).map(|dead| Receipt::Dead(dead.times))
    }

    /// Adds receipts; says what has changed.
    pub(crate) fn add(
        &mut self,
        partition: u16,
        receipts: &[(EventKey, Receipt)],
        now: i64,
    ) -> Settled {
        let opened = self.settled.advance(now);
        let generation = self.settled.current();
        let mut changed = Settled { opened, generation, ..Settled::default() };
        for (key, receipt) in receipts {
            let key = filed(partition, key);
            match receipt {
                Receipt::Settled => {
                    if self.settled.insert(key) {
                        changed.settled.push(key.to_be_bytes());
                    }
                    if !self.dead.is_empty() && self.dead.remove(&key).is_some() {
                        changed.not_dead.push(key.to_be_bytes());
                    }
                }
                Receipt::Dead(times) => {
                    let before = self.dead.get(&key).map_or(0, |dead| dead.times);
                    if before < *times && !self.settled.contains(key) {
                        let dead = Dead { times: *times, at: now };
                        self.dead.insert(key, dead);
                        changed.dead.push((key.to_be_bytes(), dead));
                    }
                }
            }
        }
        if !self.dead.is_empty() && now.saturating_sub(self.swept_at) >= Self::SWEEP {
            self.swept_at = now;
            let is_old = |dead: &Dead| now.saturating_sub(dead.at) > self.dead_time;
            let old = self.dead.extract_if(|_, dead| is_old(dead));
            changed.not_dead.extend(old.map(|(key, _)| key.to_be_bytes()));
        }
        changed
    }
}

impl Settled {
    pub(crate) fn is_empty(&self) -> bool {
        self.settled.is_empty() && self.dead.is_empty() && self.not_dead.is_empty()
    }
}

/// A key with the partition that its receipt is filed in.
fn filed(partition: u16, key: &EventKey) -> u128 {
    const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    u128::from_be_bytes(*key.as_bytes()) ^ u128::from(partition).wrapping_mul(SPREAD)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(number: u64) -> EventKey {
        EventKey::of("erp", &number.to_string())
    }

    fn receipts(capacity: u64, millis: u64) -> Receipts {
        let retention = ReceiptRetention { time: Duration::from_millis(millis), capacity };
        Receipts::new(retention, 1000)
    }

    #[test]
    fn keys_are_found() {
        let hasher = RandomState::new();
        let key = |key| Hashed::new(key, &hasher);
        let mut set = KeySet::default();
        assert!(!set.contains(key(0)));
        for number in 0..10_000 {
            assert!(set.insert(key(number * number + 1), 100, &hasher), "{number}");
            assert!(!set.insert(key(number * number + 1), 100, &hasher));
        }
        assert_eq!(set.len(), 10_000);
        assert!((0..10_000).all(|number| set.contains(key(number * number + 1))));
        assert!(!set.contains(key(3)) && !set.contains(key(u128::MAX)));
    }

    /// What is found at least, and what is kept at most, whatever comes when.
    #[test]
    fn receipts_are_found_for_the_time_or_the_number() {
        let (capacity, time) = (1000, 1000);
        for pace in [0, 1, 7, 100, 400] {
            let mut receipts = receipts(capacity, time);
            let mut made: Vec<(u64, i64)> = vec![];
            let mut now = 0;
            for number in 0..6000 {
                // Bursts and pauses.
                now += if number % 50 == 0 { pace } else { i64::from(number % 3 == 0) };
                receipts.add(3, &[(key(number), Receipt::Settled)], now);
                made.push((number, now));
                if number % 500 == 499 {
                    for (age, (number, at)) in made.iter().rev().enumerate() {
                        if (age as u64) < capacity && now - at < time as i64 {
                            let found = receipts.get(3, &key(*number));
                            assert_eq!(found, Some(Receipt::Settled), "{number} at pace {pace}");
                        }
                    }
                }
            }
            assert!(receipts.settled.len() <= 1500, "{}", receipts.settled.len());
            assert_eq!(receipts.get(3, &key(0)), None);
        }
    }

    #[test]
    fn a_receipt_only_goes_up_and_is_filed_in_its_partition() {
        let mut receipts = receipts(1000, 1_000_000);
        receipts.add(1, &[(key(1), Receipt::Dead(2)), (key(1), Receipt::Dead(1))], 0);
        assert_eq!(receipts.get(1, &key(1)), Some(Receipt::Dead(2)));
        assert_eq!(receipts.get(2, &key(1)), None);
        let changed = receipts.add(1, &[(key(1), Receipt::Settled), (key(1), Receipt::Dead(3))], 1);
        assert_eq!((changed.settled.len(), changed.dead.len(), changed.not_dead.len()), (1, 0, 1));
        assert_eq!(receipts.get(1, &key(1)), Some(Receipt::Settled));
        assert!(receipts.add(1, &[(key(1), Receipt::Settled)], 1).is_empty());
    }

    /// Dead letters outlive other receipts, and their receipts with them.
    #[test]
    fn receipts_of_dead_letters_do_not_rotate() {
        let mut receipts = Receipts::new(
            ReceiptRetention { time: Duration::from_millis(10), capacity: 10 },
            2 * Receipts::SWEEP,
        );
        receipts.add(0, &[(key(0), Receipt::Dead(1))], 0);
        for number in 1..1000 {
            receipts.add(0, &[(key(number), Receipt::Settled)], number as i64);
        }
        assert_eq!(receipts.get(0, &key(0)), Some(Receipt::Dead(1)));
        let later = 3 * Receipts::SWEEP;
        let changed = receipts.add(0, &[(key(1000), Receipt::Settled)], later);
        assert_eq!(changed.not_dead.len(), 1);
        assert_eq!(receipts.get(0, &key(0)), None);
    }
}
