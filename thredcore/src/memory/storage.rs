//! The storage.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::BuildHasher,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use thredlib::{EventKey, PatternId, ThredId, Topic};

use super::{
    ending::Ending,
    live::Place,
    outboxes::{Oldest, Shard},
    parked::Parked,
    places::{Leases, Places},
    query::Pager,
    receipts::Receipts,
    records::{NONE, Records, Step},
    revisions::Revisions,
    tally::{Counters, Tally},
    waiting::{ListeningPatterns, WaitIndex},
};
use crate::{
    hash::FastHash,
    port::{
        Cleared, Commit, Committed, Due, Ended, History, Loaded, LogRecord, ParkedTopic,
        PendingOutbox, PortError, PortErrorKind, Quarantine, Receipt, ReceiptRetention,
        RecordStore, Settlement, ThredCount, ThredPage, ThredQuery, ThredStore, Timer, UnmovedPage,
        Unreadable,
    },
    state::{Status, ThredState, WaitKey},
};

/// Limits of a [`MemoryStorage`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemoryStorageConfig {
    /// How many partitions there are: 64.
    pub partitions: u16,
    /// How many ended threds are kept to be looked at: the latest 1,000, as many as steps of the
    /// history, and those that may still be needed.
    ///
    /// What is kept, here and in the history, has left the processor's caches when it is freed at
    /// last: keeping much more makes each short thred dearer.
    pub ended_threds: usize,
    /// How many steps of history are kept, with their events and log records: the latest 1,000.
    pub history_records: usize,
    /// How long receipts are kept: a day.
    pub receipts_time: Duration,
    /// How many receipts are kept, even if that is not so long: the latest million. Each takes 20
    /// to 35 bytes, and up to half as many again are kept.
    pub receipts_capacity: u64,
    /// How long receipts of dead letters are kept: 30 days, and no shorter than the queue keeps
    /// dead letters.
    pub dead_letters_time: Duration,
    /// How large a commit may be, in bytes: 64 MiB. Said to the engine; a larger one is taken too.
    pub max_commit_bytes: usize,
}

