//! `srvthreds test`.

use std::io::{self, Write};

use serde_json::{Value, json};
use thredcore::testing::{ScenarioOutcome, run_scenario, scenario::ScenarioError};

use super::{
    Outcome,
    args::TestArgs,
    diagnostics::Printer,
    files::{Unreadable, scenario_files},
    progress::Progress,
};

pub(crate) fn run(args: &TestArgs, colours: bool) -> io::Result<Outcome> {
    let (files, unreadable) = scenario_files(&args.paths);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut progress = Progress::new("scenarios run");
    let mut tally = Tally { unreadable, ..Tally::default() };
    let mut out = io::stdout().lock();
    for file in &files {
        progress.tick();
        match runtime.block_on(run_scenario(file)) {
            Ok(outcome) => {
                if !args.json {
                    print(&mut out, &outcome, colours)?;
                }
                tally.outcomes.push(outcome);
            }
            Err(error) => tally.unreadable.push(refused(&error)),
        }
    }
    drop(progress);
    tally.unreadable.iter().for_each(Printer::unreadable);
    let summary = format!("{} passed, {} failed", tally.passed(), tally.failed());
    if args.json {
        writeln!(out, "{:#}", tally.document())?;
        eprintln!("{summary}");
    } else {
        writeln!(out, "{summary}")?;
    }
    out.flush()?;
    Ok(match (tally.unreadable.is_empty(), tally.failed()) {
        (false, _) => Outcome::Unable,
        (true, 0) => Outcome::Good,
        (true, _) => Outcome::Bad,
    })
}

#[derive(Debug, Default)]
struct Tally {
    outcomes: Vec<ScenarioOutcome>,
    unreadable: Vec<Unreadable>,
}

impl Tally {
    fn passed(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.passed()).count()
    }

    fn failed(&self) -> usize {
        self.outcomes.len() - self.passed()
    }

    fn document(&self) -> Value {
        let outcomes = self.outcomes.iter().map(ScenarioOutcome::to_value);
        let unreadable =
            self.unreadable.iter().map(|file| json!({ "file": file.name, "reason": file.reason }));
        json!({
            "scenarios": outcomes.collect::<Vec<_>>(),
            "unreadable": unreadable.collect::<Vec<_>>(),
            "passed": self.passed(),
            "failed": self.failed(),
        })
    }
}

fn refused(error: &ScenarioError) -> Unreadable {
    let reason = match error.at.as_str() {
        "" => error.message.clone(),
        at => format!("{at}: {}", error.message),
    };
    Unreadable { name: error.path.display().to_string(), reason }
}

fn print(out: &mut impl Write, outcome: &ScenarioOutcome, colours: bool) -> io::Result<()> {
    const GREEN: &str = "\u{1b}[32m";
    const RED: &str = "\u{1b}[31m";
    const PLAIN: &str = "\u{1b}[0m";
    let text = outcome.to_string();
    let word = if outcome.passed() { "ok" } else { "FAILED" };
    match text.strip_prefix(word) {
        Some(rest) if colours => {
            let colour = if outcome.passed() { GREEN } else { RED };
            writeln!(out, "{colour}{word}{PLAIN}{rest}")
        }
        _ => writeln!(out, "{text}"),
    }
}
