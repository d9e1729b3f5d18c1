//! What is kept and cannot be read.

use std::collections::HashSet;

use async_trait::async_trait;
use thredcore::port::{PortError, Quarantine, Unreadable};
use thredlib::ThredId;

use super::{RedisStorage, outbox, record, records, script};
use crate::{
    connection::Request,
    error::Error,
    keys::{PartitionKeys, Tag},
};

script!(MOVE_OUT, "move_out.lua");
script!(MOVE_OUT_STEP, "move_out_step.lua");

/// How many fields are looked at with one call.
const AT_ONCE: usize = 256;

/// Something that cannot be read.
struct Found<'s> {
    tag: &'s Tag,
    /// Its field, if it is one of a hash.
    field: Vec<u8>,
    /// Takes it out, as long as it is the same.
    removal: Request,
    what: Unreadable,
}

/// A hash, what it holds, and how that is read.
struct Kind<'s> {
    kind: &'static str,
    tag: &'s Tag,
    hash: &'s str,
    check: Check,
}

/// A field's name and value.
type Field = (Vec<u8>, Vec<u8>);

/// Says what is wrong with a field.
type Check = fn(field: &[u8], value: &[u8]) -> Result<(), Error>;

fn thred(_: &[u8], record: &[u8]) -> Result<(), Error> {
    record::state(ThredId::new("any"), record).map(drop)
}

fn unmoved(field: &[u8], value: &[u8]) -> Result<(), Error> {
    match field {
        b"n" => Ok(()),
        _ => records::unmoved(value).map(drop),
    }
}

fn pattern(_: &[u8], value: &[u8]) -> Result<(), Error> {
    record::parse::<thredlib::PatternModel>(value).map(drop)
}

