//! Pages of threds, by way of an index.
//!
//! Each index is a sorted set for each partition: what threds are looked up by, then their place
//! among the pages. A page is merged from as many lanes as there are values that fit; states are
//! read of those that are next in line, and of no others.

use std::{cmp::Reverse, collections::BinaryHeap, collections::VecDeque, sync::Arc};

use redis::{FromRedisValue, Value};
use thredcore::{
    port::{PortError, ThredPage, ThredQuery},
    state::{Status, ThredState, WaitKey},
};
use thredlib::{ParticipantId, ThredId};

use super::{RedisStorage, record::Place, script, text, threds::readable};
use crate::{connection::Request, error::Error, keys::PartitionKeys};

script!(ENDED, "ended.lua");

const OPERATION: &str = "query threds";

/// How many members of an index are read of a lane at once, and how many states at once.
const AT_ONCE: usize = 256;

/// Start and id of a thred: its place among the pages.
type Position = (i64, String);

/// The threds of one partition that have one value, in the order of pages.
struct Lane<'s> {
    keys: &'s PartitionKeys,
    index: &'s str,
    prefix: String,
    /// Of ended threds, which have no index by values: what their heads must say.
    heads: Option<Heads>,
    read: VecDeque<Position>,
    /// Where to read on.
    from: String,
    to: String,
    more: bool,
}

/// Pattern, reaction and participant, with a tab before each, or empty.
#[derive(Clone)]
struct Heads([String; 3]);

impl Heads {
    fn of(query: &ThredQuery) -> Self {
        let text = |text: Option<&str>| {
            text.map(|text| format!("\t{}", text::escape(text))).unwrap_or_default()
        };
        Self([
            text(query.pattern.as_ref().map(|id| id.as_str())),
            text(query.reaction.as_deref()),
            text(query.participant.as_ref().map(|id| id.as_str())),
        ])
    }
}

/// How many ended threds are looked at together: more than are read, for most are not meant.
const LOOKED_AT: usize = 512;

/// What a lane has answered: members of its index, and how to go on.
struct More {
    members: Vec<String>,
    last: Option<String>,
}

impl Lane<'_> {
    fn request(&self, count: usize) -> Request {
        let tag = &self.keys.tag;
        match &self.heads {
            None => {
                let mut command = redis::cmd("ZRANGEBYLEX");
                command.arg(self.index).arg(&self.from).arg(&self.to);
                Request::read(tag, command.arg("LIMIT").arg(0).arg(count).to_owned())
            }
            Some(Heads(texts)) => {
                let names = [self.index, &self.keys.threds];
                let request = Request::asking_script(tag, &ENDED, &names);
                request.arg(&self.from).arg(&self.to).arg(LOOKED_AT).arg(&texts[..])
            }
        }
    }

    fn answer(&self, value: Value, count: usize) -> Result<More, Error> {
        fn read<T: FromRedisValue>(value: Value) -> Result<T, Error> {
            T::from_redis_value(value).map_err(|error| Error::Malformed(error.to_string()))
        }
        if self.heads.is_some() {
            let (last, members): (String, Vec<String>) = read(value)?;
            return Ok(More { members, last: Some(last).filter(|last| !last.is_empty()) });
        }
        let members: Vec<String> = read(value)?;
        let last = members.last().filter(|_| members.len() >= count).cloned();
        Ok(More { members, last })
    }

    fn take_up(&mut self, More { members, last }: More) {
        self.more = last.is_some();
        if let Some(last) = last {
            self.from = format!("({last}");
        }
        let position = |member: &String| {
            let (start, id) = member.get(self.prefix.len()..)?.split_once('\t')?;
            Some((text::from_sortable(start)?, id.to_owned()))
        };
        self.read.extend(members.iter().filter_map(position));
    }
}

/// Gathers one page.
pub(super) async fn page(
    storage: &RedisStorage,
    query: &ThredQuery,
) -> Result<ThredPage, PortError> {
    let after = query.start()?.map(|(start, id)| (start, id.to_owned()));
    if let Some(key) = &query.key {
        return waiting(storage, query, key, after).await;
    }
    let mut lanes = lanes(storage, query, after).await?;
    let wanted = query.page_size().saturating_add(1);
    let mut threds: Vec<Arc<ThredState>> = vec![];
    while threds.len() < wanted {
        let ids = next(storage, &mut lanes, (wanted - threds.len()).min(AT_ONCE)).await?;
        if ids.is_empty() {
            break;
        }
        let states = states(storage, &ids).await?;
        threds.extend(states.into_iter().filter(|state| query.matches(state)));
    }
    Ok(ThredPage::of(query, threds))
}

