//! What a run has come to.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde_json::{Value, json};
use thredcore::{
    memory::Tally,
    port::{DeadLetterFilter, Inbound, LogType},
};

use super::{feed::Counts, ingress::Taken, outlet::Outlet};
use crate::{
    backend::Backends,
    cli::{Outcome, diagnostics::printable, text::count},
    query::Unanswered,
};

/// Stands for a number that the store did not tell in time.
const UNKNOWN: &str = "unknown";

/// Everything that can be counted.
pub(super) struct Summary {
    pub(super) counts: Counts,
    /// What came by ingress queues; `None`: there are none.
    pub(super) ingress: Option<Taken>,
    pub(super) interrupted: bool,
    /// Whether the program was to go on until interrupted, so that failures of single events are no
    /// failure of the program.
    pub(super) live: bool,
    /// Why the run was given up before its end.
    pub(super) given_up: Option<Unanswered>,
    /// Items that are lost because the time to finish them was over; `None`: unknown.
    pub(super) undone: Option<usize>,
    /// Items that wait in the store, for the next start or for other processes; `None`: unknown.
    pub(super) left: Option<usize>,
    /// Whether all of this process's work came to its end in time.
    pub(super) drained: bool,
    /// Whether standard output has taken all messages.
    pub(super) written: bool,
    pub(super) messages: u64,
    /// What was counted, by a backend that counts.
    pub(super) tally: Option<Tally>,
    /// Threds that live, if that is known.
    pub(super) living: Option<u64>,
    /// `None`: unknown.
    pub(super) dead: Option<Dead>,
    pub(super) took: Duration,
}

/// What was given up.
pub(super) struct Dead {
    /// During this run.
    count: u64,
    letters: Vec<Letter>,
    /// Before it.
    older: usize,
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

    /// Those since a time, milliseconds since the Unix epoch; `None` if the store does not say.
    pub(super) async fn read(backends: &Backends, outlet: &Outlet, since: i64) -> Option<Self> {
        let events = backends.event_q().dead_letters(&DeadLetterFilter::all()).await;
        let (mut events, mut messages) = (events.ok()?, outlet.dead().await.ok()?);
        let all = events.len() + messages.len();
        events.retain(|letter| letter.at >= since);
        messages.retain(|letter| letter.at >= since);
        let fresh = events.len() + messages.len();
        let events = events.into_iter().map(|letter| {
            let id = letter.payload.id().to_string();
            let (what, kind) = match &letter.payload {
                Inbound::Event(it) => ("event", it.event.event_type.to_string()),
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
        Some(Self {
            count: fresh as u64 + backends.dropped_dead_letters(),
            letters: events.chain(messages).take(Self::SHOWN).collect(),
            older: all - fresh,
        })
    }
}

impl Summary {
    pub(super) fn outcome(&self) -> Outcome {
        let Counts { rejected, unknown, .. } = self.counts;
        let dead = self.dead.as_ref().map(|dead| dead.count);
        // A live run is not there for single events; but it must know that its work was done.
        let refused = self.ingress.map_or(0, |it| it.refused);
        let succeeded = self.live || rejected + unknown + refused == 0 && dead == Some(0);
        let known = self.left.is_some() && dead.is_some();
        let finished = self.given_up.is_none() && self.undone == Some(0) && self.drained && known;
        if succeeded && finished && self.written { Outcome::Good } else { Outcome::Bad }
    }

    pub(super) fn print(&self, as_json: bool) -> io::Result<()> {
        let mut err = io::stderr().lock();
        if let Some(why) = &self.given_up {
            writeln!(err, "error: {}", printable(&why.0))?;
        }
        if as_json {
            writeln!(err, "{}", self.to_json())
        } else {
            err.write_all(self.to_text().as_bytes())
        }
    }

    fn per_second(&self) -> f64 {
        (self.counts.accepted as f64 / self.took.as_secs_f64().max(1e-6)).round()
    }

    fn unmoved(&self, decision: LogType) -> Option<u64> {
        self.tally.as_ref().map(|tally| tally.of(decision))
    }

    fn to_json(&self) -> Value {
        let letter = |it: &Letter| json!({ "what": it.what, "id": it.id, "kind": it.kind, "reason": it.reason });
        let dead = self.dead.as_ref().map(|dead| {
            let letters = dead.letters.iter().map(letter);
            json!({ "count": dead.count, "first": letters.collect::<Vec<_>>(), "older": dead.older })
        });
        let known = |count: Option<usize>| count.map_or(UNKNOWN.into(), Value::from);
        let threds = self.tally.as_ref().map(
            |tally| json!({ "started": tally.started, "ended": tally.ended, "live": self.living }),
        );
        json!({
            "events": {
                "accepted": self.counts.accepted,
                "rejected": self.counts.rejected,
                "unknown": self.counts.unknown,
                "lastLine": self.counts.last_line,
                "unmatched": self.unmoved(LogType::NoPatternMatch),
                "forNoThred": self.unmoved(LogType::NoThred),
                "refusedByLimits": self.unmoved(LogType::Constrained),
            },
            "ingress": self.ingress.map(
                |it| json!({ "accepted": it.accepted, "refused": it.refused }),
            ),
            "messages": self.messages,
            "threds": threds,
            "deadLetters": dead.unwrap_or_else(|| UNKNOWN.into()),
            "undone": known(self.undone),
            "left": known(self.left),
            "drained": self.drained,
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
        if counts.unknown > 0 {
            events.push_str(&format!(", {} {UNKNOWN}: no answer came", counts.unknown));
        }
        for (decision, what) in [
            (LogType::NoPatternMatch, "matched no pattern"),
            (LogType::NoThred, "for threds that are not there"),
            (LogType::Constrained, "refused by a pattern's limits"),
        ] {
            if let Some(count @ 1..) = self.unmoved(decision) {
                events.push_str(&format!(", {count} {what}"));
            }
        }
        let mut lines = vec![format!("events    {events}")];
        if let Some(Taken { accepted, refused }) = self.ingress {
            lines.push(format!("ingress   {accepted} accepted, {refused} refused"));
        }
        lines.push(format!("messages  {}", self.messages));
        if let Some(tally) = tally {
            let Tally { started, ended, .. } = tally;
            let mut line = format!("threds    {started} started, {ended} ended");
            if let Some(living) = self.living {
                line.push_str(&format!(", {living} live"));
            }
            lines.push(line);
        }
        match dead {
            Some(dead) => {
                lines.push(format!("failures  {} dead-lettered", dead.count));
                for Letter { what, id, kind, reason } in dead.letters.iter().take(LETTERS) {
                    lines.push(format!("          {what} {id} ({kind}): {reason}"));
                }
                if dead.older > 0 {
                    let older = count(dead.older, "dead letter");
                    lines.push(format!("          and {older} from before"));
                }
            }
            None => lines.push(format!("failures  {UNKNOWN}: the store did not say")),
        }
        match self.undone {
            Some(0) => {}
            Some(undone) => lines.push(format!("undone    {undone} events or messages")),
            None => lines.push(format!("undone    {UNKNOWN}: the store did not say")),
        }
        match self.left {
            Some(0) => {}
            Some(left) => lines.push(format!("left      {left} in the store, for the next start")),
            None => lines.push(format!("left      {UNKNOWN}: the store did not say")),
        }
        if !self.drained {
            lines.push("ended     before the work at hand was done".to_owned());
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
