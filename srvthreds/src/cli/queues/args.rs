//! The arguments of `srvthreds queues`.

use clap::Subcommand;

use crate::cli::store::StoreArgs;

/// Shows what waits in the queues, and what holds it up.
///
/// Events wait in partitions, messages on topics. A topic that nobody reads fills up; further messages
/// to it wait in the outboxes of their threds (PARKED), and beyond a quota they are dead-lettered.
/// What other programs publish waits in ingress queues.
/// While `srvthreds run` works on a directory, it answers itself.
///
/// Exit code: 0, 1 when there is no such topic, 2 when the store cannot be read or refuses.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds queues list --data data/
  srvthreds queues list --redis redis://localhost --json | jq '.topics[] | select(.depth > 1000)'
  srvthreds queues purge --data data/ org.wt.reports --dry-run
  srvthreds queues delete --data data/ org.wt.reports")]
pub(crate) struct QueuesArgs {
    #[command(subcommand)]
    pub(crate) command: QueuesCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueuesCommand {
    /// Lists partitions, ingress queues and topics with their depth, the age of the oldest item and the consumers.
    List(ListArgs),
    /// Removes for good what waits on a topic. What is handed out stays.
    Purge(TopicArgs),
    /// Removes a topic with all that waits on it. A topic with consumers is refused.
    Delete(TopicArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds queues list --data data/
  srvthreds queues list --data data/ --json")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds queues purge --data data/ org.wt.reports --dry-run
  srvthreds queues delete --redis redis://localhost org.wt.reports")]
pub(crate) struct TopicArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// The topic, as `list` shows it.
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: String,

    /// Say how many messages would be removed, and remove none.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}
