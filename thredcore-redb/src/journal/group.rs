//! One group: operations that are written by one transaction.

use std::sync::atomic::Ordering;

use redb::{ReadableTable, WriteTransaction};
use thredcore::port::{Committed, Lease, Reservation};
use thredlib::ThredId;

use super::{
    Draft, Outcome, Recorded, What,
    files::{Files, NO_STEP},
    written::{Changed, Written},
};
use crate::{
    error::RedbError,
    index::Place,
    quarantine::Spot,
    queue::{Tried, dead::NewLetter},
    receipts::Settled,
    segments::{self, Body, Segments},
    shared::{Found, ReadError, Shared},
    storage::texts,
    tables::{self, Queue},
};

/// A group under way.
pub(super) struct Group<'w> {
    pub(super) shared: &'w Shared,
    pub(super) files: &'w mut Files,
    pub(super) txn: &'w WriteTransaction,
    pub(super) made: Written,
}

impl<'w> Group<'w> {
    pub(super) fn new(shared: &'w Shared, files: &'w mut Files, txn: &'w WriteTransaction) -> Self {
        let patterns_version = shared.patterns_version.load(Ordering::Acquire);
        Self { shared, files, txn, made: Written { patterns_version, ..Written::default() } }
    }

    /// Takes an operation in; its outcome holds if the group is written.
    pub(super) fn apply(&mut self, what: &What) -> Result<Outcome, RedbError> {
        match what {
            What::Commit(drafts) => return self.commit_all(drafts),
            What::Publish { items, redriven, at } => {
                for (_, body) in items {
                    let order = self.files.events.next();
                    self.files.events.push(order, *at as u64, body.clone(), true);
                    self.made.published.push(order);
                }
                self.exhume(Queue::Events, redriven)?;
            }
            What::Settle { unmoved, receipts } => self.settle(unmoved, receipts)?,
            What::Reserve(reservation) => return self.reserve(reservation),
            What::Release(places) => {
                let mut small = self.shared.small.lock();
                let mut table = self.txn.open_table(tables::PLACES)?;
                for (pattern, thred) in places {
                    if let Some(places) = small.places.get_mut(pattern) {
                        places.threds.remove(thred);
                    }
                    self.made.is_dirty |=
                        table.remove((pattern.as_str(), thred.as_str()))?.is_some();
                }
            }
            What::PutPattern(pattern, body) => {
                let is_other = self.shared.small.lock().patterns.put(pattern.clone());
                self.patterns_changed(is_other);
                let key = &pattern.key;
                let mut patterns = self.txn.open_table(tables::PATTERNS)?;
                patterns.insert((key.id.as_str(), key.revision), &***body)?;
                let mut current = self.txn.open_table(tables::CURRENT)?;
                current.insert(key.id.as_str(), key.revision)?;
            }
            What::RemovePattern(id) => {
                let was_there = self.shared.small.lock().patterns.remove(id);
                self.patterns_changed(was_there);
                self.txn.open_table(tables::CURRENT)?.remove(id.as_str())?;
            }
            What::Acquire(lease, now) => return self.acquire(lease, *now),
            What::GiveBack { name, owner } => {
                if self.shared.small.lock().leases.give_back(name, owner) {
                    let mut table = self.txn.open_table(tables::LEASES)?;
                    self.made.is_dirty |= table.remove(&**name)?.is_some();
                }
            }
            What::Discard(queue, numbers) => self.exhume(*queue, numbers)?,
            What::Forget(ids) => self.forget(ids)?,
            What::MoveOut(spots) => {
                for spot in spots {
                    self.move_out(spot)?;
                }
            }
            What::Cleared { whole, partly } => self.clear(whole, partly)?,
            What::Left { queue, orders, tried } => {
                let segments = self.queue(*queue);
                orders.iter().for_each(|order| segments.remove(*order));
                self.forget_attempts(*queue, tried)?;
            }
            What::Sent { messages, redriven } => {
                for (order, at, body) in messages {
                    self.files.messages.push(*order, *at as u64, body.clone(), true);
                }
                self.exhume(Queue::Messages, redriven)?;
            }
            What::Buried { queue, orders, letters, gone } => {
                let segments = self.queue(*queue);
                orders.iter().for_each(|order| segments.remove(*order));
                self.forget_attempts(*queue, orders)?;
                if !letters.is_empty() {
                    let mut table = self.txn.open_table(tables::DEAD)?;
                    let mut sizes = self.txn.open_table(tables::DEAD_SIZES)?;
                    for NewLetter { number, letter, body } in letters {
                        table.insert((*queue as u8, *number), &***body)?;
                        let topic = letter.topic.as_ref().map(|topic| topic.as_str());
                        let size = (letter.at, letter.bytes, topic);
                        sizes.insert((*queue as u8, *number), size)?;
                    }
                    self.made.is_dirty = true;
                }
                self.exhume(*queue, gone)?;
            }
            What::Tried { queue, tried } => {
                let live = tried.iter().filter(|(order, _)| match queue {
                    Queue::Events => self.files.events.is_live(*order),
                    Queue::Messages => self.files.messages.is_live(*order),
                });
                let mut table = self.txn.open_table(tables::ATTEMPTS)?;
                for (order, tried) in live {
                    table.insert((*queue as u8, *order), row(*tried))?;
                    self.made.is_dirty = true;
                }
            }
            What::Flush => {}
            What::Close(tried) => {
                let mut table = self.txn.open_table(tables::ATTEMPTS)?;
                for (queue, order, tried) in tried {
                    table.insert((*queue as u8, *order), row(*tried))?;
                }
                self.txn.open_table(tables::META)?.insert(tables::META_CLEAN, 1)?;
                self.made.is_dirty = true;
            }
        }
        Ok(Outcome::Done)
    }