/// The lanes of the index that leaves the fewest threds to look at.
async fn lanes<'s>(
    storage: &'s RedisStorage,
    query: &ThredQuery,
    after: Option<Position>,
) -> Result<Vec<Lane<'s>>, PortError> {
    let is_asked = |status: Status| match &*query.status {
        [] => status.is_live(),
        any => any.contains(&status),
    };
    let is_meant = |place: &Place| {
        is_asked(place.status)
            && query.pattern.as_ref().is_none_or(|id| *id == place.pattern.id)
            && query.reaction.as_ref().is_none_or(|name| *name == place.reaction)
    };
    let mut ended = vec![];
    if is_asked(Status::Terminated) {
        let heads = Heads::of(query);
        let partitions = storage.0.partitions.iter();
        ended.extend(partitions.map(|keys| Lane {
            heads: Some(heads.clone()),
            ..lane(keys, &keys.ended_starts, None, query, &after)
        }));
    }
    let mut places = storage.places(OPERATION).await?;
    places.iter_mut().for_each(|places| places.retain(|(place, _)| is_meant(place)));
    if let Some(participant) = &query.participant {
        let there: u64 = places.iter().flatten().map(|(_, threds)| threds).sum();
        let lanes = participant_lanes(storage, query, participant, &after);
        if members(storage, &lanes).await? <= there {
            return Ok(lanes.into_iter().chain(ended).collect());
        }
    }
    let lanes = storage.0.partitions.iter().zip(places).flat_map(|(keys, places)| {
        let lane = |(place, _): (Place, u64)| {
            lane(keys, &keys.places, Some(&place.to_string()), query, &after)
        };
        places.into_iter().map(lane).collect::<Vec<_>>()
    });
    Ok(lanes.chain(ended).collect())
}

fn participant_lanes<'s>(
    storage: &'s RedisStorage,
    query: &ThredQuery,
    participant: &ParticipantId,
    after: &Option<Position>,
) -> Vec<Lane<'s>> {
    let name = text::escape(participant.as_str());
    let partitions = storage.0.partitions.iter();
    partitions.map(|keys| lane(keys, &keys.participants, Some(&name), query, after)).collect()
}

fn lane<'s>(
    keys: &'s PartitionKeys,
    index: &'s str,
    value: Option<&str>,
    query: &ThredQuery,
    after: &Option<Position>,
) -> Lane<'s> {
    let prefix = value.map(|value| format!("{value}\t")).unwrap_or_default();
    let first = query.started_from.map(|start| (start, None));
    let after = after.as_ref().map(|(start, id)| (*start, Some(id)));
    let from = match first.max(after) {
        Some((start, None)) => format!("[{prefix}{}", text::sortable(start)),
        Some((start, Some(id))) => format!("({prefix}{}\t{id}", text::sortable(start)),
        None if prefix.is_empty() => "-".into(),
        None => format!("[{prefix}"),
    };
    let to = match (query.started_before, value) {
        (Some(start), _) => format!("({prefix}{}", text::sortable(start)),
        // A newline is what comes behind a tab.
        (None, Some(value)) => format!("({value}\n"),
        (None, None) => "+".into(),
    };
    Lane { keys, index, prefix, heads: None, read: VecDeque::new(), from, to, more: true }
}

/// How many threds there are in lanes.
async fn members(storage: &RedisStorage, lanes: &[Lane<'_>]) -> Result<u64, PortError> {
    let request = |lane: &Lane<'_>| {
        let mut command = redis::cmd("ZLEXCOUNT");
        command.arg(lane.index).arg(&lane.from).arg(&lane.to);
        Request::read(&lane.keys.tag, command)
    };
    let requests: Vec<_> = lanes.iter().map(request).collect();
    Ok(storage.all::<u64>(OPERATION, &requests).await?.into_iter().sum())
}

