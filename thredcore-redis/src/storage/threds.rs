//! Threds, each with its outbox and its timer.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use futures::future::join_all;
use thredcore::{
    port::{
        Cleared, Commit, Committed, Due, Ended, Loaded, ParkedTopic, PendingOutbox, PortError,
        ThredCount, ThredPage, ThredQuery, ThredStore, Timer,
    },
    state::{PatternKey, Status, WaitKey},
};
use thredlib::{ThredId, Topic};

use super::{
    RedisStorage, outbox, query,
    record::{self, Written},
    script, text,
    writes::{Clear, PER_CALL},
};
use crate::{connection::Request, error::Error, keys::PartitionKeys};

script!(LOAD, "load.lua");
script!(PENDING, "pending.lua");
script!(SET_ASIDE, "set_aside.lua");
script!(PARKED, "parked_outboxes.lua");
script!(PARKED_TOPICS, "parked_topics.lua");
script!(DUE, "due.lua");
script!(WAITING, "waiting.lua");
script!(SURPLUS, "surplus.lua");
script!(FORGET, "forget.lua");

/// Text as it came, which may be none.
type Bytes = Vec<u8>;

impl RedisStorage {
    /// Sorts places by partition, and gives the calls to make, each with its partition. No call is
    /// about a thred twice.
    fn calls<'t>(&self, ids: impl Iterator<Item = &'t ThredId>) -> Vec<(usize, Vec<usize>)> {
        let mut calls: Vec<(usize, Vec<usize>)> = vec![];
        let mut last: Vec<Option<usize>> = vec![None; self.0.partitions.len()];
        let mut seen = HashSet::new();
        for (place, id) in ids.enumerate() {
            let partition = self.partition_of(id.as_str());
            let is_first = seen.insert(id);
            match last[partition].map(|call| &mut calls[call].1) {
                Some(places) if is_first && places.len() < PER_CALL => places.push(place),
                _ => {
                    last[partition] = Some(calls.len());
                    calls.push((partition, vec![place]));
                }
            }
        }
        calls
    }

    fn keys(&self, partition: u16) -> Option<&PartitionKeys> {
        self.0.partitions.get(usize::from(partition))
    }

    /// Reads outboxes as scripts give them. One that cannot be read is left where it is, and out of
    /// the way of the others.
    async fn outboxes(
        &self,
        keys: &PartitionKeys,
        found: Vec<(Bytes, Bytes, Bytes)>,
    ) -> Vec<PendingOutbox> {
        let mut outboxes = vec![];
        for (id, entries, lines) in found {
            let id = ThredId::new(String::from_utf8_lossy(&id).into_owned());
            match outbox::outbox(&entries, &lines) {
                Ok(entries) => outboxes.push(PendingOutbox { thred_id: id, entries }),
                Err(error) => {
                    tracing::warn!(%error, thred = %id, "an outbox cannot be read, and is set aside");
                    let names = [&*keys.entries, &keys.resting];
                    let request = Request::script(&keys.tag, &SET_ASIDE, &names);
                    // If that fails it is found again.
                    let _ = self.0.connection.send(&[request.arg(id.as_str())]).await;
                }
            }
        }
        outboxes
    }
}

#[async_trait]
impl ThredStore for RedisStorage {
    fn partitions(&self) -> u16 {
        self.0.partitions.len() as u16
    }

    fn max_commit_bytes(&self) -> usize {
        self.0.connection.config().max_commit_bytes
    }

