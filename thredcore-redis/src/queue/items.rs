//! The items of one partition or topic, on the server.
//!
//! A hash has the items that have not ended, by id: its size is the depth. A list has the order of
//! those that nobody has had; another hash has, for each holder, what it was given. Both name runs
//! of ids, so that it costs little to hand out many.

use std::{collections::HashMap, fmt, ops::Range, sync::LazyLock, time::Duration};

use redis::Value;
use serde::{Serialize, de::DeserializeOwned};
use thredcore::port::{Backlog, Death};

use super::{
    lane::{Count, Item},
    letters::{LetterLimits, Letters},
    lightly,
    publish::Portion,
    scripts::{BACKLOG, BURY_NEW, Fenced},
};
use crate::{Connection, Error, Request, Tag, gather::Gathering};

/// How many items that were handed out before are read at once.
const PAGE: usize = 256;

/// The number of an item, in the order of publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ItemId(pub(super) u64);

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Items with consecutive ids that were handed out together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    first: u64,
    length: u64,
}

impl Run {
    pub(super) fn new(first: ItemId, length: u64) -> Self {
        Self { first: first.0, length }
    }

    pub(super) fn first(&self) -> ItemId {
        ItemId(self.first)
    }

    pub(super) fn ids(&self) -> Range<ItemId> {
        ItemId(self.first)..ItemId(self.first + self.length)
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let run = text.split_once(' ').and_then(|(first, length)| {
            Some(Self::new(ItemId(first.parse().ok()?), length.parse().ok()?))
        });
        run.ok_or_else(|| Error::Malformed(format!("`{text}` is no run of items")))
    }
}

/// Who may be given items.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder<'a> {
    pub(super) scripts: &'static LazyLock<Fenced>,
    /// Where it stands who may go on.
    pub(super) fence: &'a str,
    pub(super) token: &'a str,
    /// Under which name it holds items.
    pub(super) name: &'a str,
}

/// What was handed out.
#[derive(Debug)]
pub(super) enum Drawn<T> {
    /// Nothing to the holder: it is none any more.
    Refused,
    /// There is nothing that nobody has had; so many have not ended, and the first delayed one is due
    /// after that time.
    Nothing { unacknowledged: usize, due_in: Option<Duration> },
    /// Runs, items that nobody has had, and others that wait here to be handed out again.
    Some(Vec<Run>, Vec<(ItemId, T)>, Vec<(ItemId, Item<T>)>),
}

/// What may be among items that nobody has had.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiting {
    /// None but those that are ready, for as long as it takes.
    Ready,
    /// Some that are delayed, and none that is older than that.
    Delayed(Option<Duration>),
}

/// Where the items are.
#[derive(Debug)]
pub(super) struct Items {
    pub(super) label: String,
    pub(super) tag: Tag,
    /// Hash: id → item.
    pub(super) items: String,
    /// List: runs that nobody has had.
    pub(super) order: String,
    /// The last id.
    pub(super) last: String,
    /// Set: channels of those who wait for an item.
    pub(super) waiting: String,
    /// Hash: holder → runs.
    pub(super) held: String,
    /// Hash: id → how often it was handed out and has failed, if more than once.
    pub(super) attempts: String,
    /// Sorted set: ids by when they are due.
    pub(super) delayed: String,
    /// Stream: what was taken out of circulation.
    pub(super) dead: String,
    /// How many bytes that is.
    pub(super) dead_bytes: String,
    /// Which of those are kept.
    pub(super) letter_limits: LetterLimits,
    /// Hash: id → what cannot be read.
    pub(super) aside: String,
    /// What is to be published.
    pub(super) publishing: Gathering<Portion>,
}

impl Items {
    /// Begins the keys of a tag with nothing in them.
    pub(super) fn new(tag: Tag, label: String, letter_limits: LetterLimits) -> Self {
        Self {
            items: tag.key("i"),
            order: tag.key("o"),
            last: tag.key("n"),
            waiting: tag.key("w"),
            held: tag.key("h"),
            attempts: tag.key("a"),
            delayed: tag.key("z"),
            dead: tag.key("d"),
            dead_bytes: tag.key("b"),
            letter_limits,
            aside: tag.key("u"),
            publishing: Gathering::default(),
            tag,
            label,
        }
    }

