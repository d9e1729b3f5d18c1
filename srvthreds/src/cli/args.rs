//! The arguments of each command.

use std::{io::IsTerminal, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use thredcore::testing::scenario::parse_duration;
use tracing_subscriber::EnvFilter;

use super::{
    check::StoreCommandArgs,
    dead_letters::DeadLettersArgs,
    queues::QueuesArgs,
    replay::ReplayArgs,
    run::IngressArgs,
    store::{ServerArgs, needs_servers},
    threds::ThredsArgs,
};
use crate::{
    backend::Place,
    bench::{Queue, Store, Workload},
};

/// Works with thredcore patterns: JSON state machines that match events and send messages.
#[derive(Debug, Parser)]
#[command(name = "srvthreds", version, propagate_version = true)]
#[command(after_help = "Examples:
  srvthreds validate patterns/
  srvthreds run --patterns patterns/ --events day.jsonl > messages.jsonl
  srvthreds run --data data/ --patterns patterns/ < events.jsonl
  srvthreds threds list --data data/
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
    Run(RunArgs),
    Threds(ThredsArgs),
    DeadLetters(DeadLettersArgs),
    Queues(QueuesArgs),
    Store(StoreCommandArgs),
    Replay(ReplayArgs),
    Validate(ValidateArgs),
    Schema(SchemaArgs),
    Test(TestArgs),
    Bench(BenchArgs),
}

/// Runs patterns on events: events come in as JSON lines, messages go out as JSON lines.
///
/// Each line of the input is an event, `{"id": …, "type": …, "source": {"id": …}, …}`; each line of
/// the output is a message, `{"id": …, "event": …, "to": […], "timestamp": …}`, in the order in which
/// messages leave. A line that is no event is reported and passed over. Log, errors and summary go
/// to standard error.
///
/// In memory (no store is named): everything is gone when the program ends. That is when
/// the input has ended and everything that follows from it has happened; timers that are not due
/// then are dropped, unless --linger or --wait says otherwise. SIGINT and SIGTERM end the input;
/// what was taken in is still finished.
///
/// Live (--data, --redis, --amqp, --mongo): events, threds, timers and messages are kept in a store: in
/// the files of a directory, for one process; or on servers, where any number of processes on any
/// machines share the work, those without --patterns with the patterns that are stored there: Redis,
/// or RabbitMQ with Redis, with MongoDB or with both. The program goes on when the input has ended, until it is interrupted, and the next start goes on where this
/// one was, also after a crash. An event that was accepted is not lost; a message is printed again
/// if the program dies before the store knows that it was written. On SIGINT or SIGTERM it stops
/// reading, finishes what is under way and ends within 10 s; a second signal ends it at once. What
/// was not reached waits in the store. Pattern and sessions files are watched: a file that is
/// changed is taken into use, a file that is wrong is refused with what is wrong and the old version
/// stays, the pattern of a file that is removed goes out of use. At the start the files win over
/// the store. Running threds keep the revision that they started with.
///
/// On RabbitMQ other programs publish events to ingress queues (--ingress). Each is taken for the
/// participant that its user of the broker stands for; one with another source, or of a user who is
/// not named, is refused, and kept among the dead letters of that queue.
///
/// If the sessions list the service `org.wt.persistence`, a persistence agent answers for it. Its
/// records are in MongoDB with --mongo; else in memory, with a store too: they are gone when the
/// program ends. Other services have nobody behind them: messages to them are printed, that is all.
///
/// Exit code in memory, and with --until-idle, --linger or --wait: 0 when all events were accepted
/// and none failed, 1 when one was rejected or dead-lettered. Live: 0 when the work under way was
/// finished, 1 when not. Always: 1 when a pattern cannot run, 2 when a file is unreadable or the
/// store cannot be opened.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds run --patterns patterns/ --sessions sessions.json --events day.jsonl > messages.jsonl
  tail -f events.jsonl | srvthreds run --patterns hello.pattern.json
  srvthreds run --patterns patterns/ --events day.jsonl --in-flight 1000 > messages.jsonl
  tail -n 0 -F events.jsonl | srvthreds run --data data/ --patterns patterns/ >> messages.jsonl
  srvthreds run --data data/ --patterns patterns/ --events day.jsonl --until-idle
  srvthreds run --redis redis://localhost --patterns patterns/ --events - --print none
  srvthreds run --redis redis://localhost --amqp amqp://localhost --mongo mongodb://localhost \
    --patterns patterns/ --sessions sessions.json
  srvthreds run --redis redis://localhost --amqp amqp://localhost --patterns patterns/ \
    --ingress event-queue --ingress-user shop=erp --ingress-user gateway=*

