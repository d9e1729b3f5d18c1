//! The queue of what comes in.

use std::{
    hash::BuildHasher,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    dead_letters::{Buried, DeadLetters, Limits, queue_setters},
    lane::{Item, Kept, Lane},
    tally::Waiting,
};
use crate::{
    hash::FastHash,
    port::{
        Accepted, Backlog, Clock, DeadLetter, DeadLetterFilter, Death, Delivery, DeliveryTag,
        EventQ, Inbound, PortError, PortErrorKind, Quarantine, Redriven, SystemClock, Unreadable,
    },
};

/// Limits of a [`MemoryEventQ`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemoryEventQConfig {
    /// How many partitions there are: 16.
    pub partitions: u16,
    /// With so many events waiting, publishers of events wait: 65,536. A batch is taken whole as
    /// soon as there is room for its first event.
    pub capacity: usize,
    /// How large an item may be as JSON: 64 MiB. Said to the door; a larger one is taken too.
    pub max_item_bytes: usize,
    /// How long dead letters are kept: 30 days.
    pub dead_letters_time: Duration,
    /// How many bytes of dead letters are kept: 64 MiB. With more the oldest is dropped. So is one
    /// whose time is over, each with a warning; [`MemoryEventQ::dropped_dead_letters`] counts them.
    pub dead_letters_bytes: usize,
    /// Tells when an item was published or dead-lettered.
    pub clock: Arc<dyn Clock>,
}

impl Default for MemoryEventQConfig {
    fn default() -> Self {
        Self {
            partitions: 16,
            capacity: 65_536,
            max_item_bytes: 64 << 20,
            dead_letters_time: super::DEAD_LETTERS_TIME,
            dead_letters_bytes: 64 << 20,
            clock: Arc::new(SystemClock),
        }
    }
}

impl MemoryEventQConfig {
    /// Sets the number of partitions; at least 1.
    #[must_use]
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = partitions.max(1);
        self
    }

    /// Sets how many events wait before publishers do; at least 1.
    #[must_use]
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = events.max(1);
        self
    }

    queue_setters!();
}

/// An [`EventQ`] in memory. Any number of tasks may receive from a partition; order holds for each
/// partition as long as one does.
#[derive(Debug)]
pub struct MemoryEventQ {
    partitions: Box<[Partition]>,
    capacity: usize,
    /// How many events are in the queue, those handed out included; commands do not count.
    events: AtomicUsize,
    published: AtomicU64,
    room: Notify,
    dead: Mutex<DeadLetters<Inbound>>,
    max_item_bytes: usize,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Partition {
    state: Mutex<PartitionState>,
    /// Told when an item becomes ready in a partition that had none, and when it closes.
    ready: Notify,
    waiting: Waiting,
}

#[derive(Debug)]
struct PartitionState {
    lane: Lane<Inbound>,
    closed: bool,
}

impl Default for MemoryEventQ {
    fn default() -> Self {
        Self::new(MemoryEventQConfig::default())
    }
}

impl MemoryEventQ {
    /// An empty queue.
    pub fn new(config: MemoryEventQConfig) -> Self {
        let partition = |number| Partition {
            state: Mutex::new(PartitionState { lane: Lane::new(number), closed: false }),
            ready: Notify::new(),
            waiting: Waiting::default(),
        };
        Self {
            partitions: (0..u32::from(config.partitions.max(1))).map(partition).collect(),
            capacity: config.capacity.max(1),
            events: AtomicUsize::new(0),
            published: AtomicU64::new(0),
            room: Notify::new(),
            dead: Mutex::new(DeadLetters::new(config.dead_letter_limits())),
            max_item_bytes: config.max_item_bytes,
            clock: config.clock,
        }
    }

    /// An empty queue with so many partitions and default limits.
    pub fn with_partitions(partitions: u16) -> Self {
        Self::new(MemoryEventQConfig::default().partitions(partitions))
    }

    /// Takes nothing more; consumers get what is in the queue, and
    /// [`Closed`](PortErrorKind::Closed) once all of that is acknowledged.
    pub fn close(&self) {
        for partition in &self.partitions {
            partition.state.lock().closed = true;
            partition.ready.notify_waiters();
        }
        self.room.notify_waiters();
    }

