//! Threds, each with its outbox and its timer.

use std::sync::Arc;

use async_trait::async_trait;
use redis::Value;
use thredcore::{
    port::{
        Commit, Committed, Due, Loaded, PendingOutbox, PortError, ThredPage, ThredQuery,
        ThredStore, Timer,
    },
    state::PatternKey,
};
use thredlib::{MessageId, ThredId};

use super::{
    RedisStorage, query,
    record::{self, Written},
    script,
};
use crate::{connection::Request, error::Error, keys::PartitionKeys};

script!(COMMIT, "commit.lua");
script!(LOAD, "load.lua");
script!(CLEAR, "clear.lua");
script!(PENDING, "pending.lua");
script!(DUE, "due.lua");

/// The most threds that one script call is about: the server does nothing else meanwhile.
const PER_CALL: usize = 128;

impl RedisStorage {
    /// Sorts places by partition, and gives the calls to make for each.
    fn calls<'t>(
        &self,
        ids: impl Iterator<Item = &'t ThredId>,
    ) -> Vec<(&PartitionKeys, Vec<usize>)> {
        let mut by_partition: Vec<Vec<usize>> = vec![vec![]; self.0.partitions.len()];
        for (place, id) in ids.enumerate() {
            by_partition[self.partition_of(id.as_str())].push(place);
        }
        let parts = self.0.partitions.iter().zip(by_partition);
        let mut calls = vec![];
        for (keys, places) in parts {
            calls.extend(places.chunks(PER_CALL).map(|call| (keys, call.to_vec())));
        }
        calls
    }

    /// The call for commits of one partition. Those that cannot be written are answered.
    fn commit_call(
        &self,
        keys: &PartitionKeys,
        commits: &[Arc<Commit>],
        places: Vec<usize>,
        answers: &mut [Option<Result<Committed, PortError>>],
    ) -> (Request, Vec<usize>) {
        let steps = self.0.steps_per_partition;
        let names = [
            &*keys.threds,
            &keys.outboxes,
            &keys.unpublished,
            &keys.timers,
            &keys.listeners,
            &keys.started,
            &keys.ended,
            &keys.history,
            &keys.mark,
        ];
        let mut call = Request::script(&keys.tag, &COMMIT, &names);
        call.push(self.0.ended_per_partition);
        call.push(steps);
        call.push(i32::from(self.0.connection.config().wait.is_some()));
        let mut sent = Vec::with_capacity(places.len());
        for place in places {
            let commit = &*commits[place];
            let written = match Written::new(commit, steps > 0) {
                Ok(written) => written,
                Err(error) => {
                    answers[place] = Some(Err(error.of("commit")));
                    continue;
                }
            };
            call.push(commit.state.id.as_str());
            call.push(commit.expected);
            call.push(written.consumed);
            call.push(written.head);
            call.push(written.status.to_string());
            call.push(written.timer);
            call.push(written.due);
            call.push(written.place);
            call.push(written.tail);
            call.push(commit.state.started_at);
            call.push(written.outbox);
            call.push(written.made);
            call.push(written.outbox_ids);
            call.push(written.step);
            sent.push(place);
        }
        (call, sent)
    }
}

#[async_trait]
impl ThredStore for RedisStorage {
    fn partitions(&self) -> u16 {
        self.0.partitions.len() as u16
    }

