//! Running: the engine's loops, and their end.

use std::{panic::AssertUnwindSafe, sync::atomic::Ordering, time::Duration};

use futures::FutureExt;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{Engine, Stopped, places::Orphans};
use crate::port::Lease;

/// The name of the lease of whoever fires timers and relays.
const SWEEP: &str = "sweep";

/// Where nothing happens, outboxes and ended threds are looked at so much more rarely.
pub(super) const IDLE: u32 = 10;

/// How long an engine that ends tells others so, beyond its drain.
const GOODBYE: Duration = Duration::from_secs(1);

/// Control events that wait for their turn; more hold up the partition that they come by.
const CONTROL_LINE: usize = 1_024;

/// An engine at work. Dropping it stops the engine without waiting for the work at hand; nothing
/// that was accepted is lost, but [`shutdown`](Self::shutdown) is kinder.
#[derive(Debug)]
#[must_use = "dropping it stops the engine"]
pub struct Running {
    engine: Engine,
    loops: JoinSet<()>,
}

impl Engine {
    /// Starts to receive, to fire timers and to relay. Must be called within a tokio runtime.
    pub fn start(&self) -> Running {
        let mut loops = JoinSet::new();
        for partition in 0..self.event_q().partitions() {
            loops.spawn(self.clone().keep_up("partition", move |it| it.work(partition)));
        }
        loops.spawn(self.clone().keep_up("timers", Self::keep_time));
        loops.spawn(self.clone().keep_up("relay", Self::keep_relaying));
        loops.spawn(self.clone().keep_up("ended threds", Self::keep_forgetting));
        loops.spawn(self.clone().keep_up("sweep", Self::sweep));
        loops.spawn(self.clone().keep_up("control", Self::keep_controlling));
        Running { engine: self.clone(), loops }
    }

    /// Runs a loop until the engine stops. One that panics, a defect, starts again, loudly.
    async fn keep_up<F: Future<Output = ()>>(self, name: &'static str, run: impl Fn(Self) -> F) {
        loop {
            if AssertUnwindSafe(run(self.clone())).catch_unwind().await.is_ok() {
                return;
            }
            tracing::error!(name, "a loop of the engine panicked and starts again; a defect");
            if self.rest(self.config().longest_pause).await.is_err() {
                return;
            }
        }
    }

    /// Publishes what dead engines have left and what waits for full topics, until the engine stops.
    /// Apart from the sweep: a queue that fails holds it up. Where nothing happens, ever more rarely.
    async fn keep_relaying(self) {
        let age = i64::try_from(self.config().relay_age.as_millis()).unwrap_or(i64::MAX);
        let mut pause = self.config().sweep_interval;
        loop {
            let mut found = self.0.committed.swap(false, Ordering::Relaxed);
            let mut parked = 0;
            if self.0.sweeping.load(Ordering::Relaxed) {
                let relayed = async {
                    let parked = self.relay_parked().await?;
                    let forgotten = self.relay(self.now().saturating_sub(age)).await?;
                    Ok::<_, Stopped>((parked, forgotten))
                };
                let Ok((published, forgotten)) = relayed.await else { return };
                parked = published;
                if parked > 0 {
                    tracing::info!(parked, "published what waited for full topics");
                }
                if forgotten > 0 {
                    tracing::info!(forgotten, "published forgotten outboxes");
                }
                found |= parked + forgotten > 0;
            } else if self.look_at_full_topics().await.is_err() {
                return;
            }
            found |= self.0.full.is_any();
            let interval = self.config().sweep_interval;
            pause = if found && parked > 0 {
                // A topic that is read again is filled again soon.
                interval / 10
            } else if found {
                interval
            } else {
                (pause * 2).min(interval * IDLE)
            };
            if self.rest(pause).await.is_err() {
                return;
            }
        }
    }

    /// Does what control events ask for, one after the other, beside all else: a slow one holds up
    /// other control events and nobody else.
    async fn keep_controlling(self) {
        let (line, mut waiting) = mpsc::channel(CONTROL_LINE);
        *self.0.control_line.write() = Some(line);
        let mut stop = self.0.stop.subscribe();
        loop {
            let delivery = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                delivery = waiting.recv() => delivery,
            };
            let Some(delivery) = delivery else { return };
            if self.process_in_line(vec![delivery]).await.is_err() {
                return;
            }
        }
    }

    /// Looks after what others have left or changed, until the engine stops.
    async fn sweep(self) {
        let mut orphans = Orphans::default();
        let mut looked = tokio::time::Instant::now();
        loop {
            self.take_turn().await;
            let mut forgotten = Ok(());
            if looked.elapsed() >= self.config().orphan_interval {
                looked = tokio::time::Instant::now();
                if self.free_orphans(&mut orphans).await.is_err() {
                    return;
                }
                forgotten = self.forget_revisions().await;
            }
            for result in [forgotten, self.reload_changed().await, self.find_watchers().await] {
                if let Err(error) = result {
                    tracing::warn!(%error, "could not look for changes");
                }
            }
            if self.rest(self.config().sweep_interval).await.is_err() {
                return;
            }
        }
    }

    /// Stops receiving, as [`Running::shutdown`] does, without waiting.
    pub fn stop(&self) {
        self.0.stop.send_replace(true);
    }

    /// Waits until the engine has been told to stop.
    pub async fn stopped(&self) {
        let _ = self.0.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Asks whether it is this engine's turn to fire timers and to relay. Saves the others the
    /// work; two that do it at once do no harm.
    async fn take_turn(&self) {
        let length = self.config().sweep_interval.saturating_mul(3);
        let length = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        let now = self.now();
        let lease = Lease {
            name: SWEEP.into(),
            owner: self.0.name.clone(),
            until: now.saturating_add(length),
        };
        let turn = self.storage().acquire(&lease, now).await.unwrap_or(true);
        let before = self.0.sweeping.swap(turn, Ordering::Relaxed);
        if turn && !before {
            self.0.near_timers.look_now();
        }
    }
}

impl Running {
    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Stops receiving, and waits for the work at hand, at most
    /// [`drain`](super::EngineConfig::drain). Says whether it was done in time; if not, what was
    /// left is delivered again when the next engine starts.
    pub async fn shutdown(mut self) -> bool {
        let drain = self.engine.config().drain;
        self.engine.stop();
        let done = timeout(drain, async { while self.loops.join_next().await.is_some() {} }).await;
        // Saves others a moment; a storage that does not answer is not waited for.
        let give_back = self.engine.storage().give_back(SWEEP, &self.engine.0.name);
        let _ = timeout(GOODBYE, give_back).await;
        done.is_ok()
    }

    /// Waits until nothing is left to do: no event waits, and none is worked on. For programs that
    /// read a file of events to its end; timers that are not due and messages that
    /// agents hold do not count.
    pub async fn idle(&self) {
        while self.engine.event_q().depth().await.unwrap_or(0) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.engine.stop();
    }
}
