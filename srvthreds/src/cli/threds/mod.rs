//! `srvthreds threds`.

mod args;
mod count;
mod list;
mod show;
mod timeline;
mod watch;

#[cfg(all(test, unix))]
mod tests;

use std::io;

use super::{Outcome, diagnostics::printable};

pub(crate) use args::ThredsArgs;
use args::ThredsCommand;

pub(crate) fn run(args: &ThredsArgs) -> io::Result<Outcome> {
    let mut out = io::stdout().lock();
    match &args.command {
        ThredsCommand::List(args) => {
            args.store.ask(async |asked| list::list(args, &*asked.queries, &mut out).await)
        }
        ThredsCommand::Count(args) => {
            args.store.ask(async |asked| count::count(args, &*asked.queries, &mut out).await)
        }
        ThredsCommand::Show(args) => {
            args.store.ask(async |asked| show::show(args, &*asked.queries, &mut out).await)
        }
        ThredsCommand::Watch(args) => {
            args.store.ask(async |asked| watch::watch(args, asked, &mut out).await)
        }
    }
}

/// Says that a thred is not there.
pub(super) fn no_thred(id: &str) -> Outcome {
    eprintln!("error: there is no thred `{}`; `threds list --status all` shows all", printable(id));
    Outcome::Bad
}