    async fn load(&self, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, PortError> {
        let calls = self.calls(ids.iter());
        let request = |(keys, places): &(&PartitionKeys, Vec<usize>)| {
            let names = [&*keys.threds, &keys.outboxes, &keys.unpublished];
            let mut request = Request::asking_script(&keys.tag, &LOAD, &names);
            places.iter().for_each(|place| request.push(ids[*place].as_str()));
            request
        };
        let requests: Vec<_> = calls.iter().map(request).collect();
        type Found = (Vec<Option<String>>, Vec<(usize, String, String)>);
        let found: Vec<Found> = self.all("load", &requests).await?;
        let mut loaded = vec![None; ids.len()];
        for ((_, places), (records, outboxes)) in calls.into_iter().zip(found) {
            for (place, record) in places.iter().zip(records) {
                let Some(record) = record else { continue };
                let state = record::state(ids[*place].clone(), &record);
                let state = state.map_err(|error| error.of("load"))?;
                loaded[*place] = Some(Loaded { state, outbox: vec![] });
            }
            for (at, entry_ids, entries) in outboxes {
                let thred = places.get(at).and_then(|place| loaded[*place].as_mut());
                let outbox = record::outbox(&entry_ids, &entries);
                if let Some(thred) = thred {
                    thred.outbox = outbox.map_err(|error| error.of("load"))?;
                }
            }
        }
        Ok(loaded)
    }

    async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Result<Committed, PortError>> {
        let mut answers: Vec<Option<Result<Committed, PortError>>> = Vec::new();
        answers.resize_with(commits.len(), || None);
        let (mut requests, mut sent) = (vec![], vec![]);
        for (keys, places) in self.calls(commits.iter().map(|commit| &commit.state.id)) {
            let (request, places) = self.commit_call(keys, commits, places, &mut answers);
            if !places.is_empty() {
                requests.push(request);
                sent.push(places);
            }
        }
        let found = self.0.connection.send(&requests).await;
        for (places, answer) in sent.into_iter().zip(found) {
            let codes = answer.and_then(|value| match value {
                Value::BulkString(codes) if codes.len() == places.len() => Ok(codes),
                other => Err(Error::Malformed(format!("commit.lua answered {other:?}"))),
            });
            match codes {
                Ok(codes) => {
                    for (place, code) in places.into_iter().zip(codes) {
                        answers[place] = Some(committed(code));
                    }
                }
                Err(error) => {
                    for place in places {
                        answers[place] = Some(Err(error.clone().of("commit")));
                    }
                }
            }
        }
        let none = || Err(Error::Malformed("a commit has no answer".into()).of("commit"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(none)).collect()
    }

    async fn clear_outbox(&self, published: &[(ThredId, Vec<MessageId>)]) -> Result<(), PortError> {
        let request = |(keys, places): (&PartitionKeys, Vec<usize>)| {
            let mut request =
                Request::script(&keys.tag, &CLEAR, &[&keys.outboxes, &keys.unpublished]);
            for place in places {
                let (id, entries) = &published[place];
                request.push(id.as_str());
                request.push(record::published(entries));
            }
            request
        };
        let calls = self.calls(published.iter().map(|(id, _)| id)).into_iter();
        let requests: Vec<_> = calls.map(request).collect();
        self.all::<i64>("clear outboxes", &requests).await.map(drop)
    }

    async fn pending_outboxes(
        &self,
        partition: u16,
        made_before: i64,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        let Some(keys) = self.0.partitions.get(usize::from(partition)) else { return Ok(vec![]) };
        let request =
            Request::asking_script(&keys.tag, &PENDING, &[&keys.outboxes, &keys.unpublished]);
        let request = request.arg(made_before).arg(limit);
        let found: Vec<(String, String, String)> = self.one("find outboxes", request).await?;
        let pending = |(id, ids, entries): (String, String, String)| {
            let entries =
                record::outbox(&ids, &entries).map_err(|error| error.of("find outboxes"))?;
            Ok(PendingOutbox { thred_id: ThredId::new(id), entries })
        };
        found.into_iter().map(pending).collect()
    }

    async fn due(&self, partition: u16, at: i64, limit: usize) -> Result<Due, PortError> {
        let Some(keys) = self.0.partitions.get(usize::from(partition)) else {
            return Ok(Due::default());
        };
        let request = Request::asking_script(&keys.tag, &DUE, &[&keys.timers, &keys.threds]);
        let request = request.arg(at).arg(limit);
        let (found, next): (Vec<(String, String)>, String) =
            self.one("find timers", request).await?;
        let timer = |(id, timer): (String, String)| {
            let (due, entry) = timer.split_once(':')?;
            let (due, entry) = (due.parse().ok()?, entry.parse().ok()?);
            (due <= at).then_some(Timer { at: due, thred_id: ThredId::new(id), entry })
        };
        // Scores are doubles; far beyond any date they are not exact, and `as` saturates.
        let next = next.parse::<f64>().ok().map(|next| next as i64);
        Ok(Due { timers: found.into_iter().filter_map(timer).collect(), next })
    }

    async fn threds(&self, query: &ThredQuery) -> Result<ThredPage, PortError> {
        query::page(self, query).await
    }

    async fn listeners(
        &self,
        pattern: &PatternKey,
        reaction: &str,
    ) -> Result<Vec<ThredId>, PortError> {
        let place = record::place(pattern, reaction);
        let request = |keys: &PartitionKeys| {
            let mut command = redis::cmd("ZRANGEBYLEX");
            // A newline is what comes behind a tab.
            command.arg(&keys.listeners).arg(format!("[{place}\t")).arg(format!("({place}\n"));
            Request::read(&keys.tag, command)
        };
        let requests: Vec<_> = self.0.partitions.iter().map(request).collect();
        let found: Vec<Vec<String>> = self.all("find listeners", &requests).await?;
        let id = |member: String| member.get(place.len() + 1..).map(ThredId::new);
        Ok(found.into_iter().flatten().filter_map(id).collect())
    }
}

fn committed(code: u8) -> Result<Committed, PortError> {
    match code {
        b'A' => Ok(Committed::Applied),
        b'D' => Ok(Committed::Duplicate),
        b'C' => Ok(Committed::Conflict),
        _ => Err(Error::Malformed("the stored thred is not what this version writes".into())
            .of("commit")),
    }
}
