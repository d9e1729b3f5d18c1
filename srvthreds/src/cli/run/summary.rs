//! What a run has come to.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde_json::{Value, json};
use thredcore::{
    memory::Tally,
    port::{Inbound, LogType},
};

use super::{feed::Counts, outlet::Outlet, traffic::Traffic};
use crate::cli::{Outcome, diagnostics::printable};

/// Everything that can be counted.
pub(super) struct Summary {
    pub(super) counts: Counts,
    pub(super) interrupted: bool,
    /// Items that were left when the time to finish them was over.
    pub(super) undone: usize,
    /// Whether standard output has taken all messages.
    pub(super) written: bool,
    pub(super) messages: u64,
    pub(super) tally: Tally,
    pub(super) dead: Dead,
    pub(super) took: Duration,
}

/// What was given up.
pub(super) struct Dead {
    count: u64,
    letters: Vec<Letter>,
}

struct Letter {
    what: &'static str,
    id: String,
    kind: String,
    reason: String,
}

impl Dead {
    /// How many are told in detail.
    const SHOWN: usize = 100;

    pub(super) async fn read(traffic: &Traffic, outlet: &Outlet) -> Self {
        let (events, dropped) = traffic.dead().await;
        let messages = outlet.dead().await;
        let count = events.len() as u64 + messages.len() as u64 + dropped;
        let events = events.into_iter().map(|letter| {
            let id = letter.payload.id().to_string();
            let (what, kind) = match &letter.payload {
                Inbound::Event(event) => ("event", event.event_type.to_string()),
                Inbound::Command(command) => ("command", format!("for {}", command.thred_id())),
            };
            Letter { what, id, kind, reason: letter.reason }
        });
        let messages = messages.into_iter().map(|letter| Letter {
            what: "message",
            id: letter.payload.message.id.to_string(),
            kind: format!("to {}", letter.payload.topic),
            reason: letter.reason,
        });
        Self { count, letters: events.chain(messages).take(Self::SHOWN).collect() }
    }
}

impl Summary {
    pub(super) fn outcome(&self) -> Outcome {
        let failed = self.counts.rejected + self.dead.count + self.undone as u64;
        match failed == 0 && self.written {
            true => Outcome::Good,
            false => Outcome::Bad,
        }
    }

    pub(super) fn print(&self, as_json: bool) -> io::Result<()> {
        let mut err = io::stderr().lock();
        match as_json {
            true => writeln!(err, "{}", self.to_json()),
            false => err.write_all(self.to_text().as_bytes()),
        }
    }

    fn per_second(&self) -> f64 {
        (self.counts.accepted as f64 / self.took.as_secs_f64().max(1e-6)).round()
    }

    fn unmatched(&self) -> u64 {
        self.tally.of(LogType::NoPatternMatch)
    }

    fn to_json(&self) -> Value {
        let letters = self.dead.letters.iter().map(
            |it| json!({ "what": it.what, "id": it.id, "kind": it.kind, "reason": it.reason }),
        );
        json!({
            "events": {
                "accepted": self.counts.accepted,
                "rejected": self.counts.rejected,
                "unmatched": self.unmatched(),
                "forNoThred": self.tally.of(LogType::NoThred),
                "refusedByLimits": self.tally.of(LogType::Constrained),
            },
            "messages": self.messages,
            "threds": {
                "started": self.tally.started,
                "ended": self.tally.ended,
                "live": self.tally.live(),
            },
            "deadLetters": { "count": self.dead.count, "first": letters.collect::<Vec<_>>() },
            "undone": self.undone,
            "written": self.written,
            "interrupted": self.interrupted,
            "seconds": self.took.as_secs_f64(),
            "eventsPerSecond": self.per_second(),
        })
    }

    fn to_text(&self) -> String {
        const LETTERS: usize = 10;
        let Self { counts, tally, dead, .. } = self;
        let mut events = format!("{} accepted, {} rejected", counts.accepted, counts.rejected);
        for (count, what) in [
            (self.unmatched(), "matched no pattern"),
            (tally.of(LogType::NoThred), "for threds that are not there"),
            (tally.of(LogType::Constrained), "refused by a pattern's limits"),
        ] {
            if count > 0 {
                events.push_str(&format!(", {count} {what}"));
            }
        }
        let mut lines = vec![
            format!("events    {events}"),
            format!("messages  {}", self.messages),
            format!(
                "threds    {} started, {} ended, {} live",
                tally.started,
                tally.ended,
                tally.live()
            ),
            format!("failures  {} dead-lettered", dead.count),
        ];
        for Letter { what, id, kind, reason } in dead.letters.iter().take(LETTERS) {
            lines.push(format!("          {what} {id} ({kind}): {reason}"));
        }
        if self.undone > 0 {
            lines.push(format!("undone    {} events or messages", self.undone));
        }
        if !self.written {
            lines.push("output    broken off: nobody took it in time".to_owned());
        }
        let seconds = self.took.as_secs_f64();
        lines.push(format!("time      {seconds:.3} s, {} events/s", self.per_second()));
        if self.interrupted {
            lines.push("interrupted".to_owned());
        }
        lines.iter().map(|line| printable(line) + "\n").collect()
    }
}
