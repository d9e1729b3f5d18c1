//! The arguments of each command.

use std::{io::IsTerminal, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

/// Works with thredcore patterns: JSON state machines that match events and send messages.
#[derive(Debug, Parser)]
#[command(name = "srvthreds", version, propagate_version = true)]
#[command(after_help = "Examples:
  srvthreds validate patterns/
  srvthreds schema > pattern.schema.json")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// When to colour the output.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Validate(ValidateArgs),
    Schema(SchemaArgs),
    Test(TestArgs),
}

/// Says everything that is wrong with patterns, where, and how to mend it.
///
/// A directory stands for all pattern files below it: `*.pattern.json`, and other `.json` files
/// that have `reactions`. Several patterns are taken as one set: their ids must differ, and
/// they can spawn each other.
///
/// Exit code: 0 when the patterns can run, 1 when one of them cannot, 2 when a file is unreadable.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds validate patterns/
  srvthreds validate approval.pattern.json --deny-warnings
  srvthreds validate patterns/ --json > findings.json")]
pub(crate) struct ValidateArgs {
    /// Pattern files, or directories of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub(crate) paths: Vec<PathBuf>,

    /// Print one JSON document instead of text.
    #[arg(long)]
    pub(crate) json: bool,

    /// Exit with 1 for warnings too.
    #[arg(long)]
    pub(crate) deny_warnings: bool,
}

/// Prints a JSON Schema, for editors and other programs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds schema > pattern.schema.json
  srvthreds schema event > event.schema.json

An editor completes and checks a pattern that names the schema:
  { \"$schema\": \"./pattern.schema.json\", \"name\": … }")]
pub(crate) struct SchemaArgs {
    /// What to describe.
    #[arg(value_enum, default_value_t)]
    pub(crate) of: Described,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Described {
    /// A pattern file.
    #[default]
    Pattern,
    /// An event.
    Event,
    /// A message: an event with its recipients.
    Message,
}

/// Runs scenarios: tests of patterns, in JSON, on a virtual clock.
///
/// A directory stands for all scenario files below it: `*.scenario.json`, and other `.json` files
/// that have `steps`. A scenario that fails prints the step, the difference and the run up to
/// there.
///
/// Exit code: 0 when all scenarios passed, 1 when one failed, 2 when a file is unreadable.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds test scenarios/
  srvthreds test approval.scenario.json --json")]
pub(crate) struct TestArgs {
    /// Scenario files, or directories of them.
    #[arg(required = true, value_name = "SCENARIO|DIR")]
    pub(crate) paths: Vec<PathBuf>,

    /// Print one JSON document instead of text; the summary goes to standard error.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless the environment sets NO_COLOR.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    pub(crate) fn on(self, output: &impl IsTerminal) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                output.is_terminal() && !refused
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        super::Args::command().debug_assert();
    }
}
