//! A storage that is watched: it counts ended threds and how late timers fire.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use thredcore::{
    port::{
        Clock, Commit, Committed, Due, History, Lease, LeaseStore, LimitStore, Loaded, LogRecord,
        LogType, PatternStore, PendingOutbox, PortError, RecordStore, Reservation, Reserved,
        Storage, StoredPattern, SystemClock, ThredPage, ThredQuery, ThredStore,
    },
    state::{PatternKey, Status},
};
use thredlib::{Event, MessageId, PatternId, ThredId};

use super::{stages::Stages, workload::timer_interval};

/// Passes everything on to another storage.
pub(super) struct Observed {
    inner: Arc<dyn Storage>,
    ended: AtomicUsize,
    commits: AtomicUsize,
    conflicts: AtomicUsize,
    /// The first commits.
    samples: Mutex<Vec<Arc<Commit>>>,
    /// Milliseconds after the due time, of each timer that fired.
    lateness: Mutex<Vec<i64>>,
    pub(super) stages: Stages,
}

impl Observed {
    /// How many of the first commits are kept.
    const SAMPLES: usize = 1_000;

    pub(super) fn new(inner: Arc<dyn Storage>) -> Self {
        Self {
            inner,
            ended: AtomicUsize::new(0),
            commits: AtomicUsize::new(0),
            conflicts: AtomicUsize::new(0),
            samples: Mutex::default(),
            lateness: Mutex::default(),
            stages: Stages::default(),
        }
    }

    /// What is observed.
    pub(super) fn inner(&self) -> &Arc<dyn Storage> {
        &self.inner
    }

    /// The share of commits that met a conflict.
    pub(super) fn conflicts(&self) -> f64 {
        let commits = self.commits.load(Ordering::Relaxed).max(1);
        self.conflicts.load(Ordering::Relaxed) as f64 / commits as f64
    }

    /// Some commits of the workload.
    pub(super) fn samples(&self) -> Vec<Arc<Commit>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many threds have ended.
    pub(super) fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }

    /// How late the timers fired, milliseconds; negative: early.
    pub(super) fn lateness(&self) -> Vec<i64> {
        std::mem::take(&mut self.lateness.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn observe(
        &self,
        commits: &[Arc<Commit>],
        answers: &[Result<Committed, PortError>],
        since: Instant,
    ) {
        let conflicts = answers.iter().filter(|it| matches!(it, Ok(Committed::Conflict))).count();
        self.conflicts.fetch_add(conflicts, Ordering::Relaxed);
        if self.commits.fetch_add(commits.len(), Ordering::Relaxed) < Self::SAMPLES {
            let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            samples.extend(commits.iter().cloned());
        }
        let applied = commits.iter().zip(answers);
        let applied = applied.filter(|(_, answer)| matches!(answer, Ok(Committed::Applied)));
        let mut ended = 0;
        let mut lateness = Vec::new();
        for (commit, _) in applied {
            self.stages.committed(&commit.state.id, since);
            ended += usize::from(commit.state.status == Status::Terminated);
            if commit.log.first().is_some_and(|record| record.log_type == LogType::Expired) {
                let pattern = commit.state.pattern.id.as_str();
                let number = pattern.rsplit('_').next().and_then(|text| text.parse().ok());
                let due = commit.state.started_at + timer_interval(number.unwrap_or(0));
                lateness.push(SystemClock.now() - due);
            }
        }
        self.ended.fetch_add(ended, Ordering::Relaxed);
        if !lateness.is_empty() {
            self.lateness.lock().unwrap_or_else(PoisonError::into_inner).extend(lateness);
        }
    }
}

#[async_trait]
impl ThredStore for Observed {
    fn partitions(&self) -> u16 {
        self.inner.partitions()
    }

    async fn load(&self, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, PortError> {
        self.stages.loading(ids);
        self.inner.load(ids).await
    }

    async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Result<Committed, PortError>> {
        let since = Instant::now();
        let answers = self.inner.commit(commits).await;
        self.observe(commits, &answers, since);
        answers
    }

    async fn clear_outbox(&self, published: &[(ThredId, Vec<MessageId>)]) -> Result<(), PortError> {
        self.inner.clear_outbox(published).await
    }

    async fn pending_outboxes(
        &self,
        partition: u16,
        made_before: i64,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        self.inner.pending_outboxes(partition, made_before, limit).await
    }

    async fn due(&self, partition: u16, at: i64, limit: usize) -> Result<Due, PortError> {
        self.inner.due(partition, at, limit).await
    }

    async fn threds(&self, query: &ThredQuery) -> Result<ThredPage, PortError> {
        self.inner.threds(query).await
    }

    async fn listeners(
        &self,
        pattern: &PatternKey,
        reaction: &str,
    ) -> Result<Vec<ThredId>, PortError> {
        self.inner.listeners(pattern, reaction).await
    }
}

#[async_trait]
impl RecordStore for Observed {
    async fn append_log(&self, records: Vec<(LogRecord, Arc<Event>)>) -> Result<(), PortError> {
        self.inner.append_log(records).await
    }

    async fn history(
        &self,
        thred: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        self.inner.history(thred, limit).await
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        self.inner.log(limit).await
    }
}

#[async_trait]
impl LimitStore for Observed {
    async fn reserve(&self, reservation: &Reservation) -> Result<Reserved, PortError> {
        self.inner.reserve(reservation).await
    }

    async fn release(&self, places: &[(PatternId, ThredId)]) -> Result<(), PortError> {
        self.inner.release(places).await
    }

    async fn reserved(&self, pattern: &PatternId) -> Result<Vec<ThredId>, PortError> {
        self.inner.reserved(pattern).await
    }
}

#[async_trait]
impl LeaseStore for Observed {
    async fn acquire(&self, lease: &Lease, now: i64) -> Result<bool, PortError> {
        self.inner.acquire(lease, now).await
    }

    async fn give_back(&self, name: &str, owner: &str) -> Result<(), PortError> {
        self.inner.give_back(name, owner).await
    }

    async fn leases(&self, prefix: &str, now: i64) -> Result<Vec<Lease>, PortError> {
        self.inner.leases(prefix, now).await
    }
}

#[async_trait]
impl PatternStore for Observed {
    async fn put_pattern(&self, pattern: StoredPattern) -> Result<(), PortError> {
        self.inner.put_pattern(pattern).await
    }

    async fn remove_pattern(&self, id: &PatternId) -> Result<(), PortError> {
        self.inner.remove_pattern(id).await
    }

    async fn patterns(&self) -> Result<Vec<StoredPattern>, PortError> {
        self.inner.patterns().await
    }

    async fn pattern(&self, key: &PatternKey) -> Result<Option<StoredPattern>, PortError> {
        self.inner.pattern(key).await
    }

    async fn listening_patterns(&self) -> Result<Vec<PatternKey>, PortError> {
        self.inner.listening_patterns().await
    }

    async fn patterns_version(&self) -> Result<u64, PortError> {
        self.inner.patterns_version().await
    }
}
