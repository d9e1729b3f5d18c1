//! `srvthreds threds watch`.

use std::{
    collections::{HashSet, VecDeque},
    io::{self, Write},
    time::Duration,
};

use thredcore::{port::LogRecord, state::Status};
use thredlib::ThredId;

use super::{args::WatchArgs, no_thred, show::where_it_stands, timeline};
use crate::{
    cli::{
        Outcome,
        diagnostics::printable,
        interrupt::Interrupts,
        store::{Asked, Trouble},
        text,
    },
    query::{Queries, Unanswered},
};

/// How often is looked.
const LOOK: Duration = Duration::from_millis(250);

pub(super) async fn watch(
    args: &WatchArgs,
    asked: &Asked,
    out: &mut impl Write,
) -> Result<Outcome, Trouble> {
    let queries = &*asked.queries;
    if !asked.alive {
        eprintln!("note: nobody runs on this store; what is shown can change only when one does");
    }
    let mut interrupts = Interrupts::listen()?;
    let following = async {
        match &args.id {
            Some(id) => one(id, args.json, queries, out).await,
            None => all(args.json, queries, out).await,
        }
    };
    tokio::select! {
        outcome = following => outcome,
        () = interrupts.next() => Ok(Outcome::Good),
    }
}

/// Follows a thred until it has ended.
pub(super) async fn one(
    id: &str,
    json: bool,
    queries: &dyn Queries,
    out: &mut impl Write,
) -> Result<Outcome, Trouble> {
    // Steps between two looks, at most; with more the thred's state tells that some are missing.
    const STEPS: usize = 10_000;
    let thred = ThredId::from(id);
    let Some(found) = queries.load(&thred).await? else { return Ok(no_thred(id)) };
    if !json {
        where_it_stands(out, &found.state, &[])?;
        writeln!(out)?;
    }
    let mut seen = 0;
    let mut state = Some(found.state);
    while let Some(now) = state {
        if now.version > seen {
            for step in queries.history(&thred, None, STEPS).await? {
                // What came after the state was read is shown with the state that it led to.
                if step.version > seen && step.version <= now.version {
                    if json {
                        writeln!(out, "{}", line(&step)?)?
                    } else {
                        timeline::step(out, &step)?
                    }
                }
            }
            seen = now.version;
            out.flush()?;
        }
        if now.status == Status::Terminated {
            return Ok(Outcome::Good);
        }
        tokio::time::sleep(LOOK).await;
        state = queries.load(&thred).await?.map(|loaded| loaded.state);
    }
    // It has ended, and is not kept any more.
    Ok(Outcome::Good)
}

/// Follows the log.
async fn all(json: bool, queries: &dyn Queries, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let mut seen = Seen::default();
    for record in queries.log(Seen::FIRST).await? {
        seen.insert(&record);
    }
    loop {
        let (fresh, whole) = seen.more(queries).await?;
        if !whole && !json {
            writeln!(out, "… (more has happened than can be shown)")?;
        }
        for record in &fresh {
            if json { writeln!(out, "{}", line(record)?)? } else { log_line(out, record)? }
        }
        out.flush()?;
        tokio::time::sleep(LOOK).await;
    }
}

fn log_line(out: &mut impl Write, record: &LogRecord) -> io::Result<()> {
    let at = text::time(record.timestamp);
    let thred = record.thred_id.as_ref().map_or("-", ThredId::as_str);
    let pattern = record.pattern_id.as_ref().map_or("-", |id| id.as_str());
    let event = &record.event;
    let text = format!("{thred}  {pattern}  {}  event {event}", timeline::decision(record));
    writeln!(out, "{at}  {}", printable(&text))
}

fn line(value: &impl serde::Serialize) -> Result<String, Trouble> {
    serde_json::to_string(value).map_err(|error| Trouble::Store(error.to_string()))
}

/// The end of the log as far as it was seen: what is not among it is new. A store of several
/// partitions may put a record before others that were there first.
#[derive(Default)]
struct Seen {
    records: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Seen {
    /// Records that are asked for, first and at most.
    const FIRST: usize = 256;
    const MOST: usize = 65_536;

    /// The records since the last time, and whether they are all.
    async fn more(&mut self, queries: &dyn Queries) -> Result<(Vec<LogRecord>, bool), Unanswered> {
        let mut limit = Self::FIRST;
        loop {
            let log = queries.log(limit).await?;
            let asked = log.len();
            let known = log.iter().any(|record| self.records.contains(&key(record)));
            let whole = known || asked < limit;
            if !whole && limit < Self::MOST {
                limit *= 16;
                continue;
            }
            return Ok((log.into_iter().filter(|record| self.insert(record)).collect(), whole));
        }
    }

    /// Says whether the record is new.
    fn insert(&mut self, record: &LogRecord) -> bool {
        let key = key(record);
        let new = self.records.insert(key);
        if new {
            self.order.push_back(key);
        }
        if self.order.len() > 2 * Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.records.remove(&oldest);
        }
        new
    }
}

fn key(record: &LogRecord) -> u64 {
    thredlib::stable_hash(&serde_json::to_vec(record).unwrap_or_default())
}