impl Default for MemoryStorageConfig {
    fn default() -> Self {
        Self {
            partitions: 64,
            ended_threds: 1_000,
            history_records: 1_000,
            receipts_time: ReceiptRetention::DEFAULT_TIME,
            receipts_capacity: 1_000_000,
            dead_letters_time: super::DEAD_LETTERS_TIME,
            max_commit_bytes: 64 << 20,
        }
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

    /// Sets how long receipts are kept.
    #[must_use]
    pub fn receipts_time(mut self, time: Duration) -> Self {
        self.receipts_time = time;
        self
    }

    /// Sets how many receipts are kept.
    #[must_use]
    pub fn receipts_capacity(mut self, receipts: u64) -> Self {
        self.receipts_capacity = receipts;
        self
    }

    /// Sets how long receipts of dead letters are kept.
    #[must_use]
    pub fn dead_letters_time(mut self, time: Duration) -> Self {
        self.dead_letters_time = time;
        self
    }

    /// Sets how large a commit may be, in bytes.
    #[must_use]
    pub fn max_commit_bytes(mut self, bytes: usize) -> Self {
        self.max_commit_bytes = bytes;
        self
    }
}

/// A [`Storage`](crate::port::Storage) in memory.
///
/// Locks are taken in the order ended threds, shard, then one of the others, and never across an
/// await.
#[derive(Debug)]
pub struct MemoryStorage {
    shards: Box<[Mutex<Shard>]>,
    /// Of each shard.
    oldest: Box<[Oldest]>,
    partitions: Box<[Partition]>,
    records: Mutex<Records>,
    receipts: Receipts,
    ending: Ending,
    max_commit_bytes: usize,
    counters: Counters,
    waiting: WaitIndex,
    pub(super) listening: Mutex<ListeningPatterns>,
    pub(super) places: Mutex<HashMap<PatternId, Places>>,
    pub(super) leases: Mutex<Leases>,
    pub(super) revisions: Mutex<Revisions>,
}

/// What is found by partition.
#[derive(Debug, Default)]
struct Partition {
    timers: Mutex<BTreeSet<Timer>>,
    parked: Mutex<Parked>,
}

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
        let partitions = config.partitions.max(1);
        let retention =
            ReceiptRetention { time: config.receipts_time, capacity: config.receipts_capacity };
        Self {
            oldest: shards.iter().map(|shard| shard.oldest().clone()).collect(),
            shards: shards.into_iter().map(Mutex::new).collect(),
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            records: Mutex::new(Records::new(config.history_records)),
            receipts: Receipts::new(partitions, retention, config.dead_letters_time),
            ending: Ending::new(partitions, config.ended_threds),
            max_commit_bytes: config.max_commit_bytes,
            counters: Counters::default(),
            waiting: WaitIndex::default(),
            listening: Mutex::default(),
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

    fn shard_of(&self, id: &ThredId) -> &Mutex<Shard> {
        self.shard(FastHash::new().hash_one(id.as_str()))
    }

    fn number_of_partitions(&self) -> u16 {
        self.partitions.len() as u16
    }

    fn partition_of(&self, id: &ThredId) -> u16 {
        ThredState::partition(id, self.number_of_partitions())
    }

    fn partition(&self, id: &ThredId) -> &Partition {
        &self.partitions[usize::from(self.partition_of(id))]
    }

    /// All checks come before the first write.
    fn apply(&self, commit: &Arc<Commit>) -> Applied {
        let (expected, consumed, state) = (commit.expected, &commit.consumed, &commit.state);
        debug_assert_eq!(state.version, expected + 1, "a commit raises the version by one");
        debug_assert!(state.has_consumed(&consumed.key), "the inbox holds what is consumed");
        let mut shard = self.shard_of(&state.id).lock();
        let stored = shard.threds.get(state.id.as_str());
        if stored.is_some_and(|stored| stored.state.has_consumed(&consumed.key)) {
            return Applied::not(Committed::Duplicate);
        }
        if stored.map_or(0, |stored| stored.state.version) != expected {
            return Applied::not(Committed::Conflict);
        }

        let last_step = stored.map_or(NONE, |stored| stored.last_step);
        let (last_step, oldest) = self.records.lock().push_commit(commit.clone(), last_step);
        if !commit.outbox.is_empty() {
            shard.put_out(commit);
        }
        let old = shard.replace(state.clone(), last_step);
        self.update_timer(old.as_deref(), state);
        if WaitIndex::is_concerned(old.as_deref(), state) {
            self.waiting.update(old.as_deref(), state);
            self.listening.lock().update(old.as_deref(), state);
        }
        let ended = !state.status.is_live() && old.as_ref().is_none_or(|old| old.status.is_live());
        drop(shard);
        self.counters.commit(old.is_none(), ended);
        Applied { answer: Committed::Applied, ended, _freed: (old, oldest) }
    }

    fn update_timer(&self, old: Option<&ThredState>, new: &ThredState) {
        let (old, due) = (old.and_then(ThredState::timer), new.timer());
        if old == due {
            return;
        }
        let mut timers = self.partition(&new.id).timers.lock();
        let timer = |(at, entry)| Timer { at, thred_id: new.id.clone(), entry };
        if let Some(old) = old {
            timers.remove(&timer(old));
        }
        if let Some(due) = due {
            timers.insert(timer(due));
        }
    }

    /// The threds of some ids that are meant by a query.
    fn offer_each(&self, pager: &mut Pager<'_>, ids: impl IntoIterator<Item = ThredId>) {
        for id in ids {
            if let Some(state) = self.shard_of(&id).lock().state(&id) {
                pager.offer(state);
            }
        }
        pager.prune();
    }

    fn offer_live(&self, pager: &mut Pager<'_>, query: &ThredQuery, after: Option<&Place>) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let (threds, live) = shard.threds_and_live();
            for places in live.sources(query) {
                let mut found = 0;
                for (started_at, id) in places.after(after) {
                    if found > query.page_size() || pager.is_beyond((*started_at, id.as_str())) {
                        break;
                    }
                    let thred = threds.get(id.as_str());
                    found += usize::from(thred.is_some_and(|thred| pager.offer(&thred.state)));
                }
                pager.prune();
            }
        }
    }
}

/// What is left to do after a commit, outside of the lock.
struct Applied {
    answer: Committed,
    /// Whether the thred has ended by it.
    ended: bool,
    _freed: (Option<Arc<ThredState>>, Option<Step>),
}

