//! Commits and clearings on their way: those of a partition that meet share a call.

use std::collections::HashSet;

use redis::Value;
use thredlib::ThredId;
use tokio::sync::oneshot;

use super::{RedisStorage, record::Written, script};
use crate::{connection::Request, error::Error, gather::Gathering};

script!(COMMIT, "commit.lua");

/// The most threds that one script call is about: the server does nothing else meanwhile.
pub(super) const PER_CALL: usize = 128;

/// How many bytes of several callers go into one call. A commit that is larger goes alone.
const BYTES: usize = 4 << 20;

/// What is to be cleared of one thred's outbox.
#[derive(Debug)]
pub(super) struct Clear {
    pub(super) thred: ThredId,
    /// The ids of entries, a line each.
    pub(super) published: String,
    pub(super) parked: String,
}

/// What one caller wants done: commits of different threds, or clearings.
#[derive(Debug)]
pub(super) struct Part {
    commits: Vec<Written>,
    clears: Vec<Clear>,
    answer: oneshot::Sender<Outcomes>,
}

/// How the commits of a part ended, or, of one without commits, its clearings.
type Outcomes = Vec<Result<u8, Error>>;

/// The outcome of clearings.
const CLEARED: u8 = b'K';

impl Part {
    fn len(&self) -> usize {
        self.commits.len() + self.clears.len()
    }

    fn bytes(&self) -> usize {
        let clears = self.clears.iter().map(|it| it.published.len() + it.parked.len());
        self.commits.iter().map(Written::bytes).sum::<usize>() + clears.sum::<usize>()
    }
}

/// What goes with the next call: no thred is committed or cleared twice by one.
///
/// A script that clears before it commits does what the callers want in any order: what is cleared
/// was committed by an earlier call.
fn next(waiting: &Gathering<Part>) -> Vec<Part> {
    let (mut commits, mut clears) = (HashSet::new(), HashSet::new());
    let (mut threds, mut bytes) = (0, 0);
    waiting.next(|part| {
        threds += part.len();
        bytes += part.bytes();
        let is_new = part.commits.iter().all(|commit| commits.insert(commit.thred.clone()))
            && part.clears.iter().all(|clear| clears.insert(clear.thred.clone()));
        is_new && threds <= PER_CALL && bytes <= BYTES
    })
}

/// Splits commits so that each part fits into a call, or has but one.
fn portions(commits: Vec<Written>) -> Vec<Vec<Written>> {
    let mut portions: Vec<Vec<Written>> = vec![];
    let mut bytes = 0;
    for commit in commits {
        bytes += commit.bytes();
        match portions.last_mut() {
            Some(portion) if bytes <= BYTES && portion.len() < PER_CALL => portion.push(commit),
            _ => {
                bytes = commit.bytes();
                portions.push(vec![commit]);
            }
        }
    }
    portions
}

impl RedisStorage {
    /// Commits to a partition, with whatever else is to be written there. Answers a code for each
    /// commit.
    pub(super) async fn write(
        &self,
        partition: usize,
        commits: Vec<Written>,
    ) -> Vec<Result<u8, Error>> {
        let portions = portions(commits).into_iter();
        // All are sent before the first is waited for.
        let sent: Vec<_> =
            portions.map(|portion| (portion.len(), self.add(partition, portion, vec![]))).collect();
        let mut outcomes = vec![];
        for (count, answered) in sent {
            let lost = |_| (0..count).map(|_| Err(Error::lost())).collect();
            outcomes.extend(answered.await.unwrap_or_else(lost));
        }
        outcomes
    }

    /// Clears outboxes of a partition, with whatever else is to be written there.
    pub(super) async fn clear(&self, partition: usize, clears: Vec<Clear>) -> Result<(), Error> {
        if clears.is_empty() {
            return Ok(());
        }
        let mut outcomes = self.add(partition, vec![], clears).await.unwrap_or_default();
        outcomes.pop().unwrap_or_else(|| Err(Error::lost())).map(drop)
    }

