//! Handing events over, as JSON bytes.

use thredcore::Engine;
use tokio::task::JoinSet;

/// Hands batches of events over. A door that waits for a disk or a server takes several of them at
/// one time.
pub(super) struct Sender {
    engine: Engine,
    depth: usize,
    under_way: JoinSet<Result<(), String>>,
    bytes: Vec<u8>,
}

impl Sender {
    /// With so many batches at one time, at the most.
    pub(super) fn new(engine: Engine, depth: usize) -> Self {
        Self { engine, depth, under_way: JoinSet::new(), bytes: Vec::with_capacity(512) }
    }

    /// Hands over a batch of events, each written as JSON first.
    pub(super) async fn send(
        &mut self,
        events: usize,
        mut write: impl FnMut(usize, &mut Vec<u8>),
    ) -> Result<(), String> {
        if events == 0 {
            return Ok(());
        }
        let mut batch = Vec::with_capacity(events);
        for i in 0..events {
            write(i, &mut self.bytes);
            batch.push(self.engine.read_event(&self.bytes).map_err(|error| error.to_string())?);
        }
        let engine = self.engine.clone();
        let handed = async move { engine.accept(batch).await.map_err(|error| error.to_string()) };
        if self.depth <= 1 {
            return handed.await;
        }
        self.under_way.spawn(handed);
        while self.under_way.len() >= self.depth {
            self.next().await?;
        }
        Ok(())
    }

    /// Waits until all have been taken.
    pub(super) async fn finish(mut self) -> Result<(), String> {
        while !self.under_way.is_empty() {
            self.next().await?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<(), String> {
        match self.under_way.join_next().await {
            Some(Ok(handed)) => handed,
            Some(Err(panic)) => Err(panic.to_string()),
            None => Ok(()),
        }
    }
}
