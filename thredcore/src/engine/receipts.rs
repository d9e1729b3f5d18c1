//! Receipts: what has been settled has no second effect.

use std::collections::{HashMap, HashSet};

use futures::future::try_join_all;
use thredlib::{EventKey, ThredId};

use super::{
    Engine, Stopped,
    batch::{Batch, Case},
};
use crate::{
    hash::FastHash,
    port::{Death, Inbound, Loaded, PortError, PortErrorKind, Receipt, Settlement, Unmoved},
    state::Consumed,
};

/// A reason of a dead letter is cut after this many bytes.
const REASON_BYTES: usize = 4_096;

impl Engine {
    /// Finds what has had its end before: it has a receipt, or is on record, or came twice in the
    /// batch itself.
    pub(super) async fn look_up_receipts(&self, batch: &mut Batch) -> Result<(), Stopped> {
        let mut asked: HashMap<u16, Vec<usize>, FastHash> = HashMap::default();
        let mut seen: HashSet<EventKey, FastHash> =
            HashSet::with_capacity_and_hasher(batch.cases.len(), FastHash::new());
        for (index, case) in batch.cases.iter_mut().enumerate() {
            if !case.consumed.needs_receipt() {
                continue;
            }
            if seen.insert(case.consumed.key) {
                asked.entry(case.consumed.partition).or_default().push(index)
            } else {
                case.settle()
            }
        }
        let answers = asked.into_iter().map(|(partition, cases)| {
            let keys: Vec<EventKey> =
                cases.iter().map(|index| batch.cases[*index].consumed.key).collect();
            async move {
                let receipts = self.insist(|| self.storage().receipts(partition, &keys)).await?;
                Ok((cases, receipts))
            }
        });
        let answers = try_join_all(answers).await?;
        let mut again = Vec::new();
        for (cases, receipts) in answers {
            for (index, receipt) in cases.into_iter().zip(receipts) {
                let case = &mut batch.cases[index];
                match receipt {
                    Some(Receipt::Settled) => case.settle(),
                    // Only the copy that comes from there is worked on again.
                    Some(Receipt::Dead(times)) if case.times_dead() != times => case.settle(),
                    Some(Receipt::Dead(_)) => {}
                    None if case.redelivered => again.push(index),
                    None => {}
                }
            }
        }
        if !again.is_empty() {
            let keys: Vec<_> = again.iter().map(|index| batch.cases[*index].consumed.key).collect();
            let recorded = self.insist(|| self.storage().recorded(&keys)).await?;
            for (index, recorded) in again.into_iter().zip(recorded) {
                if recorded {
                    // Its record is there, its receipt is not: that is written now.
                    batch.cases[index].taken = true;
                }
            }
        }
        Ok(())
    }

    /// What leaves the inboxes of threds that have just been loaded: what has a receipt, and what is
    /// older than receipts are kept.
    pub(super) async fn look_up_inboxes(
        &self,
        batch: &mut Batch,
        loaded: &[(ThredId, Option<Loaded>)],
    ) -> Result<(), Stopped> {
        let limit = self.config().react_limits.inbox;
        let large = loaded.iter().filter_map(|(id, loaded)| Some((id, loaded.as_ref()?)));
        let large = large.filter(|(_, loaded)| loaded.state.inbox.len() >= limit);
        for (id, loaded) in large {
            let settled = self.settled_of(&loaded.state.inbox, batch.now).await?;
            if !settled.is_empty() {
                batch.settled.insert(id.clone(), settled.into());
            }
        }
        Ok(())
    }

    /// Those that cannot come again.
    pub(super) async fn settled_of(
        &self,
        inbox: &[Consumed],
        now: i64,
    ) -> Result<Vec<EventKey>, Stopped> {
        let retention = self.storage().retention().time.as_secs();
        let oldest = u64::try_from(now / 1000).unwrap_or(0).saturating_sub(retention);
        let mut settled = Vec::new();
        let mut asked: HashMap<u16, Vec<EventKey>, FastHash> = HashMap::default();
        for consumed in inbox.iter().filter(|consumed| consumed.needs_receipt()) {
            if u64::from(consumed.at) < oldest {
                settled.push(consumed.key)
            } else {
                asked.entry(consumed.partition).or_default().push(consumed.key)
            }
        }
        let answers = asked.into_iter().map(|(partition, keys)| async move {
            let receipts = self.insist(|| self.storage().receipts(partition, &keys)).await?;
            Ok(keys.into_iter().zip(receipts))
        });
        let answers = try_join_all(answers).await?.into_iter().flatten();
        let known = answers.filter(|(_, receipt)| *receipt == Some(Receipt::Settled));
        settled.extend(known.map(|(key, _)| key));
        Ok(settled)
    }

