//! Threds, each with its outbox and its timer.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use futures::future::join_all;
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
    writes::PER_CALL,
};
use crate::{connection::Request, error::Error, keys::PartitionKeys};

script!(LOAD, "load.lua");
script!(PENDING, "pending.lua");
script!(DUE, "due.lua");

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
}

#[async_trait]
impl ThredStore for RedisStorage {
    fn partitions(&self) -> u16 {
        self.0.partitions.len() as u16
    }

    async fn load(&self, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, PortError> {
        let calls = self.calls(ids.iter());
        let request = |(partition, places): &(usize, Vec<usize>)| {
            let keys = &self.0.partitions[*partition];
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
        let with_step = self.0.steps_per_partition > 0;
        let mut sent = vec![];
        for (partition, places) in self.calls(commits.iter().map(|commit| &commit.state.id)) {
            let (mut written, mut of) = (vec![], vec![]);
            for place in places {
                match Written::new(&commits[place], with_step) {
                    Ok(commit) => {
                        written.push(commit);
                        of.push(place);
                    }
                    Err(error) => answers[place] = Some(Err(error.of("commit"))),
                }
            }
            sent.push((of, self.write(partition, written, vec![])));
        }
        let (places, sent): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
        for (places, done) in places.into_iter().zip(join_all(sent).await) {
            for (number, place) in places.into_iter().enumerate() {
                answers[place] = Some(match &done {
                    Ok(codes) => committed(codes.get(number).copied()),
                    Err(error) => Err(error.clone().of("commit")),
                });
            }
        }
        let none = || Err(Error::Malformed("a commit has no answer".into()).of("commit"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(none)).collect()
    }

    async fn clear_outbox(&self, published: &[(ThredId, Vec<MessageId>)]) -> Result<(), PortError> {
        let clear = |(partition, places): (usize, Vec<usize>)| {
            let clears = places.into_iter().map(|place| {
                let (thred, entries) = &published[place];
                (thred.clone(), record::published(entries))
            });
            self.write(partition, vec![], clears.collect())
        };
        let calls = self.calls(published.iter().map(|(id, _)| id)).into_iter();
        let done = join_all(calls.map(clear)).await.into_iter();
        let done = done.collect::<Result<Vec<_>, _>>();
        done.map(drop).map_err(|error| error.of("clear outboxes"))
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

fn committed(code: Option<u8>) -> Result<Committed, PortError> {
    match code {
        Some(b'A') => Ok(Committed::Applied),
        Some(b'D') => Ok(Committed::Duplicate),
        Some(b'C') => Ok(Committed::Conflict),
        _ => Err(Error::Malformed("the stored thred is not what this version writes".into())
            .of("commit")),
    }
}
