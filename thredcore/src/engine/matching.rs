//! Matching: whom an event concerns.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
};

use thredlib::{SYSTEM, ThredId};

use super::{
    Engine, Stopped,
    batch::{Batch, What},
};
use crate::{
    hash::FastHash,
    port::{Command, Inbound, Loaded, Start},
    state::{ThredState, WaitKey},
};

/// Waiting threds that are asked for at one time.
const PAGE: usize = 1_000;
/// When events of a batch are offered to so many threds, the others are matched later.
const OFFERS: usize = 4_096;

impl Engine {
    /// Finds the patterns and threds that the next cases concern; `false` when there are no more.
    ///
    /// All that the threds' keys say is looked up at once. A thred that one of these cases brings to
    /// where it waits for a later one [meets that too](Batch::meet). The timers that were due have fired
    /// before the first event that threds may wait for.
    pub(super) async fn match_more(&self, batch: &mut Batch) -> Result<bool, Stopped> {
        let cases = batch.next_cases();
        if cases.is_empty() {
            return Ok(false);
        }
        let is_any_awaited = batch.cases[cases.clone()].iter().any(|case| !case.keys.is_empty());
        if is_any_awaited && !batch.looked_at_timers {
            if self.expire_overdue(batch).await? {
                return Ok(true);
            }
            batch.looked_at_timers = true;
        }
        let waiting = if is_any_awaited {
            self.look_up_waiting(batch, cases.clone()).await?
        } else {
            HashMap::default()
        };
        let mut offers = 0;
        for case in cases {
            if offers >= OFFERS {
                break;
            }
            batch.matched = case + 1;
            if batch.cases[case].taken {
                continue;
            }
            let (redelivered, inbound) =
                (batch.cases[case].redelivered, batch.cases[case].inbound.clone());
            match &inbound {
                Inbound::Event(accepted) => match &accepted.event.thred_id {
                    None => {
                        let library = batch.library.clone();
                        for pattern in library.candidates(&accepted.event) {
                            batch.add(case, What::Begin(pattern.clone()));
                        }
                        let keys = batch.cases[case].keys.iter();
                        let threds = keys.filter_map(|key| waiting.get(key)).flatten();
                        let threds: BTreeSet<ThredId> = threds.cloned().collect();
                        offers += threds.len();
                        for thred in threds {
                            batch.offer(case, thred);
                        }
                    }
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
        Ok(true)
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

    /// The threds that wait for the events of these cases, by key: one look-up for all of them,
    /// however many threds wait under other keys.
    async fn look_up_waiting(
        &self,
        batch: &mut Batch,
        cases: Range<usize>,
    ) -> Result<HashMap<WaitKey, Vec<ThredId>, FastHash>, Stopped> {
        let keys = batch.cases[cases].iter().flat_map(|case| &case.keys);
        let asked: BTreeSet<WaitKey> = keys.copied().collect();
        let keys: Vec<WaitKey> = asked.iter().copied().collect();
        let waiting = self.waiting(&keys).await?;
        // One that does not wait as the batch holds it has been moved by somebody else.
        batch.held.retain(|id, loaded| {
            waiting.binary_search(id).is_err() || under(&loaded.state, &asked).next().is_some()
        });
        self.hold(batch, waiting.iter().cloned()).await?;
        let mut found: HashMap<WaitKey, Vec<ThredId>, FastHash> = HashMap::default();
        for thred in waiting {
            let Some(loaded) = batch.held.get(&thred) else { continue };
            for key in under(&loaded.state, &asked) {
                found.entry(key).or_default().push(thred.clone());
            }
        }
        Ok(found)
    }

    /// The threds that wait under any of these keys, in the order of their ids.
    pub(super) async fn waiting(&self, keys: &[WaitKey]) -> Result<Vec<ThredId>, Stopped> {
        let mut found: Vec<ThredId> = Vec::new();
        while !keys.is_empty() {
            let after = found.last().cloned();
            let page = self.insist(|| self.storage().waiting(keys, after.as_ref(), PAGE)).await?;
            let is_last = page.len() < PAGE;
            found.extend(page);
            if is_last {
                break;
            }
        }
        Ok(found)
    }
}

/// Those of some keys that a thred waits under.
fn under(state: &ThredState, asked: &BTreeSet<WaitKey>) -> impl Iterator<Item = WaitKey> {
    let keys = state.waits.iter().filter(|_| state.is_listening());
    keys.filter(|key| asked.contains(key)).copied()
}

impl Batch {
    /// The cases that are matched together, with what they are awaited by: all that are left, or
    /// those before the first event for which there may be no place. Whom that meets instead is known
    /// when all before it have been committed.
    fn next_cases(&mut self) -> Range<usize> {
        let first = self.matched;
        let library = self.library.clone();
        for number in first..self.cases.len() {
            let case = &mut self.cases[number];
            let Inbound::Event(accepted) = &case.inbound else { continue };
            let event = &accepted.event;
            if case.taken || event.thred_id.is_some() {
                continue;
            }
            if library.listening(event).next().is_none() {
                continue;
            }
            if number > first && library.candidates(event).any(|it| it.is_limited() && it.listens())
            {
                return first..number;
            }
            case.keys = library.awaited(event).into_iter().flat_map(|it| it.keys).collect();
            case.keys.sort_unstable();
        }
        first..self.cases.len()
    }

    /// A thred that a case has brought to where it waits meets the later events that it waits for.
    pub(super) fn meet(&mut self, by: usize, state: &ThredState) {
        if !state.is_listening() {
            return;
        }
        for case in by + 1..self.matched {
            if !self.cases[case].keys.is_empty() && self.is_awaited(case, state) {
                self.offer(case, state.id.clone());
            }
        }
    }

    /// Whether a thred waits under one of the keys of a case's event. Otherwise the event does not
    /// concern it.
    pub(super) fn is_awaited(&self, case: usize, state: &ThredState) -> bool {
        let keys = &self.cases[case].keys;
        state.waits.iter().any(|key| keys.binary_search(key).is_ok())
    }
}
