//! `srvthreds queues`.

mod args;

use std::{
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use thredcore::port::Backlog;
use thredlib::Topic;

use super::{
    Outcome,
    diagnostics::printable,
    store::Trouble,
    text::{Table, count},
};
use crate::query::{Backlogs, Queries};

pub(crate) use args::QueuesArgs;
use args::{ListArgs, QueuesCommand, TopicArgs};

pub(crate) fn run(args: &QueuesArgs) -> io::Result<Outcome> {
    let mut out = io::stdout().lock();
    match &args.command {
        QueuesCommand::List(args) => {
            args.store.ask(async |asked| list(args, &*asked.queries, &mut out).await)
        }
        QueuesCommand::Purge(args) => {
            args.store.ask(async |asked| clear(args, Act::Purge, &*asked.queries, &mut out).await)
        }
        QueuesCommand::Delete(args) => {
            args.store.ask(async |asked| clear(args, Act::Delete, &*asked.queries, &mut out).await)
        }
    }
}

async fn list(
    args: &ListArgs,
    queries: &dyn Queries,
    out: &mut impl Write,
) -> Result<Outcome, Trouble> {
    let backlogs = queries.backlogs().await?;
    if args.json {
        writeln!(out, "{:#}", json!(backlogs))?;
        return Ok(Outcome::Good);
    }
    let Backlogs { partitions, topics, parked, ingresses, dead_events } = backlogs;
    let mut table = Table::new(["QUEUE", "DEPTH", "OLDEST", "CONSUMERS", "DEAD", "PARKED"]);
    for (number, partition) in partitions.iter().enumerate() {
        // Those that are empty say nothing.
        if partition.depth > 0 {
            table.row(row(format!("events {number}"), partition, 0));
        }
    }
    for it in &ingresses {
        table.row(row(format!("ingress {}", it.queue), &it.backlog, 0));
    }
    for topic in &topics {
        let waiting = parked.iter().find(|parked| parked.topic == topic.topic);
        let waiting = waiting.map_or(0, |parked| parked.messages);
        table.row(row(topic.topic.to_string(), &topic.backlog, waiting));
    }
    for parked in parked.iter().filter(|it| topics.iter().all(|topic| topic.topic != it.topic)) {
        table.row(row(parked.topic.to_string(), &Backlog::default(), parked.messages));
    }
    table.write(out)?;
    let depth: u64 = partitions.iter().map(|partition| partition.depth).sum();
    writeln!(
        out,
        "{} in {}, {}; {}",
        count(usize::try_from(depth).unwrap_or(usize::MAX), "event"),
        count(partitions.len(), "partition"),
        count(dead_events, "dead event"),
        count(topics.len(), "topic"),
    )?;
    Ok(Outcome::Good)
}

fn row(name: String, backlog: &Backlog, parked: u64) -> [String; 6] {
    [
        name,
        backlog.depth.to_string(),
        backlog.oldest.map_or_else(|| "-".to_owned(), age),
        backlog.consumers.map_or_else(|| "?".to_owned(), |count| count.to_string()),
        backlog.dead_letters.to_string(),
        parked.to_string(),
    ]
}

/// How long ago a time was, in its two largest units.
fn age(at: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let seconds = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(at).max(0) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

/// What is done with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Purge,
    Delete,
}

/// The first topics by name; `None` if there is none.
fn known(backlogs: &Backlogs) -> Option<String> {
    const SHOWN: usize = 20;
    let topics = &backlogs.topics;
    let mut names: Vec<_> =
        topics.iter().take(SHOWN).map(|it| printable(it.topic.as_str())).collect();
    if topics.len() > SHOWN {
        names.push(format!("and {} more; `queues list` shows all", topics.len() - SHOWN));
    }
    (!names.is_empty()).then(|| names.join(", "))
}

async fn clear(
    args: &TopicArgs,
    act: Act,
    queries: &dyn Queries,
    out: &mut impl Write,
) -> Result<Outcome, Trouble> {
    let topic = Topic::new(args.topic.as_str());
    let backlogs = queries.backlogs().await?;
    let Some(found) = backlogs.topics.iter().find(|it| it.topic == topic) else {
        let name = printable(&args.topic);
        match known(&backlogs) {
            Some(known) => eprintln!("error: there is no topic `{name}`; there are: {known}"),
            None => eprintln!(
                "error: there is no topic `{name}`, and no other; the first message to it makes one"
            ),
        }
        return Ok(Outcome::Bad);
    };
    let messages = match (args.dry_run, act) {
        (true, _) => found.backlog.depth,
        (false, Act::Purge) => queries.purge(&topic).await?,
        (false, Act::Delete) => queries.delete(&topic).await?,
    };
    if args.json {
        let done = !args.dry_run;
        writeln!(out, "{}", json!({ "topic": topic, "messages": messages, "done": done }))?;
        return Ok(Outcome::Good);
    }
    let messages = count(usize::try_from(messages).unwrap_or(usize::MAX), "message");
    match (args.dry_run, act) {
        (true, _) => writeln!(out, "would remove up to {messages} from {topic}")?,
        (false, Act::Purge) => writeln!(out, "removed {messages} from {topic}")?,
        (false, Act::Delete) => writeln!(out, "deleted {topic} with {messages}")?,
    }
    Ok(Outcome::Good)
}