/// The threds that are next in line, in their order.
async fn next(
    storage: &RedisStorage,
    lanes: &mut [Lane<'_>],
    count: usize,
) -> Result<Vec<ThredId>, PortError> {
    let mut ids = vec![];
    read_on(storage, lanes, count).await?;
    let mut heads: BinaryHeap<_> = lanes.iter().enumerate().filter_map(head).collect();
    while ids.len() < count
        && let Some(Reverse((_, number))) = heads.pop()
    {
        let Some((_, id)) = lanes[number].read.pop_front() else { continue };
        ids.push(ThredId::new(id));
        if lanes[number].read.is_empty() && lanes[number].more {
            // What comes next may stand in this lane.
            break;
        }
        heads.extend(head((number, &lanes[number])));
    }
    Ok(ids)
}

fn head((number, lane): (usize, &Lane<'_>)) -> Option<Reverse<(Position, usize)>> {
    Some(Reverse((lane.read.front()?.clone(), number)))
}

/// Reads more of the lanes of which nothing is left that was read.
async fn read_on(
    storage: &RedisStorage,
    lanes: &mut [Lane<'_>],
    wanted: usize,
) -> Result<(), PortError> {
    let dry = |lane: &Lane<'_>| lane.more && lane.read.is_empty();
    // Of many lanes each has few of those that are wanted.
    let count = (2 * wanted / lanes.len().max(1)).clamp(4, AT_ONCE);
    // Of ended threds some pages may have none that is meant.
    while lanes.iter().any(dry) {
        let requests: Vec<_> =
            lanes.iter().filter(|lane| dry(lane)).map(|lane| lane.request(count)).collect();
        let found: Vec<Value> = storage.all(OPERATION, &requests).await?;
        for (lane, value) in lanes.iter_mut().filter(|lane| dry(lane)).zip(found) {
            let more = lane.answer(value, count).map_err(|error| error.of(OPERATION))?;
            lane.take_up(more);
        }
    }
    Ok(())
}

/// The states of threds, in the order of the ids, as far as they are there and can be read.
async fn states(
    storage: &RedisStorage,
    ids: &[ThredId],
) -> Result<Vec<Arc<ThredState>>, PortError> {
    let mut parts: Vec<Vec<usize>> = vec![vec![]; storage.0.partitions.len()];
    for (place, id) in ids.iter().enumerate() {
        parts[storage.partition_of(id.as_str())].push(place);
    }
    let parts: Vec<_> = storage.0.partitions.iter().zip(parts).collect();
    let parts: Vec<_> = parts.into_iter().filter(|(_, places)| !places.is_empty()).collect();
    let request = |(keys, places): &(&PartitionKeys, Vec<usize>)| {
        let mut command = redis::cmd("HMGET");
        command.arg(&keys.threds);
        places.iter().for_each(|place| _ = command.arg(ids[*place].as_str()));
        Request::read(&keys.tag, command)
    };
    let requests: Vec<_> = parts.iter().map(request).collect();
    let found: Vec<Vec<Option<Vec<u8>>>> = storage.all(OPERATION, &requests).await?;
    let mut states = vec![None; ids.len()];
    for ((_, places), records) in parts.into_iter().zip(found) {
        for (place, record) in places.into_iter().zip(records) {
            states[place] = record.and_then(|record| readable(&ids[place], &record));
        }
    }
    Ok(states.into_iter().flatten().collect())
}

/// A page of those that wait under a key: the index has them in the order of their ids, so all of
/// them are looked at.
async fn waiting(
    storage: &RedisStorage,
    query: &ThredQuery,
    key: &WaitKey,
    after: Option<Position>,
) -> Result<ThredPage, PortError> {
    let wanted = query.page_size().saturating_add(1);
    let key = text::encode(key.as_bytes());
    let mut first: BinaryHeap<ByPosition> = BinaryHeap::new();
    if !query.status.is_empty() && !query.status.contains(&Status::Active) {
        return Ok(ThredPage::default());
    }
    for keys in &storage.0.partitions {
        let mut from = format!("[{key}\t");
        loop {
            let mut command = redis::cmd("ZRANGEBYLEX");
            command.arg(&keys.waits).arg(&from).arg(format!("({key}\n"));
            command.arg("LIMIT").arg(0).arg(AT_ONCE);
            let request = Request::read(&keys.tag, command);
            let members: Vec<String> = storage.one(OPERATION, request).await?;
            let id = |member: &String| member.get(key.len() + 1..).map(ThredId::new);
            let ids: Vec<_> = members.iter().filter_map(id).collect();
            for state in states(storage, &ids).await? {
                let is_behind =
                    after.as_ref().is_none_or(|(at, id)| ThredPage::place(&state) > (*at, id));
                if is_behind && query.matches(&state) {
                    first.push(ByPosition(state));
                    if first.len() > wanted {
                        first.pop();
                    }
                }
            }
            match members.last() {
                Some(last) if members.len() == AT_ONCE => from = format!("({last}"),
                _ => break,
            }
        }
    }
    Ok(ThredPage::of(query, first.into_sorted_vec().into_iter().map(|ByPosition(state)| state)))
}

/// A state that sorts by its place among the pages.
struct ByPosition(Arc<ThredState>);

impl PartialEq for ByPosition {
    fn eq(&self, other: &Self) -> bool {
        ThredPage::place(&self.0) == ThredPage::place(&other.0)
    }
}

impl Eq for ByPosition {}

impl PartialOrd for ByPosition {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByPosition {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        ThredPage::place(&self.0).cmp(&ThredPage::place(&other.0))
    }
}
