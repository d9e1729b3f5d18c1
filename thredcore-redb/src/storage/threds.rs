//! Threds, each with its outbox and its timer.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use async_trait::async_trait;
use thredcore::{
    port::{
        Cleared, Commit, Committed, Due, Ended, Loaded, ParkedTopic, PendingOutbox, PortError,
        PortErrorKind, ThredCount, ThredPage, ThredQuery, ThredStore, Timer,
    },
    state::{ThredState, WaitKey},
};
use thredlib::{ThredId, Topic};

use super::{RedbStorage, apart, failed, texts};
use crate::{
    index::{Search, Seat},
    journal::{Draft, Outcome, What},
    json,
    outboxes::{Clearing, Outboxes},
    segments::Body,
    shared::{Found, ReadError, Shared},
};

/// More states than these are read off the async threads, when they are not in memory.
const READ_INLINE: usize = 32;

#[async_trait]
impl ThredStore for RedbStorage {
    fn partitions(&self) -> u16 {
        self.journal.shared.partitions()
    }

    fn max_commit_bytes(&self) -> usize {
        self.journal.shared.config.max_commit_bytes
    }

    async fn load(&self, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, PortError> {
        let shared = &self.journal.shared;
        let loaded = if shared.count_uncached(ids) > READ_INLINE {
            let ids = ids.to_vec();
            apart(shared, move |shared| load(shared, &ids)).await?
        } else {
            load(shared, ids)
        };
        loaded.map_err(failed("load"))
    }

    async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Result<Committed, PortError>> {
        let most = self.max_commit_bytes();
        let format = self.journal.shared.format();
        let drafts = commits.iter().map(|commit| draft(commit, format, most));
        let drafts: Result<Vec<_>, _> = drafts.collect();
        let drafts = match drafts {
            Ok(drafts) => drafts,
            // One by one, so that only those fail that must.
            Err(error) if commits.len() == 1 => return vec![Err(error)],
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

    async fn clear_outbox(&self, cleared: &[Cleared]) -> Result<(), PortError> {
        let mut clearing = Clearing::default();
        for cleared in cleared {
            let mut shard = self.journal.shared.shard(&cleared.thred).lock();
            shard.outboxes.clear(cleared, &mut clearing);
        }
        let Clearing { whole, partly } = clearing;
        if whole.is_empty() && partly.is_empty() {
            return Ok(());
        }
        let partly = partly.iter().map(|(step, left)| Ok((*step, Body::new(json::to_vec(left)?))));
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
        self.some_outboxes(partition, |outboxes| outboxes.pending(made_before, limit)).await
    }

    async fn parked_topics(&self) -> Result<Vec<ParkedTopic>, PortError> {
        let mut topics: BTreeMap<Topic, ParkedTopic> = BTreeMap::new();
        for shard in self.journal.shared.shards() {
            for parked in shard.lock().outboxes.parked_topics() {
                topics
                    .entry(parked.topic.clone())
                    .and_modify(|all| {
                        all.messages += parked.messages;
                        all.oldest = all.oldest.min(parked.oldest);
                    })
                    .or_insert(parked);
            }
        }
        Ok(topics.into_values().collect())
    }

    async fn parked_outboxes(
        &self,
        partition: u16,
        topic: &Topic,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        self.some_outboxes(partition, |outboxes| outboxes.parked(topic, limit)).await
    }

    async fn due(
        &self,
        partition: u16,
        at: i64,
        after: Option<&Timer>,
        limit: usize,
    ) -> Result<Due, PortError> {
        let Some(timers) = self.journal.shared.timers_of(partition) else {
            return Ok(Due::default());
        };
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let timers = timers.lock();
        let mut rest = timers.range::<Timer, _>((start, Bound::Unbounded)).peekable();
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
        query.start()?;
        let query = query.clone();
        let page = apart(&self.journal.shared, move |shared| page(shared, &query));
        page.await?.map_err(failed("query threds"))
    }

    async fn counts(&self) -> Result<Vec<ThredCount>, PortError> {
        Ok(self.journal.shared.kinds.lock().counts())
    }

    async fn waiting(
        &self,
        keys: &[WaitKey],
        after: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<ThredId>, PortError> {
        let mut found = vec![];
        for shard in self.journal.shared.shards() {
            let shard = shard.lock();
            let of_key = |key: &WaitKey| shard.index.waiting(*key, after).take(limit);
            found.extend(keys.iter().flat_map(of_key).cloned());
        }
        found.sort_unstable();
        found.dedup();
        found.truncate(limit);
        Ok(found)
    }

    async fn surplus(
        &self,
        partition: u16,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Ended>, PortError> {
        let shared = &self.journal.shared;
        let Some(shard) = shared.shard_of(partition) else { return Ok(vec![]) };
        let some: Vec<_> = {
            let shard = shard.lock();
            let surplus = shard.index.surplus(shared.ended_limit(partition));
            let free = surplus.filter(|id| !shard.outboxes.contains(id));
            let some = free.skip(skip).take(limit);
            some.map(|id| (id.clone(), shard.index.brief(id))).collect()
        };
        let unknown = some.iter().filter(|(_, brief)| brief.is_none());
        let unknown: Vec<_> = unknown.map(|(id, _)| id.clone()).collect();
        let headers = if unknown.is_empty() {
            vec![]
        } else {
            apart(shared, move |shared| shared.headers(&unknown))
                .await?
                .map_err(failed("look for ended threds"))?
        };
        let mut inboxes: BTreeMap<ThredId, _> =
            headers.into_iter().map(|header| (header.id, header.inbox)).collect();
        let ended = some.into_iter().map(|(thred, brief)| {
            let inbox = match brief {
                Some(brief) => brief.inbox,
                None => inboxes.remove(&thred).unwrap_or_default(),
            };
            Ended { thred, inbox }
        });
        Ok(ended.collect())
    }

    async fn forget(&self, threds: &[ThredId]) -> Result<(), PortError> {
        if threds.is_empty() {
            Ok(())
        } else {
            self.journal.write("forget", What::Forget(threds.to_vec())).await.map(drop)
        }
    }
}

impl RedbStorage {
    async fn some_outboxes(
        &self,
        partition: u16,
        choose: impl FnOnce(&Outboxes) -> Vec<ThredId> + Send,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        let shared = &self.journal.shared;
        let Some(shard) = shared.shard_of(partition) else { return Ok(vec![]) };
        let ids = choose(&shard.lock().outboxes);
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let whole = apart(shared, move |shared| {
            let outboxes = shared.outboxes(&ids)?;
            let pending = ids.into_iter().zip(outboxes);
            let pending = pending.map(|(thred_id, entries)| PendingOutbox { thred_id, entries });
            Ok(pending.filter(|outbox| !outbox.entries.is_empty()).collect())
        });
        whole.await?.map_err(failed("read outboxes"))
    }
}

fn load(shared: &Shared, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, ReadError> {
    let states = shared.states(ids)?;
    let outboxes = shared.outboxes(ids)?;
    let loaded = states.into_iter().zip(outboxes).map(|(found, outbox)| {
        let (state, _) = found.state()?;
        Some(Loaded { state, outbox })
    });
    Ok(loaded.collect())
}

fn draft(commit: &Arc<Commit>, format: u32, most: usize) -> Result<Draft, PortError> {
    let refused = texts::unwritable("commit");
    let state = texts::state_body(&commit.state, format).map_err(&refused)?;
    let step = texts::step_body(commit).map_err(&refused)?;
    // What is stored is hardly larger than its size, which takes a while to compute.
    if state.len() + step.len() > most / 2 && commit.size() > most {
        let cause =
            format!("the step takes {} bytes, more than {most} (max_commit_bytes)", commit.size());
        return Err(PortError::new("commit", PortErrorKind::Rejected, cause));
    }
    Ok(Draft { commit: commit.clone(), state, step })
}

/// A page of threds: found by the index, so that only those on the page are read.
fn page(shared: &Shared, query: &ThredQuery) -> Result<ThredPage, ReadError> {
    let start = query.start().ok().flatten();
    let mut after: Option<Seat> = start.map(|(started, id)| (started, id.into()));
    // One more tells that there is another page.
    let wanted = query.page_size().saturating_add(1);
    let mut found: Vec<Arc<ThredState>> = vec![];
    while found.len() < wanted {
        let search = Search::new(query, &shared.kinds.lock());
        let seats = seats(shared, &search, after.as_ref(), wanted - found.len());
        let Some(last) = seats.last() else { break };
        after = Some(last.clone());
        let ids: Vec<_> = seats.into_iter().map(|(_, id)| id).collect();
        let states = shared.states(&ids)?.into_iter().filter_map(Found::state);
        found.extend(states.map(|(state, _)| state).filter(|state| query.matches(state)));
    }
    Ok(ThredPage::of(query, found))
}

/// The first threds of all partitions that a query may mean, in the order of pages.
fn seats(shared: &Shared, search: &Search<'_>, after: Option<&Seat>, wanted: usize) -> Vec<Seat> {
    let mut each = (2 * wanted.min(1 << 20) / shared.shards().len()).max(16).min(wanted);
    loop {
        let mut seats = vec![];
        // Behind the last one of a partition that has more, others may be missing.
        let mut sure_until: Option<Seat> = None;
        for shard in shared.shards() {
            let first = shard.lock().index.first(search, after, each);
            if first.len() == each
                && let Some(last) = first.last()
                && sure_until.as_ref().is_none_or(|until| last < until)
            {
                sure_until = Some(last.clone());
            }
            seats.extend(first);
        }
        seats.sort_unstable();
        if let Some(until) = &sure_until {
            seats.retain(|seat| seat <= until);
        }
        if sure_until.is_none() || seats.len() >= wanted || each >= wanted {
            seats.truncate(wanted);
            return seats;
        }
        each = each.saturating_mul(4).min(wanted);
    }
}
