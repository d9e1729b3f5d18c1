//! Dead letters: memory knows which there are, the file holds them.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thredcore::port::{DeadLetter, DeadLetterFilter, PortError, PortErrorKind};
use thredlib::{ThredId, Topic};

use crate::{
    config::RedbConfig,
    error::RedbError,
    journal::What,
    json::{self, Unwritable},
    segments::Body,
    shared::{ReadError, Shared},
    tables::{DEAD, Queue},
};

/// The dead letters of a queue.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    queue: Queue,
    index: Mutex<Index>,
    /// How long one is kept, in milliseconds.
    time: i64,
    /// How many bytes are kept.
    quota: u64,
}

#[derive(Debug, Default)]
struct Index {
    letters: BTreeMap<u64, Letter>,
    bytes: u64,
    made: u64,
    /// What is not written yet.
    pending: HashMap<u64, Body>,
    dropped: u64,
}

/// When a dead letter came, its size, and the topic of a message.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) at: i64,
    pub(crate) bytes: u64,
    pub(crate) topic: Option<Topic>,
}

/// What is to be written of a new one.
pub(crate) struct NewLetter {
    pub(crate) number: u64,
    pub(crate) letter: Letter,
    pub(crate) body: Body,
}

/// A dead letter but for its id and what was published.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Why {
    pub(crate) reason: String,
    pub(crate) at: i64,
    pub(crate) attempts: u32,
    #[serde(default)]
    pub(crate) times: u32,
    #[serde(default)]
    pub(crate) moved: Vec<ThredId>,
}

/// The text of a dead letter: what was published is not nested deeper than it was before.
pub(crate) fn body(why: &Why, payload: &impl Serialize) -> Result<Body, Unwritable> {
    let mut bytes = vec![0; 4];
    json::append(&mut bytes, why)?;
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    json::append(&mut bytes, payload)?;
    Ok(Body::new(bytes))
}

/// A dead letter.
pub(crate) fn read<T: DeserializeOwned>(
    number: u64,
    body: &[u8],
) -> Result<DeadLetter<T>, RedbError> {
    let short = || RedbError::damaged("dead letter", number, "it is cut off");
    let wrong = |error| RedbError::damaged("dead letter", number, error);
    let (length, rest) = body.split_first_chunk().ok_or_else(short)?;
    let (why, payload) =
        rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(short)?;
    let Why { reason, at, attempts, times, moved } = json::read(why).map_err(wrong)?;
    let payload = json::read(payload).map_err(wrong)?;
    Ok(DeadLetter { id: number.to_string(), payload, reason, at, attempts, times, moved })
}

impl DeadLetters {
    pub(crate) fn new(queue: Queue, config: &RedbConfig) -> Self {
        let time = i64::try_from(config.dead_letters_time.as_millis()).unwrap_or(i64::MAX);
        Self { queue, index: Mutex::default(), time, quota: config.dead_letters_bytes }
    }

    /// Takes up one of the file; they come in their order.
    pub(crate) fn restore(&self, number: u64, letter: Letter) {
        let mut index = self.index.lock();
        index.made = index.made.max(number);
        index.bytes += letter.bytes;
        index.letters.insert(number, letter);
    }

    /// Adds letters for items that leave the queue; says what is to be written.
    pub(crate) fn add(
        &self,
        orders: Vec<u64>,
        bodies: Vec<(Option<Topic>, Body)>,
        now: i64,
    ) -> What {
        let mut index = self.index.lock();
        let mut letters = Vec::with_capacity(bodies.len());
        for (topic, body) in bodies {
            index.made += 1;
            let number = index.made;
            let letter = Letter { at: now, bytes: body.len() as u64, topic };
            index.bytes += letter.bytes;
            index.letters.insert(number, letter.clone());
            index.pending.insert(number, body.clone());
            letters.push(NewLetter { number, letter, body });
        }
        let gone = self.expire_in(&mut index, now);
        What::Buried { queue: self.queue, orders, letters, gone }
    }

    /// Lets go those that are too old; says what is to be written.
    pub(crate) fn expire(&self, now: i64) -> Option<What> {
        let gone = self.expire_in(&mut self.index.lock(), now);
        let what =
            What::Buried { queue: self.queue, orders: vec![], letters: vec![], gone: gone.clone() };
        (!gone.is_empty()).then_some(what)
    }