    fn queue(&mut self, queue: Queue) -> &mut Segments {
        match queue {
            Queue::Events => &mut self.files.events,
            Queue::Messages => &mut self.files.messages,
        }
    }

    fn commit_all(&mut self, drafts: &[Draft]) -> Result<Outcome, RedbError> {
        let answers = drafts.iter().map(|draft| self.commit(draft));
        answers.collect::<Result<_, _>>().map(Outcome::Committed)
    }

    /// All checks come before the first write.
    fn commit(&mut self, draft: &Draft) -> Result<Committed, RedbError> {
        let commit = &draft.commit;
        let id = &commit.state.id;
        let stored = match self.made.threds.get(id) {
            Some(changed) => Some((changed.state.clone(), changed.at)),
            None if self.made.forgotten.contains_key(id) => None,
            None => match self.shared.states(std::slice::from_ref(id)) {
                Ok(mut states) => match states.pop() {
                    // Nobody knows what the change would be made of.
                    Some(Found::Unreadable) => return Ok(Committed::Conflict),
                    found => found.and_then(Found::state),
                },
                Err(ReadError::Failed(error)) => return Err(error),
                // The database is there while a group is written.
                Err(ReadError::Refused(_)) => None,
            },
        };
        let state = stored.as_ref().map(|(state, _)| &**state);
        if state.is_some_and(|state| state.has_consumed(&commit.consumed.key)) {
            return Ok(Committed::Duplicate);
        }
        if state.map_or(0, |state| state.version) != commit.expected {
            return Ok(Committed::Conflict);
        }

        let before = stored.as_ref().map_or(NO_STEP, |(_, at)| at.step);
        let step = self.files.steps.next();
        self.files.steps.push(step, before, draft.step.clone(), !commit.outbox.is_empty());
        let place = self.files.states.next();
        self.files.states.push(place, step, draft.state.clone(), true);
        if let Some((_, at)) = &stored {
            self.files.states.remove(at.state);
        }
        if !commit.outbox.is_empty() {
            self.made.entries.push((step, commit.clone()));
        }
        let (state, at) = (commit.state.clone(), Place { state: place, step });
        match self.made.threds.get_mut(id) {
            Some(changed) => (changed.state, changed.at) = (state, at),
            None => {
                let before = stored.map(|(state, _)| state);
                self.made.threds.insert(id.clone(), Changed { before, state, at });
            }
        }
        Ok(Committed::Applied)
    }

