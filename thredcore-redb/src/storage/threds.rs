//! Threds, each with its outbox and its timer.

use std::sync::Arc;

use async_trait::async_trait;
use thredcore::{
    memory::Pager,
    port::{
        Commit, Committed, Due, Loaded, PendingOutbox, PortError, PortErrorKind, ThredPage,
        ThredQuery, ThredStore,
    },
    state::{PatternKey, ThredState},
};
use thredlib::{MessageId, ThredId};

use super::{RedbStorage, texts};
use crate::{
    journal::{Draft, Outcome, What, lock},
    segments::{self, Body},
    shared::{Clearing, ReadError, Shared},
    tables::STATES,
};

/// More states than these are read off the async threads, when they are not in memory.
const READ_INLINE: usize = 32;

#[async_trait]
impl ThredStore for RedbStorage {
    fn partitions(&self) -> u16 {
        self.journal.shared.partitions()
    }

    async fn load(&self, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, PortError> {
        let shared = &self.journal.shared;
        let states = match shared.count_uncached(ids) > READ_INLINE {
            false => shared.states(ids),
            true => {
                let ids = ids.to_vec();
                apart(shared, move |shared| shared.states(&ids)).await?
            }
        };
        let states = states.map_err(|error| error.port("load"))?;
        let load = |(id, state): (&ThredId, Option<(Arc<ThredState>, _)>)| {
            let (state, _) = state?;
            Some(Loaded { state, outbox: lock(shared.shard(id)).outbox(id) })
        };
        Ok(ids.iter().zip(states).map(load).collect())
    }

    async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Result<Committed, PortError>> {
        let drafts: Result<Vec<_>, _> = commits.iter().map(draft).collect();
        let drafts = match drafts {
            Ok(drafts) => drafts,
            // One by one, so that only those fail that must.
            Err(error) if commits.len() == 1 => {
                return vec![Err(texts::unwritable("commit")(error))];
            }
            Err(_) => {
                let mut answers = vec![];
                for commit in commits {
                    answers.extend(self.commit(std::slice::from_ref(commit)).await);
                }
                return answers;
            }
        };
        match self.journal.write("commit", What::Commit(drafts)).await {
            Ok(Outcome::Committed(answers)) => answers.into_iter().map(Ok).collect(),
            Ok(_) => vec![],
            Err(error) => {
                let kind = error.kind();
                let cause = || std::error::Error::source(&error).map(ToString::to_string);
                let again = |_| Err(PortError::new("commit", kind, cause().unwrap_or_default()));
                commits.iter().map(again).collect()
            }
        }
    }

    async fn clear_outbox(&self, published: &[(ThredId, Vec<MessageId>)]) -> Result<(), PortError> {
        let mut clearing = Clearing::default();
        for (id, entries) in published {
            lock(self.journal.shared.shard(id)).clear(id, entries, &mut clearing);
        }
        let Clearing { whole, partly } = clearing;
        if whole.is_empty() && partly.is_empty() {
            return Ok(());
        }
        let rest = |ids: &Vec<MessageId>| serde_json::to_vec(ids).map(Body::new);
        let partly = partly.iter().map(|(step, ids)| rest(ids).map(|rest| (*step, rest)));
        let partly = partly.collect::<Result<_, _>>().map_err(texts::unwritable("clear outbox"))?;
        self.journal.defer("clear outbox", What::Cleared { whole, partly })?;
        self.journal.breathe().await;
        Ok(())
    }

    async fn pending_outboxes(
        &self,
        partition: u16,
        made_before: i64,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        let Some(shard) = self.journal.shared.shard_of(partition) else { return Ok(vec![]) };
        let shard = lock(shard);
        let oldest = shard.outboxes.iter().filter_map(|(id, entries)| {
            let at = entries.iter().map(|unpublished| unpublished.entry.at).min()?;
            (at < made_before).then_some((at, id))
        });
        let mut oldest: Vec<_> = oldest.collect();
        oldest.sort_unstable();
        oldest.truncate(limit);
        let whole = |(_, id): (i64, &ThredId)| PendingOutbox {
            thred_id: id.clone(),
            entries: shard.outbox(id),
        };
        Ok(oldest.into_iter().map(whole).collect())
    }

    async fn due(&self, partition: u16, at: i64, limit: usize) -> Result<Due, PortError> {
        let Some(timers) = self.journal.shared.timers_of(partition) else {
            return Ok(Due::default());
        };
        let timers = lock(timers);
        let mut rest = timers.iter().peekable();
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
        let query = query.clone();
        let only_live = query.status.iter().all(|status| status.is_live());
        let page = move |shared: &Shared| {
            let mut pager = Pager::new(&query)?;
            let scanned = shared.read(|txn| {
                let data = txn.open_table(STATES.data)?;
                let live = txn.open_table(STATES.live)?;
                segments::each_live(&data, &live, |_, _, body| {
                    if only_live && !texts::header(body)?.is_live {
                        return Ok(());
                    }
                    pager.offer(&Arc::new(texts::state(body)?));
                    pager.prune();
                    Ok(())
                })
            });
            scanned.map_err(|error| error.port("query threds"))?;
            Ok(pager.page())
        };
        apart(&self.journal.shared, page).await?
    }

    async fn listeners(
        &self,
        pattern: &PatternKey,
        reaction: &str,
    ) -> Result<Vec<ThredId>, PortError> {
        Ok(lock(&self.journal.shared.listeners).threds(pattern, reaction))
    }
}

fn draft(commit: &Arc<Commit>) -> Result<Draft, serde_json::Error> {
    let state = texts::state_body(&commit.state)?;
    Ok(Draft { commit: commit.clone(), state, step: texts::step_body(commit)? })
}

/// Does what takes long where it holds up nobody.
pub(super) async fn apart<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) -> T + Send + 'static,
) -> Result<T, PortError> {
    let shared = shared.clone();
    let done = tokio::task::spawn_blocking(move || work(&shared)).await;
    done.map_err(|error| PortError::new("read", PortErrorKind::Unavailable, error))
}

/// A failed read, said by the port.
pub(super) fn failed(operation: &'static str) -> impl Fn(ReadError) -> PortError {
    move |error| error.port(operation)
}
