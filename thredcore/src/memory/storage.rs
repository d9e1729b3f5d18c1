//! The storage.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::BuildHasher,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use thredlib::{Event, MessageId, PatternId, ThredId};

use super::{
    lock,
    outboxes::{ById, Oldest, Shard},
    places::{Leases, Places},
    query::{Listeners, Pager},
    records::{Records, Step},
    revisions::Revisions,
    tally::{Counters, Tally},
};
use crate::{
    hash::FastHash,
    port::{
        Commit, Committed, Due, History, Loaded, LogRecord, PendingOutbox, PortError, RecordStore,
        ThredPage, ThredQuery, ThredStore, Timer,
    },
    state::{PatternKey, Status, ThredState},
};

/// Limits of a [`MemoryStorage`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemoryStorageConfig {
    /// How many partitions timers and outboxes are kept in: 64.
    pub partitions: u16,
    /// How many ended threds are kept, so that a redelivered event is recognized and the thred can
    /// be looked at: the latest 10,000, and those with unpublished entries.
    ///
    /// What is kept, here and in the history, has left the processor's caches when it is freed at
    /// last: keeping much more makes each short thred dearer.
    pub ended_threds: usize,
    /// How many steps of history are kept, with their events and log records: the latest 1,000.
    pub history_records: usize,
}

impl Default for MemoryStorageConfig {
    fn default() -> Self {
        Self { partitions: 64, ended_threds: 10_000, history_records: 1_000 }
    }
}

impl MemoryStorageConfig {
    /// Sets the number of partitions; at least 1.
    #[must_use]
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = partitions.max(1);
        self
    }

    /// Sets how many ended threds are kept.
    #[must_use]
    pub fn ended_threds(mut self, threds: usize) -> Self {
        self.ended_threds = threds;
        self
    }

    /// Sets how many steps of history are kept.
    #[must_use]
    pub fn history_records(mut self, steps: usize) -> Self {
        self.history_records = steps;
        self
    }
}

/// A [`Storage`](crate::port::Storage) in memory.
///
/// Locks are taken in the order shard, then one of the others, and never across an await.
#[derive(Debug)]
pub struct MemoryStorage {
    shards: Box<[Mutex<Shard>]>,
    /// Of each shard.
    oldest: Box<[Oldest]>,
    /// By partition; when a timer is due and whose it is. The rest stands in the state.
    timers: Box<[Mutex<Timers>]>,
    records: Mutex<Records>,
    /// In the order of their ending.
    ended: Mutex<VecDeque<ThredId>>,
    ended_limit: usize,
    counters: Counters,
    pub(super) listeners: Mutex<Listeners>,
    pub(super) places: Mutex<HashMap<PatternId, Places>>,
    pub(super) leases: Mutex<Leases>,
    pub(super) revisions: Mutex<Revisions>,
}

type Timers = BTreeSet<(i64, ThredId)>;

