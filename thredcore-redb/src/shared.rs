//! What readers see: all that is durable, and the part of it that is held in memory.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redb::{Database, ReadTransaction, ReadableDatabase};
use thredcore::{
    memory::{Listeners, MemoryEventQ, MemoryMessageQ, MemoryStorage, Tally},
    port::{LogType, OutboxEntry, Timer},
    state::{ThredState, partition_of},
};
use thredlib::{MessageId, ThredId};

use crate::{
    error::{RedbError, Refusal},
    journal::{Condition, Deferred, lock},
    segments,
    storage::texts,
    tables::{Queue, STATES},
};

/// What the ports and the writer have in common. The writer alone changes it, once the change is
/// durable; clearing an outbox is the exception.
pub(crate) struct Shared {
    /// Absent while a full disk has it closed.
    database: RwLock<Option<Database>>,
    pub(crate) condition: Condition,
    pub(crate) deferred: Deferred,
    pub(crate) deferred_limit: usize,
    /// By partition.
    shards: Box<[Mutex<Shard>]>,
    timers: Box<[Mutex<BTreeSet<Timer>>]>,
    pub(crate) listeners: Mutex<Listeners>,
    /// Places, leases and patterns.
    small: RwLock<Arc<MemoryStorage>>,
    pub(crate) patterns_version: AtomicU64,
    pub(crate) event_q: MemoryEventQ,
    pub(crate) message_q: MemoryMessageQ,
    pub(crate) tally: Mutex<Tally>,
}

/// The threds of a partition.
#[derive(Default)]
pub(crate) struct Shard {
    pub(crate) heads: HashMap<ThredId, Head>,
    pub(crate) outboxes: HashMap<ThredId, Vec<Unpublished>>,
    cache: Cache,
}

/// Where a thred is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The number of its state.
    pub(crate) place: u64,
    /// The number of its last step.
    pub(crate) step: u64,
}

/// An entry that is not published yet.
#[derive(Clone, Debug)]
pub(crate) struct Unpublished {
    /// The step that made it.
    pub(crate) step: u64,
    pub(crate) entry: OutboxEntry,
}

/// States used last: when the young half is full, it becomes the old one.
#[derive(Default)]
struct Cache {
    young: HashMap<ThredId, Arc<ThredState>>,
    old: HashMap<ThredId, Arc<ThredState>>,
    limit: usize,
}

impl Cache {
    fn get(&mut self, id: &ThredId) -> Option<Arc<ThredState>> {
        if let Some(state) = self.young.get(id) {
            return Some(state.clone());
        }
        let (id, state) = self.old.remove_entry(id)?;
        self.put(id, state.clone());
        Some(state)
    }

    fn contains(&self, id: &ThredId) -> bool {
        self.young.contains_key(id) || self.old.contains_key(id)
    }

    fn put(&mut self, id: ThredId, state: Arc<ThredState>) {
        if self.young.len() >= self.limit {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&id);
        if self.limit > 0 {
            self.young.insert(id, state);
        }
    }

    fn forget(&mut self, id: &ThredId) {
        self.young.remove(id);
        self.old.remove(id);
    }
}

impl Shared {
    pub(crate) fn new(
        partitions: u16,
        cached: usize,
        deferred_limit: usize,
        (event_q, message_q): (MemoryEventQ, MemoryMessageQ),
    ) -> Self {
        let limit = cached.div_ceil(usize::from(partitions));
        let shard = || {
            let cache = Cache { limit, ..Cache::default() };
            Mutex::new(Shard { cache, ..Shard::default() })
        };
        Self {
            database: RwLock::new(None),
            condition: Condition::default(),
            deferred: Deferred::default(),
            deferred_limit,
            shards: (0..partitions).map(|_| shard()).collect(),
            timers: (0..partitions).map(|_| Mutex::default()).collect(),
            listeners: Mutex::default(),
            small: RwLock::default(),
            patterns_version: AtomicU64::new(0),
            event_q,
            message_q,
            tally: Mutex::default(),
        }
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.shards.len() as u16
    }

