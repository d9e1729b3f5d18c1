//! Who has had which suspect in hand.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use lapin::{
    Channel,
    options::{BasicAckOptions, BasicGetOptions},
    types::ShortString,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{
    AmqpError,
    link::Link,
    publisher::{Parcel, Publisher},
    topology::Topology,
};

/// Notes, in a queue of each partition, which processes are handed which suspects.
///
/// The broker's own count goes up for all that a process held when it ended, though it may have
/// looked at none of it; by that count innocent items would be dead-lettered after some crashes. So
/// an item that has come back twice is handed out singly, and it is noted first by whom. A process
/// that has it again, after a lost connection, does not count twice: what counts is how many
/// processes ended with it in hand.
pub(crate) struct Tries {
    me: String,
    topology: Arc<Topology>,
    link: Arc<Link>,
    publisher: Arc<Publisher>,
    partitions: Box<[Mutex<Option<Channel>>]>,
    /// Who has made the queues has made none for this.
    absent: AtomicBool,
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
    pub(crate) fn new(
        topology: Arc<Topology>,
        link: Arc<Link>,
        publisher: Arc<Publisher>,
        partitions: u16,
    ) -> Self {
        let partitions = (0..partitions).map(|_| Mutex::new(None)).collect();
        let (me, absent) = (Uuid::now_v7().to_string(), AtomicBool::new(false));
        Self { me, topology, link, publisher, partitions, absent }
    }

    /// Notes that this process is going to hand out an item; says how many others had it. Where
    /// there is nothing to note it in, that is not known, and the item goes out all the same.
    pub(crate) async fn note(&self, partition: u16, item: &str) -> Result<u32, AmqpError> {
        if self.absent.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let mut place = self.partitions[usize::from(partition)].lock().await;
        // Left there only when all went well.
        let channel = match place.take() {
            Some(channel) if channel.status().connected() => channel,
            _ => {
                let channel = self.link.channel().await?;
                if !self.topology.tries(&channel, partition).await? {
                    let queue = self.topology.tries_queue(partition)?;
                    tracing::warn!(%queue, "there is no such queue: tries are not noted");
                    self.absent.store(true, Ordering::Relaxed);
                    return Ok(0);
                }
                channel
            }
        };
        let queue = self.topology.tries_queue(partition)?;
        let mut notes = Notes::default();
        let mut old = Vec::new();
        let options = BasicGetOptions { no_ack: false };
        while let Some(found) = channel.basic_get(queue.clone(), options).await? {
            old.push(found.delivery_tag);
            notes.merge(serde_json::from_slice(&found.data).unwrap_or_default());
        }
        let others = notes.add(item, &self.me);
        self.publisher.publish_one(parcel(queue, &notes)?).await?;
        for tag in old {
            channel.basic_ack(tag, BasicAckOptions { multiple: false }).await?;
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
}

/// Straight to the queue, by the default exchange.
fn parcel(queue: ShortString, notes: &Notes) -> Result<Parcel, AmqpError> {
    Ok(Parcel {
        exchange: "".into(),
        key: queue,
        id: String::new(),
        headers: None,
        body: serde_json::to_vec(notes).map_err(|error| AmqpError::Json(error.to_string()))?,
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