    /// Gives back all that is handed out, as a broker does when it loses a consumer; says how many
    /// items. For tests and programs that replace an engine within one process.
    pub fn redeliver_unacked(&self) -> usize {
        let give_back = |partition: &Partition| {
            let count = partition.state.lock().lane.put_all_back();
            partition.ready.notify_waiters();
            count
        };
        self.partitions.iter().map(give_back).sum()
    }

    /// How many dead letters were dropped, since their time was over or for want of room.
    pub fn dropped_dead_letters(&self) -> u64 {
        self.dead.lock().dropped()
    }

    /// Whether the queue takes nothing more.
    pub fn is_closed(&self) -> bool {
        self.partitions[0].state.lock().closed
    }

    /// Takes up items that are kept elsewhere, at the ends of their partitions; in the order of
    /// their `order`, which is higher than that of any item before.
    ///
    /// This and the following are for a backend that has its items in a store as well, and this
    /// queue as the way to its consumers. Such a backend never calls `publish` here.
    pub fn restore(&self, items: impl IntoIterator<Item = Kept<Inbound>>) {
        for kept in items {
            self.events.fetch_add(count_events([&kept.payload]), Ordering::AcqRel);
            let partition = &self.partitions[self.partition_of(&kept.payload)];
            let mut state = partition.state.lock();
            let was_idle = state.lane.ready() == 0;
            state.lane.restore(kept);
            drop(state);
            if was_idle {
                partition.ready.notify_waiters();
            }
        }
    }

    /// Hands out alone what has been handed out so often before: it may be what kills its
    /// consumers.
    pub fn hand_out_alone_from(&self, attempts: u32) {
        for partition in &self.partitions {
            partition.state.lock().lane.hand_out_alone_from(attempts);
        }
    }

    /// Counts an attempt for the first so many items of each partition, unless they have one: they
    /// may have been handed out by a process that died.
    pub fn suspect_first(&self, count: usize) {
        for partition in &self.partitions {
            partition.state.lock().lane.suspect_first(count);
        }
    }

    /// Acknowledges; says what has left by that.
    pub fn finish(&self, tags: &[DeliveryTag]) -> Vec<Kept<Inbound>> {
        // Freed after the lock is: an event can be large.
        let mut done = Vec::with_capacity(tags.len());
        self.end(tags, |_, item| done.push(item.kept()));
        self.leave(count_events(done.iter().map(|kept| &kept.payload)));
        done
    }

    /// Gives items back at once.
    pub fn give_back(&self, tags: &[DeliveryTag]) {
        // Latest first, so that nearly all go to the very front.
        let mut tags = tags.to_vec();
        tags.sort_unstable_by_key(|tag| (Lane::<Inbound>::of(tag), std::cmp::Reverse(tag.1)));
        self.end(&tags, |lane, item| lane.put_back(item));
    }

    /// Dead-letters an item; says what that did.
    pub fn bury_delivery(&self, tag: DeliveryTag, death: &Death) -> Option<Buried<Inbound>> {
        let mut buried = None;
        let mut events = 0;
        self.end(&[tag], |_, item| {
            events += count_events([&item.payload]);
            buried = Some(self.dead.lock().add(item, death.clone()));
        });
        self.leave(events);
        buried
    }

    /// Drops dead letters whose time is over; says which.
    pub fn expire_dead(&self) -> Vec<DeadLetter<Inbound>> {
        self.dead.lock().expire()
    }

    /// Takes up dead letters that are kept elsewhere.
    pub fn restore_dead(&self, letters: Vec<DeadLetter<Inbound>>) {
        self.dead.lock().restore(letters);
    }

    /// Removes the dead letters that are meant.
    pub fn exhume(&self, filter: &DeadLetterFilter) -> Vec<DeadLetter<Inbound>> {
        self.dead.lock().remove(filter)
    }

