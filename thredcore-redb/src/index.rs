//! By what threds are found: memory holds the names, the file the states.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use thredcore::{
    port::{ThredCount, ThredQuery},
    state::{Consumed, PatternKey, Status, ThredState, WaitKey},
};
use thredlib::ThredId;

use crate::storage::texts::{Header, participant_hash};

/// Where a thred is stored, and what queries ask of it most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) at: Place,
    pub(crate) kind: u32,
    pub(crate) started_at: i64,
    pub(crate) modified_at: i64,
}

/// Where a thred is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of its state.
    pub(crate) state: u64,
    /// The number of its last step.
    pub(crate) step: u64,
}

/// The threds of a partition.
#[derive(Debug, Default)]
pub(crate) struct Index {
    heads: HashMap<ThredId, Head>,
    by_kind: BTreeSet<(u32, i64, ThredId)>,
    by_participant: BTreeSet<(u64, i64, ThredId)>,
    waiting: BTreeSet<(WaitKey, ThredId)>,
    /// Ended threds by their last step.
    ended: BTreeMap<u64, Ended>,
}

#[derive(Debug)]
struct Ended {
    id: ThredId,
    /// Of most threds: what is asked of them once they have ended.
    brief: Option<Box<Brief>>,
}

/// What is asked of an ended thred.
#[derive(Clone, Debug, Default)]
pub(crate) struct Brief {
    pub(crate) inbox: Vec<Consumed>,
    pub(crate) participants: Vec<u64>,
}

impl Brief {
    /// With more, it is read from the file.
    const FEW: usize = 8;

    fn of(
        inbox: &[Consumed],
        participants: impl ExactSizeIterator<Item = u64>,
    ) -> Option<Box<Self>> {
        let is_small = inbox.len() <= Self::FEW && participants.len() <= Self::FEW;
        is_small
            .then(|| Box::new(Self { inbox: inbox.to_vec(), participants: participants.collect() }))
    }
}

fn hashes(state: &ThredState) -> impl ExactSizeIterator<Item = u64> {
    state.participants.iter().map(participant_hash)
}

/// A place among pages: the start, then the id.
pub(crate) type Seat = (i64, ThredId);

impl Index {
    pub(crate) fn head(&self, id: &ThredId) -> Option<Head> {
        self.heads.get(id).copied()
    }

    /// Tells that a state is elsewhere now.
    pub(crate) fn move_to(&mut self, id: &ThredId, state: u64) {
        if let Some(head) = self.heads.get_mut(id) {
            head.at.state = state;
        }
    }

    /// Takes up a thred of the file.
    pub(crate) fn restore(&mut self, header: &Header, head: Head) {
        let (id, started) = (&header.id, header.started_at);
        self.heads.insert(id.clone(), head);
        self.by_kind.insert((head.kind, started, id.clone()));
        for hash in &header.participants {
            self.by_participant.insert((*hash, started, id.clone()));
        }
        if header.status == Status::Active {
            self.waiting.extend(header.waits.iter().map(|key| (*key, id.clone())));
        }
        if !header.status.is_live() {
            let brief = Brief::of(&header.inbox, header.participants.iter().copied());
            self.ended.insert(head.at.step, Ended { id: id.clone(), brief });
        }
    }

    /// Takes up a change.
    pub(crate) fn update(&mut self, before: Option<&ThredState>, state: &ThredState, head: Head) {
        let id = &state.id;
        let old = self.heads.insert(id.clone(), head);
        if old.is_none_or(|old| old.kind != head.kind) {
            if let Some(old) = old {
                self.by_kind.remove(&(old.kind, old.started_at, id.clone()));
            }
            self.by_kind.insert((head.kind, state.started_at, id.clone()));
        }
        if before.is_none_or(|before| before.participants != state.participants) {
            for hash in before.into_iter().flat_map(hashes) {
                self.by_participant.remove(&(hash, state.started_at, id.clone()));
            }
            for hash in hashes(state) {
                self.by_participant.insert((hash, state.started_at, id.clone()));
            }
        }
        let waits = |state: &ThredState| state.is_listening();
        let (waited, waits) = (before.is_some_and(waits), waits(state));
        if (waited || waits)
            && !(waited && waits && before.is_some_and(|before| before.waits == state.waits))
        {
            for key in before.filter(|_| waited).into_iter().flat_map(|before| &before.waits) {
                self.waiting.remove(&(*key, id.clone()));
            }
            if waits {
                self.waiting.extend(state.waits.iter().map(|key| (*key, id.clone())));
            }
        }
        if let (Some(before), Some(old)) = (before, old)
            && !before.status.is_live()
        {
            self.ended.remove(&old.at.step);
        }
        if !state.status.is_live() {
            let brief = Brief::of(&state.inbox, hashes(state));
            self.ended.insert(head.at.step, Ended { id: id.clone(), brief });
        }
    }