    /// Gives the deliveries of a batch their ends: dead letters, records and receipts, and then the
    /// acknowledgement.
    pub(super) async fn settle(&self, batch: &mut Batch) -> Result<(), Stopped> {
        let mut settlements: HashMap<u16, Settlement, FastHash> = HashMap::default();
        for (partition, unmoved) in std::mem::take(&mut batch.records) {
            settlements.entry(partition).or_default().unmoved.push(unmoved);
        }
        let mut done = Vec::with_capacity(batch.cases.len());
        for case in &mut batch.cases {
            let Some(tag) = case.tag.filter(|_| !case.deferred) else {
                if !case.deferred && !case.failures.is_empty() {
                    let (id, reason) = (case.inbound.id(), case.failures.join("; "));
                    tracing::warn!(%id, reason, "a command of the engine failed");
                }
                continue;
            };
            let receipt = match &*case.failures {
                [] => Receipt::Settled,
                failures => {
                    let mut reason = failures.join("; ");
                    truncate(&mut reason, REASON_BYTES);
                    let times = case.times_dead().saturating_add(1);
                    let moved = std::mem::take(&mut case.moved);
                    tracing::warn!(
                        id = %case.inbound.id(), source = case.inbound.source(), reason, times,
                        "dead-lettered"
                    );
                    let death = Death { reason, times, moved };
                    if !self.insist(|| self.event_q().dead_letter(tag, &death)).await? {
                        // Another engine has it: to that one it must not look like a repetition.
                        continue;
                    }
                    Receipt::Dead(times)
                }
            };
            if receipt == Receipt::Settled {
                done.push(tag);
            }
            if case.consumed.needs_receipt() && !case.settled {
                let settlement = settlements.entry(case.consumed.partition).or_default();
                settlement.receipts.push((case.consumed.key, receipt));
            }
        }
        let settlements = settlements.into_iter().map(|(partition, settlement)| {
            let settlement = Settlement { now: batch.now, ..settlement };
            async move { self.write_settlement(partition, settlement).await }
        });
        try_join_all(settlements).await?;
        if done.is_empty() {
            return Ok(());
        }
        self.insist(|| self.event_q().ack(&done)).await
    }

    /// Writes a settlement. A record that the storage will never take is left out, loudly: its
    /// event must come to an end.
    async fn write_settlement(
        &self,
        partition: u16,
        mut settlement: Settlement,
    ) -> Result<(), Stopped> {
        let Err(error) = self.try_settle(partition, &settlement).await? else { return Ok(()) };
        if settlement.unmoved.is_empty() {
            // There is nothing in a receipt that could be refused: the backend is at fault.
            let mut pauses = self.pauses();
            self.pause(&error, &mut pauses).await?;
            return self.insist(|| self.storage().settle(partition, &settlement)).await;
        }
        for unmoved in std::mem::take(&mut settlement.unmoved) {
            let Unmoved { key, record, .. } = &unmoved;
            let (key, kind) = (*key, record.log_type);
            let alone =
                Settlement { unmoved: vec![unmoved], receipts: vec![], now: settlement.now };
            if let Err(error) = self.try_settle(partition, &alone).await? {
                tracing::error!(%error, %key, ?kind, "a record is refused and left out");
            }
        }
        self.insist(|| self.storage().settle(partition, &settlement)).await
    }

    async fn try_settle(
        &self,
        partition: u16,
        settlement: &Settlement,
    ) -> Result<Result<(), PortError>, Stopped> {
        self.until_refused(|| self.storage().settle(partition, settlement)).await
    }
}

impl Case {
    /// It has had its end before.
    fn settle(&mut self) {
        self.settled = true;
        self.taken = true;
    }

    fn times_dead(&self) -> u32 {
        match &self.inbound {
            Inbound::Event(accepted) => accepted.times_dead(),
            Inbound::Command(_) => 0,
        }
    }
}

fn truncate(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" …");
    }
}

/// Whether an error is for ever.
pub(super) fn is_refused(error: &PortError) -> bool {
    error.kind() == PortErrorKind::Rejected
}
