//! The workloads: their patterns, events and outcomes.

use std::io::Write;

use clap::ValueEnum;
use serde_json::json;
use thredlib::{ConditionBuilder, PatternBuilder, PatternModel, ReactionBuilder};

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum Workload {
    /// An event starts a thred of one reaction, which sends one message and ends.
    W1,
    /// A conversation of three events, a message after each; threds interleaved.
    W2,
    /// W1 with further patterns loaded that do not match.
    W3,
    /// W2 with further threds open, each with a running expiry.
    W4,
    /// One thred that every event is bound to.
    W5,
    /// Timers, spread over ten seconds; tells how late they fire.
    W6,
    /// Threds wait, each under a key of its own, and every event concerns one of them.
    W7,
}

/// Sources that events come from: an engine keeps the order of each.
const SOURCES: usize = 64;
/// The expiries of W6 differ by this much, in milliseconds.
const STEP_MS: i64 = 100;
/// How many expiries there are.
const STEPS: usize = 100;

impl Workload {
    pub(crate) fn name(self) -> &'static str {
        ["W1", "W2", "W3", "W4", "W5", "W6", "W7"][self as usize]
    }

    /// The patterns that do the work, and so many others that do not match.
    pub(super) fn patterns(self, others: usize) -> Vec<PatternModel> {
        let mut patterns = match self {
            Self::W1 | Self::W3 => vec![single()],
            Self::W2 => vec![conversation()],
            Self::W4 => vec![conversation(), waiting()],
            Self::W5 => vec![hot()],
            Self::W6 => (0..STEPS).map(timer).collect(),
            Self::W7 => vec![keyed()],
        };
        patterns.extend((0..others).map(other));
        patterns
    }

    /// How many messages and how many ended threds follow from so many events.
    pub(super) fn outcome(self, events: usize) -> (usize, usize) {
        match self {
            Self::W1 | Self::W3 => (events, events),
            Self::W2 | Self::W4 => (events, events / 3),
            Self::W5 | Self::W7 => (events, 0),
            Self::W6 => (0, events),
        }
    }

    /// How many threds the work itself leaves open.
    pub(super) fn left_open(self) -> usize {
        usize::from(self == Self::W5)
    }
}

fn step(name: &str, event_type: &str, next: &str) -> ReactionBuilder {
    let condition = ConditionBuilder::filter(format!("$event.type = '{event_type}'"))
        .transform(json!({
            "title": name,
            "content": { "values": { "n": "$xpr($valueNamed('n'))" } }
        }))
        .publish("client")
        .transition(next);
    ReactionBuilder::new(name).condition(condition)
}

fn single() -> PatternModel {
    PatternBuilder::new("bench single").reaction(step("only", "bench.start", "$terminate")).build()
}

fn conversation() -> PatternModel {
    PatternBuilder::new("bench conversation")
        .reaction(step("first", "bench.start", "second"))
        .reaction(step("second", "bench.next", "third"))
        .reaction(step("third", "bench.next", "$terminate"))
        .build()
}

fn waiting() -> PatternModel {
    let opened = ConditionBuilder::filter("$event.type = 'bench.open'");
    let closed = ConditionBuilder::filter("$event.type = 'bench.close'");
    PatternBuilder::new("bench waiting")
        .reaction(ReactionBuilder::new("open").condition(opened))
        .reaction(ReactionBuilder::new("wait").condition(closed).expiry(3_600_000, "$terminate"))
        .build()
}

fn hot() -> PatternModel {
    PatternBuilder::new("bench hot")
        .reaction(step("start", "bench.start", "hot"))
        .reaction(step("hot", "bench.next", "hot"))
        .build()
}