    pub(crate) fn shard(&self, id: &ThredId) -> &Mutex<Shard> {
        &self.shards[usize::from(partition_of(id.as_str(), self.partitions()))]
    }

    pub(crate) fn shard_of(&self, partition: u16) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::from(partition))
    }

    pub(crate) fn timers_of(&self, partition: u16) -> Option<&Mutex<BTreeSet<Timer>>> {
        self.timers.get(usize::from(partition))
    }

    /// The database, for a moment.
    pub(crate) fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a database in place, or takes it away; the old one is closed when this returns.
    pub(crate) fn set_database(&self, database: Option<Database>) {
        let mut guard = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(guard.take());
        *guard = database;
    }

    /// Reads from the last durable state.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, RedbError>,
    ) -> Result<T, ReadError> {
        let database = self.database();
        let refusal = || match self.is_closed() {
            true => Refusal::Closed,
            false => Refusal::Full,
        };
        let database = database.as_ref().ok_or_else(|| ReadError::Refused(refusal()))?;
        let txn = database.begin_read().map_err(RedbError::from)?;
        Ok(read(&txn)?)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.condition.closed.load(Ordering::Acquire)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.condition.full.load(Ordering::Acquire)
    }

    pub(crate) fn small(&self) -> Arc<MemoryStorage> {
        self.small.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_small(&self, small: MemoryStorage) {
        *self.small.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(small);
    }

    /// The attempts of all that is handed out or was.
    pub(crate) fn all_tried(&self) -> Vec<(Queue, u64, u32)> {
        let events = self.event_q.all_tried().into_iter();
        let messages = self.message_q.all_tried().into_iter();
        let events = events.map(|(order, attempts)| (Queue::Events, order, attempts));
        let messages = messages.map(|(order, attempts)| (Queue::Messages, order, attempts));
        events.chain(messages).collect()
    }

    /// How many of some threds are not in memory.
    pub(crate) fn count_uncached(&self, ids: &[ThredId]) -> usize {
        let is_uncached = |id: &&ThredId| {
            let shard = lock(self.shard(id));
            shard.heads.contains_key(*id) && !shard.cache.contains(id)
        };
        ids.iter().filter(is_uncached).count()
    }

    /// The states of threds, each with where it is stored.
    pub(crate) fn states(
        &self,
        ids: &[ThredId],
    ) -> Result<Vec<Option<(Arc<ThredState>, Head)>>, ReadError> {
        let mut states = Vec::with_capacity(ids.len());
        let mut missing = vec![];
        for (place, id) in ids.iter().enumerate() {
            let mut shard = lock(self.shard(id));
            states.push(shard.cached(id));
            if states[place].is_none() && shard.heads.contains_key(id) {
                missing.push(place);
            }
        }
        // A state that moves while it is looked for is found at a later look: between the moment
        // when it is durable in its new place and the one when its head says so.
        let mut looks = 0;
        while let Some(first) = missing.first() {
            looks += 1;
            if looks > 10 {
                std::thread::sleep(Duration::from_millis(1));
            }
            if looks > 5_000 {
                let why = "its index names a place that is empty";
                return Err(RedbError::damaged("thred", &ids[*first], why).into());
            }
            missing = self.read(|txn| {
                let table = txn.open_table(STATES.data)?;
                let mut again = vec![];
                for place in missing {
                    let id = &ids[place];
                    let mut shard = lock(self.shard(id));
                    let Some(head) = shard.heads.get(id).copied() else { continue };
                    if let Some(found) = shard.cached(id) {
                        states[place] = Some(found);
                        continue;
                    }
                    drop(shard);
                    match segments::read(&table, head.place, |_, body| texts::state(body))? {
                        Some(state) => {
                            let state = Arc::new(state?);
                            lock(self.shard(id)).remember(&state, head);
                            states[place] = Some((state, head));
                        }
                        None => again.push(place),
                    }
                }
                Ok(again)
            })?;
        }
        Ok(states)
    }

    /// Makes a durable change visible.
    pub(crate) fn update(
        &self,
        before: Option<&ThredState>,
        state: &Arc<ThredState>,
        head: Head,
        entries: Vec<Unpublished>,
    ) {
        let partition = usize::from(partition_of(state.id.as_str(), self.partitions()));
        let timer = |state: &ThredState| {
            let (at, entry) = state.timer()?;
            Some(Timer { at, thred_id: state.id.clone(), entry })
        };
        let (old, new) = (before.and_then(timer), timer(state));
        if old != new {
            let mut timers = lock(&self.timers[partition]);
            old.map(|old| timers.remove(&old));
            new.map(|new| timers.insert(new));
        }
        if before.and_then(Listeners::place).is_some() || Listeners::place(state).is_some() {
            lock(&self.listeners).update(before, state);
        }
        let mut shard = lock(&self.shards[partition]);
        shard.heads.insert(state.id.clone(), head);
        if !entries.is_empty() {
            shard.outboxes.entry(state.id.clone()).or_default().extend(entries);
        }
        match state.status.is_live() {
            true => shard.cache.put(state.id.clone(), state.clone()),
            // Seldom asked for again.
            false => shard.cache.forget(&state.id),
        }
        drop(shard);
        let started = before.is_none();
        let ended = !state.status.is_live() && before.is_none_or(|old| old.status.is_live());
        if started || ended {
            let mut tally = lock(&self.tally);
            tally.started += u64::from(started);
            tally.ended += u64::from(ended);
        }
    }

    /// Counts an event that moved no thred.
    pub(crate) fn unmoved(&self, decision: LogType) {
        *lock(&self.tally).unmoved.entry(decision).or_default() += 1;
    }
}

