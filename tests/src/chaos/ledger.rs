//! What a run has accepted and received so far.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::RangeBounds,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use thredcore::port::{Clock, Routed, SystemClock};
use thredlib::Event;
use tokio::sync::watch;

use super::{
    oracle::{Mark, Receipt},
    patterns::{mark_of, timer_of},
};

/// What a run has accepted and received so far.
#[derive(Debug)]
pub struct Ledger {
    books: Mutex<Books>,
    /// How many marks and timers are answered.
    answered: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Books {
    accepted: Vec<Arc<Event>>,
    received: Vec<Routed>,
    marked: usize,
    answered: HashSet<Mark>,
    /// When the marks were given to the engine first, and how long their answers took.
    offered: HashMap<Mark, Instant>,
    latencies: HashMap<Mark, Duration>,
    /// The timers that are answered, and when, milliseconds since the Unix epoch.
    timers: HashMap<String, i64>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { books: Mutex::default(), answered: watch::Sender::new(0) }
    }
}

impl Ledger {
    /// Notes events that are going to be accepted.
    pub fn offer(&self, events: &[Event]) {
        let now = Instant::now();
        let mut books = self.books();
        for mark in events.iter().filter_map(mark_of) {
            books.offered.entry(mark).or_insert(now);
        }
    }

    /// Notes events that were accepted.
    pub fn accept(&self, events: &[Event]) {
        let mut books = self.books();
        books.marked += events.iter().filter(|event| mark_of(event).is_some()).count();
        books.accepted.extend(events.iter().cloned().map(Arc::new));
    }

    /// Notes a message that was received.
    pub fn receive(&self, message: Routed) {
        let mut books = self.books();
        let event = message.message.event.clone();
        books.received.push(message);
        let new = match (mark_of(&event), timer_of(&event)) {
            (Some(mark), _) => {
                let new = books.answered.insert(mark);
                if let Some(offered) = books.offered.get(&mark).filter(|_| new) {
                    let latency = offered.elapsed();
                    books.latencies.insert(mark, latency);
                }
                new
            }
            (None, Some((timer, _))) => {
                let new = !books.timers.contains_key(timer);
                if new {
                    books.timers.insert(timer.into(), SystemClock.now());
                }
                new
            }
            (None, None) => false,
        };
        if new {
            let count = books.answered.len() + books.timers.len();
            drop(books);
            self.answered.send_replace(count);
        }
    }

    /// How many marks and timers are answered.
    pub fn answered(&self) -> usize {
        *self.answered.borrow()
    }

    /// How many events are accepted.
    pub fn accepted(&self) -> usize {
        self.books().accepted.len()
    }

    /// How many accepted marks have no answer yet.
    pub fn open(&self) -> usize {
        let books = self.books();
        books.marked.saturating_sub(books.answered.len())
    }

    /// Waits until so many marks and timers are answered.
    ///
    /// # Panics
    /// When none was answered for `patience`.
    pub async fn reach(&self, count: usize, patience: Duration) {
        self.until(patience, || self.answered() >= count).await;
    }

    /// Waits until no more than so many accepted marks are without an answer.
    ///
    /// # Panics
    /// When none was answered for `patience`.
    pub async fn keep_up(&self, open: usize, patience: Duration) {
        self.until(patience, || self.open() <= open).await;
    }

    /// Waits until all these marks are answered.
    ///
    /// # Panics
    /// When none was answered for `patience`.
    pub async fn answer(&self, marks: &[Mark], patience: Duration) {
        for mark in marks {
            self.until(patience, || self.books().answered.contains(mark)).await;
        }
    }

    async fn until(&self, patience: Duration, done: impl Fn() -> bool) {
        let mut answered = self.answered.subscribe();
        loop {
            answered.mark_unchanged();
            if done() {
                return;
            }
            let moved = tokio::time::timeout(patience, answered.changed()).await;
            assert!(
                moved.is_ok(),
                "nothing was answered for {patience:?}: {} marks and timers are, {} are open",
                self.answered(),
                self.open()
            );
        }
    }

    /// From the offer to the answer: how long it took for the marks of some threds, sorted.
    pub fn latencies(&self, threds: impl RangeBounds<u32>) -> Vec<Duration> {
        let books = self.books();
        let of_threds = books.latencies.iter().filter(|(mark, _)| threds.contains(&mark.thred));
        let mut latencies: Vec<_> = of_threds.map(|(_, latency)| *latency).collect();
        latencies.sort_unstable();
        latencies
    }

    /// When the answers of timers came first, milliseconds since the Unix epoch.
    pub fn timers(&self) -> HashMap<String, i64> {
        self.books().timers.clone()
    }

    /// The accepted events, in their order.
    pub fn accepted_events(&self) -> Vec<Arc<Event>> {
        self.books().accepted.clone()
    }

    /// The received messages, in their order, repeated ones included.
    pub fn received(&self) -> Vec<Routed> {
        self.books().received.clone()
    }

    /// The accepted marks, by thred.
    pub fn marks(&self) -> BTreeMap<u32, Vec<Mark>> {
        let mut marks: BTreeMap<u32, Vec<Mark>> = BTreeMap::new();
        for mark in self.books().accepted.iter().filter_map(|event| mark_of(event)) {
            marks.entry(mark.thred).or_default().push(mark);
        }
        marks
    }

    /// The receipts of marks.
    pub fn receipts(&self) -> Vec<Receipt> {
        let books = self.books();
        let receipts = books.received.iter().filter_map(|routed| {
            let mark = mark_of(&routed.message.event)?;
            Some(Receipt { id: routed.message.id.to_string(), mark })
        });
        receipts.collect()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock()
    }
}
