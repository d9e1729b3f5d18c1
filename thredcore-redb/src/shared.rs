//! What readers see: all that is durable, and the part of it that is held in memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use redb::{Database, ReadTransaction, ReadableDatabase};
use thredcore::{
    format::FORMATS,
    memory::Tally,
    port::{LogType, OutboxEntry, Timer},
    state::{ThredState, partition_of},
};
use thredlib::{MessageId, ThredId};

use crate::{
    config::RedbConfig,
    error::{RedbError, Refusal},
    index::{Head, Index, Kinds, Place},
    journal::{Condition, Deferred},
    outboxes::{Entry, Outboxes, Unpublished},
    quarantine::Met,
    queue::{Events, Messages, Tried, dead::DeadLetters},
    receipts::{Generations, Receipts},
    segments,
    small::Small,
    storage::texts::{self, Header},
    tables::{Queue, STATES, STEPS},
};

/// What the ports and the writer have in common. The writer alone changes it, once the change is
/// durable; what the journal calls deferred is the exception.
pub(crate) struct Shared {
    /// Absent while a full disk has it closed.
    database: RwLock<Option<Database>>,
    pub(crate) condition: Condition,
    pub(crate) deferred: Deferred,
    pub(crate) config: RedbConfig,
    /// By partition.
    shards: Box<[Mutex<Shard>]>,
    timers: Box<[Mutex<BTreeSet<Timer>>]>,
    pub(crate) kinds: Mutex<Kinds>,
    pub(crate) small: Mutex<Small>,
    pub(crate) format: AtomicU32,
    pub(crate) patterns_version: AtomicU64,
    pub(crate) receipts: RwLock<Receipts>,
    /// What is on record as having changed nothing: the latest.
    pub(crate) recorded: Mutex<Generations>,
    pub(crate) events: Events,
    pub(crate) messages: Messages,
    pub(crate) dead_events: DeadLetters,
    pub(crate) dead_messages: DeadLetters,
    pub(crate) tally: Mutex<Tally>,
    pub(crate) unreadable: Met,
}

/// The threds of a partition.
#[derive(Default)]
pub(crate) struct Shard {
    pub(crate) index: Index,
    pub(crate) outboxes: Outboxes,
    cache: Cache,
}

/// A state and where it is stored.
pub(crate) type Placed = (Arc<ThredState>, Place);

/// What was found of a thred.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    Nothing,
    /// It is there, but nobody can say what it is.
    Unreadable,
    State(Placed),
}

impl Found {
    pub(crate) fn state(self) -> Option<Placed> {
        match self {
            Self::State(placed) => Some(placed),
            _ => None,
        }
    }
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
    pub(crate) fn new(config: RedbConfig) -> Self {
        /// Of the records about events that changed nothing, at least these are told from new ones.
        const RECORDED: u64 = 2 * 65_536;
        let limit = config.cached_threds.div_ceil(usize::from(config.partitions));
        let shard = || {
            let cache = Cache { limit, ..Cache::default() };
            Mutex::new(Shard { cache, ..Shard::default() })
        };
        let letters = i64::try_from(config.dead_letters_time.as_millis()).unwrap_or(i64::MAX);
        Self {
            database: RwLock::new(None),
            condition: Condition::default(),
            deferred: Deferred::default(),
            shards: (0..config.partitions).map(|_| shard()).collect(),
            timers: (0..config.partitions).map(|_| Mutex::default()).collect(),
            kinds: Mutex::default(),
            small: Mutex::default(),
            format: AtomicU32::new(FORMATS.newest()),
            patterns_version: AtomicU64::new(0),
            receipts: RwLock::new(Receipts::new(config.retention(), letters)),
            recorded: Mutex::new(Generations::new(RECORDED, i64::MAX)),
            events: Events::new(&config),
            messages: Messages::new(&config),
            dead_events: DeadLetters::new(Queue::Events, &config),
            dead_messages: DeadLetters::new(Queue::Messages, &config),
            tally: Mutex::default(),
            unreadable: Met::default(),
            config,
        }
    }

