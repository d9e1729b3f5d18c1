//! `srvthreds dead-letters`.

mod args;
mod show;

#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    io::{self, Write},
};

use serde_json::json;
use thredcore::port::DeadLetterFilter;

use super::{
    Outcome,
    diagnostics::printable,
    store::Trouble,
    text::{self, Table, count, shortened},
};
use crate::query::{Letter, Queries, Queue};

pub(crate) use args::DeadLettersArgs;
use args::{ChosenArgs, DeadLettersCommand, FilterArgs, ListArgs};

pub(crate) fn run(args: &DeadLettersArgs) -> io::Result<Outcome> {
    let mut out = io::stdout().lock();
    match &args.command {
        DeadLettersCommand::List(args) => {
            args.store.ask(async |asked| list(args, &*asked.queries, &mut out).await)
        }
        DeadLettersCommand::Show(args) => {
            let Some(chosen) = chosen(args, "show") else { return Ok(Outcome::Unable) };
            args.store.ask(async |asked| show::show(args, chosen, &*asked.queries, &mut out).await)
        }
        DeadLettersCommand::Redrive(args) => act(args, Act::Redrive, &mut out),
        DeadLettersCommand::Drop(args) => act(args, Act::Drop, &mut out),
    }
}

/// A filter for each queue that is meant.
type Chosen = Vec<(Queue, DeadLetterFilter)>;

impl FilterArgs {
    fn is_empty(&self) -> bool {
        self.queue.is_none() && self.reason.is_none() && self.limit.is_none()
    }

    fn filter(&self) -> DeadLetterFilter {
        DeadLetterFilter {
            reason: self.reason.clone(),
            limit: self.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            ..DeadLetterFilter::all()
        }
    }

    fn chosen(&self) -> Chosen {
        let queues = Queue::ALL.into_iter();
        let meant = queues.filter(|queue| self.queue.is_none_or(|wanted| wanted == *queue));
        meant.map(|queue| (queue, self.filter())).collect()
    }
}

/// What the arguments choose; what is wrong with them has been printed when there is nothing.
fn chosen(args: &ChosenArgs, verb: &str) -> Option<Chosen> {
    if args.ids.is_empty() {
        if args.filter.is_empty() && !args.all {
            eprintln!(
                "error: say which dead letters to {verb}: ids as `list` shows them, --queue, \
                 --reason or --limit, or --all"
            );
            return None;
        }
        return Some(args.filter.chosen());
    }
    let mut ids: [Vec<String>; Queue::ALL.len()] = Default::default();
    for name in &args.ids {
        let found = name.split_once('/').and_then(|(queue, id)| {
            let queue = Queue::ALL.into_iter().position(|it| it.name() == queue)?;
            Some((queue, id))
        });
        let Some((queue, id)) = found else {
            eprintln!(
                "error: `{name}` is no id of a dead letter; write events/3, messages/1 or ingress/ID"
            );
            return None;
        };
        ids[queue].push(id.to_owned());
    }
    let named = args.filter.chosen().into_iter().filter_map(|(queue, filter)| {
        let at = Queue::ALL.iter().position(|it| *it == queue)?;
        let ids = std::mem::take(&mut ids[at]);
        (!ids.is_empty()).then_some((queue, DeadLetterFilter { ids: Some(ids), ..filter }))
    });
    Some(named.collect())
}

async fn list(
    args: &ListArgs,
    queries: &dyn Queries,
    out: &mut impl Write,
) -> Result<Outcome, Trouble> {
    let letters = read(args.filter.chosen(), queries).await?;
    if args.json {
        writeln!(out, "{:#}", json!({ "deadLetters": documents(&letters) }))?;
        return Ok(Outcome::Good);
    }
    if letters.is_empty() {
        writeln!(out, "no dead letters")?;
        return Ok(Outcome::Good);
    }
    const WIDTH: usize = 100;
    let mut table = Table::new(["ID", "SINCE", "TRIES", "WHAT", "REASON"]);
    for letter in &letters {
        table.row([
            letter.name(),
            text::time(letter.at),
            letter.attempts.to_string(),
            format!("{}, {}", letter.item_id(), letter.what()),
            shortened(&letter.reason, WIDTH),
        ]);
    }
    table.write(out)?;
    writeln!(out, "{}", count(letters.len(), "dead letter"))?;
    Ok(Outcome::Good)
}