/// Waits for what concerns an order of its own, and goes on waiting.
fn keyed() -> PatternModel {
    let opened = ConditionBuilder::filter("$event.type = 'bench.open'")
        .set_local("order", json!("$xpr($valueNamed('n'))"));
    let concerned = ConditionBuilder::filter(
        "$event.type = 'bench.concern' and $valueNamed('order') = $local('order')",
    )
    .transform(json!({
        "title": "concerned",
        "content": { "values": { "n": "$xpr($valueNamed('n'))" } }
    }))
    .publish("client")
    .transition("$noTransition");
    PatternBuilder::new("bench keyed")
        .reaction(ReactionBuilder::new("open").condition(opened))
        .reaction(ReactionBuilder::new("wait").condition(concerned).allow_unbound_events())
        .build()
}

fn timer(number: usize) -> PatternModel {
    let armed = ConditionBuilder::filter(format!("$event.type = 'bench.timer.{number}'"));
    let never = ConditionBuilder::filter("$event.type = 'bench.never'");
    let interval = u64::try_from(timer_interval(number)).unwrap_or(0);
    PatternBuilder::new(format!("bench timer {number}"))
        .id(format!("bench_timer_{number}"))
        .reaction(ReactionBuilder::new("arm").condition(armed))
        .reaction(ReactionBuilder::new("wait").condition(never).expiry(interval, "$terminate"))
        .build()
}

/// The expiry of a timer pattern, milliseconds.
pub(super) fn timer_interval(number: usize) -> i64 {
    5_000 + STEP_MS * i64::try_from(number).unwrap_or(0)
}

fn other(number: usize) -> PatternModel {
    let condition = ConditionBuilder::filter(format!(
        "$event.type = 'bench.other.{}' and $valueNamed('device') = 'd{number}'",
        number % 100
    ))
    .transform(json!({ "title": "other" }))
    .publish("client")
    .transition("$terminate");
    PatternBuilder::new(format!("bench other {number}"))
        .reaction(ReactionBuilder::new("only").condition(condition))
        .build()
}

/// The unbound event that starts the work.
pub(super) fn start_event(out: &mut Vec<u8>, run: usize, n: usize) {
    write_event(out, format_args!("s{run}-{n}"), "bench.start", None, None, n);
}

/// A bound event that goes on with it.
pub(super) fn next_event(out: &mut Vec<u8>, run: usize, n: usize, stage: usize, thred: &str) {
    write_event(out, format_args!("n{run}-{n}-{stage}"), "bench.next", Some(thred), None, n);
}

/// The event that opens a thred, to leave it open.
pub(super) fn open_event(out: &mut Vec<u8>, n: usize) {
    write_event(out, format_args!("o-{n}"), "bench.open", None, None, n);
}

/// The unbound event that concerns the thred of an order.
pub(super) fn concern_event(out: &mut Vec<u8>, run: usize, n: usize, order: usize) {
    write_event(out, format_args!("c{run}-{n}"), "bench.concern", None, Some(order), n);
}

/// The event that arms a timer.
pub(super) fn timer_event(out: &mut Vec<u8>, n: usize) {
    let event_type = format!("bench.timer.{}", n % STEPS);
    write_event(out, format_args!("t-{n}"), &event_type, None, None, n);
}

fn write_event(
    out: &mut Vec<u8>,
    id: std::fmt::Arguments<'_>,
    event_type: &str,
    thred: Option<&str>,
    order: Option<usize>,
    n: usize,
) {
    out.clear();
    // Writing to a vector does not fail.
    let _ = write!(
        out,
        r#"{{"id":"{id}","type":"{event_type}","source":{{"id":"sensor-{}","name":"A sensor"}}"#,
        n % SOURCES
    );
    if let Some(thred) = thred {
        let _ = write!(out, r#","thredId":"{thred}""#);
    }
    let _ = write!(
        out,
        r#","timestamp":1767225600000,"data":{{"title":"Reading","content":{{"values":{{"n":{n},"kind":"reading","level":0.75"#
    );
    if let Some(order) = order {
        let _ = write!(out, r#","order":{order}"#);
    }
    out.extend_from_slice(b"}}}}");
}
