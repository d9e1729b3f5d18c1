//! A storage whose commits a test answers itself.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use thredlib::{ThredId, Topic};

use crate::{
    port::{
        Cleared, Commit, Committed, Due, Ended, Loaded, ParkedTopic, PendingOutbox, PortError,
        Storage, ThredCount, ThredPage, ThredQuery, ThredStore, Timer,
    },
    state::WaitKey,
};

type Answer = BoxFuture<'static, Option<Result<Committed, PortError>>>;

/// Asks a function about each commit: what it answers is the answer, and nothing is done; `None` lets
/// the commit pass.
pub struct Commits {
    inner: Arc<dyn Storage>,
    answer: Box<dyn Fn(&Commit) -> Answer + Send + Sync>,
}

impl Commits {
    /// Stands before a storage.
    pub fn new(
        inner: Arc<dyn Storage>,
        answer: impl Fn(&Commit) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self { inner, answer: Box::new(answer) }
    }
}

crate::forward_store!(
    RecordStore, LimitStore, LeaseStore, PatternStore, Quarantine for Commits => inner
);

#[async_trait]
impl ThredStore for Commits {
    fn partitions(&self) -> u16 {
        self.inner.partitions()
    }

    fn max_commit_bytes(&self) -> usize {
        self.inner.max_commit_bytes()
    }

    async fn load(&self, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, PortError> {
        self.inner.load(ids).await
    }

    async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Result<Committed, PortError>> {
        let mut answers = Vec::with_capacity(commits.len());
        for commit in commits {
            answers.push(match (self.answer)(commit).await {
                Some(answer) => answer,
                None => self.inner.commit(std::slice::from_ref(commit)).await.remove(0),
            });
        }
        answers
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
