//! Both queues, on streams.
//!
//! An item is an entry of a stream until it is acknowledged, and then no more: the length of a
//! stream is the depth of the queue. What must be one step is one script, on keys of one hash tag.
//! A consumer that is paused for so long that others took it for dead is refused by a fence in the
//! scripts: it can end no item and be given none. What it had at hand comes again elsewhere.

mod events;
mod lane;
mod letters;
mod messages;
mod reply;
mod scripts;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

pub use self::{
    events::{RedisEventQ, RedisEventQConfig},
    messages::{RedisMessageQ, RedisMessageQConfig},
};
use crate::{Connection, Error, Request, Script, Tag};

/// How many items, and how many bytes of them, are added by one call of a script. The server does
/// nothing else meanwhile.
const PUBLISH_ITEMS: usize = 256;
const PUBLISH_BYTES: usize = 1 << 20;

/// How many ids go into one command.
const IDS: usize = 1_000;

/// Nothing that is guarded is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that may be lost in a failover without harm: it does not wait for replicas.
fn lightly(tag: &Tag, script: &Script, keys: &[&str]) -> Request {
    Request::asking_script(tag, script, keys)
}

/// How many of the texts at the front go into one call; at least one.
fn portion(texts: &[Vec<u8>]) -> usize {
    let mut bytes = 0;
    let fits = texts.iter().take(PUBLISH_ITEMS).take_while(|text| {
        bytes += text.len();
        bytes <= PUBLISH_BYTES
    });
    fits.count().max(1).min(texts.len())
}

/// Writes down a number that every process must go by, or finds that another is written down.
async fn agree_on(connection: &Connection, tag: &Tag, what: &str, value: u16) -> Result<(), Error> {
    let key = tag.key(what);
    let mut set = redis::cmd("SET");
    set.arg(&key).arg(value).arg("NX");
    let mut get = redis::cmd("GET");
    get.arg(&key);
    let requests = [Request::write(tag, set), Request::read(tag, get)];
    let mut answers = connection.send(&requests).await.into_iter();
    answers.next().transpose()?;
    let known = reply::text(answers.next().transpose()?.unwrap_or(redis::Value::Nil))?;
    if known == value.to_string() {
        return Ok(());
    }
    Err(Error::Config(format!(
        "the queue has {known} {what} and is opened with {value}; the number must never change: \
         open it with {known}, or use another namespace"
    )))
}

/// Sorts by partition or topic, each in its order.
fn by_lane<T>(
    items: impl IntoIterator<Item = T>,
    lane: impl Fn(&T) -> usize,
) -> BTreeMap<usize, Vec<T>> {
    let mut lanes: BTreeMap<usize, Vec<T>> = BTreeMap::new();
    for item in items {
        lanes.entry(lane(&item)).or_default().push(item);
    }
    lanes
}

/// A name that no other consumer has.
fn unique_name() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{}-{:016x}{:016x}", std::process::id(), random(), random())
}