    /// The orders and attempts of what the tags have out.
    pub fn orders(&self, tags: &[DeliveryTag]) -> Vec<(u64, u32)> {
        let order = |tag: &DeliveryTag| {
            let partition = self.partitions.get(Lane::<Inbound>::of(tag))?;
            let state = partition.state.lock();
            state.lane.out(tag).map(|item| (item.order(), item.attempts))
        };
        tags.iter().filter_map(order).collect()
    }

    /// The orders and attempts of all that is handed out or has been given back.
    pub fn all_tried(&self) -> Vec<(u64, u32)> {
        let tried = |partition: &Partition| -> Vec<_> {
            let state = partition.state.lock();
            let all = state.lane.all_out().chain(state.lane.tried());
            all.map(|item| (item.order(), item.attempts)).collect()
        };
        self.partitions.iter().flat_map(tried).collect()
    }

    fn partition_of(&self, item: &Inbound) -> usize {
        let hash = FastHash::new().hash_one(item.partition_key());
        ((hash >> 32) % self.partitions.len() as u64) as usize
    }

    fn leave(&self, events: usize) {
        let before = self.events.fetch_sub(events, Ordering::AcqRel);
        if before >= self.capacity && before - events < self.capacity {
            self.room.notify_waiters();
        }
    }

    fn push(&self, items: Vec<Inbound>) -> Result<(), PortError> {
        let at = self.clock.now();
        if items.len() == 1 {
            return items
                .into_iter()
                .try_for_each(|item| self.push_to(self.partition_of(&item), [item], at));
        }
        let mut parts: Vec<Vec<Inbound>> = vec![vec![]; self.partitions.len()];
        for item in items {
            parts[self.partition_of(&item)].push(item);
        }
        let parts = parts.into_iter().enumerate().filter(|(_, items)| !items.is_empty());
        parts.into_iter().try_for_each(|(partition, items)| self.push_to(partition, items, at))
    }

    fn push_to(
        &self,
        partition: usize,
        items: impl IntoIterator<Item = Inbound>,
        at: i64,
    ) -> Result<(), PortError> {
        let partition = &self.partitions[partition];
        let mut state = partition.state.lock();
        if state.closed {
            return Err(PortError::closed("publish events"));
        }
        let was_idle = state.lane.ready() == 0;
        for item in items {
            state.lane.push(item, self.published.fetch_add(1, Ordering::Relaxed), at);
        }
        drop(state);
        if was_idle {
            partition.ready.notify_waiters();
        }
        Ok(())
    }

    fn try_receive(
        &self,
        partition: &Partition,
        max: usize,
    ) -> Result<Option<Vec<Delivery<Inbound>>>, PortError> {
        let mut state = partition.state.lock();
        if state.lane.ready() > 0 {
            let mut batch = Vec::new();
            state.lane.take(max.max(1), &mut batch);
            return Ok(Some(batch));
        }
        if state.closed && state.lane.len() == 0 {
            Err(PortError::closed("receive events"))
        } else {
            Ok(None)
        }
    }

    /// Ends deliveries, with one lock for each run of tags of one partition.
    fn end(&self, tags: &[DeliveryTag], mut ended: impl FnMut(&mut Lane<Inbound>, Item<Inbound>)) {
        for run in tags.chunk_by(|a, b| Lane::<Inbound>::of(a) == Lane::<Inbound>::of(b)) {
            let Some(partition) = self.partitions.get(Lane::<Inbound>::of(&run[0])) else {
                continue;
            };
            let mut state = partition.state.lock();
            let was_idle = state.lane.ready() == 0;
            for tag in run {
                if let Some(item) = state.lane.end(tag) {
                    ended(&mut state.lane, item);
                }
            }
            let drained = state.closed && state.lane.len() == 0;
            if drained || (was_idle && state.lane.ready() > 0) {
                partition.ready.notify_waiters();
            }
        }
    }
}

fn count_events<'a>(items: impl IntoIterator<Item = &'a Inbound>) -> usize {
    items.into_iter().filter(|item| matches!(item, Inbound::Event(_))).count()
}

#[async_trait]
impl EventQ for MemoryEventQ {
    fn partitions(&self) -> u16 {
        self.partitions.len() as u16
    }

    fn max_item_bytes(&self) -> usize {
        self.max_item_bytes
    }

