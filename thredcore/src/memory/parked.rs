//! Messages that wait in outboxes for a topic that is full.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use thredlib::{MessageId, ThredId, Topic};

use crate::port::{OutboxEntry, Outgoing, ParkedTopic};

/// Parked messages of one partition, by topic: when each was made, and whose it is.
#[derive(Debug, Default)]
pub(super) struct Parked(HashMap<Topic, BTreeSet<(i64, ThredId, MessageId)>>);

/// The topic of a message; `None` for what is none.
fn topic(entry: &OutboxEntry) -> Option<&Topic> {
    match &entry.outgoing {
        Outgoing::Message { topic, .. } => Some(topic),
        Outgoing::Command(_) | Outgoing::Release(_) => None,
    }
}

/// Whether an entry can be parked.
pub(super) fn can_be_parked(entry: &OutboxEntry) -> bool {
    topic(entry).is_some()
}

impl Parked {
    pub(super) fn insert(&mut self, thred: &ThredId, entry: &OutboxEntry) {
        let Some(topic) = topic(entry) else { return };
        let messages = self.0.entry(topic.clone()).or_default();
        messages.insert((entry.at, thred.clone(), entry.id.clone()));
    }

    pub(super) fn remove(&mut self, thred: &ThredId, entry: &OutboxEntry) {
        let Some(topic) = topic(entry) else { return };
        let Some(messages) = self.0.get_mut(topic) else { return };
        messages.remove(&(entry.at, thred.clone(), entry.id.clone()));
        if messages.is_empty() {
            self.0.remove(topic);
        }
    }

    /// Adds the topics to what other partitions have of them.
    pub(super) fn gather(&self, into: &mut BTreeMap<Topic, ParkedTopic>) {
        for (topic, messages) in &self.0 {
            let Some((oldest, ..)) = messages.first() else { continue };
            let all = into.entry(topic.clone()).or_insert_with(|| ParkedTopic {
                topic: topic.clone(),
                messages: 0,
                oldest: *oldest,
            });
            all.messages += messages.len() as u64;
            all.oldest = all.oldest.min(*oldest);
        }
    }

    /// The threds with messages for a topic, those with the oldest first.
    pub(super) fn threds(&self, topic: &Topic, limit: usize) -> Vec<ThredId> {
        let mut seen = HashSet::new();
        let all = self.0.get(topic).into_iter().flatten().map(|(_, thred, _)| thred);
        all.filter(|thred| seen.insert(*thred)).take(limit).cloned().collect()
    }
}
