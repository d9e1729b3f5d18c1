//! Expiry: timers that are due become commands.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

use super::{Engine, Stopped};
use crate::port::{Command, Inbound, Timer};

/// Timers that have been turned into commands and are not committed yet, by partition.
#[derive(Debug, Default)]
pub struct FiredTimers(HashMap<u16, HashMap<Timer, i64>>);

impl FiredTimers {
    /// After so many milliseconds a command is taken to be lost and published again.
    const PATIENCE: i64 = 30_000;
    /// Timers of a partition that are under way at one time.
    pub(crate) const AT_ONCE: usize = 4_096;

    /// When a timer's command is to be published: at its time, or, if it has been and is not
    /// committed yet, when patience is at an end.
    pub(crate) fn turn_of(&self, partition: u16, timer: &Timer) -> i64 {
        let since = self.0.get(&partition).and_then(|fired| fired.get(timer));
        since.map_or(timer.at, |since| since + Self::PATIENCE)
    }
}

impl Engine {
    /// Publishes a command for each timer that is due. A timer stays with its thred until the
    /// command is committed, so that none is lost; `fired` keeps it from being published again
    /// meanwhile. Gives the time of the next timer.
    ///
    /// # Errors
    /// The engine is stopping.
    pub async fn fire_due(&self, fired: &mut FiredTimers) -> Result<Option<i64>, Stopped> {
        let mut next: Option<i64> = None;
        for partition in 0..self.storage().partitions() {
            let now = self.now();
            let due =
                self.insist(|| self.storage().due(partition, now, FiredTimers::AT_ONCE)).await?;
            next = next.into_iter().chain(due.next).min();
            let known = fired.0.entry(partition).or_default();
            if due.timers.is_empty() && known.is_empty() {
                continue;
            }
            let current: HashSet<&Timer> = due.timers.iter().collect();
            known.retain(|timer, since| {
                current.contains(timer) && now - *since < FiredTimers::PATIENCE
            });
            let fresh: Vec<_> =
                due.timers.into_iter().filter(|timer| !known.contains_key(timer)).collect();
            let commands = fresh.iter().map(|timer| {
                let Timer { thred_id, entry, .. } = timer.clone();
                Inbound::Command(Arc::new(Command::Expire { thred_id, entry }))
            });
            self.publish_commands(commands.collect()).await?;
            known.extend(fresh.into_iter().map(|timer| (timer, now)));
        }
        Ok(next)
    }

    /// Wakes the timer loop if this timer comes before the one that it waits for.
    pub(super) fn timer_armed(&self, at: i64) {
        if at < self.0.next_timer.load(Ordering::Acquire) {
            self.0.next_timer.fetch_min(at, Ordering::AcqRel);
            self.0.timer_armed.notify_one();
        }
    }

    /// Fires timers until the engine stops.
    pub(super) async fn keep_time(self) {
        let mut fired = FiredTimers::default();
        let mut stop = self.0.stop.subscribe();
        loop {
            // Before looking: a timer that is armed meanwhile must wake the loop again.
            self.0.next_timer.store(i64::MAX, Ordering::Release);
            let next = match self.0.sweeping.load(Ordering::Relaxed) {
                true => match self.fire_due(&mut fired).await {
                    Ok(next) => next.unwrap_or(i64::MAX),
                    Err(Stopped) => return,
                },
                false => i64::MAX,
            };
            self.0.next_timer.fetch_min(next, Ordering::AcqRel);
            let longest = self.config().timer_interval;
            let until = u64::try_from(next.saturating_sub(self.now()).max(1)).unwrap_or(1);
            let pause = std::time::Duration::from_millis(until).min(longest);
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.0.timer_armed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