    async fn room(&self) -> Result<(), PortError> {
        let is_full = || self.events.load(Ordering::Acquire) >= self.capacity;
        while is_full() {
            let mut room = pin!(self.room.notified());
            room.as_mut().enable();
            if self.is_closed() {
                return Err(PortError::closed("publish events"));
            }
            if is_full() {
                room.await;
            }
        }
        Ok(())
    }

    async fn publish(&self, items: Vec<Inbound>) -> Result<(), PortError> {
        let events = count_events(&items);
        self.events.fetch_add(events, Ordering::AcqRel);
        self.push(items).inspect_err(|_| self.leave(events))
    }

    async fn receive(
        &self,
        partition: u16,
        max: usize,
    ) -> Result<Vec<Delivery<Inbound>>, PortError> {
        let partition = self.partitions.get(usize::from(partition)).ok_or_else(|| {
            PortError::new("receive events", PortErrorKind::Rejected, "there is no such partition")
        })?;
        if let Some(batch) = self.try_receive(partition, max)? {
            return Ok(batch);
        }
        let _waiting = partition.waiting.enter();
        loop {
            let mut ready = pin!(partition.ready.notified());
            ready.as_mut().enable();
            if let Some(batch) = self.try_receive(partition, max)? {
                return Ok(batch);
            }
            ready.await;
        }
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        // Freed after the lock is: an event can be large.
        let mut done = Vec::with_capacity(tags.len());
        self.end(tags, |_, item| done.push(item.payload));
        self.leave(count_events(&done));
        Ok(())
    }

    async fn nack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        self.give_back(tags);
        Ok(())
    }

    async fn dead_letter(&self, tag: DeliveryTag, death: &Death) -> Result<bool, PortError> {
        Ok(self.bury_delivery(tag, death).is_some())
    }

    async fn bury(&self, items: Vec<(Inbound, String)>) -> Result<(), PortError> {
        let mut dead = self.dead.lock();
        for (item, reason) in items {
            dead.add_payload(item, 0, Death { reason, ..Death::default() });
        }
        Ok(())
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Inbound>>, PortError> {
        let mut dead = self.dead.lock();
        dead.expire();
        Ok(dead.list(filter))
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        if self.is_closed() {
            return Err(PortError::closed("redrive events"));
        }
        self.expire_dead();
        let items: Vec<_> = self.exhume(filter).into_iter().map(redriven).collect();
        let count = items.len();
        // They come in above the capacity: whoever redrives may be who empties the queue.
        self.events.fetch_add(count_events(&items), Ordering::AcqRel);
        self.push(items)?;
        Ok(count)
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        Ok(self.dead.lock().remove(filter).len())
    }

    async fn depth(&self) -> Result<usize, PortError> {
        Ok(self.partitions.iter().map(|partition| partition.state.lock().lane.len()).sum())
    }

    async fn backlog(&self) -> Result<Vec<Backlog>, PortError> {
        let backlog = |partition: &Partition| {
            let state = partition.state.lock();
            Backlog {
                depth: state.lane.len() as u64,
                oldest: state.lane.oldest(),
                consumers: Some(partition.waiting.consumers(state.lane.out_count() > 0)),
                dead_letters: 0,
            }
        };
        Ok(self.partitions.iter().map(backlog).collect())
    }
}

/// What is published again of a dead letter.
pub fn redriven(letter: DeadLetter<Inbound>) -> Inbound {
    match letter.payload {
        Inbound::Event(accepted) => {
            let redriven = Redriven { times: letter.times, moved: letter.moved };
            Inbound::Event(Accepted { redriven: Some(Arc::new(redriven)), ..accepted })
        }
        command @ Inbound::Command(_) => command,
    }
}

/// Nothing is ever written down here that would have to be read again.
#[async_trait]
impl Quarantine for MemoryEventQ {
    async fn unreadable(&self, _limit: usize) -> Result<Vec<Unreadable>, PortError> {
        Ok(vec![])
    }

    async fn move_out(&self, _limit: usize) -> Result<Vec<Unreadable>, PortError> {
        Ok(vec![])
    }
}