The sessions file says who there is:
  { \"groups\": { \"ops\": [\"ann\", \"bob\"] }, \"roles\": { \"admin\": [\"root\"] },
    \"services\": [\"org.wt.persistence\"], \"sessions\": [\"ann\", \"bob\"] }

An event that answers names its thred. The id of a thred follows from the event and the pattern
that started it: the same events give the same ids, run after run.")]
pub(crate) struct RunArgs {
    /// Pattern files, or directories of them. With a store they may be left out: the patterns in
    /// the store are used then.
    #[arg(long, num_args = 1.., value_name = "FILE|DIR")]
    #[arg(required_unless_present_any = ["data", ServerArgs::ANY])]
    pub(crate) patterns: Vec<PathBuf>,

    /// Keep everything in files of this directory, and run until interrupted. One process may use
    /// it at a time.
    #[arg(long, value_name = "DIR", conflicts_with = ServerArgs::ANY)]
    data: Option<PathBuf>,

    #[command(flatten)]
    servers: ServerArgs,

    #[command(flatten)]
    pub(crate) ingress: IngressArgs,

    /// With Redis: how many replicas must have a write before it counts.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "redis")]
    replicas: u8,

    /// Who there is: groups, roles, services and sessions. Left out: nobody.
    #[arg(long, value_name = "FILE")]
    pub(crate) sessions: Option<PathBuf>,

    /// Records that the persistence agent starts with: {"Type": [{"id": …}, …], …}; they replace
    /// those of the same ids that are stored. The agent runs then even if the sessions do not list
    /// it.
    #[arg(long, value_name = "FILE")]
    pub(crate) records: Option<PathBuf>,

    /// The events; `-` is standard input.
    #[arg(long, default_value = "-", value_name = "FILE|-")]
    pub(crate) events: PathBuf,

    /// How many events may be under way at one time.
    ///
    /// With 1, an event goes in when everything that follows from the one before has happened, so
    /// that the same file gives the same messages. With more the engine is faster, and only events
    /// of one thred, or of one source, keep their order. 1 in memory; with a store as many as its
    /// queue takes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) in_flight: Option<u32>,

    /// End when the input has ended and everything that follows from it has happened, with a store
    /// too.
    #[arg(long, conflicts_with_all = ["linger", "wait"])]
    pub(crate) until_idle: bool,

    /// After the end of the input, go on for so long while threds live, as 500ms, 10s, 5m or 2h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) linger: Option<Duration>,

    /// After the end of the input, go on until no thred lives, or until interrupted.
    #[arg(long, conflicts_with = "linger")]
    pub(crate) wait: bool,

    /// With servers: whose messages are printed, all unless given; the others stay for agents and
    /// session nodes elsewhere.
    #[arg(long, value_enum, value_name = "WHOSE")]
    print: Option<Print>,

    /// Print the summary as one line of JSON, the last one on standard error.
    #[arg(long)]
    pub(crate) json: bool,

    /// What to log: a level (error, warn, info, debug, trace), or a filter as
    /// thredcore=debug,warn.
    #[arg(long, default_value = "warn", value_name = "FILTER", value_parser = filter)]
    pub(crate) log: String,
}

impl RunArgs {
    /// Where threds and queues are kept.
    pub(crate) fn place(&self) -> Place {
        match &self.data {
            Some(directory) => Place::Directory(directory.clone()),
            None => self.servers.place(self.replicas.into()).unwrap_or(Place::Memory),
        }
    }

    /// Whose messages are printed.
    pub(crate) fn print(&self) -> Print {
        self.print.unwrap_or_default()
    }

    /// Why the arguments make no sense together, if they do not.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.print.is_some() && !self.servers.any() {
            return Err(needs_servers(
                "--print",
                "a process that has its store alone prints all messages",
            ));
        }
        self.servers.check()
    }

    /// Whether the end of the input is no reason to end.
    pub(crate) fn is_live(&self) -> bool {
        let ends = self.until_idle || self.wait || self.linger.is_some();
        self.place() != Place::Memory && !ends
    }
}

