//! Receipts, the log and the history.

use std::collections::VecDeque;

use async_trait::async_trait;
use futures::future::join_all;
use thredcore::port::{
    History, LogRecord, PortError, PortErrorKind, Receipt, ReceiptRetention, RecordStore,
    Settlement, Unmoved, UnmovedPage,
};
use thredlib::{EventKey, ThredId};

use super::{
    RedisStorage, record, script,
    threds::{KEYS_PER_CALL, at_most},
};
use crate::{connection::Request, error::Error, keys::PartitionKeys};

script!(RECEIPTS, "receipts.lua");
script!(HISTORY, "history.lua");
script!(STEPS, "steps.lua");
script!(UNMOVED, "unmoved.lua");

/// How many steps or records are read at once: the server does nothing else meanwhile.
const AT_ONCE: usize = 256;

/// What is read of one partition, latest first.
struct Lane<'s, T> {
    keys: &'s PartitionKeys,
    read: VecDeque<(u64, T)>,
    /// What was read last, or where reading begins.
    at: u64,
    /// What is behind all that was read.
    end: Option<u64>,
    more: bool,
}

impl<'s, T> Lane<'s, T> {
    fn new(keys: &'s PartitionKeys, at: u64) -> Self {
        Self { keys, read: VecDeque::new(), at, end: None, more: true }
    }
}

