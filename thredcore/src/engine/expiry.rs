//! Expiry: timers that are due become commands.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{
    Engine, Stopped,
    batch::{Batch, Case, What},
};
use crate::{
    hash::FastHash,
    port::{Command, Inbound, Timer},
};

/// Timers that have been turned into commands and are not committed yet, by partition.
#[derive(Debug, Default)]
pub struct FiredTimers(HashMap<u16, Fires, FastHash>);

type Fires = HashMap<Timer, Fired, FastHash>;

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
    /// Patience doubles each time, up to this: what cannot be done (the revision of a pattern is gone)
    /// adds few dead letters.
    const LONGEST_PATIENCE: i64 = 24 * 3_600_000;
    /// Timers of a partition that are fired at one look.
    pub(crate) const AT_ONCE: usize = 4_096;

    /// When a timer's command is to be published: at its time, or, if it has been and is not
    /// committed yet, when patience is at an end.
    pub(crate) fn turn_of(&self, partition: u16, timer: &Timer) -> i64 {
        let fired = self.0.get(&partition).and_then(|fired| fired.get(timer));
        fired.map_or(timer.at, |fired| fired.again)
    }
}

/// The timers that this engine has armed and that are due before anybody looks for timers again:
/// only their times. An engine looks at these times whether it sweeps or not, so that a timer is
/// punctual whoever has armed it, and nobody has to look all the time.
#[derive(Debug, Default)]
pub(super) struct NearTimers {
    due: Mutex<BTreeSet<i64>>,
    armed: Notify,
}

impl NearTimers {
    fn add(&self, at: i64) {
        let mut due = self.due.lock();
        let is_first = due.first().is_none_or(|first| at < *first);
        due.insert(at);
        drop(due);
        if is_first {
            self.armed.notify_one();
        }
    }

    fn first(&self) -> Option<i64> {
        self.due.lock().first().copied()
    }

    /// Lets go of those that are due: they have their turn now.
    fn pass(&self, now: i64) {
        let mut due = self.due.lock();
        *due = due.split_off(&now.saturating_add(1));
    }

    /// Has the store looked at now.
    pub(super) fn look_now(&self) {
        self.add(i64::MIN);
    }
}

impl Engine {
    /// Publishes a command for each timer that is due. A timer stays with its thred until the
    /// command is committed, so that none is lost; `fired` keeps it from being published again
    /// meanwhile, and those that wait so stand before no other. Gives the time of the next timer.
    ///
    /// # Errors
    /// The engine is stopping.
    pub async fn fire_due(&self, fired: &mut FiredTimers) -> Result<Option<i64>, Stopped> {
        let now = self.now();
        // All at one time: on a server, one after the other would take a round trip each.
        let looks = (0..self.storage().partitions()).map(|partition| {
            let fired = &*fired;
            async move { self.fresh_timers(partition, now, fired).await }
        });
        let looks = try_join_all(looks).await?;
        let mut next: Option<i64> = None;
        for (partition, look) in (0..).zip(looks) {
            next = next.into_iter().chain(look.next).min();
            let commands = look.fresh.iter().map(|(timer, _)| expire(timer.clone()));
            self.publish_commands(commands.collect()).await?;
            let known = fired.0.entry(partition).or_default();
            if let Some(waiting) = look.waiting {
                *known = waiting;
            }
            known.extend(look.fresh);
        }
        Ok(next)
    }

    /// The timers of a partition that are due and not fired yet.
    async fn fresh_timers(
        &self,
        partition: u16,
        now: i64,
        fired: &FiredTimers,
    ) -> Result<Look, Stopped> {
        let none = Fires::default();
        let known = fired.0.get(&partition).unwrap_or(&none);
        let mut look = Look::default();
        let mut waiting = Fires::default();
        let mut after: Option<Timer> = None;
        loop {
            let limit = FiredTimers::AT_ONCE;
            let due =
                self.insist(|| self.storage().due(partition, now, after.as_ref(), limit)).await?;
            let is_last = due.timers.len() < limit;
            after = due.timers.last().cloned();
            for timer in due.timers {
                match known.get(&timer) {
                    Some(fired) if fired.again > now => _ = waiting.insert(timer, *fired),
                    before => look.fresh.push((timer, Fired::at(now, before))),
                }
            }
            if is_last {
                look.next = due.next;
                look.waiting = Some(waiting);
                return Ok(look);
            }
            if look.fresh.len() >= limit {
                // The rest at the next look, at once.
                look.next = Some(now);
                return Ok(look);
            }
        }
    }

