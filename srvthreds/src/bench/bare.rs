//! What JSON alone costs, and what the store does alone: the floor and the ceiling of every figure.

use std::{hint::black_box, sync::Arc, time::Instant};

use serde_json::json;
use thredcore::port::{Commit, Committed, Storage};
use thredlib::{Event, Message};

use super::{Failure, workload};

/// Microseconds, on one core.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bare {
    /// To read one event of the workloads.
    pub(super) parse: f64,
    /// To write one message of theirs.
    pub(super) write: f64,
}

impl Bare {
    const TIMES: usize = 100_000;

    pub(super) fn measure() -> Self {
        let mut bytes = Vec::new();
        workload::start_event(&mut bytes, 0, 12_345);
        let parse = each(|| black_box(serde_json::from_slice::<Event>(black_box(&bytes))).is_ok());
        let event = Event::builder("org.wt.tell", "SYSTEM")
            .thred(thredlib::derive_id("bench", &["thred"]).as_ref())
            .timestamp(1_767_225_600_000)
            .title("only")
            .values(json!({ "n": 12_345 }))
            .build();
        let message = Message {
            id: format!("{}.0", event.id).into(),
            event: Arc::new(event),
            to: vec!["client".into()],
            timestamp: 1_767_225_600_000,
        };
        let mut out = Vec::with_capacity(1024);
        let write = each(|| {
            out.clear();
            serde_json::to_writer(&mut out, black_box(&message)).is_ok()
        });
        Self { parse, write }
    }
}

fn each(mut work: impl FnMut() -> bool) -> f64 {
    let since = Instant::now();
    let done = (0..Bare::TIMES).filter(|_| work()).count();
    since.elapsed().as_secs_f64() * 1e6 / done.max(1) as f64
}

/// Commits each second that the store does when nothing else is to be done: those of the workload
/// that start a thred, under new ids.
///
/// # Errors
/// When a commit fails.
pub(super) async fn commits(
    storage: &Arc<dyn Storage>,
    samples: &[Arc<Commit>],
) -> Result<Option<f64>, Failure> {
    /// As in a busy engine.
    const AT_ONCE: usize = 64;
    const TASKS: usize = 16;
    const ROUNDS: usize = 40;
    let samples: Vec<_> = samples.iter().filter(|it| it.expected == 0).take(AT_ONCE).collect();
    if samples.len() < AT_ONCE {
        return Ok(None);
    }
    let batch = || -> Vec<Arc<Commit>> {
        let renamed = samples.iter().map(|sample| {
            let mut commit = Commit::clone(sample);
            Arc::make_mut(&mut commit.state).id = thredlib::new_event_id().as_str().into();
            Arc::new(commit)
        });
        renamed.collect()
    };
    let work: Vec<Vec<Vec<_>>> =
        (0..TASKS).map(|_| (0..ROUNDS).map(|_| batch()).collect()).collect();
    let since = Instant::now();
    let tasks = work.into_iter().map(|batches| {
        let storage = storage.clone();
        tokio::spawn(async move {
            for batch in batches {
                for answer in storage.commit(&batch).await {
                    if answer? != Committed::Applied {
                        return Err("a commit of its own thred met another one".into());
                    }
                }
            }
            Ok::<_, Failure>(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    Ok(Some((TASKS * ROUNDS * AT_ONCE) as f64 / since.elapsed().as_secs_f64()))
}