impl RedisStorage {
    fn kinds(&self) -> Vec<Kind<'_>> {
        let shared = &self.0.shared;
        let (tag, hash) = (&shared.patterns, &*shared.pattern_texts);
        let mut kinds = vec![Kind { kind: "pattern", tag, hash, check: pattern }];
        for keys in &self.0.partitions {
            let mut add = |kind, hash, check| {
                kinds.push(Kind { kind, tag: &keys.tag, hash, check });
            };
            add("thred", &keys.threds, thred);
            add("record", &keys.unmoved, unmoved);
        }
        kinds
    }

    /// Looks through all that is kept.
    async fn find(
        &self,
        operation: &'static str,
        limit: usize,
    ) -> Result<Vec<Found<'_>>, PortError> {
        let mut all = vec![];
        for kind in self.kinds() {
            let mut cursor = Some(0);
            while let Some(from) = cursor.filter(|_| all.len() < limit) {
                let (next, fields) = self.scan(operation, kind.tag, kind.hash, from).await?;
                for (field, value) in fields {
                    if let Err(error) = (kind.check)(&field, &value) {
                        all.push(found(&kind, field, value, &error));
                    }
                }
                cursor = next;
            }
        }
        for keys in &self.0.partitions {
            self.find_outboxes(operation, keys, limit, &mut all).await?;
            self.find_steps(operation, keys, limit, &mut all).await?;
        }
        all.truncate(limit);
        Ok(all)
    }

    /// Looks for outboxes that cannot be read; the lines of their entries stand elsewhere.
    async fn find_outboxes<'s>(
        &'s self,
        operation: &'static str,
        keys: &'s PartitionKeys,
        limit: usize,
        all: &mut Vec<Found<'s>>,
    ) -> Result<(), PortError> {
        let kind = Kind { kind: "outbox", tag: &keys.tag, hash: &keys.outboxes, check: thred };
        let mut cursor = Some(0);
        while let Some(from) = cursor.filter(|_| all.len() < limit) {
            let (next, fields) = self.scan(operation, &keys.tag, &keys.outboxes, from).await?;
            for (field, value) in fields {
                let entries = [&keys.entries, &keys.resting].map(|hash| {
                    let mut command = redis::cmd("HGET");
                    command.arg(hash).arg(&field);
                    Request::read(&keys.tag, command)
                });
                let entries: Vec<Option<Vec<u8>>> = self.all(operation, &entries).await?;
                // Without entries it has been published meanwhile.
                let entries = entries.into_iter().flatten().next();
                let read = entries.map(|entries| outbox::outbox(&entries, &value));
                if let Some(Err(error)) = read {
                    all.push(found(&kind, field, value, &error));
                }
            }
            cursor = next;
        }
        Ok(())
    }

    /// Looks for steps that cannot be read.
    async fn find_steps<'s>(
        &'s self,
        operation: &'static str,
        keys: &'s PartitionKeys,
        limit: usize,
        all: &mut Vec<Found<'s>>,
    ) -> Result<(), PortError> {
        let mut from = 0;
        while all.len() < limit {
            let mut command = redis::cmd("LRANGE");
            command.arg(&keys.history).arg(from).arg(from + 3 * AT_ONCE - 1);
            let request = Request::read(&keys.tag, command);
            let elements: Vec<Vec<u8>> = self.one(operation, request).await?;
            if elements.is_empty() {
                break;
            }
            from += elements.len();
            for step in elements.chunks_exact(3).filter(|step| !step[1].is_empty()) {
                let Err(error) = record::history(&step[1], &step[2]) else { continue };
                let names = [&*keys.history, &keys.history_index, &keys.numbers];
                let removal = Request::script(&keys.tag, &MOVE_OUT_STEP, &names).arg(step);
                let content = [&step[1][..], b"\n", &step[2]].concat();
                let what = unreadable("step", &step[0], &keys.history, &content, &error);
                all.push(Found { tag: &keys.tag, field: vec![], removal, what });
            }
        }
        Ok(())
    }

    /// Some fields of a hash, and where to go on.
    async fn scan(
        &self,
        operation: &'static str,
        tag: &Tag,
        hash: &str,
        cursor: u64,
    ) -> Result<(Option<u64>, Vec<Field>), PortError> {
        let mut command = redis::cmd("HSCAN");
        command.arg(hash).arg(cursor).arg("COUNT").arg(AT_ONCE);
        let (next, fields): (u64, Vec<Field>) =
            self.one(operation, Request::read(tag, command)).await?;
        Ok((Some(next).filter(|next| *next != 0), fields))
    }

    /// Takes threds that are gone out of the indexes: which members are theirs does not follow from
    /// what cannot be read.
    async fn unlist(
        &self,
        operation: &'static str,
        keys: &PartitionKeys,
        threds: &HashSet<Vec<u8>>,
    ) -> Result<(), PortError> {
        let indexes =
            [&keys.timers, &keys.waits, &keys.places, &keys.participants, &keys.ended_starts];
        for index in indexes {
            let mut cursor: u64 = 0;
            loop {
                let mut command = redis::cmd("ZSCAN");
                command.arg(index).arg(cursor).arg("COUNT").arg(AT_ONCE);
                type Page = (u64, Vec<(Vec<u8>, f64)>);
                let (next, members): Page =
                    self.one(operation, Request::read(&keys.tag, command)).await?;
                for (member, _) in members {
                    if index == &keys.timers && !timer_of(&member, threds)
                        || index != &keys.timers && !behind_tab(&member, threds)
                    {
                        continue;
                    }
                    let mut command = redis::cmd("ZREM");
                    command.arg(index).arg(&member);
                    let gone: i64 = self.one(operation, Request::write(&keys.tag, command)).await?;
                    if index == &keys.places && gone == 1 {
                        self.uncount(operation, keys, &member).await?;
                    }
                }
                if next == 0 {
                    break;
                }
                cursor = next;
            }
        }
        Ok(())
    }

    async fn uncount(
        &self,
        operation: &'static str,
        keys: &PartitionKeys,
        member: &[u8],
    ) -> Result<(), PortError> {
        // Pattern, revision, reaction and status; start and thred follow.
        let tabs = member.iter().enumerate().filter(|(_, byte)| **byte == b'\t');
        let Some((end, _)) = tabs.into_iter().nth(3) else { return Ok(()) };
        let mut command = redis::cmd("HINCRBY");
        command.arg(&keys.counts).arg(&member[..end]).arg(-1);
        self.one::<i64>(operation, Request::write(&keys.tag, command)).await.map(drop)
    }
}