    /// Forgets a thred; who took part in it and what it waited for must be said.
    pub(crate) fn remove(
        &mut self,
        id: &ThredId,
        participants: &[u64],
        waits: &[WaitKey],
    ) -> Option<Head> {
        let head = self.heads.remove(id)?;
        self.by_kind.remove(&(head.kind, head.started_at, id.clone()));
        for hash in participants {
            self.by_participant.remove(&(*hash, head.started_at, id.clone()));
        }
        for key in waits {
            self.waiting.remove(&(*key, id.clone()));
        }
        self.ended.remove(&head.at.step);
        Some(head)
    }

    /// What is known of an ended thred; `None` when that must be read.
    pub(crate) fn brief(&self, id: &ThredId) -> Option<Brief> {
        let head = self.heads.get(id)?;
        self.ended.get(&head.at.step)?.brief.as_deref().cloned()
    }

    /// Whether a thred has ended.
    pub(crate) fn has_ended(&self, id: &ThredId) -> bool {
        self.heads.get(id).is_some_and(|head| self.ended.contains_key(&head.at.step))
    }

    /// The ended threds beyond a number, those that ended first before the others.
    pub(crate) fn surplus(&self, kept: usize) -> impl Iterator<Item = &ThredId> {
        let excess = self.ended.len().saturating_sub(kept);
        self.ended.values().take(excess).map(|ended| &ended.id)
    }

    /// The first threds that wait under a key, after one of them.
    pub(crate) fn waiting(
        &self,
        key: WaitKey,
        after: Option<&ThredId>,
    ) -> impl Iterator<Item = &ThredId> {
        let start = match after {
            Some(after) => Bound::Excluded((key, after.clone())),
            None => Bound::Included((key, ThredId::from(""))),
        };
        let rest = self.waiting.range((start, Bound::Unbounded));
        rest.take_while(move |(waits, _)| *waits == key).map(|(_, id)| id)
    }

    /// The first threds that a query may mean, in the order of pages.
    pub(crate) fn first(
        &self,
        search: &Search<'_>,
        after: Option<&Seat>,
        limit: usize,
    ) -> Vec<Seat> {
        let query = search.query;
        if let Some(key) = query.key {
            let seats = self.waiting(key, None).filter_map(|id| {
                let head = self.heads.get(id)?;
                let seat = (head.started_at, id.clone());
                (search.may_mean(head) && after.is_none_or(|after| seat > *after)).then_some(seat)
            });
            let mut seats: Vec<_> = seats.collect();
            seats.sort_unstable();
            seats.truncate(limit);
            return seats;
        }
        let is_meant = |id: &ThredId| self.heads.get(id).is_some_and(|head| search.may_mean(head));
        if let Some(hash) = search.participant {
            let rest = range(&self.by_participant, hash, query, after);
            return rest.filter(|(_, id)| is_meant(id)).take(limit).collect();
        }
        let mut seats = vec![];
        for kind in &search.kinds {
            let rest = range(&self.by_kind, *kind, query, after);
            seats.extend(rest.filter(|(_, id)| is_meant(id)).take(limit));
        }
        seats.sort_unstable();
        seats.truncate(limit);
        seats
    }
}

/// What stands under one part of an index, behind a place and within the times of a query.
fn range<'i, K: Copy + Ord>(
    index: &'i BTreeSet<(K, i64, ThredId)>,
    key: K,
    query: &ThredQuery,
    after: Option<&Seat>,
) -> impl Iterator<Item = Seat> + use<'i, K> {
    let from = query.started_from.unwrap_or(i64::MIN);
    let start = match after {
        Some((started, id)) if *started >= from => Bound::Excluded((key, *started, id.clone())),
        _ => Bound::Included((key, from, ThredId::from(""))),
    };
    let before = query.started_before;
    let rest = index.range((start, Bound::Unbounded));
    rest.take_while(move |(found, started, _)| {
        *found == key && before.is_none_or(|before| *started < before)
    })
    .map(|(_, started, id)| (*started, id.clone()))
}

/// A query, prepared for the index.
pub(crate) struct Search<'q> {
    query: &'q ThredQuery,
    participant: Option<u64>,
    /// What is meant, by pattern, reaction and status.
    kinds: BTreeSet<u32>,
}

