//! A storage that is watched: it counts ended threds and how late timers fire.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use thredcore::{
    port::{
        Cleared, Clock, Commit, Committed, Due, Ended, Loaded, LogType, ParkedTopic, PendingOutbox,
        PortError, Storage, SystemClock, ThredCount, ThredPage, ThredQuery, ThredStore, Timer,
    },
    state::{Status, WaitKey},
};
use thredlib::{ThredId, Topic};

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
        self.samples.lock().clone()
    }

    /// How many threds have ended.
    pub(super) fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }

    /// How late the timers fired, milliseconds; negative: early.
    pub(super) fn lateness(&self) -> Vec<i64> {
        std::mem::take(&mut self.lateness.lock())
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
            let mut samples = self.samples.lock();
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
            self.lateness.lock().extend(lateness);
        }
    }
}

thredcore::forward_store!(
    RecordStore, LimitStore, LeaseStore, PatternStore, Quarantine for Observed => inner
);

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

    fn max_commit_bytes(&self) -> usize {
        self.inner.max_commit_bytes()
    }

    async fn clear_outbox(&self, cleared: &[Cleared]) -> Result<(), PortError> {
        self.inner.clear_outbox(cleared).await
    }

    async fn pending_outboxes(
        &self,
        partition: u16,
        made_before: i64,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        self.inner.pending_outboxes(partition, made_before, limit).await
    }

    async fn parked_topics(&self) -> Result<Vec<ParkedTopic>, PortError> {
        self.inner.parked_topics().await
    }

    async fn parked_outboxes(
        &self,
        partition: u16,
        topic: &Topic,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        self.inner.parked_outboxes(partition, topic, limit).await
    }

    async fn due(
        &self,
        partition: u16,
        at: i64,
        after: Option<&Timer>,
        limit: usize,
    ) -> Result<Due, PortError> {
        self.inner.due(partition, at, after, limit).await
    }

    async fn threds(&self, query: &ThredQuery) -> Result<ThredPage, PortError> {
        self.inner.threds(query).await
    }

    async fn counts(&self) -> Result<Vec<ThredCount>, PortError> {
        self.inner.counts().await
    }

    async fn waiting(
        &self,
        keys: &[WaitKey],
        after: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<ThredId>, PortError> {
        self.inner.waiting(keys, after, limit).await
    }

    async fn surplus(
        &self,
        partition: u16,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Ended>, PortError> {
        self.inner.surplus(partition, skip, limit).await
    }

    async fn forget(&self, threds: &[ThredId]) -> Result<(), PortError> {
        self.inner.forget(threds).await
    }
}