/// Whether what stands behind some tab is one of the threds.
fn behind_tab(member: &[u8], threds: &HashSet<Vec<u8>>) -> bool {
    let tabs = member.iter().enumerate().filter(|(_, byte)| **byte == b'\t');
    tabs.map(|(at, _)| &member[at + 1..]).any(|rest| threds.contains(rest))
}

/// Whether a timer is of one of the threds: it stands between the first tab and the last.
fn timer_of(member: &[u8], threds: &HashSet<Vec<u8>>) -> bool {
    let is_tab = |byte: &u8| *byte == b'\t';
    let first = member.iter().position(is_tab);
    let last = member.iter().rposition(is_tab);
    let thred = first.zip(last).and_then(|(first, last)| member.get(first + 1..last));
    thred.is_some_and(|thred| threds.contains(thred))
}

fn found<'s>(kind: &Kind<'s>, field: Vec<u8>, value: Vec<u8>, error: &Error) -> Found<'s> {
    let what = unreadable(kind.kind, &field, kind.hash, &value, error);
    let removal = Request::script(kind.tag, &MOVE_OUT, &[kind.hash]).arg(&field).arg(&value);
    Found { tag: kind.tag, field, removal, what }
}

fn unreadable(kind: &str, name: &[u8], key: &str, content: &[u8], error: &Error) -> Unreadable {
    Unreadable {
        kind: kind.into(),
        key: format!("{} in {key}", String::from_utf8_lossy(name).trim_end()),
        reason: error.to_string(),
        content: Unreadable::excerpt(content),
    }
}

#[async_trait]
impl Quarantine for RedisStorage {
    async fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        let found = self.find("look for what cannot be read", limit).await?;
        Ok(found.into_iter().map(|found| found.what).collect())
    }

    async fn move_out(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        const OPERATION: &str = "move out what cannot be read";
        let mut moved = vec![];
        let mut threds: Vec<HashSet<Vec<u8>>> = vec![HashSet::new(); self.0.partitions.len()];
        for Found { tag, field, removal, what } in self.find(OPERATION, limit).await? {
            // What has changed meanwhile is another's.
            if self.one::<i64>(OPERATION, removal).await? == 0 {
                continue;
            }
            let partition = self.0.partitions.iter().position(|keys| keys.tag == *tag);
            if let Some(number) = partition {
                let keys = &self.0.partitions[number];
                let lists: &[&String] = match &*what.kind {
                    "thred" => &[&keys.ended],
                    _ => &[],
                };
                for list in lists {
                    let mut command = redis::cmd("ZREM");
                    command.arg(*list).arg(&field);
                    self.one::<i64>(OPERATION, Request::write(tag, command)).await?;
                }
                if what.kind == "outbox" {
                    for hash in [&keys.entries, &keys.resting] {
                        let mut command = redis::cmd("HDEL");
                        command.arg(hash).arg(&field);
                        self.one::<i64>(OPERATION, Request::write(tag, command)).await?;
                    }
                }
                if what.kind == "thred" {
                    threds[number].insert(field);
                }
            }
            moved.push(what);
        }
        for (keys, threds) in self.0.partitions.iter().zip(threds) {
            if !threds.is_empty() {
                self.unlist(OPERATION, keys, &threds).await?;
            }
        }
        Ok(moved)
    }
}