    fn clear(&mut self, whole: &[u64], partly: &[(u64, Body)]) -> Result<(), RedbError> {
        for step in whole {
            self.files.steps.remove(*step);
            if self.files.partly.remove(step) {
                self.txn.open_table(tables::PARTLY)?.remove(step)?;
            }
        }
        for (step, rest) in partly {
            if self.files.steps.is_live(*step) {
                self.files.partly.insert(*step);
                self.txn.open_table(tables::PARTLY)?.insert(step, &***rest)?;
                self.made.is_dirty = true;
            }
        }
        Ok(())
    }

    fn settle(&mut self, unmoved: &[Recorded], receipts: &Settled) -> Result<(), RedbError> {
        if !unmoved.is_empty() {
            let mut known = self.shared.recorded.lock();
            if let Some(opened) = known.advance(0) {
                self.files.recorded.open(opened);
            }
            let generation = known.current();
            for Recorded { decision, marks, body } in unmoved {
                let [record, event] = marks.map(u128::from_be_bytes);
                if !known.insert(record) {
                    continue;
                }
                let is_new = known.insert(event);
                let new = marks.iter().copied().take(1 + usize::from(is_new));
                self.files.recorded.push(generation, new);
                let step = self.files.steps.next();
                self.files.steps.push(step, self.files.last_unmoved, body.clone(), false);
                self.files.last_unmoved = step;
                self.made.unmoved.push(*decision);
            }
            let mut meta = self.txn.open_table(tables::META)?;
            meta.insert(tables::META_UNMOVED, self.files.last_unmoved)?;
        }
        let Settled { opened, generation, settled, dead, not_dead } = receipts;
        if let Some(opened) = opened {
            self.files.receipts.open(*opened);
        }
        self.files.receipts.push(*generation, settled.iter().copied());
        if !dead.is_empty() || !not_dead.is_empty() {
            let mut table = self.txn.open_table(tables::DEAD_RECEIPTS)?;
            for (key, dead) in dead {
                table.insert(key, (dead.times, dead.at))?;
            }
            for key in not_dead {
                table.remove(key)?;
            }
            self.made.is_dirty = true;
        }
        Ok(())
    }

    /// Forgets ended threds that have nothing to publish.
    fn forget(&mut self, ids: &[ThredId]) -> Result<(), RedbError> {
        for id in ids {
            if self.made.threds.contains_key(id) || self.made.forgotten.contains_key(id) {
                continue;
            }
            let (head, brief) = {
                let shard = self.shared.shard(id).lock();
                let may_go = shard.index.has_ended(id) && !shard.outboxes.contains(id);
                let Some(head) = shard.index.head(id).filter(|_| may_go) else { continue };
                (head, shard.index.brief(id))
            };
            let participants = match brief {
                Some(brief) => brief.participants,
                None => {
                    let table = self.txn.open_table(tables::STATES.data)?;
                    let read = |_, body: &[u8]| texts::header(body).ok();
                    let header = segments::read(&table, head.at.state, read)?.flatten();
                    header.map(|header| header.participants).unwrap_or_default()
                }
            };
            self.files.states.remove(head.at.state);
            self.made.forgotten.insert(id.clone(), participants);
        }
        Ok(())
    }

    /// Takes something out that cannot be read.
    fn move_out(&mut self, spot: &Spot) -> Result<(), RedbError> {
        self.made.is_dirty = true;
        match spot {
            Spot::State(number) => {
                let table = self.txn.open_table(tables::STATES.data)?;
                let read = |_, body: &[u8]| texts::header(body).ok();
                let header = segments::read(&table, *number, read)?.flatten();
                if let Some(header) = header {
                    let head = self.shared.shard(&header.id).lock().index.head(&header.id);
                    if head.is_some_and(|head| head.at.state == *number) {
                        self.made.moved_out.push(header);
                    }
                }
                self.files.states.remove(*number);
            }
            Spot::Step(number) => {
                self.files.steps.hollow(*number, self.txn)?;
                self.clear(&[*number], &[])?;
            }
            Spot::Partly(step) => {
                self.files.partly.remove(step);
                self.txn.open_table(tables::PARTLY)?.remove(step)?;
            }
            Spot::Item(queue, order) => {
                self.queue(*queue).remove(*order);
                self.forget_attempts(*queue, &[*order])?;
            }
            Spot::Dead(queue, number) => {
                self.exhume(*queue, &[*number])?;
                self.shared.dead(*queue).claim(std::iter::once(*number));
            }
            Spot::Lease(name) => _ = self.txn.open_table(tables::LEASES)?.remove(&**name)?,
            Spot::Pattern(id, revision) => {
                self.txn.open_table(tables::PATTERNS)?.remove((&**id, *revision))?;
            }
        }
        Ok(())
    }