    /// The version of what is written.
    pub(crate) fn format(&self) -> u32 {
        self.format.load(Ordering::Acquire)
    }

    pub(crate) fn now(&self) -> i64 {
        self.config.clock.now()
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.shards.len() as u16
    }

    pub(crate) fn partition(&self, id: &ThredId) -> usize {
        usize::from(partition_of(id.as_str(), self.partitions()))
    }

    pub(crate) fn shard(&self, id: &ThredId) -> &Mutex<Shard> {
        &self.shards[self.partition(id)]
    }

    pub(crate) fn shards(&self) -> &[Mutex<Shard>] {
        &self.shards
    }

    pub(crate) fn shard_of(&self, partition: u16) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::from(partition))
    }

    pub(crate) fn timers_of(&self, partition: u16) -> Option<&Mutex<BTreeSet<Timer>>> {
        self.timers.get(usize::from(partition))
    }

    /// How many ended threds a partition keeps, of the number for all.
    pub(crate) fn ended_limit(&self, partition: u16) -> usize {
        let (all, count) = (self.config.ended_threds as u128, u128::from(self.partitions()));
        let below = |partition: u16| all * u128::from(partition) / count;
        (below(partition + 1) - below(partition)) as usize
    }

    /// The database, for a moment.
    pub(crate) fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read()
    }

    /// Puts a database in place, or takes it away; the old one is closed when this returns.
    pub(crate) fn set_database(&self, database: Option<Database>) {
        let mut guard = self.database.write();
        drop(guard.take());
        *guard = database;
    }

    /// Reads from the last durable state.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, RedbError>,
    ) -> Result<T, ReadError> {
        let database = self.database();
        let refusal = || if self.is_closed() { Refusal::Closed } else { Refusal::Full };
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

    /// The attempts of all that is handed out or was.
    pub(crate) fn all_tried(&self) -> Vec<(Queue, u64, Tried)> {
        let events = self.events.all_tried().into_iter();
        let messages = self.messages.all_tried().into_iter();
        let events = events.map(|(order, tried)| (Queue::Events, order, tried));
        events.chain(messages.map(|(order, tried)| (Queue::Messages, order, tried))).collect()
    }

    pub(crate) fn dead(&self, queue: Queue) -> &DeadLetters {
        match queue {
            Queue::Events => &self.dead_events,
            Queue::Messages => &self.dead_messages,
        }
    }

    /// How many of some threds are not in memory.
    pub(crate) fn count_uncached(&self, ids: &[ThredId]) -> usize {
        let is_uncached = |id: &&ThredId| {
            let shard = self.shard(id).lock();
            shard.index.head(id).is_some() && !shard.cache.contains(id)
        };
        ids.iter().filter(is_uncached).count()
    }

    /// The states of threds, each with where it is stored.
    pub(crate) fn states(&self, ids: &[ThredId]) -> Result<Vec<Found>, ReadError> {
        let mut states = Vec::with_capacity(ids.len());
        let mut missing = vec![];
        for (place, id) in ids.iter().enumerate() {
            let mut shard = self.shard(id).lock();
            let cached = shard.cached(id);
            if cached.is_none() && shard.index.head(id).is_some() {
                missing.push(place);
            }
            states.push(cached.map_or(Found::Nothing, Found::State));
        }
        // A state that moves while it is looked for is found at a later look: between the moment
        // when it is durable in its new place and the one when its head says so.
        let mut looks = 0;
        while !missing.is_empty() {
            looks += 1;
            if looks > 10 {
                std::thread::sleep(Duration::from_millis(1));
            }
            missing = self.read(|txn| {
                let table = txn.open_table(STATES.data)?;
                let mut again = vec![];
                for place in missing {
                    let id = &ids[place];
                    let mut shard = self.shard(id).lock();
                    let Some(head) = shard.index.head(id) else { continue };
                    if let Some(found) = shard.cached(id) {
                        states[place] = Found::State(found);
                        continue;
                    }
                    drop(shard);
                    let read = |_, body: &[u8]| texts::state(body);
                    match segments::read(&table, head.at.state, read)? {
                        Some(Ok(state)) => {
                            let state = Arc::new(state);
                            self.shard(id).lock().remember(&state, head);
                            states[place] = Found::State((state, head.at));
                        }
                        Some(Err(error)) => {
                            self.unreadable.note("thred", id, &error);
                            states[place] = Found::Unreadable;
                        }
                        None if looks > 2_000 || self.unreadable.knows("thred", id) => {
                            let why = "its index names a place that is empty";
                            let error = RedbError::damaged("thred", id, why);
                            self.unreadable.note("thred", id, &error);
                            states[place] = Found::Unreadable;
                        }
                        None => again.push(place),
                    }
                }
                Ok(again)
            })?;
        }
        Ok(states)
    }

    /// The headers of threds that are there and can be read.
    pub(crate) fn headers(&self, ids: &[ThredId]) -> Result<Vec<Header>, ReadError> {
        let heads = ids.iter().filter_map(|id| self.shard(id).lock().index.head(id));
        let places: Vec<_> = heads.map(|head| head.at.state).collect();
        self.read(|txn| {
            let table = txn.open_table(STATES.data)?;
            let mut headers = vec![];
            for place in places {
                let read = |_, body: &[u8]| texts::header(body);
                headers.extend(segments::read(&table, place, read)?.and_then(Result::ok));
            }
            Ok(headers)
        })
    }

    /// The outboxes of threds, each whole, in the order of making.
    pub(crate) fn outboxes(&self, ids: &[ThredId]) -> Result<Vec<Vec<OutboxEntry>>, ReadError> {
        let entries = ids.iter().map(|id| self.shard(id).lock().outboxes.entries(id));
        let entries: Vec<Vec<Unpublished>> = entries.collect();
        let parked = entries.iter().flatten().filter(|one| matches!(one.entry, Entry::Parked(_)));
        let steps: BTreeSet<u64> = parked.map(|one| one.step).collect();
        let mut stored: BTreeMap<(u64, MessageId), OutboxEntry> = BTreeMap::new();
        if !steps.is_empty() {
            self.read(|txn| {
                let table = txn.open_table(STEPS.data)?;
                for number in steps {
                    match segments::read(&table, number, |_, body| texts::step(body))? {
                        Some(Ok(step)) => {
                            let outbox = step.outbox.into_iter();
                            stored.extend(outbox.map(|it| ((number, it.id.clone()), it)));
                        }
                        Some(Err(error)) => self.unreadable.note("step", number, &error),
                        None => {}
                    }
                }
                Ok(())
            })?;
        }
        let whole = |one: Unpublished| match one.entry {
            Entry::Whole(entry) => Some(entry),
            Entry::Parked(parked) => stored.get(&(one.step, parked.id)).cloned(),
        };
        Ok(entries.into_iter().map(|list| list.into_iter().filter_map(whole).collect()).collect())
    }

    /// Makes a durable change visible.
    pub(crate) fn update(
        &self,
        before: Option<&ThredState>,
        state: &Arc<ThredState>,
        at: Place,
        entries: Vec<Unpublished>,
    ) {
        let partition = self.partition(&state.id);
        let timer = |state: &ThredState| {
            let (at, entry) = state.timer()?;
            Some(Timer { at, thred_id: state.id.clone(), entry })
        };
        let (old, new) = (before.and_then(timer), timer(state));
        if old != new {
            let mut timers = self.timers[partition].lock();
            old.map(|old| timers.remove(&old));
            new.map(|new| timers.insert(new));
        }
        let kind = {
            let mut kinds = self.kinds.lock();
            let listens = |state: &&ThredState| state.is_listening();
            let pattern = |state: &ThredState| state.pattern.clone();
            let (was, is) =
                (before.filter(listens).map(pattern), Some(&**state).filter(listens).map(pattern));
            if was.is_some() || is.is_some() {
                kinds.listen(was.as_deref(), is.as_deref());
            }
            kinds.enter(&state.pattern, &state.reaction, state.status)
        };
        let (started_at, modified_at) = (state.started_at, state.modified_at);
        let head = Head { at, kind, started_at, modified_at };
        let mut shard = self.shards[partition].lock();
        let old = shard.index.head(&state.id);
        shard.index.update(before, state, head);
        if !entries.is_empty() {
            shard.outboxes.add(&state.id, entries);
        }
        if state.status.is_live() {
            shard.cache.put(state.id.clone(), state.clone())
        } else {
            // Seldom asked for again.
            shard.cache.forget(&state.id)
        }
        drop(shard);
        if let Some(old) = old {
            self.kinds.lock().leave(old.kind);
        }
        let started = before.is_none();
        let ended = !state.status.is_live() && before.is_none_or(|old| old.status.is_live());
        if started || ended {
            let mut tally = self.tally.lock();
            tally.started += u64::from(started);
            tally.ended += u64::from(ended);
        }
    }

    /// Takes up a thred of the file.
    pub(crate) fn restore(&self, header: &Header, at: Place) {
        let kind = {
            let mut kinds = self.kinds.lock();
            if header.status == thredcore::state::Status::Active && !header.waits.is_empty() {
                kinds.listen(None, Some(&header.pattern));
            }
            kinds.enter(&header.pattern, &header.reaction, header.status)
        };
        let Header { started_at, modified_at, .. } = *header;
        let partition = self.partition(&header.id);
        if let Some((at, entry)) = header.timer {
            let timer = Timer { at, thred_id: header.id.clone(), entry };
            self.timers[partition].lock().insert(timer);
        }
        let head = Head { at, kind, started_at, modified_at };
        self.shards[partition].lock().index.restore(header, head);
    }

    /// Forgets a thred that is not in the file any more.
    pub(crate) fn forget(&self, id: &ThredId, participants: &[u64]) {
        let mut shard = self.shard(id).lock();
        shard.cache.forget(id);
        let head = shard.index.remove(id, participants, &[]);
        drop(shard);
        if let Some(head) = head {
            self.kinds.lock().leave(head.kind);
        }
    }

    /// Forgets a thred whose state could not be read.
    pub(crate) fn forget_unreadable(&self, header: &Header) {
        let is_active = header.status == thredcore::state::Status::Active;
        let mut shard = self.shard(&header.id).lock();
        let waits = if is_active { &*header.waits } else { &[] };
        let head = shard.index.remove(&header.id, &header.participants, waits);
        drop(shard);
        let Some(head) = head else { return };
        let mut kinds = self.kinds.lock();
        kinds.leave(head.kind);
        if !waits.is_empty() {
            kinds.listen(Some(&header.pattern), None);
        }
        drop(kinds);
        if let Some((at, entry)) = header.timer {
            let timer = Timer { at, thred_id: header.id.clone(), entry };
            self.timers[self.partition(&header.id)].lock().remove(&timer);
        }
    }

    /// Counts an event that moved no thred.
    pub(crate) fn unmoved(&self, decision: LogType) {
        *self.tally.lock().unmoved.entry(decision).or_default() += 1;
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
    fn cached(&mut self, id: &ThredId) -> Option<Placed> {
        let head = self.index.head(id)?;
        Some((self.cache.get(id)?, head.at))
    }

    /// Holds a state that was read, unless it has changed since.
    fn remember(&mut self, state: &Arc<ThredState>, head: Head) {
        if state.status.is_live() && self.index.head(&state.id) == Some(head) {
            self.cache.put(state.id.clone(), state.clone());
        }
    }
}
