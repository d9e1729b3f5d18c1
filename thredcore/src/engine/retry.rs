//! Trying again.

use std::{future::Future, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};

use super::{Engine, Stopped};
use crate::port::{PortError, PortErrorKind};

impl Engine {
    /// Calls a port until it succeeds; gives up when the engine stops or the port is closed. For
    /// calls that are refused only when the backend itself is at fault: that is tried again too,
    /// and logged as an error each time.
    pub(super) async fn insist<T, F: Future<Output = Result<T, PortError>>>(
        &self,
        mut call: impl FnMut() -> F,
    ) -> Result<T, Stopped> {
        let mut pauses = self.pauses();
        loop {
            match call().await {
                Ok(value) => return Ok(value),
                Err(error) => self.pause(&error, &mut pauses).await?,
            }
        }
    }

    /// Calls a port until it succeeds or refuses for ever; gives up when the engine stops or the port
    /// is closed.
    pub(super) async fn until_refused<T, F: Future<Output = Result<T, PortError>>>(
        &self,
        mut call: impl FnMut() -> F,
    ) -> Result<Result<T, PortError>, Stopped> {
        let mut pauses = self.pauses();
        loop {
            match call().await {
                Err(error) if error.kind() != PortErrorKind::Rejected => {
                    self.pause(&error, &mut pauses).await?;
                }
                settled => return Ok(settled),
            }
        }
    }

    /// Growing pauses, with jitter.
    pub(super) fn pauses(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        let config = self.config();
        ExponentialBuilder::default()
            .with_min_delay(config.first_pause)
            .with_max_delay(config.longest_pause)
            .with_jitter()
            .without_max_times()
            .build()
    }

    /// Waits after a failed call; gives up when the engine stops or the port is closed.
    pub(super) async fn pause(
        &self,
        error: &PortError,
        pauses: &mut (impl Iterator<Item = Duration> + Send),
    ) -> Result<(), Stopped> {
        if error.kind() == PortErrorKind::Closed {
            return Err(Stopped);
        }
        let source = std::error::Error::source(error).map(ToString::to_string);
        match error.kind() {
            PortErrorKind::Rejected => {
                tracing::error!(%error, source, "a backend refuses what it must take; trying again");
            }
            _ => tracing::warn!(%error, source, "a backend failed; trying again"),
        }
        self.rest(pauses.next().unwrap_or(self.config().longest_pause)).await
    }

    /// Waits, but no longer than until the engine stops.
    pub(super) async fn rest(&self, pause: Duration) -> Result<(), Stopped> {
        let mut stop = self.0.stop.subscribe();
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            _ = stop.wait_for(|stop| *stop) => Err(Stopped),
        }
    }
}