    fn expire_in(&self, index: &mut Index, now: i64) -> Vec<u64> {
        let mut gone = vec![];
        while let Some(oldest) = index.letters.first_entry() {
            let number = *oldest.key();
            let is_old = now.saturating_sub(oldest.get().at) >= self.time;
            if !is_old && index.bytes <= self.quota {
                break;
            }
            let letter = oldest.remove();
            index.bytes -= letter.bytes;
            index.pending.remove(&number);
            index.dropped += 1;
            gone.push(number);
        }
        if !gone.is_empty() {
            let (queue, count, all) = (self.queue.word(), gone.len(), index.dropped);
            tracing::warn!(
                queue,
                count,
                all,
                "dead letters are dropped: they are too old or there are too many bytes"
            );
        }
        gone
    }

    /// Those are written now.
    pub(crate) fn written(&self, numbers: impl Iterator<Item = u64>) {
        let mut index = self.index.lock();
        numbers.for_each(|number| _ = index.pending.remove(&number));
    }

    /// How many were dropped, since the directory was opened.
    pub(crate) fn dropped(&self) -> u64 {
        self.index.lock().dropped
    }

    /// How many there are of each topic.
    pub(crate) fn counts(&self) -> HashMap<Topic, u64> {
        let mut counts = HashMap::new();
        for topic in self.index.lock().letters.values().filter_map(|letter| letter.topic.as_ref()) {
            *counts.entry(topic.clone()).or_default() += 1;
        }
        counts
    }

    pub(crate) fn last(&self) -> u64 {
        self.index.lock().made
    }

    /// The first letters that are meant and whose numbers are at most `last`, oldest first. May read
    /// the file.
    pub(crate) fn list<T: DeserializeOwned>(
        &self,
        shared: &Shared,
        filter: &DeadLetterFilter,
        last: u64,
    ) -> Result<Vec<(u64, DeadLetter<T>)>, ReadError> {
        let limit = filter.limit.unwrap_or(usize::MAX);
        let mut after = filter.after.as_ref().map_or(0, |after| after.parse().unwrap_or(0));
        let ids = filter.ids.as_ref().map(|ids| {
            let mut ids: Vec<u64> = ids.iter().filter_map(|id| id.parse().ok()).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        });
        let mut found = vec![];
        while found.len() < limit {
            let some = self.bodies(after, last, ids.as_deref());
            let Some((end, _)) = some.last() else { break };
            after = *end;
            let stored = shared.read(|txn| {
                let table = txn.open_table(DEAD)?;
                for (number, pending) in some {
                    let letter = match pending {
                        Some(body) => read::<T>(number, &body),
                        None => match table.get((self.queue as u8, number))? {
                            Some(body) => read::<T>(number, body.value()),
                            None => continue,
                        },
                    };
                    match letter {
                        Ok(letter) if filter.matches(&letter) => found.push((number, letter)),
                        Ok(_) => {}
                        Err(error) => shared.unreadable.note("dead letter", number, &error),
                    }
                    if found.len() == limit {
                        break;
                    }
                }
                Ok(())
            });
            stored?;
        }
        Ok(found)
    }

    /// Some numbers behind one, with the bodies that are not written yet.
    fn bodies(&self, after: u64, last: u64, ids: Option<&[u64]>) -> Vec<(u64, Option<Body>)> {
        const SOME: usize = 256;
        let index = self.index.lock();
        let body = |number: u64| (number, index.pending.get(&number).cloned());
        let is_here = |number: &u64| *number > after && *number <= last;
        match ids {
            Some(ids) => {
                let known = ids.iter().copied().filter(is_here);
                known.filter(|id| index.letters.contains_key(id)).take(SOME).map(body).collect()
            }
            None => {
                let behind =
                    index.letters.range(after.saturating_add(1)..).map(|(number, _)| *number);
                behind.take_while(is_here).take(SOME).map(body).collect()
            }
        }
    }

    /// Takes letters out of the list, for somebody who does something with them; says which of
    /// them were there.
    pub(crate) fn claim(&self, numbers: impl Iterator<Item = u64>) -> Vec<(u64, Letter)> {
        let mut index = self.index.lock();
        let mut claimed = vec![];
        for number in numbers {
            if let Some(letter) = index.letters.remove(&number) {
                index.bytes -= letter.bytes;
                claimed.push((number, letter));
            }
        }
        claimed
    }

    /// Puts letters into the list again.
    pub(crate) fn put_back(&self, letters: Vec<(u64, Letter)>) {
        letters.into_iter().for_each(|(number, letter)| self.restore(number, letter));
    }
}

/// A filter that says where to begin in words that no list has given.
pub(crate) fn check(filter: &DeadLetterFilter) -> Result<(), PortError> {
    match &filter.after {
        Some(after) if after.parse::<u64>().is_err() => {
            let cause = "`after` is not the id of a dead letter";
            Err(PortError::new("list dead letters", PortErrorKind::Rejected, cause))
        }
        _ => Ok(()),
    }
}