/// Of the ids that are given, those of no dead letter that is meant.
async fn missing(
    args: &ChosenArgs,
    chosen: &Chosen,
    queries: &dyn Queries,
) -> Result<Vec<String>, Trouble> {
    if args.ids.is_empty() {
        return Ok(Vec::new());
    }
    let whole = chosen.iter().map(|(queue, filter)| {
        // Of those beyond the limit it is known that they are there.
        (*queue, DeadLetterFilter { limit: None, ..filter.clone() })
    });
    let found = read(whole.collect(), queries).await?;
    let found: HashSet<_> = found.iter().map(Letter::name).collect();
    Ok(args.ids.iter().filter(|id| !found.contains(*id)).cloned().collect())
}

/// Says which dead letters are not there, if those that are meant are not all there.
fn tell_missing(args: &ChosenArgs, missing: &[String], found: usize) -> Outcome {
    let hint = "`dead-letters list` shows all";
    if missing.is_empty() && found == 0 {
        eprintln!("error: there is no such dead letter; {hint}");
        return Outcome::Bad;
    }
    let which = if args.filter.is_empty() { "" } else { " for which all else holds" };
    for id in missing {
        eprintln!("error: there is no dead letter {}{which}; {hint}", printable(id));
    }
    if missing.is_empty() { Outcome::Good } else { Outcome::Bad }
}

async fn read(chosen: Chosen, queries: &dyn Queries) -> Result<Vec<Letter>, Trouble> {
    let mut letters = Vec::new();
    for (queue, filter) in chosen {
        letters.extend(queries.letters(queue, filter).await?);
    }
    Ok(letters)
}

/// The letters as JSON, each with the id by which the commands know it.
fn documents(letters: &[Letter]) -> Vec<serde_json::Value> {
    let documents = letters.iter().map(|letter| {
        let mut document = json!(letter);
        document["id"] = letter.name().into();
        document
    });
    documents.collect()
}

/// What is done with letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Redrive,
    Drop,
}

impl Act {
    fn name(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Drop => "drop",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Redrive => "redriven",
            Self::Drop => "dropped",
        }
    }
}

fn act(args: &ChosenArgs, act: Act, out: &mut impl Write) -> io::Result<Outcome> {
    let Some(chosen) = chosen(args, act.name()) else { return Ok(Outcome::Unable) };
    args.store.ask(async |asked| {
        let (outcome, changed) = change(args, act, chosen, &*asked.queries, out).await?;
        if changed > 0 && act == Act::Redrive && !asked.alive {
            eprintln!("note: nobody runs on this store; they wait for the next `srvthreds run`");
        }
        Ok(outcome)
    })
}

/// Does it; says how many letters it has concerned, too.
async fn change(
    args: &ChosenArgs,
    act: Act,
    chosen: Chosen,
    queries: &dyn Queries,
    out: &mut impl Write,
) -> Result<(Outcome, usize), Trouble> {
    let missing = missing(args, &chosen, queries).await?;
    let mut counts = [0; Queue::ALL.len()];
    for (queue, filter) in chosen {
        let changed = match act {
            Act::Redrive => queries.redrive(queue, filter).await?,
            Act::Drop => queries.discard(queue, filter).await?,
        };
        counts[queue as usize] += changed;
    }
    let [events, messages, submissions] = counts;
    if args.json {
        let counts = json!({ "events": events, "messages": messages, "ingress": submissions });
        writeln!(out, "{counts}")?;
    } else {
        let done = act.done();
        write!(out, "{done}: {}, {}", count(events, "event"), count(messages, "message"))?;
        if submissions > 0 {
            write!(out, ", {}", count(submissions, "submission"))?;
        }
        writeln!(out)?;
    }
    let changed = events + messages + submissions;
    Ok((tell_missing(args, &missing, changed), changed))
}
