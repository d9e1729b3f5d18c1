//! From lines to accepted events.

use std::time::Duration;

use thredcore::{AcceptError, Engine};
use thredlib::Event;

use super::{
    input::{Input, Line, Text},
    traffic::{Silence, Traffic},
};
use crate::{
    cli::{diagnostics::printable, progress::Progress},
    query::Unanswered,
};

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    /// Events that were handed in and may have been accepted: no answer came.
    pub(super) unknown: u64,
    /// The number of the last line whose event was accepted, from 1.
    pub(super) last_line: u64,
}

/// Takes events in, as fast as the engine works on them.
pub(super) struct Feed<'r> {
    engine: &'r Engine,
    traffic: &'r Traffic,
    counts: Counts,
    progress: Progress,
    /// Whether a queue that cannot take events now may do so later.
    insist: bool,
}

impl<'r> Feed<'r> {
    /// How many rejected lines are shown; the others are only counted.
    const SHOWN: u64 = 20;

    pub(super) fn new(engine: &'r Engine, traffic: &'r Traffic, insist: bool) -> Self {
        let (counts, progress) = (Counts::default(), Progress::new("events"));
        Self { engine, traffic, counts, progress, insist }
    }

    pub(super) fn into_counts(self) -> Counts {
        self.counts
    }

    /// Takes in all lines, and waits until what follows from them has happened. May be dropped at
    /// any time.
    ///
    /// # Errors
    /// The store is silent for longer than is waited for; further lines were not looked at.
    pub(super) async fn all(&mut self, mut input: Input) -> Result<(), Unanswered> {
        let mut lines = Vec::new();
        while input.lines.recv_many(&mut lines, self.traffic.batch()).await > 0 {
            let mut last_line = 0;
            let read = lines.drain(..).filter_map(|line| {
                let event = self.read(&input.name, &line)?;
                last_line = line.number;
                Some(event)
            });
            let events: Vec<_> = read.collect();
            let count = events.len() as u64;
            self.traffic.room(events.len()).await?;
            if events.is_empty() {
                continue;
            }
            // Until there is an answer; also if that is not waited for.
            self.counts.unknown = count;
            // All events were checked when they were read.
            let answer = self.accept(events).await?;
            self.counts.unknown = 0;
            match answer {
                Ok(()) => {
                    self.counts.accepted += count;
                    self.counts.last_line = last_line;
                }
                Err(error) => {
                    self.counts.rejected += count;
                    let why = Unanswered::because(&error).0;
                    self.progress.report(&format!("error: {}", printable(&why)));
                }
            }
        }
        self.traffic.settle().await
    }

    /// Hands events in; to a store that fails as often as it takes, or as long as it is waited for.
    /// They may be there already: their ids make that harmless.
    async fn accept(&self, events: Vec<Event>) -> Result<Result<(), AcceptError>, Unanswered> {
        const PAUSE: Duration = Duration::from_millis(500);
        if !self.insist {
            return Ok(self.engine.accept(events).await);
        }
        let mut told = false;
        let mut silence = Silence::new(self.traffic.patience());
        loop {
            // Not for so long at most: a queue that is full makes the door wait.
            match self.engine.accept(events.clone()).await {
                Err(AcceptError::Port(error)) if error.is_retryable() => {
                    silence.goes_on(&error)?;
                    if !std::mem::replace(&mut told, true) {
                        let why = printable(&Unanswered::because(&error).0);
                        self.progress.report(&format!("warning: {why}; trying again"));
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return Ok(answer),
            }
        }
    }

    fn read(&mut self, name: &str, line: &Line) -> Option<Event> {
        let Line { number, text } = line;
        let (bytes, reason) = match text {
            Text::Whole(bytes) if bytes.trim_ascii().is_empty() => return None,
            Text::Whole(bytes) => match self.engine.read_event(bytes) {
                Ok(event) => {
                    self.progress.tick();
                    return Some(event);
                }
                Err(error) => (&bytes[..], explain(&error)),
            },
            Text::TooLong(start) => {
                let limit = self.engine.config().event_limits.bytes;
                let reason = format!(
                    ": the line is longer than an event may be, {limit} bytes; keep what is large \
                     elsewhere and name it"
                );
                (&start[..], reason)
            }
            Text::Unreadable(reason) => (&[][..], format!(": the input broke off: {reason}")),
        };
        self.counts.rejected += 1;
        if self.counts.rejected <= Self::SHOWN {
            self.progress.report(&report(name, *number, &reason, bytes));
            if self.counts.rejected == 1 && matches!(bytes.trim_ascii(), b"{" | b"[") {
                let help = "  help: each line must hold a whole event; `jq -c` makes such lines, \
                            `jq -c '.[]'` from a list";
                self.progress.report(help);
            }
        }
        if self.counts.rejected == Self::SHOWN + 1 {
            self.progress.report("error: further lines that are no events are only counted");
        }
        None
    }
}

fn report(name: &str, number: u64, reason: &str, bytes: &[u8]) -> String {
    const WIDTH: usize = 100;
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * WIDTH)]);
    let mut excerpt: String = start.chars().take(WIDTH).collect();
    if excerpt.len() < bytes.len() {
        excerpt.push('…');
    }
    let (name, reason) = (printable(name), printable(reason));
    if excerpt.is_empty() {
        format!("error: {name}:{number}{reason}")
    } else {
        format!("error: {name}:{number}{reason}\n  | {}", printable(&excerpt))
    }
}

/// The reason, after the column if there is one: an event is one line, so the reader's line number
/// says nothing.
fn explain(error: &AcceptError) -> String {
    let AcceptError::Malformed { path, reason } = error else { return format!(": {error}") };
    let (reason, column) = match reason.rsplit_once(" at line 1 column ") {
        Some((reason, column)) => (reason, format!(":{column}")),
        None => (reason.as_str(), String::new()),
    };
    match path.as_str() {
        "." | "?" => format!("{column}: not an event: {reason}"),
        path => format!("{column}: not an event: at `{path}`: {reason}"),
    }
}
