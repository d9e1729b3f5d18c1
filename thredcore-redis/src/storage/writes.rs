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

/// What one caller wants done: commits of different threds, or clearings.
#[derive(Debug)]
pub(super) struct Part {
    commits: Vec<Written>,
    /// Threds, and the ids of the entries that were published, a line each.
    clears: Vec<(ThredId, String)>,
    answer: oneshot::Sender<Result<Vec<u8>, Error>>,
}

impl Part {
    fn len(&self) -> usize {
        self.commits.len() + self.clears.len()
    }
}

/// What goes with the next call: no thred is committed or cleared twice by one.
///
/// A script that clears before it commits does what the callers want in any order: what is cleared
/// was committed by an earlier call.
fn next(waiting: &Gathering<Part>) -> Vec<Part> {
    let (mut commits, mut clears) = (HashSet::new(), HashSet::new());
    let mut threds = 0;
    waiting.next(|part| {
        threds += part.len();
        let is_new = part.commits.iter().all(|commit| commits.insert(commit.thred.clone()))
            && part.clears.iter().all(|(thred, _)| clears.insert(thred.clone()));
        is_new && threds <= PER_CALL
    })
}

impl RedisStorage {
    /// Writes to a partition, with whatever else is to be written there. Answers a code for each
    /// commit.
    pub(super) async fn write(
        &self,
        partition: usize,
        commits: Vec<Written>,
        clears: Vec<(ThredId, String)>,
    ) -> Result<Vec<u8>, Error> {
        if commits.is_empty() && clears.is_empty() {
            return Ok(vec![]);
        }
        let (answer, answered) = oneshot::channel();
        if self.0.writes[partition].add(Part { commits, clears, answer }) {
            // A task of its own: whoever asked may be gone before the others have their answers.
            tokio::spawn(self.clone().send_writes(partition));
        }
        let lost = |_| Err(Error::Malformed("a write has no answer".into()));
        answered.await.unwrap_or_else(lost)
    }

    async fn send_writes(self, partition: usize) {
        while self.0.writes[partition].has_more() {
            let parts = next(&self.0.writes[partition]);
            let request = self.write_call(partition, &parts);
            let codes = self.0.connection.send(&[request]).await.pop().unwrap_or(Ok(Value::Nil));
            let commits: usize = parts.iter().map(|part| part.commits.len()).sum();
            let codes = codes.and_then(|value| match value {
                Value::BulkString(codes) if codes.len() == commits => Ok(codes),
                other => Err(Error::Malformed(format!("commit.lua answered {other:?}"))),
            });
            let mut from = 0;
            for part in parts {
                let to = from + part.commits.len();
                // Whoever does not wait any more does not care.
                let _ = part.answer.send(codes.clone().map(|codes| codes[from..to].to_vec()));
                from = to;
            }
        }
    }

    fn write_call(&self, partition: usize, parts: &[Part]) -> Request {
        let keys = &self.0.partitions[partition];
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
        let clears = || parts.iter().flat_map(|part| &part.clears);
        let commits = || parts.iter().flat_map(|part| &part.commits);
        let mut call = Request::script(&keys.tag, &COMMIT, &names);
        call.push(self.0.ended_per_partition);
        call.push(self.0.steps_per_partition);
        call.push(i32::from(self.0.connection.config().wait.is_some()));
        call.push(clears().count());
        clears().for_each(|(thred, _)| call.push(thred.as_str()));
        clears().for_each(|(_, entries)| call.push(entries));
        commits().for_each(|commit| call.push(commit.thred.as_str()));
        for commit in commits() {
            call.push(commit.expected);
            call.push(commit.status.to_string());
            call.push(&commit.consumed);
            call.push(&commit.record);
            call.push(commit.start);
            call.push(&commit.outbox);
            call.push(&commit.unpublished);
            call.push(&commit.step);
        }
        call
    }
}