/// Whose messages are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Print {
    /// Those of all session nodes and services.
    #[default]
    All,
    /// Those of session nodes.
    Sessions,
    /// None.
    None,
}

fn duration(text: &str) -> Result<Duration, String> {
    let ms = parse_duration(&text.into())?;
    Ok(Duration::from_millis(ms.unsigned_abs()))
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Says everything that is wrong with patterns, where, and how to mend it.
///
/// An error keeps a pattern from running, a warning says that it hardly does what was meant; a note
/// is good to know, and no reason to change anything.
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

/// Measures the engine on a workload, and checks that the outcome is right.
///
/// Client and engine run in this process; events enter and messages leave as JSON bytes. Throughput
/// is measured as fast as it goes, latency in a second run at half of that rate. For comparison it
/// tells how many commits the store alone does each second, and how many events and messages the
/// queue alone carries, and how many steps the archive alone takes, if those are servers.
///
/// Exit code: 0, or 1 when the number of messages or of ended threds is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  srvthreds bench --workload W1 --store memory
  srvthreds bench --workload W3 --patterns 10000 --json
  srvthreds bench --workload W4 --open 1000000
  srvthreds bench --workload W6 --open 1000000
  srvthreds bench --workload W1 --store embedded --data .
  srvthreds bench --workload W5 --store redis --redis redis://localhost --engines 3
  srvthreds bench --workload W1 --store mongo --queue amqp --events 50000
  srvthreds bench --workload W1 --store redis --queue amqp --archive --rate 1000

Use a release build: cargo run --release -p srvthreds -- bench --workload W1")]
pub(crate) struct BenchArgs {
    /// The work.
    #[arg(long, value_enum, ignore_case = true)]
    pub(crate) workload: Workload,

    /// Where threds are kept.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) store: Store,

    /// What carries events and messages; left out: what goes with the store.
    #[arg(long, value_enum)]
    pub(crate) queue: Option<Queue>,

    /// Where the embedded store makes its directory, which is removed at the end; DIR itself is made
    /// when it is missing, and stays. Left out: the system's place for temporary files. Beware: that
    /// may be in memory.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// The Redis server; what is stored there is removed at the end.
    #[arg(long, value_name = "URL", env = "REDIS_URL", hide_env_values = true)]
    pub(crate) redis: Option<String>,

    /// The RabbitMQ server; the queues made there are removed at the end.
    #[arg(long, value_name = "URL", env = "AMQP_URL", hide_env_values = true)]
    pub(crate) amqp: Option<String>,

    /// The MongoDB server; a database of its own is made there, and removed at the end.
    #[arg(long, value_name = "URL", env = "MONGODB_URL", hide_env_values = true)]
    pub(crate) mongo: Option<String>,

    /// Keep the past in MongoDB, behind threds on Redis; the time until it is all there counts.
    #[arg(long)]
    pub(crate) archive: bool,

    /// Events each second, instead of as many as it takes: tells how long each stage takes.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) rate: Option<usize>,

    /// Events to send; 1,000,000 unless given (W5: 300,000; at a rate: 10 s of it).
    #[arg(long, value_name = "N", value_parser = at_least_three)]
    pub(crate) events: Option<usize>,

    /// Further patterns that do not match; W3: 10,000 unless given.
    #[arg(long, value_name = "P")]
    pub(crate) patterns: Option<usize>,

    /// W4: further threds left open. W6: timers. W7: threds that wait. 1,000,000 unless given.
    #[arg(long, value_name = "T")]
    pub(crate) open: Option<usize>,

    /// Engines that share the work.
    #[arg(long, value_name = "E", default_value_t = 1, value_parser = at_least_one)]
    pub(crate) engines: usize,

    /// With servers: how many parts the work is spread over. 16 unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) partitions: Option<u16>,

    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    at_least(1, text)
}

/// A conversation is three events.
fn at_least_three(text: &str) -> Result<usize, String> {
    at_least(3, text)
}

fn at_least(least: usize, text: &str) -> Result<usize, String> {
    match text.replace('_', "").parse() {
        Ok(number) if number >= least => Ok(number),
        Ok(_) => Err(format!("must be at least {least}")),
        Err(error) => Err(format!("{error}")),
    }
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
