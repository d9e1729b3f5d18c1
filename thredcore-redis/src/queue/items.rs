//! The items of one partition or topic, on the server.
//!
//! A hash has the items that have not ended, by id: its size is the depth. A list has the order of
//! those that nobody has had; another hash has, for each holder, what it was given. Both name runs
//! of ids, so that it costs little to hand out many.

use std::{collections::HashMap, fmt, ops::Range, sync::LazyLock};

use redis::Value;
use serde::de::DeserializeOwned;

use super::{lane::Item, letters::Letters, lightly, publish::Portion, scripts::Fenced};
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
    /// There is nothing that nobody has had; so many have not ended.
    Nothing {
        unacknowledged: usize,
    },
    Some(Vec<Run>, Vec<(ItemId, T)>),
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
    /// Hash: id → how often it was handed out, if more than once.
    attempts: String,
    /// Stream: what was taken out of circulation.
    pub(super) dead: String,
    /// How many of those are kept.
    dead_letters: usize,
    /// What is to be published.
    pub(super) publishing: Gathering<Portion>,
}

impl Items {
    /// Begins the keys of a tag with nothing in them.
    pub(super) fn new(tag: Tag, label: String, dead_letters: usize) -> Self {
        Self {
            items: tag.key("i"),
            order: tag.key("o"),
            last: tag.key("n"),
            waiting: tag.key("w"),
            held: tag.key("h"),
            attempts: tag.key("a"),
            dead: tag.key("d"),
            dead_letters,
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
        ended: &[ItemId],
    ) -> Result<Drawn<T>, Error> {
        let keys = [holder.fence, &self.items, &self.order, &self.waiting, &self.held];
        let mut request = lightly(&self.tag, &holder.scripts.draw, &keys).arg((
            holder.token,
            holder.name,
            max,
            bell,
        ));
        ended.iter().for_each(|first| request.push(first.0));
        match connection.ask(request).await? {
            Value::Nil => Ok(Drawn::Refused),
            Value::Int(count) => {
                Ok(Drawn::Nothing { unacknowledged: usize::try_from(count).unwrap_or(0) })
            }
            value => {
                let (runs, payloads): (Vec<String>, Vec<Option<Vec<u8>>>) = read(value)?;
                let (runs, items) = self.paired(connection, holder, &runs, payloads).await?;
                Ok(Drawn::Some(runs, items))
            }
        }
    }

    /// All that a holder was given and has not ended, in order; `None` if it is none any more.
    pub(super) async fn held<T: DeserializeOwned>(
        &self,
        connection: &Connection,
        holder: Holder<'_>,
    ) -> Result<Option<(Vec<Run>, Vec<(ItemId, Item<T>)>)>, Error> {
        type Counts = Vec<Option<u32>>;
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
            let (runs, payloads, counts): (Vec<String>, Vec<Option<Vec<u8>>>, Counts) =
                read(value)?;
            if runs.is_empty() {
                return Ok(Some((all_runs, all)));
            }
            let (runs, items) = self.paired(connection, holder, &runs, payloads).await?;
            let ids = runs.iter().flat_map(|run| run.first..run.first + run.length);
            let counts: HashMap<u64, u32> =
                ids.zip(counts).filter_map(|(id, count)| Some((id, count?))).collect();
            let item = |(id, payload): (ItemId, T)| {
                (id, Item { payload, attempts: counts.get(&id.0).copied().unwrap_or(1) })
            };
            all.extend(items.into_iter().map(item));
            all_runs.extend(runs);
        }
    }

    /// Reads items of runs. One that cannot be read would be in the way for ever, so it is put away.
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
                    tracing::error!(%error, %id, queue = self.label, "an item is unreadable");
                    let reason = format!("the item {id} is none of ours: {error}");
                    // If that fails, whoever gets it next tries.
                    let _ = self.bury(connection, holder, id, &reason, 0).await;
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
        counts: &[(ItemId, u32)],
    ) -> Result<bool, Error> {
        let keys = [holder.fence, &self.attempts];
        let mut request = lightly(&self.tag, &holder.scripts.again, &keys).arg(holder.token);
        counts.iter().for_each(|(id, attempts)| request.push((id.0, attempts)));
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

    /// Moves an item to the dead letters.
    pub(super) async fn bury(
        &self,
        connection: &Connection,
        holder: Holder<'_>,
        id: ItemId,
        reason: &str,
        attempts: u32,
    ) -> Result<(), Error> {
        let keys = [holder.fence, &self.items, &self.attempts, &self.dead];
        let limit = self.dead_letters;
        let request = Request::script(&self.tag, &holder.scripts.bury, &keys).arg((
            holder.token,
            id.0,
            reason,
            attempts,
            limit,
        ));
        if let Value::Int(dropped @ 1..) = connection.ask(request).await? {
            tracing::warn!(dropped, limit, queue = self.label, "too many dead letters");
        }
        Ok(())
    }

    /// How many items have not ended.
    pub(super) fn depth(&self) -> Request {
        let mut command = redis::cmd("HLEN");
        command.arg(&self.items);
        Request::read(&self.tag, command)
    }
}

fn read<T: redis::FromRedisValue>(value: Value) -> Result<T, Error> {
    T::from_redis_value(value).map_err(|error| Error::Malformed(error.to_string()))
}
