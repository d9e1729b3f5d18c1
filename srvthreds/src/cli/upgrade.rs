//! `srvthreds store upgrade`: raises the format of a store.

use std::io::{self, Write};

use serde_json::json;

use super::{
    Outcome,
    diagnostics::printable,
    store::{StoreArgs, Trouble},
};
use crate::backend::{PartFormat, Place};

/// Raises the format of a store to the newest that this program writes.
///
/// A program reads the format before its own, and goes on writing it until the store is upgraded, so
/// that programs can be replaced one after the other. Replace all of them, then upgrade: an older
/// program refuses the store after that. Nothing is rewritten, and the command takes no longer for a
/// large store: what is stored in the old format is read as before, and written in the new one when it
/// changes. It can be repeated, and be killed, at any time.
///
/// A directory is upgraded while nobody works on it. On servers the processes go on, in the old
/// format until each is restarted; the upgrade is refused while one of them is of an older program. A
/// process counts for 60 s after it was last heard of.
///
/// Exit code: 0 when the store has the newest format, or with --dry-run when it would get it; 1 when
/// older processes are at work; 2 when the store cannot be opened.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds store upgrade --data data/ --dry-run
  srvthreds store upgrade --data data/
  srvthreds store upgrade --redis redis://localhost --mongo mongodb://localhost")]
pub(crate) struct UpgradeArgs {
    #[command(flatten)]
    store: StoreArgs,

    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,

    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &UpgradeArgs, out: &mut impl Write) -> io::Result<Outcome> {
    args.store.with_place(async |place| upgrade(args, place, out).await)
}

async fn upgrade(
    args: &UpgradeArgs,
    place: Place,
    out: &mut impl Write,
) -> Result<Outcome, Trouble> {
    let before = args.store.formats(&place).await?;
    if before.is_empty() {
        let why = "RabbitMQ keeps no format; add --redis URL or --mongo URL";
        return Err(Trouble::Store(why.to_owned()));
    }
    let older: usize = before.iter().map(|part| part.at.older_processes()).sum();
    let is_open = before.iter().any(|part| part.at.is_open());
    let does = is_open && older == 0 && !args.dry_run;
    let after = if does { raised(&place).await? } else { before.clone() };
    // One may have come in between.
    let refused =
        is_open && after.iter().any(|part| part.at.is_open() && part.at.older_processes() > 0);
    if args.json {
        let report =
            json!({ "before": before, "after": after, "refused": refused, "dryRun": args.dry_run });
        writeln!(out, "{report:#}")?;
    } else {
        for (before, after) in before.iter().zip(&after) {
            if before.at.format == after.at.format {
                writeln!(out, "{}", describe(after))?
            } else {
                writeln!(out, "{}", upgraded(before, after))?
            }
        }
        if refused {
            writeln!(out, "not upgraded: replace the older programs first")?;
        } else if is_open && args.dry_run {
            writeln!(out, "it would be upgraded")?;
        }
    }
    Ok(if refused { Outcome::Bad } else { Outcome::Good })
}

async fn raised(place: &Place) -> Result<Vec<PartFormat>, Trouble> {
    let raised = place.upgrade().await;
    raised.map_err(|error| {
        if error.in_use { Trouble::Store(format!("{error}; end it first")) } else { error.into() }
    })
}

fn upgraded(before: &PartFormat, after: &PartFormat) -> String {
    let (part, from, to) = (&after.part, before.at.format, after.at.format);
    match after.at.processes.len() {
        0 => format!("{part}: upgraded from format {from} to {to}"),
        some => format!(
            "{part}: upgraded from format {from} to {to}; {} at work: they write format {from} until \
             they are restarted, which does no harm",
            processes(some)
        ),
    }
}

fn processes(number: usize) -> String {
    match number {
        1 => "1 process".to_owned(),
        _ => format!("{number} processes"),
    }
}

/// The format of a part, in a line.
pub(crate) fn describe(part: &PartFormat) -> String {
    let PartFormat { part, at } = part;
    let format = at.format;
    let part = printable(part);
    if !at.is_open() {
        return format!("{part}: format {format}");
    }
    let newest = at.newest;
    match at.older_processes() {
        0 => format!(
            "{part}: format {format}; `srvthreds store upgrade` raises it to {newest} once all \
             programs are as new as this one"
        ),
        older => format!(
            "{part}: format {format}; {older} of {} at work are of an older program, which does not \
             read format {newest}",
            processes(at.processes.len())
        ),
    }
}