/// More shards than cores by far, so that two commits rarely meet and a query holds each one only
/// for a moment.
const SHARDS: usize = 256;

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new(MemoryStorageConfig::default())
    }
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new(config: MemoryStorageConfig) -> Self {
        let shards: Vec<_> = (0..SHARDS).map(|_| Shard::default()).collect();
        Self {
            oldest: shards.iter().map(|shard| shard.oldest().clone()).collect(),
            shards: shards.into_iter().map(Mutex::new).collect(),
            timers: (0..config.partitions.max(1)).map(|_| Mutex::default()).collect(),
            records: Mutex::new(Records::new(config.history_records)),
            ended: Mutex::default(),
            ended_limit: config.ended_threds,
            counters: Counters::default(),
            listeners: Mutex::default(),
            places: Mutex::default(),
            leases: Mutex::default(),
            revisions: Mutex::default(),
        }
    }

    /// What happened here so far.
    pub fn tally(&self) -> Tally {
        self.counters.tally()
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        // The tables inside use the lowest and the highest bits of the same hash.
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    fn partition(&self, id: &ThredId) -> u16 {
        ThredState::partition(id, self.timers.len() as u16)
    }

    /// All checks come before the first write.
    fn apply(&self, commit: &Arc<Commit>) -> Applied {
        let (expected, consumed, state) = (commit.expected, &commit.consumed, &commit.state);
        debug_assert_eq!(state.version, expected + 1, "a commit raises the version by one");
        debug_assert!(state.has_consumed(consumed), "the inbox holds what is consumed");
        let hash = hash(&state.id);
        let mut shard = lock(self.shard(hash));
        let stored = shard.state(&state.id);
        if stored.is_some_and(|stored| stored.has_consumed(consumed)) {
            return Applied::not(Committed::Duplicate);
        }
        if stored.map_or(0, |stored| stored.version) != expected {
            return Applied::not(Committed::Conflict);
        }

        if !commit.outbox.is_empty() {
            shard.put_out(commit);
        }
        let old = shard.threds.replace(ById(state.clone())).map(|old| old.0);
        self.update_timer(old.as_deref(), state);
        if old.as_deref().and_then(Listeners::place).is_some() || Listeners::place(state).is_some()
        {
            lock(&self.listeners).update(old.as_deref(), state);
        }
        let oldest = lock(&self.records).push(hash, Step::Commit(commit.clone()));
        let ended = !state.status.is_live() && old.as_ref().is_none_or(|old| old.status.is_live());
        drop(shard);
        self.counters.commit(old.is_none(), ended);
        Applied {
            answer: Committed::Applied,
            ended: ended.then(|| state.clone()),
            _freed: (old, oldest),
        }
    }

    fn update_timer(&self, old: Option<&ThredState>, new: &ThredState) {
        let due = |state: &ThredState| state.timer().map(|(at, _)| at);
        let (old, new_due) = (old.and_then(due), due(new));
        if old == new_due {
            return;
        }
        let mut timers = lock(&self.timers[usize::from(self.partition(&new.id))]);
        if let Some(at) = old {
            timers.remove(&(at, new.id.clone()));
        }
        if let Some(at) = new_due {
            timers.insert((at, new.id.clone()));
        }
    }

    /// Remembers ended threds in place of the oldest ones.
    fn retire(&self, newly: Vec<Arc<ThredState>>) {
        if newly.is_empty() {
            return;
        }
        // More than came in, so that a jam of unpublished ones dissolves; but not without bound.
        let most = 2 * newly.len() + 16;
        let oldest: Vec<_> = {
            let mut ended = lock(&self.ended);
            ended.extend(newly.iter().map(|state| state.id.clone()));
            let excess = ended.len().saturating_sub(self.ended_limit);
            ended.drain(..excess.min(most)).collect()
        };
        let kept: Vec<_> = oldest.into_iter().filter(|id| !self.forget(id)).collect();
        if !kept.is_empty() {
            lock(&self.ended).extend(kept);
        }
    }

    /// Forgets an ended thred, unless it has something left to publish.
    fn forget(&self, id: &ThredId) -> bool {
        let mut shard = lock(self.shard(hash(id)));
        if shard.outboxes.contains_key(id) {
            return false;
        }
        let freed = match shard.state(id) {
            Some(state) if state.status == Status::Terminated => shard.threds.take(id.as_str()),
            _ => None,
        };
        drop(shard);
        drop(freed);
        true
    }
}

fn hash(id: &ThredId) -> u64 {
    FastHash::new().hash_one(id.as_str())
}

/// What is left to do after a commit, outside of the lock.
struct Applied {
    answer: Committed,
    ended: Option<Arc<ThredState>>,
    _freed: (Option<Arc<ThredState>>, Option<Step>),
}

impl Applied {
    fn not(answer: Committed) -> Self {
        Self { answer, ended: None, _freed: (None, None) }
    }
}

#[async_trait]
impl ThredStore for MemoryStorage {
    fn partitions(&self) -> u16 {
        self.timers.len() as u16
    }