/// A read that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Refused(Refusal),
    #[error(transparent)]
    Failed(#[from] RedbError),
}

impl ReadError {
    pub(crate) fn port(self, operation: &'static str) -> thredcore::port::PortError {
        match self {
            Self::Refused(refusal) => refusal.port(operation),
            Self::Failed(error) => error.port(operation),
        }
    }
}

impl Shard {
    fn cached(&mut self, id: &ThredId) -> Option<(Arc<ThredState>, Head)> {
        let head = self.heads.get(id).copied()?;
        Some((self.cache.get(id)?, head))
    }

    /// Holds a state that was read, unless it has changed since.
    fn remember(&mut self, state: &Arc<ThredState>, head: Head) {
        if state.status.is_live() && self.heads.get(&state.id) == Some(&head) {
            self.cache.put(state.id.clone(), state.clone());
        }
    }

    pub(crate) fn outbox(&self, id: &ThredId) -> Vec<OutboxEntry> {
        let entries = self.outboxes.get(id).into_iter().flatten();
        entries.map(|unpublished| unpublished.entry.clone()).collect()
    }

    /// Removes published entries; says which steps have nothing left, and what others have.
    pub(crate) fn clear(&mut self, id: &ThredId, published: &[MessageId], cleared: &mut Clearing) {
        let Some(outbox) = self.outboxes.get_mut(id) else { return };
        let mut steps = BTreeSet::new();
        outbox.retain(|one| {
            let is_published = published.contains(&one.entry.id);
            if is_published {
                steps.insert(one.step);
            }
            !is_published
        });
        for step in steps {
            let rest: Vec<_> = outbox.iter().filter(|one| one.step == step).collect();
            match rest.is_empty() {
                true => cleared.whole.push(step),
                false => {
                    let rest = rest.into_iter().map(|one| one.entry.id.clone()).collect();
                    cleared.partly.push((step, rest));
                }
            }
        }
        if outbox.is_empty() {
            self.outboxes.remove(id);
        }
    }
}

/// What is to be written of cleared outboxes.
#[derive(Default)]
pub(crate) struct Clearing {
    pub(crate) whole: Vec<u64>,
    pub(crate) partly: Vec<(u64, Vec<MessageId>)>,
}
