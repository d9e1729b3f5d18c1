//! Both queues.
//!
//! An item is a field of a hash until it is acknowledged, and then no more. What must be one step is
//! one script, on keys of one hash tag. A consumer that is paused for so long that others took it for
//! dead is refused by a fence in the scripts: it can end no item and be given none. What it had at
//! hand comes again elsewhere.

mod events;
mod items;
mod lane;
mod letters;
mod messages;
mod publish;
mod reply;
mod scripts;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use thredcore::port::DeliveryTag;

pub use self::{
    events::{RedisEventQ, RedisEventQConfig},
    messages::{RedisMessageQ, RedisMessageQConfig},
};
use self::{
    items::Items,
    lane::{Count, Lane},
};
use crate::{Connection, Error, Request, Script, Tag};

/// How long dead letters are kept unless it is said otherwise.
const DEAD_LETTERS_TIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// How many ids go into one command; Lua takes no more than some thousand arguments.
const IDS: usize = 1_000;

/// A call that may be lost in a failover without harm: it does not wait for replicas.
fn lightly(tag: &Tag, script: &Script, keys: &[&str]) -> Request {
    Request::asking_script(tag, script, keys)
}

/// What ends deliveries of a lane on the server: to be sent, each as far as it is out.
fn ending<T: Clone>(items: &Items, lane: &Lane<T>, tags: &[DeliveryTag]) -> Vec<Request> {
    let mut requests = vec![];
    for tags in tags.chunks(IDS) {
        let out = || tags.iter().filter_map(|tag| lane.get(tag));
        let counted = out().filter(|(_, item)| item.count != Count::FIRST);
        let counted: Vec<_> = counted.map(|(id, _)| id).collect();
        requests.extend(items.end(&out().map(|(id, _)| id).collect::<Vec<_>>(), &counted));
    }
    requests
}

/// Writes down a number that every process must go by, or finds that another is written down.
async fn agree_on(connection: &Connection, tag: &Tag, what: &str, value: u16) -> Result<(), Error> {
    let mut set = redis::cmd("SET");
    set.arg(tag.key(what)).arg(value).arg("NX").arg("GET");
    // One command: a write that waits for replicas and a read go by different connections.
    let known: Option<String> = connection.ask(Request::write(tag, set)).await?;
    let known = known.unwrap_or_else(|| value.to_string());
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

/// Says when something that costs is to be done again: a second later.
#[derive(Debug, Default)]
struct NowAndThen(Mutex<Option<Instant>>);

impl NowAndThen {
    fn is_due(&self) -> bool {
        let mut last = self.0.lock();
        let due = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1));
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

/// A name that no other consumer has.
pub(crate) fn unique_name() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{}-{:016x}{:016x}", std::process::id(), random(), random())
}
