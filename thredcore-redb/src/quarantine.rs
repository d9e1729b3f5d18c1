//! What is stored and cannot be read: it is passed over, named once, and listed on demand.

use std::{collections::HashSet, fmt::Display};

use parking_lot::Mutex;
use redb::{ReadTransaction, ReadableTable};
use thredcore::port::{Inbound, Lease, Routed, Unreadable};
use thredlib::PatternModel;

use crate::{
    error::{RedbError, chain},
    json,
    outboxes::Left,
    queue::dead,
    segments,
    storage::texts,
    tables::{self, Queue},
};

/// What has been met so far.
#[derive(Debug, Default)]
pub(crate) struct Met(Mutex<HashSet<(&'static str, String)>>);

impl Met {
    /// More are not told apart.
    const KNOWN: usize = 10_000;

    /// Notes that something cannot be read; the first time with a warning.
    pub(crate) fn note(&self, kind: &'static str, key: impl Display, why: &dyn std::error::Error) {
        let mut met = self.0.lock();
        let key = key.to_string();
        if met.len() < Self::KNOWN && met.insert((kind, key.clone())) {
            let why = chain(why);
            tracing::warn!(kind, key, why, "something stored cannot be read; it is passed over");
        }
    }

    pub(crate) fn knows(&self, kind: &'static str, key: impl Display) -> bool {
        self.0.lock().contains(&(kind, key.to_string()))
    }

    /// How many different ones have been met.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

/// Where something is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    State(u64),
    Step(u64),
    Partly(u64),
    Item(Queue, u64),
    Dead(Queue, u64),
    Lease(String),
    Pattern(String, u64),
}

/// Something that cannot be read.
pub(crate) struct Find {
    pub(crate) spot: Spot,
    pub(crate) unreadable: Unreadable,
}

/// What is looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Storage,
    Queue(Queue),
}

struct Finds {
    found: Vec<Find>,
    limit: usize,
}

impl Finds {
    /// Says whether to go on.
    fn look<T, E: std::error::Error>(
        &mut self,
        kind: &str,
        key: impl Display,
        spot: Spot,
        body: &[u8],
        read: Result<T, E>,
    ) -> bool {
        if let Err(error) = read
            && self.found.len() < self.limit
        {
            let content = Unreadable::excerpt(body);
            let reason = chain(&error);
            let unreadable =
                Unreadable { kind: kind.to_owned(), key: key.to_string(), reason, content };
            self.found.push(Find { spot, unreadable });
        }
        self.found.len() < self.limit
    }
}

/// Looks through a part of the file for what cannot be read.
pub(crate) fn find(
    txn: &ReadTransaction,
    part: Part,
    limit: usize,
) -> Result<Vec<Find>, RedbError> {
    let mut finds = Finds { found: vec![], limit };
    match part {
        Part::Storage => storage(txn, &mut finds)?,
        Part::Queue(queue) => queue_items(txn, queue, &mut finds)?,
    }
    Ok(finds.found)
}

fn storage(txn: &ReadTransaction, finds: &mut Finds) -> Result<(), RedbError> {
    let (data, live) = (txn.open_table(tables::STATES.data)?, txn.open_table(tables::STATES.live)?);
    segments::each_live(&data, &live, |number, _, body| {
        let key = texts::header(body).map_or_else(|_| number.to_string(), |it| it.id.to_string());
        finds.look("thred", key, Spot::State(number), body, texts::state(body));
        Ok::<_, RedbError>(())
    })?;
    let steps = txn.open_table(tables::STEPS.data)?;
    segments::each_back(&steps, |number, body| {
        Ok::<_, RedbError>(finds.look("step", number, Spot::Step(number), body, texts::step(body)))
    })?;
    for row in txn.open_table(tables::PARTLY)?.iter()? {
        let (step, text) = row?;
        let (step, text) = (step.value(), text.value());
        finds.look("outbox", step, Spot::Partly(step), text, json::read::<Left>(text));
    }
    for row in txn.open_table(tables::LEASES)?.iter()? {
        let (name, text) = row?;
        let (name, text) = (name.value(), text.value());
        finds.look("lease", name, Spot::Lease(name.into()), text, json::read::<Lease>(text));
    }
    for row in txn.open_table(tables::PATTERNS)?.iter()? {
        let (key, text) = row?;
        let ((id, revision), text) = (key.value(), text.value());
        let spot = Spot::Pattern(id.into(), revision);
        finds.look("pattern", id, spot, text, json::read::<PatternModel>(text));
    }
    Ok(())
}

fn queue_items(txn: &ReadTransaction, queue: Queue, finds: &mut Finds) -> Result<(), RedbError> {
    let kind = queue.kind();
    let (data, live) = (txn.open_table(kind.data)?, txn.open_table(kind.live)?);
    segments::each_live(&data, &live, |order, _, body| {
        let spot = Spot::Item(queue, order);
        _ = match queue {
            Queue::Events => {
                finds.look(queue.word(), order, spot, body, json::read::<Inbound>(body))
            }
            Queue::Messages => {
                finds.look(queue.word(), order, spot, body, json::read::<Routed>(body))
            }
        };
        Ok::<_, RedbError>(())
    })?;
    let range = (queue as u8, 0)..=(queue as u8, u64::MAX);
    for row in txn.open_table(tables::DEAD)?.range(range)? {
        let (key, text) = row?;
        let ((_, number), text) = (key.value(), text.value());
        let (key, spot) = (format!("dead letter {number}"), Spot::Dead(queue, number));
        _ = match queue {
            Queue::Events => {
                finds.look(queue.word(), key, spot, text, dead::read::<Inbound>(number, text))
            }
            Queue::Messages => {
                finds.look(queue.word(), key, spot, text, dead::read::<Routed>(number, text))
            }
        };
    }
    Ok(())
}