    fn reserve(&mut self, wanted: &Reservation) -> Result<Outcome, RedbError> {
        let (reserved, is_new) = {
            let mut small = self.shared.small.lock();
            small.places.entry(wanted.pattern.clone()).or_default().reserve(wanted)
        };
        if is_new {
            let pattern = wanted.pattern.as_str();
            let mut places = self.txn.open_table(tables::PLACES)?;
            places.insert((pattern, wanted.thred.as_str()), ())?;
            let mut times = self.txn.open_table(tables::PLACE_TIMES)?;
            let last = times.get(pattern)?.map_or(wanted.now, |last| last.value());
            times.insert(pattern, last.max(wanted.now))?;
            self.made.is_dirty = true;
        }
        Ok(Outcome::Reserved(reserved))
    }

    fn acquire(&mut self, lease: &Lease, now: i64) -> Result<Outcome, RedbError> {
        let held = self.shared.small.lock().leases.acquire(lease, now);
        // One process owns the directory: a short lease would only keep the next one waiting.
        if held && lease.until.saturating_sub(now) >= SHORT_LEASE {
            let text = serde_json::to_vec(lease)
                .map_err(|error| RedbError::damaged("lease", &lease.name, error))?;
            self.txn.open_table(tables::LEASES)?.insert(&*lease.name, &*text)?;
            self.made.is_dirty = true;
        }
        Ok(Outcome::Held(held))
    }

    fn patterns_changed(&mut self, is_other: bool) {
        self.made.patterns_version += u64::from(is_other);
        self.made.is_dirty = true;
    }

    /// Removes dead letters.
    fn exhume(&mut self, queue: Queue, numbers: &[u64]) -> Result<(), RedbError> {
        if !numbers.is_empty() {
            let mut table = self.txn.open_table(tables::DEAD)?;
            let mut sizes = self.txn.open_table(tables::DEAD_SIZES)?;
            for number in numbers {
                table.remove((queue as u8, *number))?;
                sizes.remove((queue as u8, *number))?;
            }
            self.made.is_dirty = true;
        }
        Ok(())
    }

    fn forget_attempts(&mut self, queue: Queue, orders: &[u64]) -> Result<(), RedbError> {
        if !orders.is_empty() {
            let mut table = self.txn.open_table(tables::ATTEMPTS)?;
            for order in orders {
                self.made.is_dirty |= table.remove((queue as u8, *order))?.is_some();
            }
        }
        Ok(())
    }

    /// Writes what the operations have left; the transaction is still to be committed.
    pub(super) fn write(mut self) -> Result<Written, RedbError> {
        self.gather()?;
        let below = self.files.steps.next().saturating_sub(self.shared.config.history_steps);
        if self.made.patterns_version != self.shared.patterns_version.load(Ordering::Acquire) {
            let mut meta = self.txn.open_table(tables::META)?;
            meta.insert(tables::META_PATTERNS, self.made.patterns_version)?;
        }
        let files = &mut *self.files;
        let parts = [&mut files.states, &mut files.steps, &mut files.events, &mut files.messages];
        let mut is_dirty = self.made.is_dirty;
        for part in parts {
            is_dirty |= part.is_dirty();
            part.write(self.txn)?;
        }
        for runs in [&mut files.receipts, &mut files.recorded] {
            is_dirty |= runs.is_dirty();
            runs.write(self.txn)?;
        }
        if is_dirty && files.steps.is_prunable(below) {
            files.steps.prune(below, self.txn)?;
        }
        self.made.is_dirty = is_dirty;
        Ok(self.made)
    }
}

fn row(tried: Tried) -> (u32, u32, i64) {
    (tried.attempts, tried.failures, tried.due)
}

/// A lease that runs for less is not written: a minute.
const SHORT_LEASE: i64 = 60_000;
