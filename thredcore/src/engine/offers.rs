//! Offers: an unbound event that finds no place for a thred of its own meets those that hold the
//! places.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use thredlib::{PatternId, ThredId};

use super::{
    Engine, Stopped,
    batch::{Batch, What},
};
use crate::{
    pattern::Pattern,
    port::{Command, Delivery, Inbound, LogType},
};

/// Holders of places that are looked at for one event.
const HOLDERS: usize = 1_000;
/// Deliveries that may wait in this process for something else to happen.
pub(super) const MAX_DEFERRED: usize = 1_024;

impl Engine {
    /// Offers an event that has found no place to the pattern's threds that wait by now, and to those
    /// that hold a place and are about to start; says whether there are any of the latter: then it is
    /// the offer's end that is on record.
    ///
    /// An event may have been refused by a thred whose start is just under way. The offer to that one
    /// is a command: durable, and tried until the thred is there, or its place is free.
    pub(super) async fn offer_to_holders(
        &self,
        batch: &mut Batch,
        case: usize,
        pattern: &Arc<Pattern>,
    ) -> Result<bool, Stopped> {
        let Some(accepted) = batch.accepted(case).cloned().filter(|_| pattern.listens()) else {
            return Ok(false);
        };
        let event = &accepted.event;
        let library = batch.library.clone();
        let awaited = library.awaited(event).into_iter();
        let awaited = awaited.filter(|awaited| awaited.pattern.key.id == pattern.key.id);
        let keys: Vec<_> = awaited.flat_map(|awaited| awaited.keys).collect();
        let mut is_open = false;
        let id = &pattern.key.id;
        let holders = self.insist(|| self.storage().reserved(id, None, HOLDERS)).await?;
        let loaded = self.insist(|| self.storage().load(&holders)).await?;
        let consumed = batch.consumed_event(case);
        for (holder, loaded) in holders.into_iter().zip(loaded) {
            if loaded.is_none() && !batch.cases[case].moved.contains(&holder) {
                is_open = true;
                batch.commands.push(Command::Offer {
                    thred_id: holder,
                    pattern_id: id.clone(),
                    accepted: accepted.clone(),
                    consumed,
                });
            }
        }
        // Only now: a holder that was there at that look, and waits, is found at this one.
        for thred in self.waiting(&keys).await? {
            batch.offer(case, thred);
        }
        Ok(is_open)
    }

    /// What is to be done about an offer: give it to the holder of the place; or, when the place is
    /// free, match it anew; or wait.
    pub(super) async fn match_offer(
        &self,
        batch: &mut Batch,
        case: usize,
        holder: &ThredId,
        pattern: &PatternId,
    ) -> Result<(), Stopped> {
        let ids = [holder.clone()];
        let loaded = self.insist(|| self.storage().load(&ids)).await?.pop().flatten();
        if loaded.is_some_and(|loaded| loaded.state.status.is_live()) {
            batch.add(case, What::Obey(holder.clone()));
            return Ok(());
        }
        let reserved = self.insist(|| self.storage().reserved(pattern, None, HOLDERS)).await?;
        if reserved.contains(holder) {
            batch.cases[case].deferred = true;
        } else if let Some(pattern) = batch.library.current(pattern).cloned() {
            batch.add(case, What::Begin(pattern));
        }
        Ok(())
    }

    /// An offer that the holder of the place did not take ends here.
    pub(super) fn offer_refused(&self, batch: &mut Batch, case: usize) {
        let Inbound::Command(command) = batch.cases[case].inbound.clone() else { return };
        if let Command::Offer { pattern_id, accepted, .. } = &*command {
            let why = "no place, and none of those that hold one takes the event";
            batch.note(case, LogType::Constrained, &accepted.event, Some(pattern_id), Some(why));
        }
    }

    /// Tries deliveries again later, without holding up their partition.
    pub(super) async fn defer(&self, deliveries: Vec<Delivery<Inbound>>) {
        const FIRST: Duration = Duration::from_millis(10);
        for delivery in deliveries {
            let engine = self.clone();
            // Beyond the bound the partition does wait.
            let waiting = self.0.deferred.clone().acquire_owned().await;
            tokio::spawn(async move {
                let _waiting = waiting;
                let tries = delivery.attempt.min(8);
                let again = Delivery { attempt: delivery.attempt.saturating_add(1), ..delivery };
                if engine.rest(FIRST * 2_u32.pow(tries)).await.is_ok() {
                    // Stopped: it is delivered again.
                    let _ = engine.process_later(vec![again]).await;
                }
            });
        }
    }

    /// [`process`](Self::process), which leads here, as a future of a known type.
    fn process_later(
        &self,
        deliveries: Vec<Delivery<Inbound>>,
    ) -> BoxFuture<'_, Result<(), Stopped>> {
        self.process(deliveries).boxed()
    }
}
