//! Dead letters: a stream beside the items.

use std::time::Duration;

use futures::future::join_all;
use redis::Value;
use serde::de::DeserializeOwned;
use thredcore::port::{DeadLetter, DeadLetterFilter, Unreadable};

use super::{
    items::{Items, millis},
    lightly,
    reply::{Entry, EntryId, entries},
    scripts::{DISCARD, OLDEST, REDRIVE, TRIM},
};
use crate::{Connection, Error, Request};

/// How many dead letters are read or moved at once.
const PAGE: usize = 500;

/// How many bytes of them are moved at once, at least one.
const BYTES: usize = 1 << 20;

/// Which dead letters are kept, of all partitions or topics together. The latest one is kept, however
/// large it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct LetterLimits {
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

impl LetterLimits {
    /// As the scripts take them.
    pub(super) fn args(&self) -> (u64, i64) {
        (self.bytes, millis(self.time))
    }
}

/// How many of the oldest letters of a place are looked at together.
const OLDEST_FEW: usize = 8;

/// Drops letters that are too old, and the oldest of all places as long as they are too many together;
/// says how many.
pub(super) async fn trim(connection: &Connection, places: &[Letters<'_>]) -> Result<u64, Error> {
    let Some(first) = places.first() else { return Ok(0) };
    let quota = first.0.letter_limits.bytes;
    let keys = |place: &Letters<'_>| [place.0.dead.clone(), place.0.dead_bytes.clone()];
    let request = |place: &Letters<'_>| {
        let [dead, bytes] = keys(place);
        lightly(&place.0.tag, &TRIM, &[&dead, &bytes]).arg(place.0.letter_limits.args())
    };
    let mut dropped = 0;
    let requests: Vec<_> = places.iter().map(request).collect();
    for (place, answer) in places.iter().zip(connection.send(&requests).await) {
        if let Value::Int(letters) = answer? {
            dropped += place.0.dropped(letters);
        }
    }
    loop {
        let request = |place: &Letters<'_>| {
            let [dead, bytes] = keys(place);
            lightly(&place.0.tag, &OLDEST, &[&dead, &bytes]).arg(OLDEST_FEW)
        };
        let requests: Vec<_> = places.iter().map(request).collect();
        let (mut total, mut left, mut oldest) = (0, 0, vec![]);
        // Beyond the last that was seen of a place others may be older than what comes next.
        let mut horizon = EntryId(u64::MAX, u64::MAX);
        for (number, answer) in connection.send(&requests).await.into_iter().enumerate() {
            type Found = (i64, u64, Vec<(String, i64)>);
            let (bytes, letters, few): Found = redis::FromRedisValue::from_redis_value(answer?)
                .map_err(|error: redis::ParsingError| Error::Malformed(error.to_string()))?;
            (total, left) = (total + bytes, left + letters);
            let seen = few.len() as u64;
            let few = few.into_iter().filter_map(|(id, size)| Some((EntryId::parse(&id)?, size)));
            oldest.extend(few.map(|(id, size)| (id, number, size)));
            if seen < letters
                && let Some((last, ..)) = oldest.last()
            {
                horizon = horizon.min(*last);
            }
        }
        oldest.sort_unstable();
        let mut gone: Vec<(usize, Request)> = vec![];
        for (id, place, size) in oldest.into_iter().take_while(|(id, ..)| *id <= horizon) {
            if u64::try_from(total).unwrap_or(0) <= quota || left <= 1 {
                break;
            }
            (total, left) = (total - size, left - 1);
            gone.push((place, places[place].removal(false).arg(id.to_string())));
        }
        if gone.is_empty() {
            return Ok(dropped);
        }
        let (of, requests): (Vec<_>, Vec<_>) = gone.into_iter().unzip();
        for (place, answer) in of.into_iter().zip(connection.send(&requests).await) {
            if let Value::Int(letters) = answer? {
                dropped += places[place].0.dropped(letters);
            }
        }
    }
}

/// The dead letters of one partition or topic. Its label begins their ids.
#[derive(Debug)]
pub(super) struct Letters<'a>(pub(super) &'a Items);

/// A letter and its place among all.
pub(super) struct Found<T> {
    /// Which of the places it is at.
    place: usize,
    /// When it came there, in microseconds since the Unix epoch, and a number.
    id: EntryId,
    pub(super) letter: DeadLetter<T>,
}

