//! What was measured.

use serde_json::{Value, json};

use super::{Plan, alone::Alone, bare::Bare, client::Run, stages::StageMeans};

/// Microseconds, at ranks and on average.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
    pub(crate) mean: f64,
}

impl Latency {
    /// Of these durations, in microseconds.
    pub(crate) fn of(mut micros: Vec<u64>) -> Self {
        micros.sort_unstable();
        let at = |share: f64| {
            let last = micros.len().saturating_sub(1);
            micros.get((last as f64 * share) as usize).copied().unwrap_or(0)
        };
        let mean = micros.iter().sum::<u64>() as f64 / micros.len().max(1) as f64;
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0), mean }
    }
}

/// The figures of one run.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    plan: Plan,
    bare: Bare,
    pub(super) events: usize,
    pub(super) seconds: f64,
    pub(super) events_per_second: f64,
    pub(super) messages: usize,
    pub(super) latency: Latency,
    pub(super) peak_rss_bytes: u64,
    pub(super) bytes_per_open_thred: Option<u64>,
    pub(super) cpu_seconds: f64,
    /// Of Redis, if there is one.
    pub(super) redis_cpu_seconds: Option<f64>,
    /// The share of commits that met a conflict.
    pub(super) conflicts: f64,
    /// Of a run at a given rate.
    pub(super) stages: Option<StageMeans>,
    /// What each server does with nothing else to do.
    pub(super) alone: Alone,
}

impl Report {
    pub(super) fn new(plan: &Plan, bare: Bare) -> Self {
        Self {
            plan: plan.clone(),
            bare,
            events: 0,
            seconds: 0.0,
            events_per_second: 0.0,
            messages: 0,
            latency: Latency::default(),
            peak_rss_bytes: 0,
            bytes_per_open_thred: None,
            cpu_seconds: 0.0,
            redis_cpu_seconds: None,
            conflicts: 0.0,
            stages: None,
            alone: Alone::default(),
        }
    }

    pub(super) fn measured(&mut self, run: &Run, cpu_seconds: f64) {
        self.events = run.events;
        self.messages = run.messages;
        self.seconds = run.seconds;
        self.events_per_second = run.events as f64 / run.seconds.max(1e-9);
        self.latency = run.latency;
        self.cpu_seconds = cpu_seconds;
    }

    /// One JSON object.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "workload": self.plan.workload.name(),
            "store": self.plan.sites.store.name(),
            "queue": self.plan.sites.queue.name(),
            "archive": self.plan.sites.archive.then_some("mongo"),
            "events": self.events,
            "patterns": self.plan.patterns,
            "openThreds": self.plan.open,
            "engines": self.plan.engines,
            "partitions": self.plan.sites.partitions,
            "seconds": round(self.seconds, 3),
            "eventsPerSecond": self.events_per_second.round(),
            "messages": self.messages,
            "latencyMicros": {
                "p50": self.latency.p50, "p99": self.latency.p99, "max": self.latency.max
            },
            "peakRssBytes": self.peak_rss_bytes,
            "bytesPerOpenThred": self.bytes_per_open_thred,
            "cpuSeconds": round(self.cpu_seconds, 2),
            "redisCpuSeconds": self.redis_cpu_seconds.map(|it| round(it, 2)),
            "conflicts": round(self.conflicts, 4),
            "meanMicros": {
                "event": self.latency.mean.round(),
                "transition": self.stages.map(|it| it.transition.round()),
                "routing": self.stages.map(|it| it.routing.round()),
            },
            "bareCommitsPerSecond": self.alone.commits.map(f64::round),
            "bareQueuedPerSecond": self.alone.queued.map(f64::round),
            "bareArchivedPerSecond": self.alone.archived.map(f64::round),
            "bareMicros": {
                "parseEvent": round(self.bare.parse, 2), "writeMessage": round(self.bare.write, 2)
            },
        })
    }

    /// A table of two columns.
    pub(crate) fn to_table(&self) -> String {
        let Value::Object(fields) = self.to_json() else { return String::new() };
        let rows = fields.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Object(ranks) => {
                    let ranks = ranks.iter().filter(|(_, value)| !value.is_null());
                    let ranks = ranks.map(|(rank, value)| format!("{rank} {value}"));
                    ranks.collect::<Vec<_>>().join(", ")
                }
                other => other.to_string(),
            };
            format!("{name:<18} {value}\n")
        });
        rows.collect()
    }
}

fn round(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}
