//! How much is under way.

use std::{future::Future, sync::Arc, time::Duration};

use thredcore::port::{EventQ, PortError, PortErrorKind};
use tokio::time::{Instant, timeout};

use super::{ingress::Intake, outlet::Outlet};
use crate::query::Unanswered;

/// The queues, as far as they hold work.
pub(super) struct Traffic {
    event_q: Arc<dyn EventQ>,
    intake: Intake,
    outlet: Arc<Outlet>,
    /// Items that may be under way at one time; `None` leaves it to the queue.
    most: Option<usize>,
    /// How long the store may be silent; `None` for ever.
    patience: Option<Duration>,
}

impl Traffic {
    /// How long the store may be silent or refuse before a run that is to end by itself is given up.
    pub(super) const SILENCE: Duration = Duration::from_secs(15);

    pub(super) fn new(
        event_q: Arc<dyn EventQ>,
        outlet: Arc<Outlet>,
        most: Option<usize>,
        patience: Option<Duration>,
    ) -> Self {
        Self { event_q, intake: Intake::default(), outlet, most, patience }
    }

    /// Counts what is published to ingress queues, too.
    pub(super) fn with_intake(self, intake: Intake) -> Self {
        Self { intake, ..self }
    }

    /// How long the store may be silent; `None` for ever.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// How many events the feed may bring at one time.
    pub(super) fn batch(&self) -> usize {
        const LARGEST: usize = 512;
        self.most.map_or(LARGEST, |most| (most / 2).clamp(1, LARGEST))
    }

    /// How many events and messages wait or are being worked on.
    pub(super) async fn under_way(&self) -> Result<usize, PortError> {
        Ok(self.events().await? + self.outlet.under_way().await?)
    }

    async fn events(&self) -> Result<usize, PortError> {
        // What leaves the one is in the other before.
        Ok(self.intake.depth().await? + self.event_q.depth().await?)
    }

    /// Waits until there is room for so many more.
    pub(super) async fn room(&self, more: usize) -> Result<(), Unanswered> {
        match self.most {
            None => Ok(()),
            Some(1) => self.settle().await,
            Some(most) => {
                self.wait_until(async || Ok(self.under_way().await? + more <= most)).await
            }
        }
    }

    /// Waits until everything that follows from what came in has happened; timers aside.
    ///
    /// # Errors
    /// The store is silent for longer than is waited for.
    pub(super) async fn settle(&self) -> Result<(), Unanswered> {
        self.wait_until(async || {
            // Whatever is under way is in one of the queues, and moves on before it leaves. It
            // could slip by between two looks, but not without being published.
            let before = self.outlet.published();
            let quiet = self.events().await? == 0
                && self.outlet.under_way().await? == 0
                && self.events().await? == 0;
            Ok(quiet && before == self.outlet.published())
        })
        .await
    }

    /// Settles, or gives up; says which.
    pub(super) async fn settle_within(&self, time: Duration) -> bool {
        timeout(time, self.settle()).await.is_ok_and(|settled| settled.is_ok())
    }

    /// Looks until something holds. What the store does not say is not known to hold.
    async fn wait_until(
        &self,
        look: impl AsyncFn() -> Result<bool, PortError>,
    ) -> Result<(), Unanswered> {
        let mut patience = Patience::default();
        let mut silence = Silence::new(self.patience);
        loop {
            match silence.bound(look()).await {
                Ok(true) => return Ok(()),
                Ok(false) => silence.over(),
                Err(error) => silence.goes_on(&error)?,
            }
            patience.wait().await;
        }
    }
}

/// How long a store has not answered.
pub(super) struct Silence {
    since: Option<Instant>,
    longest: Option<Duration>,
}

impl Silence {
    pub(super) fn new(longest: Option<Duration>) -> Self {
        Self { since: None, longest }
    }

    /// It has answered.
    pub(super) fn over(&mut self) {
        self.since = None;
    }

    /// It has failed; an error once that goes on for too long.
    pub(super) fn goes_on(&mut self, error: &PortError) -> Result<(), Unanswered> {
        let since = *self.since.get_or_insert_with(Instant::now);
        match self.longest {
            Some(longest) if since.elapsed() >= longest => {
                let (why, seconds) = (Unanswered::because(error).0, longest.as_secs());
                Err(Unanswered(format!("the store has not answered for {seconds} s: {why}")))
            }
            _ => Ok(()),
        }
    }

    /// Awaits an answer, but not for longer than silence may last.
    pub(super) async fn bound<T>(
        &mut self,
        answer: impl Future<Output = Result<T, PortError>>,
    ) -> Result<T, PortError> {
        // The silence begins with the question.
        let asked = Instant::now();
        let answer = match self.longest {
            None => answer.await,
            Some(longest) => timeout(longest, answer).await.unwrap_or_else(|_| {
                let cause = format!("no answer within {longest:?}");
                Err(PortError::new("ask the store", PortErrorKind::Unknown, cause))
            }),
        };
        if answer.is_err() {
            self.since.get_or_insert(asked);
        }
        answer
    }
}

/// Waits a moment, and a longer one when it has waited for long.
#[derive(Default)]
struct Patience(u32);

impl Patience {
    async fn wait(&mut self) {
        const SHORT: u32 = 500;
        self.0 += 1;
        if self.0 < SHORT {
            tokio::task::yield_now().await
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await
        }
    }
}
