//! The arguments of `srvthreds replay`.

use crate::cli::store::StoreArgs;

/// Computes threds again from their stored history, and compares what follows with what is stored.
///
/// Each step is given its own time, event, and what it asked then about groups, sessions and
/// patterns; the log and the messages that follow are compared with the history, and the state at
/// the end with the stored one, byte for byte. Nothing is changed.
///
/// A thred whose history is no longer whole cannot be compared; a store drops the oldest steps when
/// its bounds are reached.
///
/// Exit code: 0 when all is equal, 1 when something differs, 2 when a thred could not be compared
/// or the store cannot be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds replay --data data/
  srvthreds replay --data data/ --thred 3ecf8d27-90a1-8e65-9f9b-2a2f1c3c3a6e
  srvthreds replay --redis redis://localhost --json")]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Just this thred; all that are stored, ended ones included, when left out.
    #[arg(long, value_name = "ID")]
    pub(crate) thred: Option<String>,

    /// Print JSON lines: one for each thred that is not equal, and the summary.
    #[arg(long)]
    pub(crate) json: bool,
}
