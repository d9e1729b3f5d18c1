//! What one process holds of a partition or a topic: the model of both queues' deliveries.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Instant,
};

use thredcore::port::{Delivery, DeliveryTag, Returned};

use super::items::{ItemId, Run};

/// How often an item has been handed out, those times aside that it was given back because it failed,
/// when it is suspected of ending its consumers. It is handed out alone then: those behind it would
/// count a death that is not theirs.
const SUSPECT: u32 = 3;

/// Items of one partition or topic, from their fetching to their end.
///
/// How often an item was handed out is written down on the server *before* it is handed out, so
/// that a count survives a consumer that dies of it.
#[derive(Debug)]
pub(super) struct Lane<T> {
    number: u64,
    /// To be handed out; that is written down.
    ready: BTreeMap<ItemId, Item<T>>,
    /// To be handed out again, once that is written down.
    again: BTreeMap<ItemId, Item<T>>,
    /// To be handed out again, but not before.
    delayed: BTreeMap<(Instant, ItemId), Item<T>>,
    out: HashMap<u64, (ItemId, Item<T>)>,
    known: BTreeSet<ItemId>,
    /// What the server was given to hold, by first ids.
    runs: BTreeMap<ItemId, Run>,
    /// The first ids of runs of which nothing is left; the server is to be told.
    ended: Vec<ItemId>,
    deliveries: u64,
}

#[derive(Debug)]
pub(super) struct Item<T> {
    pub(super) payload: T,
    pub(super) count: Count,
}

/// How an item has fared, as far as that is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// How often it was handed out.
    pub(super) attempts: u32,
    /// How often it was given back because it failed.
    pub(super) failures: u32,
}

impl Count {
    /// Of an item that is handed out for the first time.
    pub(super) const FIRST: Self = Self { attempts: 1, failures: 0 };

    /// Reads what `Display` writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (attempts, failures) = text.split_once(' ')?;
        Some(Self { attempts: attempts.parse().ok()?, failures: failures.parse().ok()? })
    }

    fn again(self) -> Self {
        Self { attempts: self.attempts.saturating_add(1), ..self }
    }

    fn is_suspect(self) -> bool {
        self.attempts.saturating_sub(self.failures) >= SUSPECT
    }

    /// How it fares when it is given back.
    fn returned(self, why: Option<Returned>) -> Self {
        match why {
            Some(Returned::Failed) => Self { failures: self.failures.saturating_add(1), ..self },
            Some(Returned::Untried) => Self { attempts: self.attempts.saturating_sub(1), ..self },
            None => self,
        }
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.attempts, self.failures)
    }
}

