//! Receipts, in generations.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use thredlib::EventKey;

use super::keys::KeyHash;
use crate::port::{Receipt, ReceiptRetention};

/// The receipts of all partitions.
///
/// Those of settled events lie in three generations. The youngest takes what comes; when half of
/// the time is over, or it holds half of the capacity, in all partitions together, the eldest goes. So
/// each receipt outlives two whole generations. Those of dead letters are few, and kept apart.
#[derive(Debug)]
pub struct Receipts {
    partitions: Box<[Mutex<Partition>]>,
    retention: ReceiptRetention,
    dead_time: Duration,
    /// How many the youngest generation has been given.
    young: AtomicU64,
    /// When the youngest generation began; before the first receipt [`NEVER`].
    since: AtomicI64,
    turning: Mutex<()>,
}

const NEVER: i64 = i64::MAX;

#[derive(Debug, Default)]
struct Partition {
    /// The youngest first.
    generations: [Keys; 3],
    dead: HashMap<EventKey, Dead, KeyHash>,
}

type Keys = HashSet<EventKey, KeyHash>;

#[derive(Clone, Copy, Debug)]
struct Dead {
    times: u32,
    at: i64,
}

impl Partition {
    fn find(&self, key: &EventKey) -> Option<Receipt> {
        if self.generations.iter().any(|keys| keys.contains(key)) {
            return Some(Receipt::Settled);
        }
        if self.dead.is_empty() {
            None
        } else {
            self.dead.get(key).map(|dead| Receipt::Dead(dead.times))
        }
    }

    fn write(&mut self, key: EventKey, receipt: Receipt, now: i64) {
        match receipt {
            Receipt::Settled => {
                if !self.dead.is_empty() {
                    self.dead.remove(&key);
                }
                // One of an elder generation is written again, for it is the younger one now.
                self.generations[0].insert(key);
            }
            Receipt::Dead(times) if self.find(&key).is_none_or(|known| known < receipt) => {
                self.dead.insert(key, Dead { times, at: now });
            }
            Receipt::Dead(_) => {}
        }
    }

    fn turn(&mut self) {
        self.generations.rotate_right(1);
        let expected = self.generations[1].len();
        // The room of the eldest serves the youngest.
        let mut room = mem::take(&mut self.generations[0]);
        room.clear();
        room.shrink_to(expected);
        self.generations[0] = room;
    }
}

impl Receipts {
    /// No receipts, in so many partitions. Those of dead letters are kept for `dead_time`.
    pub fn new(partitions: u16, retention: ReceiptRetention, dead_time: Duration) -> Self {
        Self {
            partitions: (0..partitions.max(1)).map(|_| Mutex::default()).collect(),
            retention,
            dead_time,
            young: AtomicU64::new(0),
            since: AtomicI64::new(NEVER),
            turning: Mutex::default(),
        }
    }

    /// How long they are kept.
    pub fn retention(&self) -> ReceiptRetention {
        self.retention
    }

    /// Writes receipts into a partition at a time (milliseconds since the Unix epoch); none goes
    /// down. Says whether there is such a partition.
    pub fn write(&self, partition: u16, receipts: &[(EventKey, Receipt)], now: i64) -> bool {
        let Some(home) = self.partitions.get(usize::from(partition)) else { return false };
        if receipts.is_empty() {
            return true;
        }
        let mut home = home.lock();
        receipts.iter().for_each(|(key, receipt)| home.write(*key, *receipt, now));
        drop(home);
        let count = receipts.len() as u64;
        let young = self.young.fetch_add(count, Ordering::Relaxed) + count;
        if self.since.load(Ordering::Relaxed) == NEVER {
            self.since.store(now, Ordering::Relaxed);
        }
        if self.is_full(young) || self.is_over(now) {
            self.turn(now);
        }
        true
    }

    /// The receipts of keys in a partition, in their order.
    pub fn find(&self, partition: u16, keys: &[EventKey]) -> Vec<Option<Receipt>> {
        match self.partitions.get(usize::from(partition)) {
            Some(home) => {
                let home = home.lock();
                keys.iter().map(|key| home.find(key)).collect()
            }
            None => vec![None; keys.len()],
        }
    }

    fn is_full(&self, young: u64) -> bool {
        young >= self.retention.capacity.div_ceil(2).max(1)
    }

    fn is_over(&self, now: i64) -> bool {
        let half = i64::try_from(self.retention.time.as_millis().div_ceil(2)).unwrap_or(i64::MAX);
        now >= self.since.load(Ordering::Relaxed).saturating_add(half)
    }