    async fn load(&self, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, PortError> {
        let load = |id: &ThredId| {
            let shard = lock(self.shard(hash(id)));
            let state = shard.state(id)?.clone();
            Some(Loaded { state, outbox: shard.outbox(id) })
        };
        Ok(ids.iter().map(load).collect())
    }

    async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Result<Committed, PortError>> {
        let mut answers = Vec::with_capacity(commits.len());
        let mut ended = Vec::new();
        for commit in commits {
            let applied = self.apply(commit);
            answers.push(Ok(applied.answer));
            ended.extend(applied.ended);
        }
        self.retire(ended);
        answers
    }

    async fn clear_outbox(&self, published: &[(ThredId, Vec<MessageId>)]) -> Result<(), PortError> {
        for (id, entries) in published {
            // Freed after the lock is.
            let _cleared = lock(self.shard(hash(id))).clear(id, entries);
        }
        Ok(())
    }

    async fn pending_outboxes(
        &self,
        partition: u16,
        made_before: i64,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        let mut pending: Vec<(i64, ThredId)> = vec![];
        let shards = self.shards.iter().zip(&self.oldest);
        for (shard, _) in shards.filter(|(_, oldest)| oldest.is_before(made_before)) {
            for (id, entries) in &lock(shard).outboxes {
                let oldest = entries.entries().map(|entry| entry.at).min();
                if let Some(at) = oldest.filter(|at| *at < made_before)
                    && self.partition(id) == partition
                {
                    pending.push((at, id.clone()));
                }
            }
        }
        pending.sort_unstable();
        pending.truncate(limit);
        let whole = |(_, id): (i64, ThredId)| {
            let entries = lock(self.shard(hash(&id))).outbox(&id);
            PendingOutbox { thred_id: id, entries }
        };
        Ok(pending.into_iter().map(whole).filter(|outbox| !outbox.entries.is_empty()).collect())
    }

    async fn due(&self, partition: u16, at: i64, limit: usize) -> Result<Due, PortError> {
        let Some(timers) = self.timers.get(usize::from(partition)) else {
            return Ok(Due::default());
        };
        let (first, next) = {
            let timers = lock(timers);
            let mut rest = timers.iter().peekable();
            let mut first: Vec<_> = vec![];
            while first.len() < limit
                && let Some(timer) = rest.next_if(|(due, _)| *due <= at)
            {
                first.push(timer.clone());
            }
            (first, rest.peek().map(|(due, _)| *due))
        };
        // What a commit has changed in between is not due any more.
        let timer = |(at, id): (i64, ThredId)| {
            let (due, entry) = lock(self.shard(hash(&id))).state(&id)?.timer()?;
            (due == at).then_some(Timer { at, thred_id: id, entry })
        };
        Ok(Due { timers: first.into_iter().filter_map(timer).collect(), next })
    }

    async fn threds(&self, query: &ThredQuery) -> Result<ThredPage, PortError> {
        let mut pager = Pager::new(query)?;
        for shard in &self.shards {
            lock(shard).threds.iter().for_each(|by_id| pager.offer(&by_id.0));
            pager.prune();
        }
        Ok(pager.page())
    }

    async fn listeners(
        &self,
        pattern: &PatternKey,
        reaction: &str,
    ) -> Result<Vec<ThredId>, PortError> {
        Ok(lock(&self.listeners).threds(pattern, reaction))
    }
}

#[async_trait]
impl RecordStore for MemoryStorage {
    async fn append_log(&self, records: Vec<(LogRecord, Arc<Event>)>) -> Result<(), PortError> {
        let mut kept = lock(&self.records);
        for (record, event) in records {
            let decision = record.log_type;
            if kept.push_unmoved(record, event) {
                self.counters.unmoved(decision);
            }
        }
        Ok(())
    }

    async fn history(
        &self,
        thred: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        Ok(lock(&self.records).history(thred.map(|id| (hash(id), id)), limit))
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        Ok(lock(&self.records).log(limit))
    }
}