    pub(super) fn letters(&self) -> Letters<'_> {
        Letters(self)
    }

    /// Hands out up to so many items that nobody has had. `ended` are the first ids of the runs of
    /// which the holder has ended all. If there are none, the bell is rung when there are some.
    pub(super) async fn draw<T: DeserializeOwned>(
        &self,
        connection: &Connection,
        holder: Holder<'_>,
        max: usize,
        bell: &str,
        waiting: Waiting,
        ended: &[ItemId],
    ) -> Result<Drawn<T>, Error> {
        let keys = [
            holder.fence,
            &self.items,
            &self.order,
            &self.waiting,
            &self.held,
            &self.attempts,
            &self.delayed,
            &self.dead,
            &self.dead_bytes,
        ];
        let (delayed, longest) = match waiting {
            Waiting::Ready => (0, -1),
            Waiting::Delayed(longest) => (1, longest.map_or(-1, millis)),
        };
        let (bytes, time) = self.letter_limits.args();
        let mut request = lightly(&self.tag, &holder.scripts.draw, &keys).arg((
            holder.token,
            holder.name,
            max,
            bell,
            delayed,
            longest,
            bytes,
            time,
        ));
        ended.iter().for_each(|first| request.push(first.0));
        let Value::Array(answer) = connection.ask(request).await? else {
            return Ok(Drawn::Refused);
        };
        if let [Value::Int(count), Value::Int(due_in)] = answer[..] {
            return Ok(Drawn::Nothing {
                unacknowledged: usize::try_from(count).unwrap_or(0),
                due_in: u64::try_from(due_in).ok().map(Duration::from_millis),
            });
        }
        let (runs, payloads, counts): Answer = read(Value::Array(answer))?;
        let (runs, mut items) = self.paired(connection, holder, &runs, payloads).await?;
        let counts = counted(&runs, counts);
        let again = items.extract_if(.., |(id, _)| counts.contains_key(id));
        let again = again.map(|(id, payload)| (id, Item { payload, count: counts[&id] })).collect();
        Ok(Drawn::Some(runs, items, again))
    }

    /// All that a holder was given and has not ended, in order; `None` if it is none any more.
    pub(super) async fn held<T: DeserializeOwned>(
        &self,
        connection: &Connection,
        holder: Holder<'_>,
    ) -> Result<Option<(Vec<Run>, Vec<(ItemId, Item<T>)>)>, Error> {
        let (mut all_runs, mut all) = (vec![], vec![]);
        loop {
            let keys = [holder.fence, &self.items, &self.held, &self.attempts];
            let request = lightly(&self.tag, &holder.scripts.held, &keys).arg((
                holder.token,
                holder.name,
                all_runs.len(),
                PAGE,
            ));
            let value: Value = connection.ask(request).await?;
            if value == Value::Nil {
                return Ok(None);
            }
            let (runs, payloads, counts): Answer = read(value)?;
            if runs.is_empty() {
                return Ok(Some((all_runs, all)));
            }
            let (runs, items) = self.paired(connection, holder, &runs, payloads).await?;
            let counts = counted(&runs, counts);
            let item = |(id, payload): (ItemId, T)| {
                let count = counts.get(&id).copied().unwrap_or(Count::FIRST);
                (id, Item { payload, count })
            };
            all.extend(items.into_iter().map(item));
            all_runs.extend(runs);
        }
    }

    /// Reads items of runs. One that cannot be read would be in the way for ever, so it is set aside.
    async fn paired<T: DeserializeOwned>(
        &self,
        connection: &Connection,
        holder: Holder<'_>,
        runs: &[String],
        payloads: Vec<Option<Vec<u8>>>,
    ) -> Result<(Vec<Run>, Vec<(ItemId, T)>), Error> {
        let runs = runs.iter().map(|run| Run::parse(run)).collect::<Result<Vec<_>, _>>()?;
        let ids = runs.iter().flat_map(|run| run.first..run.first + run.length).map(ItemId);
        let mut items = Vec::with_capacity(payloads.len());
        for (id, payload) in ids.zip(payloads) {
            // It has ended.
            let Some(payload) = payload else { continue };
            match serde_json::from_slice(&payload) {
                Ok(item) => items.push((id, item)),
                Err(error) => {
                    let queue = &self.label;
                    tracing::warn!(%error, %id, queue, "an item cannot be read, and is set aside");
                    let keys = [holder.fence, &self.items, &self.attempts, &self.aside];
                    let request = Request::script(&self.tag, &holder.scripts.set_aside, &keys);
                    // If that fails, whoever gets it next tries.
                    let _ = connection.send(&[request.arg(holder.token).arg(id.0)]).await;
                }
            }
        }
        Ok((runs, items))
    }

    /// Notes how often items were handed out; `false` if the holder is none any more.
    pub(super) async fn again(
        &self,
        connection: &Connection,
        holder: Holder<'_>,
        counts: &[(ItemId, Count)],
    ) -> Result<bool, Error> {
        let keys = [holder.fence, &self.attempts];
        let mut request = lightly(&self.tag, &holder.scripts.again, &keys).arg(holder.token);
        counts.iter().for_each(|(id, count)| request.push((id.0, count.to_string())));
        Ok(connection.ask::<Value>(request).await? != Value::Nil)
    }

    /// What ends items: to be sent. Those whose handing out was counted are named again.
    pub(super) fn end(&self, ids: &[ItemId], counted: &[ItemId]) -> Vec<Request> {
        let remove = |key: &str, ids: &[ItemId]| {
            let mut command = redis::cmd("HDEL");
            command.arg(key);
            ids.iter().for_each(|id| _ = command.arg(id.0));
            // Not for replicas to confirm: what comes again does no harm.
            Request::read(&self.tag, command)
        };
        let parts = [(&self.items, ids), (&self.attempts, counted)];
        let parts = parts.into_iter().filter(|(_, ids)| !ids.is_empty());
        parts.map(|(key, ids)| remove(key, ids)).collect()
    }

    /// Moves an item to the dead letters; says how many others were dropped for that, and nothing if it
    /// is no longer this consumer's.
    pub(super) async fn bury(
        &self,
        connection: &Connection,
        holder: Holder<'_>,
        id: ItemId,
        attempts: u32,
        death: &Death,
    ) -> Result<Option<u64>, Error> {
        let keys = [holder.fence, &self.items, &self.attempts, &self.dead, &self.dead_bytes];
        let moved = if death.moved.is_empty() {
            String::new()
        } else {
            serde_json::to_string(&death.moved)
                .map_err(|error| Error::Malformed(error.to_string()))?
        };
        let (bytes, time) = self.letter_limits.args();
        let request = Request::script(&self.tag, &holder.scripts.bury, &keys).arg((
            holder.token,
            id.0,
            &death.reason,
            attempts,
            death.times,
            moved,
            bytes,
            time,
        ));
        match connection.ask(request).await? {
            Value::Int(dropped) => Ok(Some(self.dropped(dropped))),
            _ => Ok(None),
        }
    }

    /// Puts among the dead letters what has never been an item; says how many others were dropped for
    /// that.
    pub(super) async fn bury_new(
        &self,
        connection: &Connection,
        letters: &[(impl Serialize, String)],
    ) -> Result<u64, Error> {
        /// How many are added with one call.
        const AT_ONCE: usize = 64;
        let keys = [&*self.dead, &self.dead_bytes];
        let mut dropped = 0;
        for some in letters.chunks(AT_ONCE) {
            let limits = self.letter_limits.args();
            let mut request = Request::script(&self.tag, &BURY_NEW, &keys).arg(limits);
            for (item, reason) in some {
                let text = serde_json::to_vec(item);
                request.push(text.map_err(|error| Error::Malformed(error.to_string()))?);
                request.push(reason);
            }
            dropped += self.dropped(connection.ask(request).await?);
        }
        Ok(dropped)
    }

    /// Tells of dead letters that were dropped.
    pub(super) fn dropped(&self, letters: i64) -> u64 {
        let dropped = u64::try_from(letters).unwrap_or(0);
        if dropped > 0 {
            let LetterLimits { bytes, time } = self.letter_limits;
            tracing::warn!(dropped, bytes, ?time, queue = self.label, "dead letters were dropped");
        }
        dropped
    }

    /// What there is and how long it has waited, and how many consumers count as alive.
    pub(super) fn backlog(&self, alive: &str, visibility: Duration) -> Request {
        let keys = [&*self.items, &self.order, &self.held, &self.delayed, &self.dead, alive];
        lightly(&self.tag, &BACKLOG, &keys).arg(millis(visibility))
    }

    /// How many items have not ended.
    pub(super) fn depth(&self) -> Request {
        let mut command = redis::cmd("HLEN");
        command.arg(&self.items);
        Request::read(&self.tag, command)
    }
}

/// Runs, payloads, and how often each was handed out, if one was.
type Answer = (Vec<String>, Vec<Option<Vec<u8>>>, Vec<Option<String>>);

/// How the items of runs have fared, as far as that is written down.
fn counted(runs: &[Run], counts: Vec<Option<String>>) -> HashMap<ItemId, Count> {
    let ids = runs.iter().flat_map(|run| run.first..run.first + run.length).map(ItemId);
    let count = |(id, count): (ItemId, Option<String>)| Some((id, Count::parse(&count?)?));
    ids.zip(counts).filter_map(count).collect()
}

/// The answer to [`Items::backlog`].
pub(super) fn backlog(answer: Value) -> Result<Backlog, Error> {
    let (depth, oldest, consumers, dead_letters): (u64, i64, u32, u64) = read(answer)?;
    let oldest = (oldest > 0).then_some(oldest / 1000);
    Ok(Backlog { depth, oldest, consumers: Some(consumers), dead_letters })
}

/// A time as the server takes it.
pub(super) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).min(1 << 52)
}

fn read<T: redis::FromRedisValue>(value: Value) -> Result<T, Error> {
    T::from_redis_value(value).map_err(|error| Error::Malformed(error.to_string()))
}