/// Where a page begins: after a letter at a place.
#[derive(Clone, Copy)]
struct Start {
    place: Option<usize>,
    id: EntryId,
}

impl Start {
    fn after(places: &[Letters<'_>], id: &str) -> Result<Self, Error> {
        let parts = id.rsplit_once('/').and_then(|(label, id)| Some((label, EntryId::parse(id)?)));
        let (label, id) =
            parts.ok_or_else(|| Error::Config(format!("`{id}` is no id of a dead letter")))?;
        Ok(Self { place: places.iter().position(|place| place.0.label == label), id })
    }

    /// Where the letters of a place begin that come later.
    fn of(self, place: usize) -> String {
        let EntryId(at, _) = self.id;
        match self.place {
            Some(own) if own == place => format!("({}", self.id),
            Some(own) if own > place => format!("{}-0", at + 1),
            _ => format!("{at}-0"),
        }
    }
}

/// The letters that are meant, oldest first.
pub(super) async fn list<T: DeserializeOwned>(
    connection: &Connection,
    places: &[Letters<'_>],
    filter: &DeadLetterFilter,
) -> Result<Vec<Found<T>>, Error> {
    let start = filter.after.as_deref().map(|id| Start::after(places, id)).transpose()?;
    let lists = places.iter().enumerate().map(|(number, place)| {
        let from = start.map_or_else(|| "-".into(), |start| start.of(number));
        place.list(connection, number, from, filter)
    });
    let mut all = vec![];
    for list in join_all(lists).await {
        all.extend(list?);
    }
    all.sort_by_key(|found: &Found<T>| (found.id.0, found.place, found.id.1));
    all.truncate(filter.limit.unwrap_or(usize::MAX));
    Ok(all)
}

/// How a letter is written that is an item again.
pub(super) type Revive<T> = fn(&DeadLetter<T>) -> Result<Vec<u8>, Error>;

/// Puts letters into their queues again, as they are then, or just removes them; says how many there
/// were.
pub(super) async fn remove<T: DeserializeOwned>(
    connection: &Connection,
    places: &[Letters<'_>],
    filter: &DeadLetterFilter,
    revive: Option<Revive<T>>,
) -> Result<usize, Error> {
    let mut filter = filter.clone();
    let mut count = 0;
    loop {
        let left = filter.limit.unwrap_or(usize::MAX);
        let page = DeadLetterFilter { limit: Some(left.min(PAGE)), ..filter.clone() };
        let found: Vec<Found<T>> = list(connection, places, &page).await?;
        let Some(last) = found.last() else { return Ok(count) };
        filter.after = Some(last.letter.id.clone());
        filter.limit = filter.limit.map(|limit| limit - found.len());
        count += remove_page(connection, places, &found, revive).await?;
        if filter.limit == Some(0) {
            return Ok(count);
        }
    }
}

async fn remove_page<T>(
    connection: &Connection,
    places: &[Letters<'_>],
    found: &[Found<T>],
    revive: Option<Revive<T>>,
) -> Result<usize, Error> {
    let mut count = 0;
    for (number, place) in places.iter().enumerate() {
        let mut own: Vec<&Found<T>> = found.iter().filter(|it| it.place == number).rev().collect();
        while !own.is_empty() {
            let mut request = place.removal(revive.is_some());
            let mut bytes = 0;
            while bytes < BYTES
                && let Some(it) = own.pop()
            {
                request.push(it.id.to_string());
                if let Some(revive) = revive {
                    let payload = revive(&it.letter)?;
                    bytes += payload.len();
                    request.push(payload);
                }
            }
            count += connection.ask::<usize>(request).await?;
        }
    }
    Ok(count)
}

impl Letters<'_> {
    fn removal(&self, redrive: bool) -> Request {
        let Items { tag, label, items, order, waiting, last, dead, dead_bytes, .. } = self.0;
        if redrive {
            let keys = [&**items, order, waiting, last, dead, dead_bytes];
            Request::script(tag, &REDRIVE, &keys).arg(label)
        } else {
            Request::script(tag, &DISCARD, &[dead, dead_bytes])
        }
    }

    async fn page(
        &self,
        connection: &Connection,
        from: &str,
        count: usize,
    ) -> Result<Vec<Entry>, Error> {
        let mut command = redis::cmd("XRANGE");
        command.arg(&self.0.dead).arg(from).arg("+").arg("COUNT").arg(count);
        let value: Value = connection.ask(Request::read(&self.0.tag, command)).await?;
        entries(value)
    }

    async fn list<T: DeserializeOwned>(
        &self,
        connection: &Connection,
        place: usize,
        mut from: String,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<Found<T>>, Error> {
        let mut all = vec![];
        if !self.is_meant(filter) {
            return Ok(all);
        }
        let limit = filter.limit.unwrap_or(usize::MAX);
        while all.len() < limit {
            let page = self.page(connection, &from, limit.clamp(1, PAGE)).await?;
            let Some(last) = page.last() else { break };
            from = format!("({}", last.id);
            for entry in &page {
                let payload = match entry.item() {
                    Ok(payload) => payload,
                    Err(error) => {
                        tracing::warn!(%error, stream = self.0.dead, "a dead letter is not listed");
                        continue;
                    }
                };
                let EntryId(at, _) = entry.id;
                let letter = DeadLetter {
                    id: format!("{}/{}", self.0.label, entry.id),
                    payload,
                    reason: entry.text("reason"),
                    at: i64::try_from(at / 1000).unwrap_or(i64::MAX),
                    attempts: entry.text("attempts").parse().unwrap_or(0),
                    times: entry.text("times").parse().unwrap_or(0),
                    moved: serde_json::from_str(&entry.text("moved")).unwrap_or_default(),
                };
                if filter.matches(&letter) {
                    all.push(Found { place, id: entry.id, letter });
                }
            }
        }
        Ok(all)
    }

    /// Whether one of its letters can be meant.
    fn is_meant(&self, filter: &DeadLetterFilter) -> bool {
        let own = |id: &String| id.rsplit_once('/').is_some_and(|(label, _)| label == self.0.label);
        filter.ids.as_ref().is_none_or(|ids| ids.iter().any(own))
    }

    /// What cannot be read: items that were set aside, and letters. With `take` it is taken out.
    pub(super) async fn unreadable<T: DeserializeOwned>(
        &self,
        connection: &Connection,
        kind: &str,
        limit: usize,
        take: bool,
    ) -> Result<Vec<Unreadable>, Error> {
        let mut found = vec![];
        let mut gone = vec![];
        let mut command = redis::cmd("HGETALL");
        command.arg(&self.0.aside);
        let aside: Vec<(String, Vec<u8>)> =
            connection.ask(Request::read(&self.0.tag, command)).await?;
        for (id, payload) in aside.into_iter().take(limit) {
            let reason = match serde_json::from_slice::<T>(&payload) {
                Ok(_) => "it could not be read by an earlier version".into(),
                Err(error) => error.to_string(),
            };
            found.push(unreadable(kind, format!("{}/{id}", self.0.label), reason, &payload));
            let mut command = redis::cmd("HDEL");
            command.arg(&self.0.aside).arg(id);
            gone.push(Request::write(&self.0.tag, command));
        }
        let mut from = "-".to_owned();
        while found.len() < limit {
            let page = self.page(connection, &from, PAGE).await?;
            let Some(last) = page.last() else { break };
            from = format!("({}", last.id);
            for entry in page.iter().take(limit - found.len()) {
                let Err(error) = entry.item::<T>() else { continue };
                let key = format!("dead letter {}/{}", self.0.label, entry.id);
                let payload = entry.field("p").unwrap_or_default();
                found.push(unreadable(kind, key, error.to_string(), payload));
                gone.push(self.removal(false).arg(entry.id.to_string()));
            }
        }
        if take {
            connection.send(&gone).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        Ok(found)
    }
}

fn unreadable(kind: &str, key: String, reason: String, payload: &[u8]) -> Unreadable {
    Unreadable { kind: kind.into(), key, reason, content: Unreadable::excerpt(payload) }
}

/// What cannot be read at several places.
pub(super) async fn all_unreadable<T: DeserializeOwned>(
    connection: &Connection,
    places: &[Letters<'_>],
    kind: &str,
    limit: usize,
    take: bool,
) -> Result<Vec<Unreadable>, Error> {
    let mut found = vec![];
    for place in places {
        let left = limit - found.len();
        if left == 0 {
            break;
        }
        found.extend(place.unreadable::<T>(connection, kind, left, take).await?);
    }
    Ok(found)
}
