//! How a scenario ended, for people and for programs.

use std::{fmt, path::PathBuf};

use serde_json::{Value, json};
use thredlib::{Event, Message, event_type};

use crate::port::LogRecord;

/// How a scenario ended. Shown as text it is a line when it passed, and the step, the difference
/// and the run up to there when it failed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScenarioOutcome {
    /// What the scenario shows.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// How many steps it has.
    pub steps: usize,
    /// Why it failed; `None` when it passed.
    pub failure: Option<Failure>,
}

/// Why a scenario failed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Failure {
    /// The step, from 0; `None` at the end of the scenario.
    pub step: Option<usize>,
    /// The step as written.
    pub written: Option<Value>,
    /// What is not as expected: a headline, then one difference a line.
    pub mismatch: Vec<String>,
    /// What had happened up to there: events, decisions, messages.
    pub transcript: Vec<String>,
}

impl ScenarioOutcome {
    /// Whether it passed.
    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }

    /// The outcome as JSON.
    pub fn to_value(&self) -> Value {
        let mut value = json!({
            "name": self.name,
            "path": self.path.display().to_string(),
            "passed": self.passed(),
            "steps": self.steps,
        });
        if let Some(failure) = &self.failure {
            value["failure"] = json!({
                "step": failure.step,
                "written": failure.written,
                "mismatch": failure.mismatch,
                "run": failure.transcript,
            });
        }
        value
    }
}

impl fmt::Display for ScenarioOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(failure) = &self.failure else {
            return write!(f, "ok      {}", self.name);
        };
        writeln!(f, "FAILED  {}", self.name)?;
        match failure.step {
            Some(step) => {
                writeln!(f, "  {}, step {} of {}", self.path.display(), step + 1, self.steps)?
            }
            None => writeln!(f, "  {}, after its {} steps", self.path.display(), self.steps)?,
        }
        if let Some(written) = &failure.written {
            writeln!(f, "    {}", shortened(written.to_string(), 400))?;
        }
        for line in &failure.mismatch {
            writeln!(f, "  {line}")?;
        }
        write!(f, "  the run up to there:")?;
        if failure.transcript.is_empty() {
            write!(f, " nothing")?;
        }
        failure.transcript.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// What has happened so far, a line each.
#[derive(Debug)]
pub(super) struct Transcript {
    start: i64,
    lines: Vec<String>,
}

impl Transcript {
    pub(super) fn new(start: i64) -> Self {
        Self { start, lines: Vec::new() }
    }

    pub(super) fn lines(self) -> Vec<String> {
        self.lines
    }

    pub(super) fn sent(&mut self, now: i64, event: &Event) {
        let mut line =
            format!("event {} `{}` from {}", event.id, event.event_type, event.source.id);
        if let Some(thred) = &event.thred_id {
            line += &format!(" for thred {thred}");
        }
        if let Some(values) = event.values() {
            line += &format!(", values {}", shortened(values.to_string(), 120));
        }
        self.at(now, &line);
    }

    pub(super) fn advanced(&mut self, ms: i64) {
        self.lines.push(format!("{ms} ms pass"));
    }

    pub(super) fn restarted(&mut self) {
        self.lines.push("the engine is built again".into());
    }

    pub(super) fn decided(&mut self, record: &LogRecord) {
        let kind = json!(record.log_type);
        let mut line = format!("  {}", kind.as_str().unwrap_or_default());
        if let Some(pattern) = &record.pattern_id {
            line += &format!(" {pattern}");
        }
        match (&record.from, &record.to) {
            (Some(from), Some(to)) => line += &format!(": {from} -> {to}"),
            (Some(from), None) => line += &format!(": in {from}"),
            (None, Some(to)) => line += &format!(": {to}"),
            (None, None) => {}
        }
        line += &format!(", event {}", record.event);
        if let Some(thred) = &record.thred_id {
            line += &format!(", thred {thred}");
        }
        if let Some(detail) = &record.detail {
            line += &format!(" ({})", shortened(detail.to_string(), 200));
        }
        self.at(record.timestamp, &line);
    }

    pub(super) fn told(&mut self, message: &Message) {
        self.at(message.timestamp, &format!("  {}", message_line(message)));
    }

    fn at(&mut self, now: i64, line: &str) {
        self.lines.push(format!("{:<9} {line}", span(now - self.start)));
    }
}

/// A message in a line.
pub(super) fn message_line(message: &Message) -> String {
    let to: Vec<_> = message.to.iter().map(|id| id.as_str()).collect();
    let mut line = format!("message to {}:", to.join(", "));
    if *message.event.event_type != *event_type::TELL {
        line += &format!(" `{}`", message.event.event_type);
    }
    match &message.event.data {
        Some(data) => {
            line + &format!(" {}", shortened(Value::Object(data.as_map().clone()).to_string(), 300))
        }
        None => line,
    }
}

/// A span of time since the start, as `+1.5s`.
fn span(ms: i64) -> String {
    match (ms / 1_000, ms % 1_000) {
        (seconds, 0) => format!("+{seconds}s"),
        (seconds, ms) => format!("+{seconds}.{ms:03}s"),
    }
}

fn shortened(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}
