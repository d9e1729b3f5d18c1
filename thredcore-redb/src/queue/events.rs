//! The events and commands that wait, as memory holds them.

use std::{
    pin::pin,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use thredcore::{
    port::{Backlog, Delivery, DeliveryTag, Inbound, PortError, PortErrorKind},
    state::partition_of,
};
use tokio::sync::Notify;

use super::lane::{Item, Lane, Tried};
use crate::config::RedbConfig;

/// A line for each partition.
#[derive(Debug)]
pub(crate) struct Events {
    partitions: Box<[Partition]>,
    capacity: usize,
    /// How many events are in the queue, those handed out included; commands do not count.
    events: AtomicUsize,
    room: Notify,
}

#[derive(Debug)]
struct Partition {
    state: Mutex<PartitionState>,
    /// Told when an item becomes ready in a partition that had none, and when it closes.
    ready: Notify,
    consumers: AtomicU32,
}

#[derive(Debug)]
struct PartitionState {
    lane: Lane<Inbound>,
    closed: bool,
}

/// Somebody who waits for items.
pub(super) struct Consumer<'a>(&'a AtomicU32);

impl<'a> Consumer<'a> {
    pub(super) fn of(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Consumer<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Events {
    pub(crate) fn new(config: &RedbConfig) -> Self {
        let partition = |number| Partition {
            state: Mutex::new(PartitionState { lane: Lane::new(number, 0), closed: false }),
            ready: Notify::new(),
            consumers: AtomicU32::new(0),
        };
        Self {
            partitions: (0..u32::from(config.event_partitions)).map(partition).collect(),
            capacity: config.event_capacity,
            events: AtomicUsize::new(0),
            room: Notify::new(),
        }
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.partitions.len() as u16
    }

    /// Takes nothing more; consumers get what is there, and `Closed` once all is acknowledged.
    pub(crate) fn close(&self) {
        for partition in &self.partitions {
            partition.state.lock().closed = true;
            partition.ready.notify_waiters();
        }
        self.room.notify_waiters();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.partitions[0].state.lock().closed
    }

    /// Takes up items that are durable, in their order.
    pub(crate) fn add(&self, items: impl IntoIterator<Item = Item<Inbound>>) {
        for item in items {
            self.events.fetch_add(count_events([&item]), Ordering::AcqRel);
            let partition = partition_of(item.payload.partition_key(), self.partitions());
            let partition = &self.partitions[usize::from(partition)];
            let mut state = partition.state.lock();
            let was_idle = state.lane.ready() == 0;
            state.lane.push(item);
            drop(state);
            if was_idle {
                partition.ready.notify_waiters();
            }
        }
    }

    /// Counts an attempt for the first so many items of each partition, unless they have one: they
    /// may have been handed out by a process that died.
    pub(crate) fn suspect_first(&self, count: usize) {
        for partition in &self.partitions {
            partition.state.lock().lane.suspect_first(count);
        }
    }

    /// Waits while there are too many events.
    pub(crate) async fn room(&self) -> Result<(), PortError> {
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

    pub(crate) async fn receive(
        &self,
        partition: u16,
        max: usize,
    ) -> Result<Vec<Delivery<Inbound>>, PortError> {
        let partition = self.partitions.get(usize::from(partition)).ok_or_else(|| {
            PortError::new("receive events", PortErrorKind::Rejected, "there is no such partition")
        })?;
        let _consumer = Consumer::of(&partition.consumers);
        loop {
            if let Some(batch) = partition.take(max)? {
                return Ok(batch);
            }
            let mut ready = pin!(partition.ready.notified());
            ready.as_mut().enable();
            if let Some(batch) = partition.take(max)? {
                return Ok(batch);
            }
            ready.await;
        }
    }

    /// Ends deliveries; says what has left by that.
    pub(crate) fn finish(&self, tags: &[DeliveryTag]) -> Vec<Item<Inbound>> {
        // Freed after the lock is: an event can be large.
        let mut done = Vec::with_capacity(tags.len());
        self.end(tags, |_, item| done.push(item));
        self.leave(count_events(&done));
        done
    }

    /// Gives items back at once.
    pub(crate) fn give_back(&self, tags: &[DeliveryTag]) {
        // Latest first, so that nearly all go to the very front.
        let mut tags = tags.to_vec();
        tags.sort_unstable_by_key(|tag| (Lane::<Inbound>::of(tag), std::cmp::Reverse(tag.1)));
        self.end(&tags, |lane, item| lane.put_back(item));
    }

    /// What has been tried with what the tags have out.
    pub(crate) fn tried(&self, tags: &[DeliveryTag]) -> Vec<(u64, Tried)> {
        let tried = |tag: &DeliveryTag| {
            let partition = self.partitions.get(Lane::<Inbound>::of(tag))?;
            partition.state.lock().lane.out(tag)
        };
        tags.iter().filter_map(tried).collect()
    }

    /// What has been tried with all that is handed out or has been given back.
    pub(crate) fn all_tried(&self) -> Vec<(u64, Tried)> {
        let tried =
            |partition: &Partition| -> Vec<_> { partition.state.lock().lane.tried().collect() };
        self.partitions.iter().flat_map(tried).collect()
    }

    pub(crate) fn depth(&self) -> usize {
        self.partitions.iter().map(|partition| partition.state.lock().lane.len()).sum()
    }

    pub(crate) fn backlog(&self) -> Vec<Backlog> {
        let backlog = |partition: &Partition| {
            let state = partition.state.lock();
            Backlog {
                depth: state.lane.len() as u64,
                oldest: state.lane.oldest(),
                consumers: Some(partition.consumers.load(Ordering::Acquire)),
                dead_letters: 0,
            }
        };
        self.partitions.iter().map(backlog).collect()
    }

    fn leave(&self, events: usize) {
        let before = self.events.fetch_sub(events, Ordering::AcqRel);
        if before >= self.capacity && before - events < self.capacity {
            self.room.notify_waiters();
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

impl Partition {
    fn take(&self, max: usize) -> Result<Option<Vec<Delivery<Inbound>>>, PortError> {
        let mut state = self.state.lock();
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
}

fn count_events<'a>(items: impl IntoIterator<Item = &'a Item<Inbound>>) -> usize {
    items.into_iter().filter(|item| matches!(item.payload, Inbound::Event(_))).count()
}
