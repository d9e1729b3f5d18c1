//! `srvthreds bench`.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Outcome, args::BenchArgs};
use crate::bench::{self, Plan, Sites, Workload};

/// How long a run at a rate takes.
const SECONDS: usize = 10;

/// Runs a workload and prints what was measured.
pub(crate) fn run(args: &BenchArgs) -> io::Result<Outcome> {
    let plan = Plan {
        workload: args.workload,
        events: args.events.unwrap_or(match (args.rate, args.workload) {
            (Some(rate), _) => rate.saturating_mul(SECONDS),
            (None, Workload::W5) => 300_000,
            (None, _) => 1_000_000,
        }),
        patterns: args.patterns.unwrap_or(match args.workload {
            Workload::W3 => 10_000,
            _ => 0,
        }),
        open: args.open.unwrap_or(match args.workload {
            Workload::W4 | Workload::W6 | Workload::W7 => 1_000_000,
            _ => 0,
        }),
        engines: args.engines,
        rate: args.rate.map(|rate| rate as f64),
        sites: Sites {
            store: args.store,
            queue: args.queue.unwrap_or(args.store.queue()),
            directory: args.data.clone().unwrap_or_else(std::env::temp_dir),
            archive: args.archive,
            redis: args.redis.clone(),
            amqp: args.amqp.clone(),
            mongo: args.mongo.clone(),
            partitions: args.partitions,
        },
    };
    let bar = if io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{msg:>16} {wide_bar} {pos}/{len}") {
        bar.set_style(style);
    }
    let shown = bar.clone();
    let tell = move |what: &'static str, done: usize, of: usize| {
        shown.set_message(what);
        shown.set_length(of as u64);
        shown.set_position(done as u64);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // As a task, so that no thread beside the runtime's takes a core.
    let measured = runtime.spawn(bench::measure(plan, tell));
    let result = runtime.block_on(measured).unwrap_or_else(|panic| Err(panic.into()));
    bar.finish_and_clear();
    match result {
        Ok(report) => {
            let mut out = io::stdout().lock();
            if args.json {
                writeln!(out, "{}", report.to_json())?
            } else {
                write!(out, "{}", report.to_table())?
            }
            Ok(Outcome::Good)
        }
        Err(error) => {
            eprintln!("error: {}: {error}", args.workload.name());
            Ok(Outcome::Bad)
        }
    }
}
