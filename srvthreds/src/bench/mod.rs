//! Workloads that measure the engine, each of which checks itself.
//!
//! Client and engine run in one process. Events enter as JSON bytes and messages leave as JSON
//! bytes, both of which count.

mod alone;
mod backend;
mod bare;
mod client;
mod observe;
mod report;
mod send;
mod stages;
mod usage;
mod workload;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use thredcore::Engine;

pub(crate) use backend::{Queue, Sites, Store};
pub(crate) use report::Report;
pub(crate) use workload::Workload;

use alone::Alone;
use backend::Backend;
use bare::Bare;
use client::{Client, Run};
use usage::Usage;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is measured, and on what.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) workload: Workload,
    /// Events that count.
    pub(crate) events: usize,
    /// Further patterns that do not match.
    pub(crate) patterns: usize,
    /// Further threds that are left open; for W6, the timers.
    pub(crate) open: usize,
    /// Engines that share the work.
    pub(crate) engines: usize,
    /// Events each second; `None`: as fast as it goes.
    pub(crate) rate: Option<f64>,
    /// What it runs on.
    pub(crate) sites: Sites,
}

/// Measures; tells the progress as events done, of how many.
///
/// # Errors
/// When a backend fails or the outcome is not what it must be.
pub(crate) async fn measure(
    plan: Plan,
    progress: impl Fn(&'static str, usize, usize) + Send + Sync + 'static,
) -> Result<Report, Failure> {
    let backend = Backend::open(&plan.sites, plan.engines).await?;
    let storage = backend.storage.clone();
    let mut engines = Vec::new();
    for ports in &backend.ports {
        let mut builder = Engine::builder().ports(ports.clone());
        if engines.is_empty() {
            for pattern in plan.workload.patterns(plan.patterns) {
                builder = builder.pattern(pattern);
            }
        }
        engines.push(builder.build().await?);
    }
    let running: Vec<_> = engines.iter().map(Engine::start).collect();
    let client =
        Client::new(engines[0].clone(), backend.depth, storage.clone(), Arc::new(progress))
            .waiting(plan.open);

    let bare = Bare::measure();
    let before = Usage::now();
    let opened = match plan.workload {
        Workload::W4 | Workload::W7 => client.open(plan.open).await?,
        _ => 0,
    };
    let after = Usage::now();
    let mut report = Report::new(&plan, bare);
    if opened > 0 {
        let grown = after.rss_bytes.saturating_sub(before.rss_bytes);
        report.bytes_per_open_thred = Some(grown / opened as u64);
    }

    let ended_before = storage.ended();
    let start = Usage::now();
    let redis_start = backend.redis_cpu_seconds().await?;
    if plan.rate.is_some() {
        storage.stages.watch();
    }
    let since = Instant::now();
    let mut run = match plan.workload {
        Workload::W6 => client.timers(plan.open).await?,
        workload => client.run(workload, plan.events, plan.rate).await?,
    };
    report.stages = plan.rate.map(|_| storage.stages.means());
    backend.settle().await;
    if plan.rate.is_none() {
        run.seconds = since.elapsed().as_secs_f64();
    }
    let cpu = Usage::now().cpu_seconds - start.cpu_seconds;
    check(&plan, &run, storage.ended() - ended_before)?;
    let redis = backend.redis_cpu_seconds().await?;
    report.measured(&run, cpu);
    report.redis_cpu_seconds = redis.zip(redis_start).map(|(until, since)| until - since);
    report.conflicts = storage.conflicts();

    // Latency is told at half of the rate: at the full one it is the length of the queue.
    if plan.workload != Workload::W6 && plan.rate.is_none() {
        let rate = report.events_per_second / 2.0;
        let events = plan.events.min((rate * 3.0) as usize).max(3);
        report.latency = client.run(plan.workload, events, Some(rate)).await?.latency;
    }
    let live = client.live_threds().await?;
    let expected = plan.workload.left_open() + opened;
    if live != expected {
        return Err(format!("{live} threds are open at the end, not {expected}").into());
    }
    report.peak_rss_bytes = Usage::peak_rss_bytes();
    for running in running {
        running.shutdown().await;
    }
    report.alone = Alone::measure(&backend, &storage.samples()).await?;
    drop((client, engines, storage));
    backend.close().await?;
    Ok(report)
}

fn check(plan: &Plan, run: &Run, ended: usize) -> Result<(), Failure> {
    let (messages, threds) = plan.workload.outcome(run.events);
    if run.messages != messages {
        return Err(format!("{} messages came, not {messages}", run.messages).into());
    }
    if ended != threds {
        return Err(format!("{ended} threds ended, not {threds}").into());
    }
    if plan.workload == Workload::W6 && run.early > 0 {
        return Err(format!("{} timers fired early", run.early).into());
    }
    Ok(())
}

/// How long a run may stand still before it is given up.
const PATIENCE: Duration = Duration::from_secs(30);