    async fn load(&self, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, PortError> {
        let calls = self.calls(ids.iter());
        let request = |(partition, places): &(usize, Vec<usize>)| {
            let keys = &self.0.partitions[*partition];
            let names = [&*keys.threds, &keys.outboxes, &keys.entries, &keys.resting];
            let mut request = Request::asking_script(&keys.tag, &LOAD, &names);
            places.iter().for_each(|place| request.push(ids[*place].as_str()));
            request
        };
        let requests: Vec<_> = calls.iter().map(request).collect();
        type Found = (Vec<Option<Bytes>>, Vec<(usize, Bytes, Bytes)>);
        let found: Vec<Found> = self.all("load", &requests).await?;
        let mut loaded = vec![None; ids.len()];
        for ((_, places), (records, outboxes)) in calls.into_iter().zip(found) {
            for (place, record) in places.iter().zip(records) {
                let state = record.and_then(|record| readable(&ids[*place], &record));
                loaded[*place] = state.map(|state| Loaded { state, outbox: vec![] });
            }
            for (at, entries, lines) in outboxes {
                let Some(place) = places.get(at) else { continue };
                let Some(thred) = loaded[*place].as_mut() else { continue };
                match outbox::outbox(&entries, &lines) {
                    Ok(outbox) => thred.outbox = outbox,
                    Err(error) => {
                        tracing::warn!(%error, thred = %ids[*place], "an outbox cannot be read");
                    }
                }
            }
        }
        Ok(loaded)
    }

    async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Result<Committed, PortError>> {
        let mut answers: Vec<Option<Result<Committed, PortError>>> = Vec::new();
        answers.resize_with(commits.len(), || None);
        let with_step = self.0.steps_per_partition > 0;
        let mut sent = vec![];
        for (partition, places) in self.calls(commits.iter().map(|commit| &commit.state.id)) {
            let (mut written, mut of) = (vec![], vec![]);
            for place in places {
                match self.written(&commits[place], with_step) {
                    Ok(commit) => {
                        written.push(commit);
                        of.push(place);
                    }
                    Err(error) => answers[place] = Some(Err(error.of("commit"))),
                }
            }
            sent.push((of, self.write(partition, written)));
        }
        let (places, sent): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
        for (places, done) in places.into_iter().zip(join_all(sent).await) {
            for (place, answer) in places.into_iter().zip(done) {
                let answer = answer.map(|code| committed(code, &commits[place].state.id));
                answers[place] = Some(answer.map_err(|error| error.of("commit")));
            }
        }
        let none = || Err(Error::lost().of("commit"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(none)).collect()
    }

    async fn clear_outbox(&self, cleared: &[Cleared]) -> Result<(), PortError> {
        let clear = |(partition, places): (usize, Vec<usize>)| {
            let clears = places.into_iter().map(|place| {
                let Cleared { thred, published, parked } = &cleared[place];
                Clear {
                    thred: thred.clone(),
                    published: outbox::ids(published),
                    parked: outbox::ids(parked),
                }
            });
            self.clear(partition, clears.collect())
        };
        let calls = self.calls(cleared.iter().map(|cleared| &cleared.thred)).into_iter();
        let done = join_all(calls.map(clear)).await.into_iter();
        done.collect::<Result<(), _>>().map_err(|error| error.of("clear outboxes"))
    }

    async fn pending_outboxes(
        &self,
        partition: u16,
        made_before: i64,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        let Some(keys) = self.keys(partition) else { return Ok(vec![]) };
        let names = [&*keys.outboxes, &keys.entries];
        let request = Request::asking_script(&keys.tag, &PENDING, &names);
        let request = request.arg(made_before).arg(at_most(limit));
        let found = self.one("find outboxes", request).await?;
        Ok(self.outboxes(keys, found).await)
    }

    async fn parked_topics(&self) -> Result<Vec<ParkedTopic>, PortError> {
        let request = |keys: &PartitionKeys| {
            let names = [&*keys.parked, &keys.parked_topics];
            Request::asking_script(&keys.tag, &PARKED_TOPICS, &names)
        };
        let requests: Vec<_> = self.0.partitions.iter().map(request).collect();
        let found: Vec<Vec<(String, u64, i64)>> = self.all("find parked topics", &requests).await?;
        let mut topics: BTreeMap<String, ParkedTopic> = BTreeMap::new();
        for (name, messages, oldest) in found.into_iter().flatten() {
            let topic = Topic::from(&*text::unescape(&name));
            let entry = topics.entry(name);
            let all = entry.or_insert(ParkedTopic { topic, messages: 0, oldest });
            all.messages += messages;
            all.oldest = all.oldest.min(oldest);
        }
        let mut topics: Vec<_> = topics.into_values().collect();
        topics.sort_by(|a, b| a.topic.cmp(&b.topic));
        Ok(topics)
    }

    async fn parked_outboxes(
        &self,
        partition: u16,
        topic: &Topic,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        let Some(keys) = self.keys(partition) else { return Ok(vec![]) };
        let names = [&*keys.outboxes, &keys.entries, &keys.resting, &keys.parked];
        let request = Request::asking_script(&keys.tag, &PARKED, &names);
        let request = request.arg(&*text::escape(topic.as_str())).arg(at_most(limit));
        let found = self.one("find parked outboxes", request).await?;
        Ok(self.outboxes(keys, found).await)
    }

    async fn due(
        &self,
        partition: u16,
        at: i64,
        after: Option<&Timer>,
        limit: usize,
    ) -> Result<Due, PortError> {
        let Some(keys) = self.keys(partition) else { return Ok(Due::default()) };
        let from = match after {
            Some(Timer { at, thred_id, entry }) => {
                format!("({}\t{thred_id}\t{entry}", text::sortable(*at))
            }
            None => "-".into(),
        };
        let to = match at.checked_add(1) {
            Some(behind) => format!("({}", text::sortable(behind)),
            None => "+".into(),
        };
        let request = Request::asking_script(&keys.tag, &DUE, &[&keys.timers]);
        let request = request.arg(from).arg(to).arg(at_most(limit));
        let (due, next): (Vec<String>, Vec<String>) = self.one("find timers", request).await?;
        let timer = |member: &String| {
            let (at, rest) = member.split_once('\t')?;
            let (id, entry) = rest.rsplit_once('\t')?;
            let at = text::from_sortable(at)?;
            Some(Timer { at, thred_id: ThredId::new(id), entry: entry.parse().ok()? })
        };
        let next = next.first().and_then(timer).map(|timer| timer.at);
        Ok(Due { timers: due.iter().filter_map(timer).collect(), next })
    }

    async fn threds(&self, query: &ThredQuery) -> Result<ThredPage, PortError> {
        query::page(self, query).await
    }

    async fn counts(&self) -> Result<Vec<ThredCount>, PortError> {
        let mut counts: BTreeMap<(PatternKey, Arc<str>, Status), u64> = BTreeMap::new();
        for places in self.places("count threds").await? {
            for (place, threds) in places.into_iter().filter(|(place, _)| place.status.is_live()) {
                let kind = (place.pattern, place.reaction, place.status);
                *counts.entry(kind).or_default() += threds;
            }
        }
        let count = |((pattern, reaction, status), threds)| ThredCount {
            pattern,
            reaction,
            status,
            threds,
        };
        Ok(counts.into_iter().map(count).collect())
    }

    async fn waiting(
        &self,
        keys: &[WaitKey],
        after: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<ThredId>, PortError> {
        let request = |of: &PartitionKeys, some: &[WaitKey]| {
            let request = Request::asking_script(&of.tag, &WAITING, &[&of.waits]);
            let mut request = request.arg(after.map_or("", ThredId::as_str)).arg(at_most(limit));
            some.iter().for_each(|key| request.push(text::encode(key.as_bytes())));
            request
        };
        let some = keys.chunks(KEYS_PER_CALL);
        let of_all = |some| self.0.partitions.iter().map(move |of| request(of, some));
        let requests: Vec<_> = some.flat_map(of_all).collect();
        let found: Vec<Vec<String>> = self.all("find waiting threds", &requests).await?;
        let mut ids: Vec<_> = found.into_iter().flatten().collect();
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(limit);
        Ok(ids.into_iter().map(ThredId::new).collect())
    }

    async fn surplus(
        &self,
        partition: u16,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Ended>, PortError> {
        const OPERATION: &str = "find ended threds";
        let Some(keys) = self.keys(partition) else { return Ok(vec![]) };
        let names = [&*keys.ended, &keys.outboxes, &keys.threds];
        let request = Request::asking_script(&keys.tag, &SURPLUS, &names);
        let request = request.arg(self.0.ended_per_partition).arg(at_most(skip));
        let request = request.arg(at_most(limit));
        let found: Vec<(String, Bytes)> = self.one(OPERATION, request).await?;
        let mut ended = vec![];
        for (id, lines) in found {
            match record::inbox(&lines) {
                Ok(inbox) => ended.push(Ended { thred: ThredId::new(id), inbox }),
                Err(error) => {
                    tracing::warn!(%error, thred = id, "an ended thred cannot be read");
                    let mut command = redis::cmd("ZREM");
                    command.arg(&keys.ended).arg(id);
                    self.one::<i64>(OPERATION, Request::write(&keys.tag, command)).await?;
                }
            }
        }
        Ok(ended)
    }

    async fn forget(&self, threds: &[ThredId]) -> Result<(), PortError> {
        let request = |(partition, places): (usize, Vec<usize>)| {
            let keys = &self.0.partitions[partition];
            let names = [&*keys.threds, &keys.outboxes, &keys.ended, &keys.ended_starts];
            let mut request = Request::script(&keys.tag, &FORGET, &names);
            places.iter().for_each(|place| request.push(threds[*place].as_str()));
            request
        };
        let requests: Vec<_> = self.calls(threds.iter()).into_iter().map(request).collect();
        self.all::<i64>("forget threds", &requests).await.map(drop)
    }
}

/// How many keys one call of a script is about.
pub(super) const KEYS_PER_CALL: usize = 512;

/// A limit as the server takes it.
pub(super) fn at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).min(1 << 52)
}

/// A thred's state; one that cannot be read is left where it is.
pub(super) fn readable(id: &ThredId, record: &[u8]) -> Option<Arc<thredcore::state::ThredState>> {
    let state = record::state(id.clone(), record);
    let warn = |error: &Error| {
        let record = record::lossy(record);
        tracing::warn!(%error, thred = %id, %record, "a thred cannot be read, and is passed over");
    };
    state.inspect_err(warn).ok()
}

fn committed(code: u8, id: &ThredId) -> Committed {
    match code {
        b'A' => Committed::Applied,
        b'D' => Committed::Duplicate,
        b'C' => Committed::Conflict,
        _ => {
            tracing::warn!(thred = %id, "a thred cannot be read, and nothing is committed to it");
            Committed::Conflict
        }
    }
}

impl RedisStorage {
    /// A commit as it is sent, if it is not too large.
    fn written(&self, commit: &Commit, with_step: bool) -> Result<Written, Error> {
        let limit = self.max_commit_bytes();
        let written = Written::new(commit, self.0.connection.format(), with_step)?;
        // What is sent is less than the size that is promised.
        if written.bytes() > limit && commit.size() > limit {
            return Err(Error::TooLarge { what: "a commit", bytes: commit.size(), limit });
        }
        Ok(written)
    }
}
