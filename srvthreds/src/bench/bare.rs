//! What JSON alone costs: the floor of every figure.

use std::{hint::black_box, sync::Arc, time::Instant};

use serde_json::json;
use thredlib::{Event, Message};

use super::workload;

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
        let parse = each(|| {
            let text = str::from_utf8(black_box(&bytes)).unwrap_or_default();
            black_box(serde_json::from_str::<Event>(text)).is_ok()
        });
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
