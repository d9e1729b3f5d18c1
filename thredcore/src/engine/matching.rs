//! Matching: whom an event concerns.

use std::{collections::BTreeSet, sync::Arc};

use futures::future::try_join_all;
use thredlib::{Event, SYSTEM, ThredId};

use super::{
    Engine, Stopped,
    batch::{Batch, What},
};
use crate::{
    port::{Command, Inbound, Loaded, Start},
    state::WaitKey,
};

/// Waiting threds that are asked for at one time, of a partition.
const PAGE: usize = 1_000;

impl Engine {
    /// Finds the patterns and threds that the next cases concern; `false` when there are no more.
    ///
    /// An unbound event that threds may wait for is matched only when all before it have been
    /// committed: one of them may bring a thred to where it waits. The timers that are due by then
    /// have fired, too.
    pub(super) async fn match_more(&self, batch: &mut Batch) -> Result<bool, Stopped> {
        let first = batch.matched;
        while let Some(case) = batch.cases.get(batch.matched) {
            let inbound = case.inbound.clone();
            if !case.taken && awaited(batch, &inbound) {
                if batch.matched > first {
                    break;
                }
                if !batch.looked_at_timers {
                    if self.expire_overdue(batch).await? {
                        return Ok(true);
                    }
                    batch.looked_at_timers = true;
                }
            }
            let case = batch.matched;
            batch.matched += 1;
            if batch.cases[case].taken {
                continue;
            }
            let redelivered = batch.cases[case].redelivered;
            match &inbound {
                Inbound::Event(accepted) => match &accepted.event.thred_id {
                    None => self.match_unbound(batch, case, &accepted.event).await?,
                    Some(id) if *id == SYSTEM => self.control(batch, case, &accepted.event).await?,
                    Some(id) => batch.add(case, What::Bound(id.clone())),
                },
                Inbound::Command(command) => match &**command {
                    Command::Start(start) if redelivered && self.is_disowned(start).await? => {}
                    Command::Start(start) => batch.add(case, What::Spawn(start.clone())),
                    Command::Offer { thred_id, pattern_id, .. } => {
                        self.match_offer(batch, case, thred_id, pattern_id).await?;
                    }
                    other => batch.add(case, What::Obey(other.thred_id().clone())),
                },
            }
        }
        Ok(batch.matched > first)
    }

    /// Whether a child that is not there is none of its parent's (any more): it was refused, and the
    /// parent told; or it has ended, and is no longer kept.
    async fn is_disowned(&self, start: &Start) -> Result<bool, Stopped> {
        let Some(parent) = &start.parent else { return Ok(false) };
        let ids = [start.thred_id.clone(), parent.clone()];
        let loaded = self.insist(|| self.storage().load(&ids)).await?;
        let [None, parent] = &*loaded else { return Ok(false) };
        let lists = |parent: &Loaded| parent.state.children.contains(&start.thred_id);
        Ok(!parent.as_ref().is_some_and(lists))
    }

    /// An unbound event meets the entry of each pattern, and then the threds that wait for it.
    async fn match_unbound(
        &self,
        batch: &mut Batch,
        case: usize,
        event: &Arc<Event>,
    ) -> Result<(), Stopped> {
        let library = batch.library.clone();
        for pattern in library.candidates(event) {
            batch.add(case, What::Begin(pattern.clone()));
        }
        let keys = library.awaited(event).into_iter().flat_map(|awaited| awaited.keys);
        let keys: Vec<WaitKey> = keys.collect();
        for thred in self.waiting(&keys).await? {
            batch.offer(case, thred);
        }
        Ok(())
    }

    /// The threds that wait under any of these keys, each once, in the order of their ids: a look-up
    /// by key in each partition, however many wait under others.
    pub(super) async fn waiting(&self, keys: &[WaitKey]) -> Result<BTreeSet<ThredId>, Stopped> {
        if keys.is_empty() {
            return Ok(BTreeSet::new());
        }
        let partitions = (0..self.storage().partitions()).map(|partition| async move {
            let mut found: Vec<ThredId> = Vec::new();
            loop {
                let after = found.last().cloned();
                let page = self
                    .insist(|| self.storage().waiting(partition, keys, after.as_ref(), PAGE))
                    .await?;
                let is_last = page.len() < PAGE;
                found.extend(page);
                if is_last {
                    return Ok(found);
                }
            }
        });
        Ok(try_join_all(partitions).await?.into_iter().flatten().collect())
    }
}

/// Whether threds may wait for an unbound event.
fn awaited(batch: &Batch, inbound: &Inbound) -> bool {
    matches!(inbound, Inbound::Event(accepted) if accepted.event.thred_id.is_none()
        && batch.library.listening(&accepted.event).next().is_some())
}
