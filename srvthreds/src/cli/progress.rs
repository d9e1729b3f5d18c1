//! A line that shows how far long work has come.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::ProgressBar;

/// Shows itself on a terminal once the work takes long; is gone when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    since: Instant,
    done: u64,
    what: &'static str,
    terminal: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    const PATIENCE: Duration = Duration::from_millis(500);

    pub(crate) fn new(what: &'static str) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { since: Instant::now(), done: 0, what, terminal, bar: None }
    }

    /// Counts one more step.
    pub(crate) fn tick(&mut self) {
        self.done += 1;
        if !self.terminal || self.since.elapsed() < Self::PATIENCE {
            return;
        }
        let bar = self.bar.get_or_insert_with(ProgressBar::new_spinner);
        bar.set_message(format!("{} {}", self.done, self.what));
        bar.tick();
    }

    /// Writes lines to standard error without getting in the way of what it shows.
    pub(crate) fn report(&self, lines: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{lines}")),
            None => eprintln!("{lines}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
