//! Expiry: timers that are due become commands.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

use futures::future::try_join_all;

use super::{Engine, Stopped};
use crate::port::{Command, Inbound, Timer};

/// Timers that have been turned into commands and are not committed yet, by partition.
#[derive(Debug, Default)]
pub struct FiredTimers(HashMap<u16, HashMap<Timer, Fired>>);

/// When a timer's command is taken to be lost and published again.
#[derive(Clone, Copy, Debug)]
struct Fired {
    again: i64,
    /// How long was waited, milliseconds.
    patience: i64,
}

impl Fired {
    fn at(now: i64, before: Option<&Self>) -> Self {
        let patience = before.map_or(FiredTimers::PATIENCE, |before| {
            (2 * before.patience).min(FiredTimers::LONGEST_PATIENCE)
        });
        Self { again: now.saturating_add(patience), patience }
    }
}

impl FiredTimers {
    /// After so many milliseconds a command is taken to be lost and published again.
    const PATIENCE: i64 = 30_000;
    /// Patience doubles each time, up to this: an expiry whose step fails again and again adds few
    /// dead letters.
    const LONGEST_PATIENCE: i64 = 24 * 3_600_000;
    /// Timers of a partition that are under way at one time.
    pub(crate) const AT_ONCE: usize = 4_096;

    /// When a timer's command is to be published: at its time, or, if it has been and is not
    /// committed yet, when patience is at an end.
    pub(crate) fn turn_of(&self, partition: u16, timer: &Timer) -> i64 {
        let fired = self.0.get(&partition).and_then(|fired| fired.get(timer));
        fired.map_or(timer.at, |fired| fired.again)
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
        let now = self.now();
        // All at one time: on a server, one after the other would take a round trip each.
        let due = (0..self.storage().partitions()).map(|partition| {
            self.insist(move || self.storage().due(partition, now, FiredTimers::AT_ONCE))
        });
        let due = try_join_all(due).await?;
        for (partition, due) in (0..).zip(due) {
            next = next.into_iter().chain(due.next).min();
            let known = fired.0.entry(partition).or_default();
            if due.timers.is_empty() && known.is_empty() {
                continue;
            }
            let current: HashSet<&Timer> = due.timers.iter().collect();
            known.retain(|timer, _| current.contains(timer));
            let waits = |timer: &Timer| known.get(timer).is_some_and(|fired| now < fired.again);
            let fresh: Vec<_> = due.timers.into_iter().filter(|timer| !waits(timer)).collect();
            let commands = fresh.iter().map(|timer| {
                let Timer { thred_id, entry, .. } = timer.clone();
                Inbound::Command(Arc::new(Command::Expire { thred_id, entry }))
            });
            self.publish_commands(commands.collect()).await?;
            for timer in fresh {
                let fired = Fired::at(now, known.get(&timer));
                known.insert(timer, fired);
            }
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use thredlib::{Event, PatternModel};

    use crate::testing::Bed;

    #[tokio::test]
    async fn an_expiry_that_cannot_be_done_is_tried_ever_more_rarely() {
        let pattern: PatternModel = serde_json::from_value(json!({
            "name": "stuck",
            "reactions": [
                {
                    "name": "first",
                    "condition": { "type": "filter", "xpr": "$event.type = 'start'" }
                },
                {
                    "name": "wait",
                    "condition": { "type": "filter", "xpr": "$event.type = 'answer'" },
                    "expiry": {
                        "interval": 1000,
                        "transition": { "name": "again", "input": "local", "localName": "nothing" }
                    }
                },
                {
                    "name": "again",
                    "condition": { "type": "filter", "xpr": "$event.type = 'answer'" }
                }
            ]
        }))
        .unwrap();
        let mut bed = Bed::new([pattern]).await.unwrap();
        bed.send(Event::builder("start", "ann").build()).await.unwrap();
        bed.advance(3_600_000).await.unwrap();
        // At 1 s, and then after 30 s, 60 s, 120 s, … within the hour.
        assert_eq!(bed.dead_letters().await.unwrap().len(), 7);
    }
}
