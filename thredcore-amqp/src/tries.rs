//! Who has had which suspect in hand.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use lapin::{
    Channel,
    options::{BasicAckOptions, BasicGetOptions},
    types::ShortString,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;
use uuid::Uuid;

use crate::{
    AmqpError,
    cargo::json,
    link::Link,
    publisher::{Parcel, Publisher},
    topology::Topology,
};

/// Notes, in a queue beside each queue, which processes are handed which suspects.
///
/// The broker's own count goes up for all that a process held when it ended, though it may have
/// looked at none of it; by that count innocent items would be dead-lettered after some crashes. So
/// an item that has come back twice is handed out singly, and it is noted first by whom. A process
/// that has it again, after a lost connection, does not count twice, and one that gives it back does
/// not count: what counts is how many processes ended with it in hand.
pub(crate) struct Tries {
    me: String,
    topology: Arc<Topology>,
    link: Arc<Link>,
    publisher: Arc<Publisher>,
    /// A channel for each queue of notes.
    channels: Mutex<HashMap<ShortString, Arc<AsyncMutex<Option<Channel>>>>>,
    /// Who has made the queues has made none of these.
    absent: Mutex<HashSet<ShortString>>,
}

/// What was tried last, oldest first.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Notes(Vec<Note>);

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    item: String,
    processes: Vec<String>,
}

/// So many items are remembered; only those that may still be out matter.
const ITEMS: usize = 32;

/// So many processes are remembered of each.
const PROCESSES: usize = 64;

impl Tries {
    pub(crate) fn new(topology: Arc<Topology>, link: Arc<Link>, publisher: Arc<Publisher>) -> Self {
        let me = Uuid::now_v7().to_string();
        let (channels, absent) = (Mutex::default(), Mutex::default());
        Self { me, topology, link, publisher, channels, absent }
    }

    /// Notes that this process is going to hand out an item; says how many others had it. Where
    /// there is nothing to note it in, that is not known, and the item goes out all the same.
    pub(crate) async fn note(&self, queue: &ShortString, item: &str) -> Result<u32, AmqpError> {
        self.change(queue, |notes| notes.add(item, &self.me)).await
    }

    /// Notes that this process has given an item back.
    pub(crate) async fn unnote(&self, queue: &ShortString, item: &str) -> Result<(), AmqpError> {
        self.change(queue, |notes| notes.remove(item, &self.me)).await.map(drop)
    }

    async fn change(
        &self,
        queue: &ShortString,
        change: impl FnOnce(&mut Notes) -> u32,
    ) -> Result<u32, AmqpError> {
        if self.absent.lock().contains(queue) {
            return Ok(0);
        }
        let place = self.channels.lock().entry(queue.clone()).or_default().clone();
        let mut place = place.lock().await;
        // Left there only when all went well.
        let channel = match place.take() {
            Some(channel) if channel.status().connected() => channel,
            _ => {
                if !self.topology.tries(queue).await? {
                    tracing::warn!(%queue, "there is no such queue: tries are not noted");
                    self.absent.lock().insert(queue.clone());
                    return Ok(0);
                }
                self.link.channel().await?
            }
        };
        let mut notes = Notes::default();
        let mut old = Vec::new();
        let get = || channel.basic_get(queue.clone(), BasicGetOptions { no_ack: false });
        while let Some(found) = self.link.answered(get()).await? {
            old.push(found.delivery_tag);
            notes.merge(serde_json::from_slice(&found.data).unwrap_or_default());
        }
        let others = change(&mut notes);
        self.publisher.publish_one(parcel(queue.clone(), &notes)?).await?;
        for tag in old {
            let ack = channel.basic_ack(tag, BasicAckOptions { multiple: false });
            self.link.answered(ack).await?;
        }
        *place = Some(channel);
        Ok(others)
    }
}

impl Notes {
    fn merge(&mut self, other: Self) {
        for note in other.0 {
            for process in &note.processes {
                self.add(&note.item, process);
            }
        }
    }

    /// Notes that a process has an item; says how many others had it.
    fn add(&mut self, item: &str, process: &str) -> u32 {
        let place = self.0.iter().position(|note| note.item == item);
        let mut note = match place {
            Some(place) => self.0.remove(place),
            None => Note { item: item.to_owned(), processes: vec![] },
        };
        note.processes.retain(|other| other != process);
        let others = note.processes.len();
        note.processes.push(process.to_owned());
        let surplus = note.processes.len().saturating_sub(PROCESSES);
        note.processes.drain(..surplus);
        self.0.push(note);
        let surplus = self.0.len().saturating_sub(ITEMS);
        self.0.drain(..surplus);
        others as u32
    }

    /// Notes that a process has an item no more.
    fn remove(&mut self, item: &str, process: &str) -> u32 {
        for note in self.0.iter_mut().filter(|note| note.item == item) {
            note.processes.retain(|other| other != process);
        }
        0
    }
}

/// Straight to the queue, by the default exchange.
fn parcel(queue: ShortString, notes: &Notes) -> Result<Parcel, AmqpError> {
    Ok(Parcel {
        exchange: "".into(),
        key: queue,
        id: String::new(),
        headers: None,
        body: json(notes)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_counts_once() {
        let mut notes = Notes::default();
        assert_eq!(notes.add("a", "one"), 0);
        assert_eq!(notes.add("a", "one"), 0);
        assert_eq!(notes.add("b", "one"), 0);
        assert_eq!(notes.add("a", "two"), 1);
        assert_eq!(notes.add("a", "one"), 1);
        assert_eq!(notes.add("a", "three"), 2);
        notes.remove("a", "one");
        assert_eq!(notes.add("a", "four"), 2, "who gave it back does not count");
        let mut merged = Notes::default();
        merged.merge(notes);
        assert_eq!(merged.add("b", "two"), 1);
    }

    #[test]
    fn notes_are_bounded() {
        let mut notes = Notes::default();
        for number in 0..1_000 {
            notes.add(&number.to_string(), "one");
            notes.add("a", &number.to_string());
        }
        assert_eq!(notes.0.len(), ITEMS);
        assert_eq!(notes.add("a", "new") as usize, PROCESSES);
    }
}
