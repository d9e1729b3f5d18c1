//! `srvthreds store`: the format of a store, and what it holds that nobody can read.

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
    query::{Found, Queries},
};

/// Looks after a store itself.
///
/// A record that cannot be read stops nothing: it is passed over, with a warning that names it, and
/// stays where it is. `check` finds all of them, and says which format the store has. `upgrade` raises
/// that after all programs have been replaced.
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

/// Shows the format of a store, lists what cannot be read, and on request moves that out into a file.
///
/// Exit code: 0 when everything can be read, 1 when something cannot, 2 when the store does not
/// answer.
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
    Ok(match found.is_empty() {
        true => Outcome::Good,
        false => Outcome::Bad,
    })
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
    let records = count(found.len(), "record");
    match &args.to {
        Some(file) => writeln!(out, "moved {records} to {}", file.display())?,
        None => writeln!(out, "{records} cannot be read; --repair --to FILE moves them out")?,
    }
    Ok(())
}
