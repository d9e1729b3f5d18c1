//! The arguments of `srvthreds dead-letters`.

use clap::Subcommand;

use crate::{cli::store::StoreArgs, query::Queue};

/// Looks after events and messages that were given up.
///
/// An event is given up when a step failed on it, a message when its agent did; what other programs
/// publish to an ingress queue, when it is no event or not from whom it says. Each is kept with the
/// reason until it is redriven or dropped, for 30 days or up to a quota of bytes.
/// While `srvthreds run` works on a directory, it answers itself.
///
/// Exit code: 0, 1 when one that was named is not there or when nothing was meant, 2 when the store cannot be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds dead-letters list --data data/
  srvthreds dead-letters show --data data/ events/3
  srvthreds dead-letters redrive --data data/ events/3 messages/1
  srvthreds dead-letters redrive --data data/ --reason timeout --limit 100
  srvthreds dead-letters list --amqp amqp://localhost --redis redis://localhost --queue ingress
  srvthreds dead-letters drop --data data/ --all")]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    pub(crate) command: DeadLettersCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// Lists dead letters, oldest first.
    List(ListArgs),
    /// Shows dead letters in full.
    #[command(after_help = "Examples:
  srvthreds dead-letters show --data data/ events/3
  srvthreds dead-letters show --data data/ --reason timeout --json | jq .deadLetters[].event")]
    Show(ChosenArgs),
    /// Sends dead letters on their way again, and removes them from here.
    ///
    /// An event goes to the threds and patterns that it concerns now; a thred that it has moved
    /// before does not move again. Nothing is asked, so say which: ids, a filter, or --all.
    #[command(after_help = "Examples:
  srvthreds dead-letters redrive --data data/ events/3 messages/1
  srvthreds dead-letters redrive --data data/ --reason 'reaction `fail`' --limit 100
  srvthreds dead-letters redrive --redis redis://localhost --queue messages")]
    Redrive(ChosenArgs),
    /// Removes dead letters for good.
    ///
    /// Nothing is asked, so say which: ids, a filter, or --all.
    #[command(after_help = "Examples:
  srvthreds dead-letters drop --data data/ events/3
  srvthreds dead-letters drop --data data/ --reason 'no such'
  srvthreds dead-letters drop --data data/ --all")]
    Drop(ChosenArgs),
}

/// Which dead letters are meant; all that is given must hold.
#[derive(Debug, clap::Args)]
pub(crate) struct FilterArgs {
    /// Those of one queue.
    #[arg(long, value_enum, value_name = "QUEUE")]
    pub(crate) queue: Option<Queue>,

    /// Those whose reason contains this text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,

    /// At most so many of each queue, oldest first.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds dead-letters list --data data/
  srvthreds dead-letters list --data data/ --queue messages --limit 20
  srvthreds dead-letters list --redis redis://localhost --json | jq -r .deadLetters[].reason")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ChosenArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Those of these ids, as `list` shows them: events/3, messages/1.
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,

    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    /// All of them, if nothing else says which.
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,

    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}
