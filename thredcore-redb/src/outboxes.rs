//! What threds have put out and nobody has published yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use thredcore::port::{Cleared, OutboxEntry, Outgoing, ParkedTopic};
use thredlib::{MessageId, ThredId, Topic};

/// The outboxes of a partition.
///
/// Those with parked entries alone stand apart: there may be many, and the sweep passes them by. Of
/// a parked entry only its name is in memory.
#[derive(Debug, Default)]
pub(crate) struct Outboxes {
    pending: HashMap<ThredId, Vec<Unpublished>>,
    parked: HashMap<ThredId, Vec<Unpublished>>,
    topics: BTreeMap<Topic, BTreeSet<(i64, ThredId, MessageId)>>,
}

/// An entry that is not published yet.
#[derive(Clone, Debug)]
pub(crate) struct Unpublished {
    /// The step that made it.
    pub(crate) step: u64,
    pub(crate) entry: Entry,
}

/// As much of an entry as memory holds.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Whole(OutboxEntry),
    Parked(Parked),
}

/// A message whose topic is full; the rest is in its step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Parked {
    pub(crate) id: MessageId,
    pub(crate) at: i64,
    pub(crate) topic: Topic,
}

/// What is left of a step's outbox, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Left {
    pub(crate) thred: ThredId,
    /// What is neither published nor parked.
    pub(crate) rest: Vec<MessageId>,
    /// What is parked.
    pub(crate) parked: Vec<Parked>,
}

/// What is to be written of changed outboxes.
#[derive(Debug, Default)]
pub(crate) struct Clearing {
    /// The steps that have nothing left.
    pub(crate) whole: Vec<u64>,
    pub(crate) partly: Vec<(u64, Left)>,
}

impl Entry {
    fn id(&self) -> &MessageId {
        match self {
            Self::Whole(entry) => &entry.id,
            Self::Parked(parked) => &parked.id,
        }
    }

    fn at(&self) -> i64 {
        match self {
            Self::Whole(entry) => entry.at,
            Self::Parked(parked) => parked.at,
        }
    }

    fn is_parked(&self) -> bool {
        matches!(self, Self::Parked(_))
    }
}

impl Outboxes {
    pub(crate) fn contains(&self, id: &ThredId) -> bool {
        self.pending.contains_key(id) || self.parked.contains_key(id)
    }

    /// Adds entries at the end of an outbox.
    pub(crate) fn add(&mut self, id: &ThredId, entries: Vec<Unpublished>) {
        for one in &entries {
            if let Entry::Parked(parked) = &one.entry {
                self.index(id, parked);
            }
        }
        let mut outbox = match self.pending.remove(id) {
            Some(outbox) => outbox,
            None if self.parked.is_empty() => vec![],
            None => self.parked.remove(id).unwrap_or_default(),
        };
        outbox.extend(entries);
        self.put(id.clone(), outbox);
    }

    /// Puts the entries of each thred in the order of their steps.
    pub(crate) fn sort(&mut self) {
        let outboxes = self.pending.values_mut().chain(self.parked.values_mut());
        outboxes.for_each(|outbox| outbox.sort_by_key(|one| one.step));
    }

    fn put(&mut self, id: ThredId, outbox: Vec<Unpublished>) {
        if outbox.is_empty() {
            return;
        }
        let outboxes = if outbox.iter().all(|one| one.entry.is_parked()) {
            &mut self.parked
        } else {
            &mut self.pending
        };
        outboxes.insert(id, outbox);
    }

    fn index(&mut self, id: &ThredId, parked: &Parked) {
        let place = (parked.at, id.clone(), parked.id.clone());
        self.topics.entry(parked.topic.clone()).or_default().insert(place);
    }

    fn unindex(&mut self, id: &ThredId, parked: &Parked) {
        if let Some(places) = self.topics.get_mut(&parked.topic) {
            places.remove(&(parked.at, id.clone(), parked.id.clone()));
            if places.is_empty() {
                self.topics.remove(&parked.topic);
            }
        }
    }

    /// Removes published entries and parks others.
    pub(crate) fn clear(&mut self, cleared: &Cleared, clearing: &mut Clearing) {
        let Cleared { thred, published, parked } = cleared;
        let outbox = self.pending.remove(thred).or_else(|| self.parked.remove(thred));
        let Some(outbox) = outbox else { return };
        let mut steps = BTreeSet::new();
        let mut left = Vec::new();
        for mut one in outbox {
            if published.contains(one.entry.id()) {
                steps.insert(one.step);
                if let Entry::Parked(parked) = &one.entry {
                    self.unindex(thred, parked);
                }
                continue;
            }
            if let Entry::Whole(entry) = &one.entry
                && let Outgoing::Message { topic, .. } = &entry.outgoing
                && parked.contains(&entry.id)
            {
                let parked = Parked { id: entry.id.clone(), at: entry.at, topic: topic.clone() };
                self.index(thred, &parked);
                steps.insert(one.step);
                one.entry = Entry::Parked(parked);
            }
            left.push(one);
        }
        for step in steps {
            let mut rest = Left { thred: thred.clone(), rest: vec![], parked: vec![] };
            for one in left.iter().filter(|one| one.step == step) {
                match &one.entry {
                    Entry::Whole(entry) => rest.rest.push(entry.id.clone()),
                    Entry::Parked(parked) => rest.parked.push(parked.clone()),
                }
            }
            if rest.rest.is_empty() && rest.parked.is_empty() {
                clearing.whole.push(step)
            } else {
                clearing.partly.push((step, rest))
            }
        }
        self.put(thred.clone(), left);
    }

    /// The entries of a thred, oldest first.
    pub(crate) fn entries(&self, id: &ThredId) -> Vec<Unpublished> {
        let outbox = self.pending.get(id).or_else(|| self.parked.get(id));
        outbox.cloned().unwrap_or_default()
    }

    /// The threds with entries made before a time that are not parked, those of the oldest first.
    pub(crate) fn pending(&self, made_before: i64, limit: usize) -> Vec<ThredId> {
        let oldest = self.pending.iter().filter_map(|(id, outbox)| {
            let entries = outbox.iter().map(|one| &one.entry);
            let at = entries.filter(|entry| !entry.is_parked()).map(Entry::at).min()?;
            (at < made_before).then_some((at, id))
        });
        let mut oldest: Vec<_> = oldest.collect();
        oldest.sort_unstable();
        oldest.into_iter().take(limit).map(|(_, id)| id.clone()).collect()
    }

    /// The topics that entries are parked for.
    pub(crate) fn parked_topics(&self) -> impl Iterator<Item = ParkedTopic> {
        self.topics.iter().map(|(topic, places)| ParkedTopic {
            topic: topic.clone(),
            messages: places.len() as u64,
            oldest: places.first().map_or(0, |(at, ..)| *at),
        })
    }

    /// The threds with entries parked for a topic, those of the oldest first.
    pub(crate) fn parked(&self, topic: &Topic, limit: usize) -> Vec<ThredId> {
        let mut found: Vec<ThredId> = vec![];
        let mut seen = BTreeSet::new();
        for (_, id, _) in self.topics.get(topic).into_iter().flatten() {
            if found.len() == limit {
                break;
            }
            if seen.insert(id) {
                found.push(id.clone());
            }
        }
        found
    }
}
