//! Ended threds are kept until nothing that they have consumed can come again.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::try_join_all;
use thredlib::EventKey;
use tokio::sync::Notify;

use super::{Engine, Stopped, run::IDLE};
use crate::hash::FastHash;

/// Ended threds of a partition that are looked at at one time.
const PAGE: usize = 1_000;
/// When so many threds have ended, they are looked at.
const MANY: usize = 1_024;

/// How many threds this engine has ended since it last looked at them.
///
/// What is kept longer than it must be has left the processor's caches when it is freed at last.
#[derive(Debug, Default)]
pub(super) struct Ends {
    count: AtomicUsize,
    many: Notify,
}

impl Ends {
    /// Some threds have ended.
    pub(super) fn add(&self, threds: usize) {
        let before = self.count.fetch_add(threds, Ordering::Relaxed);
        if before < MANY && before + threds >= MANY {
            self.many.notify_one();
        }
    }
}

impl Engine {
    /// Forgets ended threds that nothing keeps, until the engine stops. As long as there are many, at
    /// once.
    pub(super) async fn keep_forgetting(self) {
        const SHORTEST: Duration = Duration::from_millis(100);
        let mut skipped = Skipped::default();
        let mut pause = SHORTEST;
        let mut stop = self.0.stop.subscribe();
        loop {
            self.0.ends.count.store(0, Ordering::Relaxed);
            let found = if self.0.sweeping.load(Ordering::Relaxed) {
                self.forget_ended(&mut skipped).await
            } else {
                Ok(Found::Nothing)
            };
            pause = match found {
                Ok(Found::More) => continue,
                Ok(Found::Some) => SHORTEST,
                Ok(Found::Nothing) => (pause * 2).min(self.config().sweep_interval * IDLE),
                Err(Stopped) => return,
            };
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.0.ends.many.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Forgets ended threds beyond the number that the storage keeps, if all of their inboxes has
    /// receipts or is too old to come again. `skipped` says how many of a partition were looked at
    /// before and must be kept; a partition is gone through from the front again when its end is
    /// reached.
    ///
    /// # Errors
    /// The engine is stopping.
    async fn forget_ended(&self, skipped: &mut Skipped) -> Result<Found, Stopped> {
        let looks = (0..self.storage().partitions()).map(|partition| {
            let skip = skipped.of(partition);
            async move { self.insist(|| self.storage().surplus(partition, skip, PAGE)).await }
        });
        let looks = try_join_all(looks).await?;
        let inboxes = looks.iter().flatten().flat_map(|ended| ended.inbox.iter().copied());
        let inboxes: Vec<_> = inboxes.collect();
        let settled: HashSet<EventKey, FastHash> =
            self.settled_of(&inboxes, self.now()).await?.into_iter().collect();
        let mut gone = Vec::new();
        let mut all = Found::Nothing;
        for (partition, ended) in (0..).zip(looks) {
            let looked_at = ended.len();
            let before = gone.len();
            gone.extend(ended.into_iter().filter_map(|ended| {
                let mut inbox = ended.inbox.iter().filter(|consumed| consumed.needs_receipt());
                inbox.all(|consumed| settled.contains(&consumed.key)).then_some(ended.thred)
            }));
            let kept = looked_at - (gone.len() - before);
            let found = match looked_at {
                0 => Found::Nothing,
                PAGE.. => Found::More,
                _ => Found::Some,
            };
            skipped.passed(partition, kept, found);
            all = all.max(found);
        }
        if !gone.is_empty() {
            self.insist(|| self.storage().forget(&gone)).await?;
        }
        Ok(all)
    }
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    /// No ended thred too many.
    Nothing,
    /// All there were have been looked at.
    Some,
    /// There are more.
    More,
}

/// How many ended threds of each partition are passed over.
#[derive(Debug, Default)]
struct Skipped(HashMap<u16, usize>);

impl Skipped {
    fn of(&self, partition: u16) -> usize {
        self.0.get(&partition).copied().unwrap_or(0)
    }

    /// So many more were looked at and must be kept; when all have been looked at, the next look
    /// begins at the front.
    fn passed(&mut self, partition: u16, kept: usize, found: Found) {
        match found {
            Found::More => *self.0.entry(partition).or_default() += kept,
            _ => _ = self.0.remove(&partition),
        }
    }
}