    fn turn(&self, now: i64) {
        let _turning = self.turning.lock();
        if !self.is_full(self.young.load(Ordering::Relaxed)) && !self.is_over(now) {
            return; // Somebody else has just done it.
        }
        let mut dead: Vec<i64> = vec![];
        for partition in &self.partitions {
            let mut partition = partition.lock();
            partition.turn();
            let dead_time = i64::try_from(self.dead_time.as_millis()).unwrap_or(i64::MAX);
            partition.dead.retain(|_, dead| now.saturating_sub(dead.at) < dead_time);
            dead.extend(partition.dead.values().map(|dead| dead.at));
        }
        self.drop_surplus_dead(dead);
        // At last, so that what came meanwhile makes the generation larger, never smaller.
        self.young.store(0, Ordering::Relaxed);
        self.since.store(now, Ordering::Relaxed);
    }

    /// Those of dead letters are bounded too, should somebody make millions of them.
    fn drop_surplus_dead(&self, mut dead: Vec<i64>) {
        let capacity = usize::try_from(self.retention.capacity).unwrap_or(usize::MAX);
        if dead.len() <= capacity {
            return;
        }
        let surplus = dead.len() - capacity;
        let (_, oldest_kept, _) = dead.select_nth_unstable(surplus);
        tracing::warn!(surplus, capacity, "too many receipts of dead letters, the oldest go");
        for partition in &self.partitions {
            partition.lock().dead.retain(|_, dead| dead.at >= *oldest_kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> EventKey {
        EventKey::of("erp", &number.to_string())
    }

    fn receipts(capacity: u64) -> Receipts {
        let retention = ReceiptRetention { time: Duration::from_millis(1_000), capacity };
        Receipts::new(4, retention, Duration::from_millis(5_000))
    }

    fn write(receipts: &Receipts, number: u64, receipt: Receipt, now: i64) {
        assert!(receipts.write(number as u16 % 4, &[(key(number), receipt)], now));
    }

    fn find(receipts: &Receipts, number: u64) -> Option<Receipt> {
        receipts.find(number as u16 % 4, &[key(number)])[0]
    }

    fn kept(receipts: &Receipts) -> usize {
        let count =
            |home: &Mutex<Partition>| home.lock().generations.iter().map(HashSet::len).sum();
        receipts.partitions.iter().map(|home| -> usize { count(home) }).sum()
    }

    #[test]
    fn the_latest_of_all_partitions_are_found_and_no_more_than_half_as_many_again_are_kept() {
        let receipts = receipts(100);
        for number in 0..1_000_u64 {
            // All but a few in one partition.
            let partition = u16::from(number % 10 == 0);
            receipts.write(partition, &[(key(number), Receipt::Settled)], 0);
            for latest in number.saturating_sub(99)..=number {
                let partition = u16::from(latest % 10 == 0);
                assert!(receipts.find(partition, &[key(latest)])[0].is_some(), "{latest}");
            }
            assert!(kept(&receipts) <= 150);
        }
        assert_eq!(receipts.find(1, &[key(0)]), [None]);
    }

    #[test]
    fn a_receipt_is_found_for_the_stated_time_and_goes_after_it() {
        let receipts = receipts(1_000_000);
        write(&receipts, 0, Receipt::Settled, 450);
        for now in (500..1_450).step_by(10) {
            write(&receipts, now as u64, Receipt::Settled, now);
            assert!(find(&receipts, 0).is_some(), "{now}");
        }
        for now in (1_450..3_000).step_by(10) {
            write(&receipts, now as u64, Receipt::Settled, now);
        }
        assert_eq!(find(&receipts, 0), None);
    }

    #[test]
    fn those_of_dead_letters_stay_while_others_turn_over_and_go_up_only() {
        let receipts = receipts(10);
        write(&receipts, 0, Receipt::Dead(2), 0);
        write(&receipts, 0, Receipt::Dead(1), 0);
        for number in 1..200 {
            write(&receipts, number, Receipt::Settled, 10 * number as i64);
        }
        assert_eq!(find(&receipts, 0), Some(Receipt::Dead(2)));
        write(&receipts, 0, Receipt::Settled, 2_000);
        write(&receipts, 0, Receipt::Dead(3), 2_000);
        assert_eq!(find(&receipts, 0), Some(Receipt::Settled));
    }

    #[test]
    fn those_of_dead_letters_end_with_their_time_and_have_a_bound() {
        let receipts = receipts(10);
        write(&receipts, 0, Receipt::Dead(1), 0);
        for number in 1..50 {
            write(&receipts, number, Receipt::Dead(1), 1_000 + number as i64);
        }
        assert_eq!(find(&receipts, 0), None, "more than the capacity");
        assert!(find(&receipts, 49).is_some());
        for number in 50..60 {
            write(&receipts, number, Receipt::Settled, 7_000);
        }
        assert_eq!(find(&receipts, 49), None, "older than dead letters are kept");
    }
}