    /// Lets the threds expire whose timers are due, before an unbound event is matched that one of
    /// them may come to wait for.
    pub(super) async fn expire_overdue(&self, batch: &mut Batch) -> Result<bool, Stopped> {
        let now = batch.now;
        let partitions = self.storage().partitions();
        let looks = (0..partitions).map(|partition| {
            let after = batch.overdue.get(&partition).cloned();
            async move {
                let limit = FiredTimers::AT_ONCE;
                let due = self
                    .insist(|| self.storage().due(partition, now, after.as_ref(), limit))
                    .await?;
                Ok((partition, due.timers))
            }
        });
        let mut found = false;
        for (partition, timers) in try_join_all(looks).await? {
            if let Some(last) = timers.last() {
                batch.overdue.insert(partition, last.clone());
            }
            for timer in timers {
                found = true;
                let thred = timer.thred_id.clone();
                let case = Case { taken: true, ..Case::of(expire(timer), partitions, now) };
                batch.cases.push(case);
                batch.add(batch.cases.len() - 1, What::Obey(thred));
            }
        }
        Ok(found)
    }

    /// Notes a timer that has been armed, if it is due before somebody looks again.
    pub(super) fn timer_armed(&self, at: i64) {
        let interval = millis(self.config().timer_interval);
        let horizon = self.now().saturating_add(interval).saturating_add(MARGIN);
        if at <= horizon {
            self.0.near_timers.add(at);
        }
    }

    /// Fires timers until the engine stops: at the times that this engine has armed them for, and,
    /// while it sweeps, at the times that the store knows.
    pub(super) async fn keep_time(self) {
        let mut fired = FiredTimers::default();
        let mut stop = self.0.stop.subscribe();
        let interval = self.config().timer_interval.max(APART);
        // When the store is to be looked at, whatever this engine has armed; never while it does not sweep.
        let mut look_at = Some(self.now());
        let mut rested = Instant::now();
        loop {
            // The clock may have been set back.
            let latest = self.now().saturating_add(millis(interval));
            look_at = look_at.map(|at| at.min(latest));
            let next = look_at.into_iter().chain(self.0.near_timers.first()).min();
            let due_in = next.map_or(interval, |next| until(next, self.now()));
            let pause = due_in.max(rested.saturating_duration_since(Instant::now())).min(interval);
            if !pause.is_zero() {
                tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = self.0.near_timers.armed.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                }
                continue;
            }
            if next.is_none_or(|next| next > self.now()) {
                continue;
            }
            let now = self.now();
            self.0.near_timers.pass(now);
            let Ok(stored) = self.fire_due(&mut fired).await else { return };
            rested = Instant::now() + APART;
            let latest = now.saturating_add(millis(interval));
            let sweeping = self.0.sweeping.load(Ordering::Relaxed);
            look_at = sweeping.then(|| stored.map_or(latest, |stored| stored.min(latest)));
        }
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn until(at: i64, now: i64) -> Duration {
    Duration::from_millis(u64::try_from(at.saturating_sub(now)).unwrap_or(0))
}

/// How much longer than until the next look a timer counts as near, milliseconds: the look may be
/// late.
const MARGIN: i64 = 500;

/// The pause between two looks at least: what is due meanwhile goes together. A look
/// reads what has been fired and is not committed yet, too, so that looks without a pause would take
/// more of a processor the more there is to do.
const APART: Duration = Duration::from_millis(5);

/// What was found at a look.
#[derive(Default)]
struct Look {
    fresh: Vec<(Timer, Fired)>,
    /// All that have been fired and wait; `None` when not all have been read.
    waiting: Option<Fires>,
    next: Option<i64>,
}

fn expire(timer: Timer) -> Inbound {
    let Timer { thred_id, entry, at } = timer;
    Inbound::Command(Arc::new(Command::Expire { thred_id, entry, at }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use thredlib::{Event, PatternModel};

    use crate::{port::LogType, testing::Bed};

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
        let log = bed.log().await.unwrap();
        let failed = log.iter().filter(|record| record.log_type == LogType::ExpiryFailed);
        assert_eq!(failed.count(), 8);
        assert!(bed.dead_letters().await.unwrap().is_empty());
    }
}
