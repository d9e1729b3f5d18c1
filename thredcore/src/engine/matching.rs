//! Matching: whom an event concerns.

use std::{collections::HashSet, sync::Arc};

use thredlib::{Event, EventId, SYSTEM};

use super::{
    Engine, Stopped,
    batch::{Batch, What},
};
use crate::port::{Command, Delivery, Inbound, Loaded, LogType, Start};

impl Engine {
    /// Finds the patterns and threds that the next cases concern; `false` when there are no more.
    ///
    /// An unbound event that threds may wait for is matched only when all before it have been
    /// committed: one of them may bring a thred to where it waits.
    pub(super) async fn match_more(&self, batch: &mut Batch) -> Result<bool, Stopped> {
        let first = batch.matched;
        while let Some(case) = batch.cases.get(batch.matched) {
            let inbound = case.inbound.clone();
            if batch.matched > first && awaited(batch, &inbound) {
                break;
            }
            let (is_settled, redelivered) = (case.taken, case.redelivered);
            let case = batch.matched;
            batch.matched += 1;
            if is_settled {
                continue;
            }
            match &inbound {
                Inbound::Event(event) => match &event.thred_id {
                    None => self.match_unbound(batch, case, event).await?,
                    Some(id) if *id == SYSTEM => self.control(batch, case, event).await?,
                    Some(id) => batch.add(case, What::Bound(id.clone())),
                },
                Inbound::Command(command) => match &**command {
                    Command::Start(start) if redelivered && self.is_disowned(start).await? => {}
                    Command::Start(start) => batch.add(case, What::Spawn(start.clone())),
                    other => batch.add(case, What::Obey(other.thred_id().clone())),
                },
            }
        }
        Ok(batch.matched > first)
    }

    /// The redelivered events that are on record as having concerned nobody: whoever worked on them
    /// died before acknowledging them. They have had their end, whatever they would match by now.
    ///
    /// What an engine leaves behind when it dies is among the latest records.
    pub(super) async fn settled(
        &self,
        deliveries: &[Delivery<Inbound>],
    ) -> Result<HashSet<EventId>, Stopped> {
        let again = deliveries.iter().filter(|delivery| delivery.attempt > 1);
        let again = again.filter_map(|delivery| match &delivery.payload {
            Inbound::Event(event) => Some(&event.id),
            Inbound::Command(_) => None,
        });
        let again: HashSet<&EventId> = again.collect();
        if again.is_empty() {
            return Ok(HashSet::new());
        }
        let latest = self.config().max_in_flight.saturating_mul(4);
        let steps = self.insist(|| self.storage().history(None, latest)).await?;
        let records = steps.into_iter().flat_map(|step| step.log);
        let ends = records.filter(|record| {
            matches!(record.log_type, LogType::NoPatternMatch | LogType::NoThred)
                && again.contains(&record.event)
        });
        Ok(ends.map(|record| record.event).collect())
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
        for (pattern, reaction) in library.listening(event) {
            let name = &pattern.reactions[*reaction].name;
            let waiting = self.insist(|| self.storage().listeners(&pattern.key, name)).await?;
            for thred in waiting {
                batch.add(case, What::Offer(thred));
            }
        }
        Ok(())
    }
}

/// Whether threds may wait for an unbound event.
fn awaited(batch: &Batch, inbound: &Inbound) -> bool {
    matches!(inbound, Inbound::Event(event)
        if event.thred_id.is_none() && batch.library.listening(event).next().is_some())
}