impl Applied {
    fn not(answer: Committed) -> Self {
        Self { answer, ended: false, _freed: (None, None) }
    }
}

#[async_trait]
impl ThredStore for MemoryStorage {
    fn partitions(&self) -> u16 {
        self.number_of_partitions()
    }

    fn max_commit_bytes(&self) -> usize {
        self.max_commit_bytes
    }

    async fn load(&self, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, PortError> {
        let load = |id: &ThredId| {
            let shard = self.shard_of(id).lock();
            let state = shard.state(id)?.clone();
            Some(Loaded { state, outbox: shard.outbox(id) })
        };
        Ok(ids.iter().map(load).collect())
    }

    async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Result<Committed, PortError>> {
        let mut answers = Vec::with_capacity(commits.len());
        for commit in commits {
            let applied = self.apply(commit);
            answers.push(Ok(applied.answer));
            if applied.ended {
                self.ending.push(self.partition_of(&commit.state.id), commit.state.clone());
            }
        }
        answers
    }

    async fn clear_outbox(&self, cleared: &[Cleared]) -> Result<(), PortError> {
        for one in cleared {
            let parked = || &self.partition(&one.thred).parked;
            // Freed after the lock is.
            let _gone = self.shard_of(&one.thred).lock().clear(one, parked);
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
            let is_meant = |id: &ThredId| self.partition_of(id) == partition;
            shard.lock().pending(made_before, is_meant, &mut pending);
        }
        pending.sort_unstable();
        pending.truncate(limit);
        Ok(self.whole(pending.into_iter().map(|(_, id)| id)))
    }

    async fn parked_topics(&self) -> Result<Vec<ParkedTopic>, PortError> {
        let mut topics = BTreeMap::new();
        self.partitions.iter().for_each(|partition| partition.parked.lock().gather(&mut topics));
        Ok(topics.into_values().collect())
    }

    async fn parked_outboxes(
        &self,
        partition: u16,
        topic: &Topic,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        let Some(partition) = self.partitions.get(usize::from(partition)) else {
            return Ok(vec![]);
        };
        let threds = partition.parked.lock().threds(topic, limit);
        Ok(self.whole(threds))
    }

    async fn due(
        &self,
        partition: u16,
        at: i64,
        after: Option<&Timer>,
        limit: usize,
    ) -> Result<Due, PortError> {
        let Some(partition) = self.partitions.get(usize::from(partition)) else {
            return Ok(Due::default());
        };
        let timers = partition.timers.lock();
        let mut rest = timers.range((after.map_or(Unbounded, Excluded), Unbounded)).peekable();
        let mut due = Due::default();
        while due.timers.len() < limit
            && let Some(timer) = rest.next_if(|timer| timer.at <= at)
        {
            due.timers.push(timer.clone());
        }
        due.next = rest.peek().map(|timer| timer.at);
        Ok(due)
    }

    async fn threds(&self, query: &ThredQuery) -> Result<ThredPage, PortError> {
        let mut pager = Pager::new(query)?;
        if let Some(key) = query.key {
            self.offer_each(&mut pager, self.waiting.threds(&[key], None, usize::MAX));
            return Ok(pager.page());
        }
        if query.status.contains(&Status::Terminated) {
            // As many as are to be kept and a few more: no index is worth its cost.
            for partition in 0..self.number_of_partitions() {
                self.offer_each(&mut pager, self.ending.all(partition));
            }
        }
        let after = query.start()?.map(|(started_at, id)| (started_at, ThredId::from(id)));
        self.offer_live(&mut pager, query, after.as_ref());
        Ok(pager.page())
    }

    async fn counts(&self) -> Result<Vec<ThredCount>, PortError> {
        let mut counts = HashMap::new();
        for shard in &self.shards {
            for (class, threds) in shard.lock().threds_and_live().1.counts() {
                match counts.get_mut(class) {
                    Some(sum) => *sum += threds,
                    None => _ = counts.insert(class.clone(), threds),
                }
            }
        }
        let mut counts: Vec<_> = (counts.into_iter())
            .map(|(class, threds)| ThredCount {
                pattern: (*class.pattern).clone(),
                reaction: class.reaction,
                status: class.status,
                threds,
            })
            .collect();
        counts.sort_unstable();
        Ok(counts)
    }

    async fn waiting(
        &self,
        keys: &[WaitKey],
        after: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<ThredId>, PortError> {
        Ok(self.waiting.threds(keys, after, limit))
    }

    async fn surplus(
        &self,
        partition: u16,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Ended>, PortError> {
        let has_published =
            |state: &ThredState| !self.shard_of(&state.id).lock().outboxes.contains_key(&state.id);
        let ended = |state: &Arc<ThredState>| {
            has_published(state)
                .then(|| Ended { thred: state.id.clone(), inbox: state.inbox.clone() })
        };
        Ok(self
            .ending
            .surplus(partition, |states| states.filter_map(ended).skip(skip).take(limit).collect()))
    }

    async fn forget(&self, threds: &[ThredId]) -> Result<(), PortError> {
        // Freed after the locks are.
        let mut freed = Vec::with_capacity(threds.len());
        let mut gone = Vec::with_capacity(threds.len());
        for id in threds {
            let mut shard = self.shard_of(id).lock();
            if shard.is_done(id)
                && let Some(thred) = shard.threds.take(id.as_str())
            {
                gone.push((id.clone(), thred.last_step));
                freed.push(thred);
            }
        }
        gone.sort_by_cached_key(|(id, _)| self.partition_of(id));
        for run in gone.chunk_by(|(a, _), (b, _)| self.partition_of(a) == self.partition_of(b)) {
            self.ending.remove(self.partition_of(&run[0].0), run.iter().map(|(id, _)| id));
        }
        self.records.lock().forget(gone);
        Ok(())
    }
}

impl MemoryStorage {
    /// The outboxes of threds, those that have one.
    fn whole(&self, threds: impl IntoIterator<Item = ThredId>) -> Vec<PendingOutbox> {
        let whole = |id: ThredId| {
            let entries = self.shard_of(&id).lock().outbox(&id);
            PendingOutbox { thred_id: id, entries }
        };
        threds.into_iter().map(whole).filter(|outbox| !outbox.entries.is_empty()).collect()
    }
}

#[async_trait]
impl RecordStore for MemoryStorage {
    async fn settle(&self, partition: u16, settlement: &Settlement) -> Result<(), PortError> {
        if !settlement.unmoved.is_empty() {
            let mut records = self.records.lock();
            for unmoved in &settlement.unmoved {
                if records.push_unmoved(unmoved) {
                    self.counters.unmoved(unmoved.record.log_type);
                }
            }
        }
        if self.receipts.write(partition, &settlement.receipts, settlement.now) {
            Ok(())
        } else {
            let cause = "there is no such partition";
            Err(PortError::new("settle", PortErrorKind::Rejected, cause))
        }
    }

    async fn receipts(
        &self,
        partition: u16,
        keys: &[EventKey],
    ) -> Result<Vec<Option<Receipt>>, PortError> {
        Ok(self.receipts.find(partition, keys))
    }

    async fn recorded(&self, keys: &[EventKey]) -> Result<Vec<bool>, PortError> {
        Ok(self.records.lock().recorded(keys))
    }

    fn retention(&self) -> ReceiptRetention {
        self.receipts.retention()
    }

    async fn history(
        &self,
        thred: &ThredId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        let last = self.shard_of(thred).lock().threds.get(thred.as_str()).map(|it| it.last_step);
        let records = self.records.lock();
        let last = last.unwrap_or_else(|| records.last_of_forgotten(thred));
        Ok(records.history(last, before, limit))
    }

    async fn unmoved(&self, before: Option<&str>, limit: usize) -> Result<UnmovedPage, PortError> {
        self.records.lock().unmoved(before, limit)
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        Ok(self.records.lock().log(limit))
    }
}

/// Nothing is ever written down here that would have to be read again.
#[async_trait]
impl Quarantine for MemoryStorage {
    async fn unreadable(&self, _limit: usize) -> Result<Vec<Unreadable>, PortError> {
        Ok(vec![])
    }

    async fn move_out(&self, _limit: usize) -> Result<Vec<Unreadable>, PortError> {
        Ok(vec![])
    }
}