/// Of the first things of all lanes, the lane of the latest one.
fn latest<T>(lanes: &[Lane<'_, T>], time: impl Fn(&T) -> i64) -> Option<usize> {
    let first = |(number, lane): (usize, &Lane<'_, T>)| {
        Some((lane.read.front().map(|(_, it)| time(it))?, number))
    };
    lanes.iter().enumerate().filter_map(first).max().map(|(_, number)| number)
}

impl RedisStorage {
    /// Reads more of the records of partitions of which nothing is left that was read.
    async fn read_unmoved(
        &self,
        operation: &'static str,
        lanes: &mut [Lane<'_, Unmoved>],
        count: usize,
    ) -> Result<(), PortError> {
        let dry = |lane: &Lane<'_, Unmoved>| lane.more && lane.read.is_empty();
        while lanes.iter().any(dry) {
            let request = |lane: &Lane<'_, Unmoved>| {
                let request =
                    Request::asking_script(&lane.keys.tag, &UNMOVED, &[&lane.keys.unmoved]);
                request.arg(lane.at).arg(count).arg(self.0.steps_per_partition)
            };
            let requests: Vec<_> = lanes.iter().filter(|lane| dry(lane)).map(request).collect();
            type Found = (u64, u64, Vec<(u64, Vec<u8>)>);
            let found: Vec<Found> = self.all(operation, &requests).await?;
            let read = lanes.iter_mut().filter(|lane| dry(lane)).zip(found);
            for (lane, (last, lowest, records)) in read {
                lane.end.get_or_insert(last + 1);
                lane.at = (last + 1).saturating_sub(count as u64).max(1);
                lane.more = lane.at > lowest;
                for (number, text) in records {
                    match unmoved(&text) {
                        Ok(record) => lane.read.push_back((number, record)),
                        Err(error) => tracing::warn!(
                            %error, number, key = lane.keys.unmoved, "a record cannot be read"
                        ),
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads more of the steps of partitions of which nothing is left that was read.
    async fn read_steps(
        &self,
        operation: &'static str,
        lanes: &mut [Lane<'_, History>],
        count: usize,
    ) -> Result<(), PortError> {
        let dry = |lane: &Lane<'_, History>| lane.more && lane.read.is_empty();
        while lanes.iter().any(dry) {
            let request = |lane: &Lane<'_, History>| {
                let request = Request::asking_script(&lane.keys.tag, &STEPS, &[&lane.keys.history]);
                request.arg(lane.at).arg(count)
            };
            let requests: Vec<_> = lanes.iter().filter(|lane| dry(lane)).map(request).collect();
            type Found = (usize, Vec<(String, Vec<u8>, Vec<u8>)>);
            let found: Vec<Found> = self.all(operation, &requests).await?;
            for (lane, (seen, steps)) in lanes.iter_mut().filter(|lane| dry(lane)).zip(found) {
                lane.more = seen >= count;
                lane.at += seen as u64;
                for (name, step, outbox) in steps {
                    lane.read.extend(step_of(&name, &step, &outbox).map(|step| (0, step)));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn unmoved(text: &[u8]) -> Result<Unmoved, Error> {
    // After the key, which is bytes and may hold newlines.
    let rest = text.get(16..).unwrap_or_default();
    let line = rest.iter().position(|byte| *byte == b'\n');
    let json = line.and_then(|line| rest.get(line + 1..));
    record::parse(json.ok_or_else(|| Error::Malformed("no record of ours".into()))?)
}

fn step_of(name: &str, step: &[u8], outbox: &[u8]) -> Option<History> {
    if step.is_empty() {
        // It was moved out.
        return None;
    }
    let warn = |error: &Error| tracing::warn!(%error, step = name, "a step cannot be read");
    record::history(step, outbox).inspect_err(warn).ok()
}

#[async_trait]
impl RecordStore for RedisStorage {
    async fn settle(&self, partition: u16, settlement: &Settlement) -> Result<(), PortError> {
        let settled = self.settle_in(partition, settlement).await;
        settled.map_err(|error| error.of("settle events"))
    }

    async fn receipts(
        &self,
        partition: u16,
        keys: &[EventKey],
    ) -> Result<Vec<Option<Receipt>>, PortError> {
        let Some(of) = self.0.partitions.get(usize::from(partition)) else {
            return Ok(vec![None; keys.len()]);
        };
        let names = [&*of.receipts, &of.receipts_before, &of.dead];
        let request = |some: &[EventKey]| {
            let mut request = Request::asking_script(&of.tag, &RECEIPTS, &names);
            some.iter().for_each(|key| request.push(&key.as_bytes()[..]));
            request
        };
        let requests: Vec<_> = keys.chunks(KEYS_PER_CALL).map(request).collect();
        let found: Vec<Vec<i64>> = self.all("read receipts", &requests).await?;
        let receipt = |code: i64| match code {
            -1 => Some(Receipt::Settled),
            times => u32::try_from(times).ok().filter(|times| *times > 0).map(Receipt::Dead),
        };
        let mut receipts: Vec<_> = found.into_iter().flatten().map(receipt).collect();
        receipts.resize(keys.len(), None);
        Ok(receipts)
    }

    async fn recorded(&self, keys: &[EventKey]) -> Result<Vec<bool>, PortError> {
        let mut recorded = vec![false; keys.len()];
        for (number, some) in keys.chunks(KEYS_PER_CALL).enumerate() {
            let request = |of: &PartitionKeys| {
                let mut command = redis::cmd("HMGET");
                command.arg(&of.unmoved_known);
                some.iter().for_each(|key| _ = command.arg(&key.as_bytes()[..]));
                Request::read(&of.tag, command)
            };
            let requests: Vec<_> = self.0.partitions.iter().map(request).collect();
            let found: Vec<Vec<Option<Vec<u8>>>> = self.all("look up records", &requests).await?;
            for known in found {
                for (place, known) in known.iter().enumerate() {
                    recorded[number * KEYS_PER_CALL + place] |= known.is_some();
                }
            }
        }
        Ok(recorded)
    }

    fn retention(&self) -> ReceiptRetention {
        let config = self.0.connection.config();
        ReceiptRetention { time: config.receipts_time, capacity: config.receipts_capacity }
    }

    async fn history(
        &self,
        thred: &ThredId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        let keys = &self.0.partitions[self.partition_of(thred.as_str())];
        let names = [&*keys.threds, &keys.history, &keys.history_index, &keys.numbers];
        let mut steps: Vec<History> = vec![];
        // Lua's numbers are exact up to there.
        let mut below = before.unwrap_or(u64::MAX).min(1 << 53);
        while steps.len() < limit && below > 1 {
            let count = (limit - steps.len()).min(AT_ONCE);
            let request = Request::asking_script(&keys.tag, &HISTORY, &names);
            let request = request.arg(thred.as_str()).arg(below).arg(count);
            let page: Vec<(u64, Vec<u8>, Vec<u8>)> = self.one("read history", request).await?;
            let Some((last, _, _)) = page.last() else { break };
            below = *last;
            let read = page.iter().filter_map(|(version, step, outbox)| {
                step_of(&format!("{version} of {thred}"), step, outbox)
            });
            steps.extend(read);
        }
        steps.reverse();
        Ok(steps)
    }

    async fn unmoved(&self, before: Option<&str>, limit: usize) -> Result<UnmovedPage, PortError> {
        const OPERATION: &str = "read records";
        let starts = match before {
            Some(text) => cursor(text, self.0.partitions.len()).ok_or_else(|| {
                let cause = "`before` is not what an earlier page gave";
                PortError::new(OPERATION, PortErrorKind::Rejected, cause)
            })?,
            None => vec![0; self.0.partitions.len()],
        };
        let starts = starts.into_iter();
        let lanes = self.0.partitions.iter().zip(starts).map(|(keys, at)| {
            // Below 1 there is nothing; 0 stands for the latest.
            Lane { more: at != 1, ..Lane::new(keys, at) }
        });
        let mut lanes: Vec<_> = lanes.collect();
        let mut next: Vec<Option<u64>> = vec![None; lanes.len()];
        let mut records = vec![];
        while records.len() < limit {
            let count = (limit - records.len()).min(AT_ONCE);
            self.read_unmoved(OPERATION, &mut lanes, count).await?;
            let time = |unmoved: &Unmoved| unmoved.record.timestamp;
            let Some(number) = latest(&lanes, time) else { break };
            if let Some((at, record)) = lanes[number].read.pop_front() {
                next[number] = Some(at);
                records.push(record);
            }
        }
        if limit > 0 {
            self.read_unmoved(OPERATION, &mut lanes, 1).await?;
        }
        let more = lanes.iter().any(|lane| !lane.read.is_empty());
        records.reverse();
        let begun = lanes.iter().zip(next).map(|(lane, next)| next.or(lane.end).unwrap_or(1));
        let text = || begun.map(|number| number.to_string()).collect::<Vec<_>>().join(".");
        Ok(UnmovedPage { records, before: more.then(text) })
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        const OPERATION: &str = "read the log";
        let lane = |keys| Lane::new(keys, 0);
        let mut steps: Vec<_> = self.0.partitions.iter().map(lane).collect();
        let lane = |keys| Lane::new(keys, 0);
        let mut unmoved: Vec<_> = self.0.partitions.iter().map(lane).collect();
        let mut records: Vec<LogRecord> = vec![];
        let time_of_step = |step: &History| step.log.first().map_or(i64::MIN, |it| it.timestamp);
        let time_of_record = |unmoved: &Unmoved| unmoved.record.timestamp;
        while records.len() < limit {
            let count = (limit - records.len()).min(AT_ONCE);
            self.read_steps(OPERATION, &mut steps, count).await?;
            self.read_unmoved(OPERATION, &mut unmoved, count).await?;
            let step = latest(&steps, time_of_step);
            let record = latest(&unmoved, time_of_record);
            let at = |lane: Option<usize>| lane.unwrap_or_default();
            let of_step = step.and(steps[at(step)].read.front()).map(|(_, it)| time_of_step(it));
            let of_record =
                record.and(unmoved[at(record)].read.front()).map(|(_, it)| time_of_record(it));
            if of_step.is_none() && of_record.is_none() {
                break;
            }
            if of_step >= of_record {
                let step = steps[at(step)].read.pop_front();
                records.extend(step.into_iter().flat_map(|(_, step)| step.log.into_iter().rev()));
            } else {
                let record = unmoved[at(record)].read.pop_front();
                records.extend(record.map(|(_, unmoved)| unmoved.record));
            }
        }
        records.truncate(limit);
        records.reverse();
        Ok(records)
    }
}

/// The numbers of a cursor, one for each partition.
fn cursor(text: &str, partitions: usize) -> Option<Vec<u64>> {
    let numbers: Option<Vec<u64>> = text.split('.').map(|number| number.parse().ok()).collect();
    numbers.filter(|numbers| numbers.len() == partitions)
}

impl RedisStorage {
    /// Writes what a settlement holds, the records of an event with its receipt.
    async fn settle_in(&self, partition: u16, settlement: &Settlement) -> Result<(), Error> {
        let number = usize::from(partition);
        if number >= self.0.partitions.len() {
            return Err(Error::Config(format!("there is no partition {partition}")));
        }
        if !settlement.receipts.is_empty() {
            self.count_receipts(settlement.receipts.len(), settlement.now).await?;
        }
        let settled = self.settles(settlement)?.into_iter();
        let answers = settled.map(|part| self.settle_part(number, part));
        join_all(answers).await.into_iter().collect()
    }
}

/// Limits as the server takes them.
pub(super) fn millis(time: std::time::Duration) -> i64 {
    at_most(usize::try_from(time.as_millis()).unwrap_or(usize::MAX))
}
