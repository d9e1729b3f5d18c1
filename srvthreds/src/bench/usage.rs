//! What the process uses, as the system counts it (Linux; nothing elsewhere).

use std::fs::read_to_string;

/// Memory and time used up to now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) rss_bytes: u64,
    pub(super) cpu_seconds: f64,
}

impl Usage {
    pub(super) fn now() -> Self {
        Self { rss_bytes: status("VmRSS:"), cpu_seconds: cpu_seconds().unwrap_or(0.0) }
    }

    pub(super) fn peak_rss_bytes() -> u64 {
        status("VmHWM:")
    }
}

fn status(field: &str) -> u64 {
    let text = read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    let kib = line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn cpu_seconds() -> Option<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let text = read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}
