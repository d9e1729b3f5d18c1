//! Writing steps behind the commits, in batches.

use std::{
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::select;
use thredcore::port::{PortError, PortErrorKind};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::MongoArchive;
use crate::documents::Step;

/// Where steps are durable until the archive has them.
#[async_trait]
pub(crate) trait Origin: Send + Sync + 'static {
    /// Forgets steps: the archive has them.
    async fn forget(&self, steps: &[Step]) -> Result<(), PortError>;

    /// Looks after steps that a dead process has left, and whatever else is to be done now and then.
    async fn tend(&self) -> Result<(), PortError>;
}

/// Archives steps in the background. Steps are still in their origin when it ends.
#[derive(Debug)]
pub(crate) struct Filer {
    steps: mpsc::UnboundedSender<Step>,
    waiting: Arc<watch::Sender<usize>>,
    /// Ends the gathering.
    hurry: Arc<Notify>,
    limit: usize,
    patience: Duration,
}

impl Filer {
    /// Most steps that are archived together.
    const BATCH: usize = 1_024;
    /// How often it looks after what others have left.
    const TEND: Duration = Duration::from_secs(5);
    /// The longest pause between two tries.
    const PAUSE: Duration = Duration::from_secs(1);

    /// Starts filing. Needs a runtime.
    pub(crate) fn start(archive: MongoArchive, origin: impl Origin) -> Self {
        let (steps, incoming) = mpsc::unbounded_channel();
        let waiting = Arc::new(watch::Sender::new(0));
        let config = &archive.mongo.config;
        let (limit, patience) = (config.backlog, config.time_limit);
        let origin = Arc::new(origin);
        if config.create {
            tokio::spawn(tend(origin.clone(), Arc::downgrade(&waiting)));
        }
        let hurry = Arc::new(Notify::new());
        tokio::spawn(file(archive, origin, incoming, waiting.clone(), hurry.clone()));
        Self { steps, waiting, hurry, limit, patience }
    }

    pub(crate) fn add(&self, step: Step) {
        self.waiting.send_modify(|count| *count += 1);
        if self.steps.send(step).is_err() {
            // The runtime is shutting down; whoever tends the origin next finds the step.
            self.waiting.send_modify(|count| *count -= 1);
        }
    }

    /// How many steps wait.
    pub(crate) fn backlog(&self) -> usize {
        *self.waiting.borrow()
    }

    /// Waits until there is room for more.
    pub(crate) async fn room(&self) -> Result<(), PortError> {
        if self.backlog() < self.limit {
            return Ok(());
        }
        self.hurry.notify_one();
        let mut waiting = self.waiting.subscribe();
        let room = waiting.wait_for(|count| *count < self.limit);
        match timeout(self.patience, room).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let cause = format!(
                    "{} steps wait for the archive; is its MongoDB running?",
                    self.backlog()
                );
                Err(PortError::new("commit", PortErrorKind::Unavailable, cause))
            }
        }
    }

    /// Ends the gathering of those that wait.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Waits until nothing waits, but not for ever.
    pub(crate) async fn flush_in_time(&self) {
        // What waits on is found in its origin.
        let _ = timeout(self.patience, self.flush()).await;
    }

    /// Waits until nothing waits.
    pub(crate) async fn flush(&self) {
        let mut waiting = self.waiting.subscribe();
        while *waiting.borrow_and_update() > 0 {
            self.hurry.notify_one();
            if waiting.changed().await.is_err() {
                return;
            }
        }
    }
}

async fn file(
    archive: MongoArchive,
    origin: Arc<impl Origin>,
    mut incoming: mpsc::UnboundedReceiver<Step>,
    waiting: Arc<watch::Sender<usize>>,
    hurry: Arc<Notify>,
) {
    let mut batch = Vec::with_capacity(Filer::BATCH);
    while incoming.recv_many(&mut batch, Filer::BATCH).await > 0 {
        gather(&mut batch, &mut incoming, archive.mongo.config.linger, &hurry).await;
        let mut pause = Duration::from_millis(20);
        while let Err(error) = filed(&archive, &*origin, &batch).await {
            if !error.is_retryable() {
                warn!(%error, source = ?std::error::Error::source(&error), steps = batch.len(),
                      "steps cannot be archived; they stay where they are");
                break;
            }
            debug!(%error, "archiving is tried again");
            sleep(pause).await;
            pause = (pause * 2).min(Filer::PAUSE);
        }
        let count = batch.len();
        batch.clear();
        waiting.send_modify(|waiting| *waiting -= count);
    }
}

/// Waits a while for more: what a thred does in the meantime is struck off with one write.
async fn gather(
    batch: &mut Vec<Step>,
    incoming: &mut mpsc::UnboundedReceiver<Step>,
    linger: Duration,
    hurry: &Notify,
) {
    {
        let more = async {
            while batch.len() < Filer::BATCH
                && let Some(step) = incoming.recv().await
            {
                batch.push(step);
            }
        };
        select(pin!(timeout(linger, more)), pin!(hurry.notified())).await;
    }
    while batch.len() < Filer::BATCH
        && let Ok(step) = incoming.try_recv()
    {
        batch.push(step);
    }
}

/// Archives steps, then strikes them off.
pub(super) async fn filed(
    archive: &MongoArchive,
    origin: &impl Origin,
    steps: &[Step],
) -> Result<(), PortError> {
    archive.file(steps).await?;
    origin.forget(steps).await
}

/// Ends when the filer is gone.
async fn tend(origin: Arc<impl Origin>, filer: Weak<watch::Sender<usize>>) {
    while filer.strong_count() > 0 {
        if let Err(error) = origin.tend().await {
            debug!(%error, "steps that were left behind stay until the next look");
        }
        sleep(Filer::TEND).await;
    }
}
