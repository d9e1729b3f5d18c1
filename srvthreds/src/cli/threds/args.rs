//! The arguments of `srvthreds threds`.

use clap::{Subcommand, ValueEnum};
use thredcore::{
    port::ThredQuery,
    state::{Status, WaitKey},
};

use crate::cli::store::StoreArgs;

/// Shows threds: what is running, where it stands, what has happened.
///
/// While `srvthreds run` works on a directory, it answers itself, by a socket in the directory that
/// only its user may open. Times are those of the machine's time zone, or of TZ.
///
/// Exit code: 0, 1 when there is no such thred, 2 when the store cannot be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds threds list --data data/
  srvthreds threds list --data data/ --pattern approval --participant ann --json
  srvthreds threds show --data data/ 3ecf8d27-90a1-8e65-9f9b-2a2f1c3c3a6e
  srvthreds threds watch --data data/")]
pub(crate) struct ThredsArgs {
    #[command(subcommand)]
    pub(crate) command: ThredsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ThredsCommand {
    List(ListArgs),
    Count(CountArgs),
    Show(ShowArgs),
    Watch(WatchArgs),
}

/// Lists threds, oldest start first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds threds list --data data/
  srvthreds threds list --data data/ --status terminated --limit 10
  srvthreds threds list --redis redis://localhost --participant ann")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Those of a pattern, by its id.
    #[arg(long, value_name = "ID")]
    pub(crate) pattern: Option<String>,

    /// Those that somebody takes part in.
    #[arg(long, value_name = "ID")]
    pub(crate) participant: Option<String>,

    /// Those in a reaction of this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) reaction: Option<String>,

    /// Those that started at this time or later: RFC 3339, or milliseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = time, allow_negative_numbers = true)]
    pub(crate) started_from: Option<i64>,

    /// Those that started before this time.
    #[arg(long, value_name = "TIME", value_parser = time, allow_negative_numbers = true)]
    pub(crate) started_before: Option<i64>,

    /// Those that last changed at this time or later.
    #[arg(long, value_name = "TIME", value_parser = time, allow_negative_numbers = true)]
    pub(crate) modified_from: Option<i64>,

    /// Those that last changed before this time.
    #[arg(long, value_name = "TIME", value_parser = time, allow_negative_numbers = true)]
    pub(crate) modified_before: Option<i64>,

    /// Those that wait for unbound events under a key, as `show --json` lists it in `waits`.
    #[arg(long, value_name = "KEY", value_parser = key)]
    pub(crate) key: Option<WaitKey>,

    /// Those in one of these states; active and finished ones unless given.
    #[arg(long, value_enum, num_args = 1.., value_name = "STATUS")]
    pub(crate) status: Vec<StatusArg>,

    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,

    /// Go on after the last page: what it said.
    #[arg(long, value_name = "PLACE")]
    pub(crate) after: Option<String>,

    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where a thred is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusArg {
    /// It reacts to events.
    Active,
    /// It is past its last reaction, but still relays broadcasts.
    Finished,
    /// It has ended; it is kept for a while.
    Terminated,
    /// Any of these.
    All,
}

impl ListArgs {
    pub(crate) fn query(&self) -> ThredQuery {
        let status = self.status.iter().flat_map(|status| match status {
            StatusArg::Active => vec![Status::Active],
            StatusArg::Finished => vec![Status::Finished],
            StatusArg::Terminated => vec![Status::Terminated],
            StatusArg::All => vec![Status::Active, Status::Finished, Status::Terminated],
        });
        ThredQuery {
            pattern: self.pattern.as_deref().map(Into::into),
            participant: self.participant.as_deref().map(Into::into),
            reaction: self.reaction.as_deref().map(Into::into),
            status: status.collect(),
            key: self.key,
            started_from: self.started_from,
            started_before: self.started_before,
            modified_from: self.modified_from,
            modified_before: self.modified_before,
            after: self.after.clone(),
            limit: usize::try_from(self.limit).unwrap_or(usize::MAX),
        }
    }
}

/// A point in time, as milliseconds since the Unix epoch.
fn time(text: &str) -> Result<i64, String> {
    if let Ok(millis) = text.parse() {
        return Ok(millis);
    }
    let at: jiff::Timestamp =
        text.parse().map_err(|_| "neither RFC 3339 nor a number of milliseconds".to_owned())?;
    Ok(at.as_millisecond())
}

fn key(text: &str) -> Result<WaitKey, String> {
    text.parse().map_err(|error: thredlib::NotAKey| error.to_string())
}

/// Counts live threds by pattern, revision, reaction and status.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds threds count --data data/
  srvthreds threds count --redis redis://localhost --json | jq '[.[].threds] | add'")]
pub(crate) struct CountArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Shows where a thred stands, and its history.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds threds show --data data/ 3ecf8d27-90a1-8e65-9f9b-2a2f1c3c3a6e
  srvthreds threds show --data data/ 3ecf8d27-90a1-8e65-9f9b-2a2f1c3c3a6e --json | jq .state")]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// The thred.
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    /// The latest so many steps of its history.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,

    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Follows a thred until it ends, or all threds, until interrupted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds threds watch --data data/
  srvthreds threds watch --data data/ 3ecf8d27-90a1-8e65-9f9b-2a2f1c3c3a6e
  srvthreds threds watch --data data/ --json | jq -c 'select(.type == \"EXPIRED\")'")]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// The thred; all of them when left out.
    #[arg(value_name = "ID")]
    pub(crate) id: Option<String>,

    /// Print JSON lines: a step of the thred, or a record of the log, each.
    #[arg(long)]
    pub(crate) json: bool,
}