impl<T: Clone> Lane<T> {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number: number as u64,
            ready: BTreeMap::new(),
            again: BTreeMap::new(),
            delayed: BTreeMap::new(),
            out: HashMap::new(),
            known: BTreeSet::new(),
            runs: BTreeMap::new(),
            ended: vec![],
            deliveries: 0,
        }
    }

    /// The lane that a tag belongs to.
    pub(super) fn of(tag: &DeliveryTag) -> usize {
        usize::try_from(tag.0).unwrap_or(usize::MAX)
    }

    /// Adds items whose handing out is written down.
    pub(super) fn add(&mut self, items: impl IntoIterator<Item = (ItemId, T)>) {
        for (id, payload) in items {
            if self.known.insert(id) {
                self.ready.insert(id, Item { payload, count: Count::FIRST });
            }
        }
    }

    /// Adds items that have been handed out before, here or elsewhere.
    pub(super) fn add_again(&mut self, items: impl IntoIterator<Item = (ItemId, Item<T>)>) {
        for (id, item) in items {
            if self.known.insert(id) {
                self.again.insert(id, item);
            }
        }
    }

    /// Notes in which runs the items were that were added last.
    pub(super) fn add_runs(&mut self, runs: Vec<Run>) {
        for run in runs {
            self.runs.insert(run.first(), run);
            self.end_run(run);
        }
    }

    /// The first ids of runs that have ended since the last call.
    pub(super) fn ended(&mut self) -> Vec<ItemId> {
        std::mem::take(&mut self.ended)
    }

    fn end_run(&mut self, run: Run) {
        if self.known.range(run.ids()).next().is_none() {
            self.runs.remove(&run.first());
            self.ended.push(run.first());
        }
    }

    /// Hands out up to `max` items, in order; none that come after one whose handing out has still
    /// to be written down.
    pub(super) fn take(&mut self, max: usize) -> Vec<Delivery<T>> {
        let mut batch = Vec::new();
        let barrier = self.again.first_key_value().map(|(id, _)| *id);
        while batch.len() < max
            && let Some(first) = self.ready.first_entry()
        {
            let alone = first.get().count.is_suspect();
            if barrier.is_some_and(|barrier| barrier < *first.key()) || alone && !batch.is_empty() {
                break;
            }
            let (id, item) = first.remove_entry();
            self.deliveries += 1;
            batch.push(Delivery {
                payload: item.payload.clone(),
                tag: DeliveryTag(self.number, self.deliveries),
                attempt: item.count.attempts,
                failures: item.count.failures,
            });
            self.out.insert(self.deliveries, (id, item));
            if alone {
                break;
            }
        }
        batch
    }

    /// What comes next of that which is to be handed out again, with the counts to write down.
    pub(super) fn next_again(&self, max: usize) -> Vec<(ItemId, Count)> {
        let mut next = Vec::new();
        for (id, item) in self.again.iter().take(max.max(1)) {
            let count = item.count.again();
            if count.is_suspect() && !next.is_empty() {
                break;
            }
            next.push((*id, count));
            if count.is_suspect() {
                break;
            }
        }
        next
    }

    /// Notes that the counts are written down.
    pub(super) fn written(&mut self, counts: &[(ItemId, Count)]) {
        for (id, count) in counts {
            if let Some(mut item) = self.again.remove(id) {
                item.count = *count;
                self.ready.insert(*id, item);
            }
        }
    }

    /// Whether an item can be handed out once that is written down.
    pub(super) fn has_again(&self) -> bool {
        !self.again.is_empty()
    }

    /// An item that is out.
    pub(super) fn get(&self, tag: &DeliveryTag) -> Option<(ItemId, &Item<T>)> {
        self.out.get(&tag.1).map(|(id, item)| (*id, item))
    }

    /// Ends a delivery for good.
    pub(super) fn end(&mut self, tag: &DeliveryTag) {
        if let Some((id, _)) = self.out.remove(&tag.1) {
            self.known.remove(&id);
            if let Some((_, run)) = self.runs.range(..=id).next_back()
                && run.ids().contains(&id)
            {
                self.end_run(*run);
            }
        }
    }

    /// Takes an item back, to be handed out again, at once or not before a time.
    pub(super) fn put_back(
        &mut self,
        tag: &DeliveryTag,
        not_before: Option<Instant>,
        why: Option<Returned>,
    ) {
        let Some((id, mut item)) = self.out.remove(&tag.1) else { return };
        item.count = item.count.returned(why);
        match not_before {
            None => _ = self.again.insert(id, item),
            Some(due) => _ = self.delayed.insert((due, id), item),
        }
    }

    /// How an item that is out will have fared when it is given back.
    pub(super) fn returned(&self, tag: &DeliveryTag, why: Returned) -> Option<(ItemId, Count)> {
        let (id, item) = self.out.get(&tag.1)?;
        Some((*id, item.count.returned(Some(why))))
    }

    /// Lets the delayed items that are due be handed out; says when the next one is.
    pub(super) fn wake_delayed(&mut self, now: Instant) -> Option<Instant> {
        while let Some(first) = self.delayed.first_entry() {
            let (due, id) = *first.key();
            if due > now {
                return Some(due);
            }
            self.again.insert(id, first.remove());
        }
        None
    }

    /// How many items there are, those that are out included.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nobody has an item.
    pub(super) fn nothing_is_out(&self) -> bool {
        self.out.is_empty() && self.delayed.is_empty()
    }

    /// Whether nothing is out or just about to be.
    pub(super) fn is_idle(&self) -> bool {
        self.out.is_empty() && self.ready.is_empty()
    }

    /// Forgets all: it is another's now. The tags of what was out do nothing any more.
    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.again.clear();
        self.delayed.clear();
        self.out.clear();
        self.known.clear();
        self.runs.clear();
        self.ended.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> ItemId {
        ItemId(number)
    }

    fn lane(numbers: std::ops::Range<u64>) -> Lane<u64> {
        let mut lane = Lane::new(3);
        lane.add(numbers.map(|number| (id(number), number)));
        lane
    }

    fn payloads(batch: &[Delivery<u64>]) -> Vec<u64> {
        batch.iter().map(|delivery| delivery.payload).collect()
    }

    /// Hands out again what is to be, as a consumer does.
    fn redeliver(lane: &mut Lane<u64>, max: usize) -> Vec<Delivery<u64>> {
        let counts = lane.next_again(max);
        lane.written(&counts);
        lane.take(max)
    }

    #[test]
    fn nothing_overtakes_what_was_given_back() {
        let mut lane = lane(0..3);
        let batch = lane.take(2);
        lane.put_back(&batch[1].tag, None, None);
        assert!(lane.take(9).is_empty(), "2 is behind 1");
        assert_eq!(payloads(&redeliver(&mut lane, 9)), [1, 2]);
    }

    #[test]
    fn a_suspect_is_handed_out_alone_and_counts_for_itself() {
        let mut lane = Lane::new(0);
        lane.add_again((0..4).map(|n| {
            let count = Count { attempts: u32::from(n > 0) * 2, failures: 0 };
            (id(n), Item { payload: n, count })
        }));
        assert_eq!(payloads(&redeliver(&mut lane, 9)), [0]);
        let suspect = redeliver(&mut lane, 9);
        assert_eq!((payloads(&suspect), suspect[0].attempt), (vec![1], 3));
        assert_eq!(lane.again.values().map(|item| item.count.attempts).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn failures_and_deaths_are_counted_apart() {
        let mut lane = lane(0..2);
        let mut batch = lane.take(2);
        for attempt in 2..9 {
            let tags = [batch[0].tag, batch[1].tag];
            lane.put_back(&tags[0], None, Some(Returned::Failed));
            lane.put_back(&tags[1], None, Some(Returned::Untried));
            batch = redeliver(&mut lane, 2);
            assert_eq!(payloads(&batch), [0, 1], "what fails is no suspect");
            assert_eq!((batch[0].attempt, batch[0].failures), (attempt, attempt - 1));
            assert_eq!((batch[0].deaths(), batch[1].attempt), (0, 1));
        }
        assert_eq!(Count::parse(&Count::FIRST.to_string()), Some(Count::FIRST));
    }

    #[test]
    fn a_run_ends_with_the_last_of_its_items() {
        let mut lane = lane(0..5);
        lane.add_runs(vec![Run::new(id(0), 3), Run::new(id(3), 2), Run::new(id(5), 9)]);
        assert_eq!(lane.ended(), [id(5)], "nothing is left of it");
        let batch = lane.take(5);
        lane.end(&batch[0].tag);
        lane.end(&batch[2].tag);
        lane.end(&batch[4].tag);
        assert_eq!(lane.ended(), []);
        lane.end(&batch[1].tag);
        lane.end(&batch[1].tag);
        assert_eq!(lane.ended(), [id(0)]);
        lane.end(&batch[3].tag);
        assert_eq!(lane.ended(), [id(3)]);
    }

    #[test]
    fn what_is_known_is_not_added_twice() {
        let mut lane = lane(0..2);
        let batch = lane.take(1);
        lane.add([(id(0), 0), (id(1), 1), (id(2), 2)]);
        lane.add_again([(id(1), Item { payload: 1, count: Count::FIRST })]);
        assert_eq!((lane.len(), payloads(&lane.take(9))), (3, vec![1, 2]));
        lane.end(&batch[0].tag);
        lane.end(&batch[0].tag);
        assert_eq!(lane.len(), 2);
    }

    #[test]
    fn tags_of_what_was_given_up_do_nothing() {
        let mut lane = lane(0..1);
        let tag = lane.take(1)[0].tag;
        lane.clear();
        assert!(lane.get(&tag).is_none());
        lane.add([(id(0), 0)]);
        assert_ne!(lane.take(1)[0].tag, tag);
    }
}
