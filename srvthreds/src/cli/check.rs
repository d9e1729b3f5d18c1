//! `srvthreds store`: the format of a store, what it holds that nobody can read, and what it has
//! refused.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use serde_json::json;

use super::{
    Outcome,
    store::{StoreArgs, Trouble},
    text::{Table, count, shortened},
    upgrade::{self, UpgradeArgs},
};
use crate::{
    backend::PartFormat,
    query::{COMMANDS, Found, Queries},
};

/// Looks after a store itself.
///
/// A record that cannot be read stops nothing: it is passed over, with a warning that names it, and
/// stays where it is. A command from one thred to another that the queue refuses for good is kept
/// among the dead letters of events. `check` finds all of them, and says which format the store has.
/// `upgrade` raises that after all programs have been replaced.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds store check --data data/
  srvthreds store upgrade --data data/ --dry-run
  srvthreds store check --redis redis://localhost --repair --to unreadable.jsonl")]
pub(crate) struct StoreCommandArgs {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    Check(CheckArgs),
    Upgrade(UpgradeArgs),
}

/// Shows the format of a store, lists what cannot be read and the commands that were refused, and on
/// request moves them out into a file.
///
/// A refused command can also be sent again: `srvthreds dead-letters redrive events/3`.
///
/// Exit code: 0 when everything can be read and nothing was refused, 1 when not, 2 when the store
/// does not answer.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds store check --data data/
  srvthreds store check --data data/ --json | jq .unreadable[].reason
  srvthreds store check --data data/ --repair --to unreadable.jsonl")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    store: StoreArgs,

    /// Take what cannot be read out of the store and append it to the file of --to, a line of JSON
    /// for each.
    #[arg(long, requires = "to")]
    repair: bool,

    /// Where to keep what is taken out.
    #[arg(long, value_name = "FILE", requires = "repair")]
    to: Option<PathBuf>,

    /// Maximum number to list or take out.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,

    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &StoreCommandArgs) -> io::Result<Outcome> {
    let mut out = io::stdout().lock();
    let args = match &args.command {
        StoreCommand::Check(args) => args,
        StoreCommand::Upgrade(args) => return upgrade::run(args, &mut out),
    };
    args.store.ask(async |asked| check(args, &*asked.queries, &mut out).await)
}

async fn check(
    args: &CheckArgs,
    queries: &dyn Queries,
    out: &mut impl Write,
) -> Result<Outcome, Trouble> {
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let found = match &args.to {
        Some(file) => {
            // Before anything is taken out: it must not get lost for want of a place.
            let mut kept = open(file)?;
            let found = queries.move_out(limit).await?;
            for unreadable in &found {
                serde_json::to_writer(&mut kept, unreadable).map_err(io::Error::from)?;
                kept.write_all(b"\n")?;
            }
            kept.sync_all()?;
            found
        }
        None => queries.unreadable(limit).await?,
    };
    report(args, &queries.formats().await?, &found, out)?;
    Ok(if found.is_empty() { Outcome::Good } else { Outcome::Bad })
}

fn open(file: &Path) -> Result<fs::File, Trouble> {
    let opened = OpenOptions::new().create(true).append(true).open(file);
    opened.map_err(|error| Trouble::Store(format!("cannot write {}: {error}", file.display())))
}

fn report(
    args: &CheckArgs,
    formats: &[PartFormat],
    found: &[Found],
    out: &mut impl Write,
) -> Result<(), Trouble> {
    if args.json {
        let report = json!({ "formats": formats, "unreadable": found, "movedOut": args.repair });
        writeln!(out, "{report:#}")?;
        return Ok(());
    }
    for format in formats {
        writeln!(out, "{}", upgrade::describe(format))?;
    }
    if found.is_empty() {
        writeln!(out, "everything can be read")?;
        return Ok(());
    }
    const WIDTH: usize = 100;
    let mut table = Table::new(["PART", "KIND", "KEY", "REASON"]);
    for Found { part, unreadable } in found {
        table.row([
            part.clone(),
            unreadable.kind.clone(),
            shortened(&unreadable.key, WIDTH),
            shortened(&unreadable.reason, WIDTH),
        ]);
    }
    table.write(out)?;
    let commands = found.iter().filter(|it| it.part == COMMANDS).count();
    let records = count(found.len() - commands, "record");
    let commands = count(commands, "command");
    match &args.to {
        Some(file) => writeln!(out, "moved {records} and {commands} to {}", file.display())?,
        None => writeln!(
            out,
            "{records} cannot be read, {commands} refused; --repair --to FILE moves them out"
        )?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;
    use thredcore::port::{Command, DeadLetterFilter, Inbound, REJECTED};

    use super::*;
    use crate::cli::testing::{args, bed, fail, queries};

    async fn checked(line: &[&str], queries: &dyn Queries) -> (Outcome, String) {
        let mut out = Vec::new();
        let outcome = check(&args(line), queries, &mut out).await.unwrap();
        (outcome, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn refused_commands_are_listed_counted_and_moved_out() {
        let mut bed = bed().await;
        let queries = queries(&bed);
        // One that failed is no refused one.
        fail(&mut bed, "one").await;
        let clean = (Outcome::Good, "everything can be read\n".to_owned());
        assert_eq!(checked(&[], &queries).await, clean);
        let expire = Command::Expire { thred_id: "t".into(), entry: 1, at: 2 };
        let command = Inbound::Command(Arc::new(expire));
        let letter = (command.clone(), format!("{REJECTED}publish events: too large"));
        bed.engine().ports().event_q.bury(vec![letter.clone(), letter]).await.unwrap();

        let (outcome, text) = checked(&[], &queries).await;
        assert_eq!(outcome, Outcome::Bad);
        let row = text.lines().nth(1).unwrap();
        assert!(row.starts_with("commands  command  events/2  for thred t: REJECTED: "), "{text}");
        let last =
            "0 records cannot be read, 2 commands refused; --repair --to FILE moves them out";
        assert_eq!(text.lines().last(), Some(last));
        let (_, one) = checked(&["--limit", "1", "--json"], &queries).await;
        let one: Value = serde_json::from_str(&one).unwrap();
        assert_eq!(one["unreadable"].as_array().unwrap().len(), 1);
        let content = one["unreadable"][0]["content"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Inbound>(content).unwrap(), command);

        let file = tempfile::NamedTempFile::new().unwrap();
        let name = file.path().to_str().unwrap();
        let (_, text) = checked(&["--repair", "--to", name], &queries).await;
        assert!(text.ends_with(&format!("moved 0 records and 2 commands to {name}\n")), "{text}");
        assert_eq!(std::fs::read_to_string(file.path()).unwrap().lines().count(), 2);
        assert_eq!(checked(&[], &queries).await, clean);
        let all = DeadLetterFilter::all();
        let left = bed.engine().ports().event_q.dead_letters(&all).await.unwrap();
        assert_eq!(left.iter().map(|it| it.payload.id()).collect::<Vec<_>>(), ["one"]);
    }
}