    fn add(
        &self,
        partition: usize,
        commits: Vec<Written>,
        clears: Vec<Clear>,
    ) -> oneshot::Receiver<Outcomes> {
        let (answer, answered) = oneshot::channel();
        if self.0.writes[partition].add(Part { commits, clears, answer }) {
            // A task of its own: whoever asked may be gone before the others have their answers.
            tokio::spawn(self.clone().send_writes(partition));
        }
        answered
    }

    async fn send_writes(self, partition: usize) {
        while self.0.writes[partition].has_more() {
            let parts = next(&self.0.writes[partition]);
            let clears: Vec<_> = parts.iter().flat_map(|part| &part.clears).collect();
            let commits: Vec<_> = parts.iter().flat_map(|part| &part.commits).collect();
            let (cleared, committed) = match self.call(partition, &clears, &commits).await {
                Ok(codes) => (Ok(CLEARED), codes.into_iter().map(Ok).collect()),
                Err(Error::Refused(_)) if clears.len() + commits.len() > 1 => {
                    self.one_by_one(partition, &clears, &commits).await
                }
                Err(error) => (Err(error.clone()), vec![Err(error); commits.len()]),
            };
            let mut committed = committed.into_iter();
            for part in parts {
                let own = match part.commits.len() {
                    0 => vec![cleared.clone()],
                    count => committed.by_ref().take(count).collect(),
                };
                // Whoever does not wait any more does not care.
                let _ = part.answer.send(own);
            }
        }
    }

    /// What the server refuses as a whole it may take in parts: one of them is at fault, and the others
    /// go on.
    async fn one_by_one(
        &self,
        partition: usize,
        clears: &[&Clear],
        commits: &[&Written],
    ) -> (Result<u8, Error>, Outcomes) {
        let mut cleared = Ok(CLEARED);
        for clear in clears {
            let done = self.call(partition, &[*clear], &[]).await;
            cleared = cleared.and(done.map(|_| CLEARED));
        }
        let mut committed = vec![];
        for commit in commits {
            let codes = self.call(partition, &[], &[*commit]).await;
            committed.push(codes.and_then(|codes| codes.first().copied().ok_or_else(Error::lost)));
        }
        (cleared, committed)
    }

    async fn call(
        &self,
        partition: usize,
        clears: &[&Clear],
        commits: &[&Written],
    ) -> Result<Vec<u8>, Error> {
        let request = self.write_call(partition, clears, commits);
        match self
            .0
            .connection
            .send(&[request])
            .await
            .pop()
            .unwrap_or_else(|| Err(Error::lost()))?
        {
            Value::BulkString(codes) if codes.len() == commits.len() => Ok(codes),
            // It may have been done.
            other => Err(Error::unexpected("commit.lua", &other)),
        }
    }

    fn write_call(&self, partition: usize, clears: &[&Clear], commits: &[&Written]) -> Request {
        let keys = &self.0.partitions[partition];
        let names = [
            &*keys.threds,
            &keys.outboxes,
            &keys.entries,
            &keys.pending,
            &keys.parked,
            &keys.parked_topics,
            &keys.timers,
            &keys.waits,
            &keys.places,
            &keys.counts,
            &keys.participants,
            &keys.ended,
            &keys.ended_starts,
            &keys.history,
            &keys.history_index,
            &keys.numbers,
            &keys.mark,
        ];
        let mut call = Request::script(&keys.tag, &COMMIT, &names);
        call.push(self.0.steps_per_partition);
        call.push(i32::from(self.0.connection.config().wait.is_some()));
        call.push(clears.len());
        clears.iter().for_each(|clear| call.push(clear.thred.as_str()));
        clears.iter().for_each(|clear| call.push(&clear.published));
        clears.iter().for_each(|clear| call.push(&clear.parked));
        commits.iter().for_each(|commit| call.push(commit.thred.as_str()));
        for commit in commits {
            call.push(commit.expected);
            call.push(&commit.consumed);
            call.push(&commit.record);
            call.push(&commit.outbox.lines);
            call.push(&commit.outbox.entries);
            call.push(commit.outbox.oldest);
            call.push(&commit.step);
        }
        call
    }
}
