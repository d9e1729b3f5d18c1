//! Opening: what is in memory is read from the file.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering, mpsc},
};

use redb::{Database, ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use thredcore::{
    memory::{
        Kept, MemoryEventQ, MemoryEventQConfig, MemoryMessageQ, MemoryMessageQConfig, MemoryStorage,
    },
    port::{
        DeadLetter, Inbound, Lease, LeaseStore, LimitStore, PatternStore, Reservation, Routed,
        StoredPattern, Timer,
    },
    state::{PatternKey, partition_of},
};
use thredlib::{MessageId, PatternModel, ThredId};

use super::{
    Journal,
    files::{Files, Unmoved},
    group::ready,
    lock,
    writer::Writer,
};
use crate::{
    config::RedbConfig,
    directory::Directory,
    error::RedbError,
    segments::{self, Segments},
    shared::{Head, Shared, Unpublished},
    storage::texts,
    tables::{self, EVENTS, MESSAGES, Queue, STATES, STEPS},
};

/// After a crash the first so many items of each partition and topic count as handed out: more
/// than an engine has in flight of one.
const SUSPECTS: usize = 1024;

/// Opens a directory and starts its writer.
pub(crate) fn open(path: &Path, config: RedbConfig) -> Result<Arc<Journal>, RedbError> {
    let directory = Directory::new(path, config)?;
    let config = &directory.config;
    let event_q = MemoryEventQ::new(
        MemoryEventQConfig::default()
            .partitions(config.event_partitions)
            .capacity(config.event_capacity)
            .dead_letters(config.dead_letters)
            .clock(config.clock.clone()),
    );
    let message_q = MemoryMessageQ::new(
        MemoryMessageQConfig::default()
            .capacity(config.message_capacity)
            .dead_letters(config.dead_letters)
            .clock(config.clock.clone()),
    );
    let queues = (event_q, message_q);
    let shared =
        Shared::new(config.partitions, config.cached_threds, config.deferred_bytes, queues);

    let database = directory.open()?;
    directory.sign()?;
    let files = load(&directory, &database, &shared, true)?;
    shared.message_q.start_at(files.messages.next());
    shared.set_database(Some(database));

    let shared = Arc::new(shared);
    let (sender, receiver) = mpsc::channel();
    let writer = Writer::new(shared.clone(), directory, files, receiver);
    let thread = std::thread::Builder::new().name("thredcore-redb".into());
    let thread = thread.spawn(move || writer.run()).map_err(|source| RedbError::Io {
        operation: "start the writer of",
        path: path.to_owned(),
        source,
    })?;
    Ok(Arc::new(Journal { sender, shared, thread: Mutex::new(Some(thread)) }))
}

/// Reads what the writer knows of the file; with `all`, also what only the writer changes in
/// memory.
pub(super) fn load(
    directory: &Directory,
    database: &Database,
    shared: &Shared,
    all: bool,
) -> Result<Files, RedbError> {
    let txn = database.begin_write()?;
    let is_clean = check_format(directory, &txn)?;
    let last_unmoved = meta(&txn, tables::META_UNMOVED)?;
    let partly = partly(&txn)?;
    let mut files = Files {
        states: Segments::load(STATES, &txn)?,
        steps: Segments::load(STEPS, &txn)?,
        events: Segments::load(EVENTS, &txn)?,
        messages: Segments::load(MESSAGES, &txn)?,
        partly: partly.keys().copied().collect(),
        unmoved: unmoved(&txn, last_unmoved)?,
        ended: Default::default(),
    };
    let (data, live) = (txn.open_table(STATES.data)?, txn.open_table(STATES.live)?);
    segments::each_live(&data, &live, |place, step, body| {
        let header = texts::header(body)?;
        if !header.is_live {
            files.ended.push_back(header.id.clone());
        }
        if all {
            let head = Head { place, step };
            lock(shared.shard(&header.id)).heads.insert(header.id.clone(), head);
            if header.listens {
                let state = texts::state(body)?;
                lock(&shared.listeners).update(None, &state);
            }
            if let Some((at, entry)) = header.timer
                && let Some(timers) =
                    shared.timers_of(partition_of(header.id.as_str(), shared.partitions()))
            {
                lock(timers).insert(Timer { at, thred_id: header.id, entry });
            }
        }
        Ok::<_, RedbError>(())
    })?;
    drop((data, live));
    shared.set_small(small(&txn)?);
    if all {
        shared.patterns_version.store(meta(&txn, tables::META_PATTERNS)?, Ordering::Release);
        outboxes(&txn, shared, &partly)?;
        queues(&txn, shared)?;
        if !is_clean {
            shared.event_q.suspect_first(SUSPECTS);
            shared.message_q.suspect_first(SUSPECTS);
        }
        shared.event_q.hand_out_alone_from(crate::queue::SUSPECT);
    }
    txn.open_table(tables::META)?.insert(tables::META_CLEAN, 0)?;
    txn.commit()?;
    Ok(files)
}

/// Says whether the directory is new or was closed in order.
fn check_format(directory: &Directory, txn: &WriteTransaction) -> Result<bool, RedbError> {
    let mut meta = txn.open_table(tables::META)?;
    let found = meta.get(tables::META_FORMAT)?.map(|format| format.value());
    match found {
        None => {
            meta.insert(tables::META_FORMAT, u64::from(tables::FORMATS.newest()))?;
        }
        // A file of the version before stays in it.
        Some(found) => {
            let dir = directory.path().to_owned();
            tables::FORMATS.check(found).map_err(|problem| RedbError::Format { dir, problem })?;
        }
    }
    let clean = meta.get(tables::META_CLEAN)?.map(|clean| clean.value());
    Ok(clean != Some(0))
}

fn meta(txn: &WriteTransaction, name: &str) -> Result<u64, RedbError> {
    let meta = txn.open_table(tables::META)?;
    let number = meta.get(name)?;
    Ok(number.map_or(0, |number| number.value()))
}

/// Walks back over the events that moved no thred.
fn unmoved(txn: &WriteTransaction, last: u64) -> Result<Unmoved, RedbError> {
    let table = txn.open_table(STEPS.data)?;
    let mut found = vec![];
    let mut next = last;
    while next > 0 && found.len() < Unmoved::KNOWN {
        let step = segments::read(&table, next, |before, body| {
            texts::step(body).map(|step| (before, step))
        })?;
        let Some((before, step)) = step.transpose()? else { break };
        let key = step.log.first().map(|record| (record.event.clone(), record.log_type));
        found.extend(key);
        next = before;
    }
    let mut unmoved = Unmoved::new(last);
    for (event, decision) in found.iter().rev() {
        unmoved.insert(event, *decision);
    }
    Ok(unmoved)
}

fn partly(txn: &WriteTransaction) -> Result<HashMap<u64, Vec<MessageId>>, RedbError> {
    let mut partly = HashMap::new();
    for row in txn.open_table(tables::PARTLY)?.iter()? {
        let (step, ids) = row?;
        partly.insert(step.value(), from_json("outbox of step", step.value(), ids.value())?);
    }
    Ok(partly)
}

fn outboxes(
    txn: &WriteTransaction,
    shared: &Shared,
    partly: &HashMap<u64, Vec<MessageId>>,
) -> Result<(), RedbError> {
    let (data, live) = (txn.open_table(STEPS.data)?, txn.open_table(STEPS.live)?);
    segments::each_live(&data, &live, |number, _, body| {
        let step = texts::step(body)?;
        let Some(id) = step.thred else { return Ok(()) };
        let rest = partly.get(&number);
        let left = step.outbox.into_iter();
        let left = left.filter(|entry| rest.is_none_or(|rest| rest.contains(&entry.id)));
        let left = left.map(|entry| Unpublished { step: number, entry });
        lock(shared.shard(&id)).outboxes.entry(id).or_default().extend(left);
        Ok(())
    })
}

fn queues(txn: &WriteTransaction, shared: &Shared) -> Result<(), RedbError> {
    let mut attempts = HashMap::new();
    for row in txn.open_table(tables::ATTEMPTS)?.iter()? {
        let (key, count) = row?;
        attempts.insert(key.value(), count.value());
    }
    let mut events: Vec<Kept<Inbound>> = vec![];
    let (data, live) = (txn.open_table(EVENTS.data)?, txn.open_table(EVENTS.live)?);
    segments::each_live(&data, &live, |order, _, body| {
        let attempts = attempts.get(&(Queue::Events as u8, order)).copied().unwrap_or(0);
        events.push(Kept { payload: from_json("event", order, body)?, order, attempts });
        Ok::<_, RedbError>(())
    })?;
    shared.event_q.restore(events);
    let mut messages: Vec<Kept<Routed>> = vec![];
    let (data, live) = (txn.open_table(MESSAGES.data)?, txn.open_table(MESSAGES.live)?);
    segments::each_live(&data, &live, |order, _, body| {
        let attempts = attempts.get(&(Queue::Messages as u8, order)).copied().unwrap_or(0);
        messages.push(Kept { payload: from_json("message", order, body)?, order, attempts });
        Ok::<_, RedbError>(())
    })?;
    shared.message_q.restore(messages);

    let (mut of_events, mut of_messages) = (vec![], vec![]);
    for row in txn.open_table(tables::DEAD)?.iter()? {
        let (key, letter) = row?;
        let (queue, number) = key.value();
        if queue == Queue::Events as u8 {
            of_events.push(letter_from(number, letter.value())?);
        } else {
            of_messages.push(letter_from(number, letter.value())?);
        }
    }
    shared.event_q.restore_dead(of_events);
    shared.message_q.restore_dead(of_messages);
    Ok(())
}

/// Places, leases and patterns.
fn small(txn: &WriteTransaction) -> Result<MemoryStorage, RedbError> {
    let small = MemoryStorage::default();
    let mut places: BTreeMap<String, (i64, Vec<ThredId>)> = BTreeMap::new();
    for row in txn.open_table(tables::PLACE_TIMES)?.iter()? {
        let (pattern, last) = row?;
        places.insert(pattern.value().to_owned(), (last.value(), vec![]));
    }
    for row in txn.open_table(tables::PLACES)?.iter()? {
        let (key, ()) = row.map(|(key, _)| (key, ()))?;
        let (pattern, thred) = key.value();
        places.entry(pattern.to_owned()).or_default().1.push(thred.into());
    }
    for (pattern, (now, threds)) in places {
        let place = |thred: &ThredId| Reservation {
            pattern: pattern.as_str().into(),
            thred: thred.clone(),
            max_instances: 0,
            interval: 0,
            now,
        };
        // A place that is taken and given back leaves its time.
        let nobody = place(&"".into());
        _ = ready(small.reserve(&nobody));
        _ = ready(small.release(&[(nobody.pattern, nobody.thred)]));
        for thred in &threds {
            _ = ready(small.reserve(&place(thred)));
        }
    }
    for row in txn.open_table(tables::LEASES)?.iter()? {
        let (name, lease) = row?;
        let lease: Lease = from_json("lease", name.value(), lease.value())?;
        _ = ready(small.acquire(&lease, i64::MIN));
    }
    let mut current = HashMap::new();
    for row in txn.open_table(tables::CURRENT)?.iter()? {
        let (id, revision) = row?;
        current.insert(id.value().to_owned(), revision.value());
    }
    let mut last = vec![];
    for row in txn.open_table(tables::PATTERNS)?.iter()? {
        let (key, model) = row?;
        let (id, revision) = key.value();
        let model: PatternModel = from_json("pattern", id, model.value())?;
        let is_current = current.get(id) == Some(&revision);
        let key = PatternKey { id: id.into(), revision };
        let pattern = StoredPattern { key, model: Arc::new(model) };
        match is_current {
            true => last.push(pattern),
            false => {
                _ = ready(small.put_pattern(pattern.clone()));
                _ = ready(small.remove_pattern(&pattern.key.id));
            }
        }
    }
    for pattern in last {
        _ = ready(small.put_pattern(pattern));
    }
    Ok(small)
}

/// A dead letter as it is written, but for its id.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredLetter<T> {
    payload: T,
    reason: String,
    at: i64,
    attempts: u32,
}

impl<T: Clone> StoredLetter<T> {
    pub(crate) fn new(letter: &DeadLetter<T>) -> Self {
        let DeadLetter { payload, reason, at, attempts, .. } = letter.clone();
        Self { payload, reason, at, attempts }
    }
}

fn letter_from<T: for<'a> Deserialize<'a>>(
    number: u64,
    text: &[u8],
) -> Result<DeadLetter<T>, RedbError> {
    let StoredLetter { payload, reason, at, attempts } = from_json("dead letter", number, text)?;
    Ok(DeadLetter { id: number.to_string(), payload, reason, at, attempts })
}

fn from_json<T: for<'a> Deserialize<'a>>(
    table: &'static str,
    key: impl ToString,
    text: &[u8],
) -> Result<T, RedbError> {
    serde_json::from_slice(text).map_err(|error| RedbError::damaged(table, key, error))
}
