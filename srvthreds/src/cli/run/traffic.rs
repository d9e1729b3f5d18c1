//! How much is under way.

use std::{sync::Arc, time::Duration};

use thredcore::port::EventQ;

use super::outlet::Outlet;

/// Both queues, as far as they hold work.
pub(super) struct Traffic {
    event_q: Arc<dyn EventQ>,
    outlet: Arc<Outlet>,
    /// Items that may be under way at one time; `None` leaves it to the queue.
    most: Option<usize>,
}

impl Traffic {
    pub(super) fn new(event_q: Arc<dyn EventQ>, outlet: Arc<Outlet>, most: Option<usize>) -> Self {
        Self { event_q, outlet, most }
    }

    /// How many events the feed may bring at one time.
    pub(super) fn batch(&self) -> usize {
        const LARGEST: usize = 512;
        self.most.map_or(LARGEST, |most| (most / 2).clamp(1, LARGEST))
    }

    /// How many events and messages wait or are being worked on.
    pub(super) async fn under_way(&self) -> usize {
        self.events().await + self.outlet.under_way().await
    }

    async fn events(&self) -> usize {
        self.event_q.depth().await.unwrap_or_default()
    }

    /// Waits until there is room for so many more.
    pub(super) async fn room(&self, more: usize) {
        let mut patience = Patience::default();
        match self.most {
            None => {}
            Some(1) => self.settle().await,
            Some(most) => {
                while self.under_way().await + more > most {
                    patience.wait().await;
                }
            }
        }
    }

    /// Waits until everything that follows from what came in has happened; timers aside.
    pub(super) async fn settle(&self) {
        let mut patience = Patience::default();
        loop {
            // Whatever is under way is in one of the queues, and moves on before it leaves. It
            // could slip by between two looks, but not without being published.
            let before = self.outlet.published();
            let quiet = self.events().await == 0
                && self.outlet.under_way().await == 0
                && self.events().await == 0;
            if quiet && before == self.outlet.published() {
                return;
            }
            patience.wait().await;
        }
    }

    /// Settles, or gives up; says which.
    pub(super) async fn settle_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.settle()).await.is_ok()
    }
}

/// Waits a moment, and a longer one when it has waited for long.
#[derive(Default)]
struct Patience(u32);

impl Patience {
    async fn wait(&mut self) {
        const SHORT: u32 = 500;
        self.0 += 1;
        match self.0 < SHORT {
            true => tokio::task::yield_now().await,
            false => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}