impl<'q> Search<'q> {
    pub(crate) fn new(query: &'q ThredQuery, kinds: &Kinds) -> Self {
        let participant = query.participant.as_ref().map(participant_hash);
        Self { query, participant, kinds: kinds.matching(query) }
    }

    fn may_mean(&self, head: &Head) -> bool {
        let query = self.query;
        self.kinds.contains(&head.kind)
            && query.started_from.is_none_or(|from| from <= head.started_at)
            && query.started_before.is_none_or(|before| head.started_at < before)
            && query.modified_from.is_none_or(|from| from <= head.modified_at)
            && query.modified_before.is_none_or(|before| head.modified_at < before)
    }
}

/// Revisions, reactions and statuses, by number, with how many threds there are of each.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    numbers: HashMap<PatternKey, HashMap<Arc<str>, [Option<u32>; 3]>>,
    all: Vec<Option<ThredCount>>,
    free: Vec<u32>,
    /// How many threds wait for unbound events in each revision.
    listening: BTreeMap<PatternKey, u64>,
}

fn status_number(status: Status) -> usize {
    match status {
        Status::Active => 0,
        Status::Finished => 1,
        Status::Terminated => 2,
    }
}

impl Kinds {
    /// Counts a thred in.
    pub(crate) fn enter(
        &mut self,
        pattern: &PatternKey,
        reaction: &Arc<str>,
        status: Status,
    ) -> u32 {
        let place = status_number(status);
        let known = self.numbers.get(pattern).and_then(|reactions| reactions.get(&**reaction));
        if let Some(number) = known.and_then(|numbers| numbers[place])
            && let Some(kind) = &mut self.all[number as usize]
        {
            kind.threds += 1;
            return number;
        }
        let kind =
            ThredCount { pattern: pattern.clone(), reaction: reaction.clone(), status, threds: 1 };
        let number = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            (self.all.len() - 1) as u32
        });
        self.all[number as usize] = Some(kind);
        let reactions = self.numbers.entry(pattern.clone()).or_default();
        reactions.entry(reaction.clone()).or_default()[place] = Some(number);
        number
    }

    /// Counts a thred out.
    pub(crate) fn leave(&mut self, number: u32) {
        let place = &mut self.all[number as usize];
        let Some(kind) = place else { return };
        kind.threds -= 1;
        if kind.threds > 0 {
            return;
        }
        let kind = kind.clone();
        *place = None;
        self.free.push(number);
        if let Some(reactions) = self.numbers.get_mut(&kind.pattern) {
            if let Some(numbers) = reactions.get_mut(&kind.reaction) {
                numbers[status_number(kind.status)] = None;
                if numbers.iter().all(Option::is_none) {
                    reactions.remove(&kind.reaction);
                }
            }
            if reactions.is_empty() {
                self.numbers.remove(&kind.pattern);
            }
        }
    }

    /// Counts whether a thred listens.
    pub(crate) fn listen(&mut self, before: Option<&PatternKey>, now: Option<&PatternKey>) {
        if before == now {
            return;
        }
        if let Some(now) = now {
            *self.listening.entry(now.clone()).or_default() += 1;
        }
        if let Some(before) = before
            && let Some(count) = self.listening.get_mut(before)
        {
            *count -= 1;
            if *count == 0 {
                self.listening.remove(before);
            }
        }
    }

    /// The revisions that somebody listens in.
    pub(crate) fn listening(&self) -> Vec<PatternKey> {
        self.listening.keys().cloned().collect()
    }

    /// How many live threds there are of each kind, sorted.
    pub(crate) fn counts(&self) -> Vec<ThredCount> {
        let live = self.all.iter().flatten().filter(|kind| kind.status.is_live());
        let mut counts: Vec<_> = live.cloned().collect();
        counts.sort_unstable();
        counts
    }

    fn matching(&self, query: &ThredQuery) -> BTreeSet<u32> {
        let is_meant = |kind: &ThredCount| {
            let status = match &*query.status {
                [] => kind.status.is_live(),
                any => any.contains(&kind.status),
            };
            status
                && query.pattern.as_ref().is_none_or(|id| *id == kind.pattern.id)
                && query.reaction.as_ref().is_none_or(|name| *name == kind.reaction)
        };
        let kinds = self.all.iter().zip(0..);
        kinds
            .filter_map(|(kind, number)| kind.as_ref().is_some_and(is_meant).then_some(number))
            .collect()
    }
}
