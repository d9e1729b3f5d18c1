//! The command line: one module for each command, and what they share.

mod args;
mod bench;
mod check;
mod dead_letters;
mod diagnostics;
mod files;
mod interrupt;
mod progress;
mod queues;
mod replay;
mod run;
mod schema;
mod spans;
mod store;
mod test;
#[cfg(test)]
mod testing;
mod text;
mod threds;
mod upgrade;
mod validate;

use std::{io, process::ExitCode};

use clap::Parser;

use args::{Args, Command};

/// How a command ended, as far as the caller of the program can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Nothing is wrong. Exit code 0.
    Good,
    /// The command did its work and found something wrong. Exit code 1.
    Bad,
    /// The command could not do its work: a file is unreadable, or the arguments make no sense.
    /// Exit code 2, the same as clap's for arguments that it refuses.
    Unable,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Good => ExitCode::SUCCESS,
            Outcome::Bad => ExitCode::from(1),
            Outcome::Unable => ExitCode::from(2),
        }
    }
}

/// Reads the arguments and runs the command.
pub(crate) fn run() -> ExitCode {
    let args = Args::parse();
    let colours = args.color.on(&io::stdout());
    let outcome = match &args.command {
        Command::Run(run) => run::run(run, args.color),
        Command::Threds(args) => threds::run(args),
        Command::DeadLetters(args) => dead_letters::run(args),
        Command::Queues(args) => queues::run(args),
        Command::Store(args) => check::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Validate(args) => validate::run(args, colours),
        Command::Schema(args) => schema::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Test(args) => test::run(args, colours),
    };
    match outcome {
        Ok(outcome) => outcome.into(),
        // Whoever reads the output, as `head`, has had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot write the output: {error}");
            Outcome::Unable.into()
        }
    }
}
