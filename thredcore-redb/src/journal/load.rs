//! Opening: what is in memory is read from the file.

use std::{
    collections::{BTreeMap, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, atomic::Ordering, mpsc},
};

use parking_lot::Mutex;
use redb::{Database, ReadableTable, WriteTransaction};
use thredcore::{
    format::FORMATS,
    port::{Lease, StoredPattern},
    state::PatternKey,
};
use thredlib::PatternModel;

use super::{Journal, files::Files, writer::Writer};
use crate::{
    config::RedbConfig,
    directory::Directory,
    error::RedbError,
    index::Place,
    json,
    outboxes::{Entry, Left, Unpublished},
    queue::{Item, Tried, dead::Letter},
    receipts::Dead,
    runs::Runs,
    segments::{self, Segments},
    shared::Shared,
    small::Small,
    storage::texts,
    tables::{self, EVENTS, MESSAGES, Queue, STATES, STEPS},
};

/// After a crash the first so many items of each partition and topic count as handed out: more
/// than an engine has in flight of one.
const SUSPECTS: usize = 1024;

/// Opens a directory and starts its writer.
pub(crate) fn open(path: &Path, config: RedbConfig) -> Result<Arc<Journal>, RedbError> {
    let directory = Directory::new(path, config)?;
    let shared = Shared::new(directory.config.clone());
    let opening = || {
        let database = directory.open()?;
        directory.sign()?;
        let files = load(&directory, &database, &shared, true)?;
        Ok((database, files))
    };
    // The database takes some kinds of damage for impossible.
    let opened = catch_unwind(AssertUnwindSafe(opening)).unwrap_or_else(|_| {
        Err(RedbError::unusable(&directory.file(), "the database gave up on it"))
    });
    let (database, files) = opened.map_err(|error: RedbError| error.of_file(&directory.file()))?;
    directory.close_to_others();
    shared.messages.start_at(files.messages.next());
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
/// memory. What cannot be read is passed over.
pub(super) fn load(
    directory: &Directory,
    database: &Database,
    shared: &Shared,
    all: bool,
) -> Result<Files, RedbError> {
    let txn = database.begin_write()?;
    let (is_clean, format) = check_format(directory, &txn)?;
    shared.format.store(format, Ordering::Release);
    let partly = partly(&txn, shared)?;
    let files = Files {
        states: Segments::load(STATES, &txn)?,
        steps: Segments::load(STEPS, &txn)?,
        events: Segments::load(EVENTS, &txn)?,
        messages: Segments::load(MESSAGES, &txn)?,
        partly: partly.keys().copied().collect(),
        receipts: receipts(&txn, shared, all)?,
        recorded: {
            let mut recorded = shared.recorded.lock();
            recorded.clear();
            Runs::load(tables::RECORDED, &txn, Some(&mut recorded))?
        },
        last_unmoved: meta(&txn, tables::META_UNMOVED)?,
    };
    *shared.small.lock() = small(&txn, shared)?;
    if all {
        states(&txn, shared)?;
        shared.patterns_version.store(meta(&txn, tables::META_PATTERNS)?, Ordering::Release);
        outboxes(&txn, shared, &partly)?;
        queues(&txn, shared)?;
        dead_letters(&txn, shared)?;
        if !is_clean {
            shared.events.suspect_first(SUSPECTS);
            shared.messages.suspect_first(SUSPECTS);
        }
    }
    txn.open_table(tables::META)?.insert(tables::META_CLEAN, 0)?;
    txn.commit()?;
    Ok(files)
}

/// Says whether the directory is new or was closed in order, and the format that it has.
fn check_format(directory: &Directory, txn: &WriteTransaction) -> Result<(bool, u32), RedbError> {
    let is_empty = txn.list_tables()?.next().is_none();
    let mut meta = txn.open_table(tables::META)?;
    let found = meta.get(tables::META_FORMAT)?.map(|format| format.value());
    let has = match found {
        None if !is_empty => {
            return Err(RedbError::unusable(&directory.file(), "another program has made it"));
        }
        None if !directory.config.create => return Err(directory.nothing()),
        None => FORMATS.make(directory.config.make_format),
        Some(found) => {
            let dir = directory.path().to_owned();
            FORMATS.check(found).map_err(|problem| RedbError::Format { dir, problem })?
        }
    };
    // A file of the version before stays in it, unless it is upgraded.
    let format = if directory.config.upgrade { FORMATS.newest() } else { has };
    if found != Some(format.into()) {
        meta.insert(tables::META_FORMAT, u64::from(format))?;
    }
    let clean = meta.get(tables::META_CLEAN)?.map(|clean| clean.value());
    Ok((clean != Some(0), format))
}

fn meta(txn: &WriteTransaction, name: &str) -> Result<u64, RedbError> {
    let meta = txn.open_table(tables::META)?;
    let number = meta.get(name)?;
    Ok(number.map_or(0, |number| number.value()))
}

fn states(txn: &WriteTransaction, shared: &Shared) -> Result<(), RedbError> {
    let (data, live) = (txn.open_table(STATES.data)?, txn.open_table(STATES.live)?);
    segments::each_live(&data, &live, |state, step, body| {
        match texts::header(body) {
            Ok(header) => shared.restore(&header, Place { state, step }),
            Err(error) => shared.unreadable.note("thred", state, &error),
        }
        Ok::<_, RedbError>(())
    })
}

/// With `all` those in memory too; otherwise memory is ahead of the file.
fn receipts(txn: &WriteTransaction, shared: &Shared, all: bool) -> Result<Runs, RedbError> {
    if !all {
        return Runs::load(tables::RECEIPTS, txn, None);
    }
    let mut receipts = shared.receipts.write();
    for row in txn.open_table(tables::DEAD_RECEIPTS)?.iter()? {
        let (key, dead) = row?;
        let (times, at) = dead.value();
        receipts.restore_dead(*key.value(), Dead { times, at });
    }
    Runs::load(tables::RECEIPTS, txn, Some(receipts.settled()))
}

fn partly(txn: &WriteTransaction, shared: &Shared) -> Result<BTreeMap<u64, Left>, RedbError> {
    let mut partly = BTreeMap::new();
    for row in txn.open_table(tables::PARTLY)?.iter()? {
        let (step, text) = row?;
        match json::read(text.value()) {
            Ok(left) => _ = partly.insert(step.value(), left),
            // What is published already is published again, under its id.
            Err(error) => shared.unreadable.note("outbox", step.value(), &error),
        }
    }
    Ok(partly)
}

/// Of steps with nothing left but parked messages, the text is not read.
fn outboxes(
    txn: &WriteTransaction,
    shared: &Shared,
    partly: &BTreeMap<u64, Left>,
) -> Result<(), RedbError> {
    let (data, live) = (txn.open_table(STEPS.data)?, txn.open_table(STEPS.live)?);
    for (step, left) in partly.iter().filter(|(_, left)| left.rest.is_empty()) {
        let parked = left.parked.iter().cloned().map(Entry::Parked);
        let entries = parked.map(|entry| Unpublished { step: *step, entry }).collect();
        shared.shard(&left.thred).lock().outboxes.add(&left.thred, entries);
    }
    let has_text = |number: u64| partly.get(&number).is_none_or(|left| !left.rest.is_empty());
    segments::each_live_if(&data, &live, has_text, |number, _, body| {
        let step = match texts::step(body) {
            Ok(step) => step,
            Err(error) => {
                shared.unreadable.note("step", number, &error);
                return Ok::<_, RedbError>(());
            }
        };
        let Some(id) = step.thred else { return Ok(()) };
        let rest = partly.get(&number);
        let left = step.outbox.into_iter().filter_map(|entry| {
            let Some(rest) = rest else { return Some(Entry::Whole(entry)) };
            if rest.rest.contains(&entry.id) {
                return Some(Entry::Whole(entry));
            }
            rest.parked.iter().find(|it| it.id == entry.id).cloned().map(Entry::Parked)
        });
        let left = left.map(|entry| Unpublished { step: number, entry }).collect();
        shared.shard(&id).lock().outboxes.add(&id, left);
        Ok(())
    })?;
    // A thred may have steps of both kinds.
    shared.shards().iter().for_each(|shard| shard.lock().outboxes.sort());
    Ok(())
}

fn queues(txn: &WriteTransaction, shared: &Shared) -> Result<(), RedbError> {
    let mut tried = HashMap::new();
    for row in txn.open_table(tables::ATTEMPTS)?.iter()? {
        let (key, value) = row?;
        let (attempts, failures, due) = value.value();
        tried.insert(key.value(), Tried { attempts, failures, due });
    }
    let tried = |queue: Queue, order| tried.get(&(queue as u8, order)).copied().unwrap_or_default();
    let mut events = vec![];
    let (data, live) = (txn.open_table(EVENTS.data)?, txn.open_table(EVENTS.live)?);
    segments::each_live(&data, &live, |order, at, body| {
        match json::read(body) {
            Ok(payload) => {
                let (at, tried) = (at as i64, tried(Queue::Events, order));
                events.push(Item { payload, order, at, tried });
            }
            Err(error) => shared.unreadable.note("event", order, &error),
        }
        Ok::<_, RedbError>(())
    })?;
    shared.events.add(events);
    let mut messages = vec![];
    let (data, live) = (txn.open_table(MESSAGES.data)?, txn.open_table(MESSAGES.live)?);
    segments::each_live(&data, &live, |order, at, body| {
        match json::read(body) {
            Ok(payload) => {
                let (at, tried) = (at as i64, tried(Queue::Messages, order));
                messages.push(Item { payload, order, at, tried });
            }
            Err(error) => shared.unreadable.note("message", order, &error),
        }
        Ok::<_, RedbError>(())
    })?;
    shared.messages.restore(messages, shared.now());
    Ok(())
}

/// Which there are; their texts stay in the file.
fn dead_letters(txn: &WriteTransaction, shared: &Shared) -> Result<(), RedbError> {
    for row in txn.open_table(tables::DEAD_SIZES)?.iter()? {
        let (key, value) = row?;
        let ((queue, number), (at, bytes, topic)) = (key.value(), value.value());
        let queue = if queue == Queue::Events as u8 { Queue::Events } else { Queue::Messages };
        shared.dead(queue).restore(number, Letter { at, bytes, topic: topic.map(Into::into) });
    }
    // Listing needs no other look at the table, so that it is there.
    txn.open_table(tables::DEAD)?;
    Ok(())
}

/// Places, leases and patterns.
fn small(txn: &WriteTransaction, shared: &Shared) -> Result<Small, RedbError> {
    let mut small = Small::default();
    for row in txn.open_table(tables::PLACE_TIMES)?.iter()? {
        let (pattern, last) = row?;
        small.places.entry(pattern.value().into()).or_default().last = Some(last.value());
    }
    for row in txn.open_table(tables::PLACES)?.iter()? {
        let (key, ()) = row.map(|(key, _)| (key, ()))?;
        let (pattern, thred) = key.value();
        small.places.entry(pattern.into()).or_default().threds.insert(thred.into());
    }
    for row in txn.open_table(tables::LEASES)?.iter()? {
        let (name, text) = row?;
        match json::read::<Lease>(text.value()) {
            Ok(lease) => _ = small.leases.acquire(&lease, i64::MIN),
            Err(error) => shared.unreadable.note("lease", name.value(), &error),
        }
    }
    let mut current = HashMap::new();
    for row in txn.open_table(tables::CURRENT)?.iter()? {
        let (id, revision) = row?;
        current.insert(id.value().to_owned(), revision.value());
    }
    for row in txn.open_table(tables::PATTERNS)?.iter()? {
        let (key, text) = row?;
        let (id, revision) = key.value();
        let model = match json::read::<PatternModel>(text.value()) {
            Ok(model) => model,
            Err(error) => {
                shared.unreadable.note("pattern", id, &error);
                continue;
            }
        };
        let is_current = current.get(id) == Some(&revision);
        let key = PatternKey { id: id.into(), revision };
        let pattern = StoredPattern { key, model: Arc::new(model) };
        if is_current { _ = small.patterns.put(pattern) } else { small.patterns.restore(pattern) }
    }
    Ok(small)
}
