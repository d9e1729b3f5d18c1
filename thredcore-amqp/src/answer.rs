//! Waiting for the broker, but not for ever.

use std::{future::Future, time::Duration};

use tokio::time::timeout;

use crate::AmqpError;

/// What the broker answers, within a time limit.
pub(crate) async fn answered<T>(
    limit: Duration,
    call: impl Future<Output = lapin::Result<T>>,
) -> Result<T, AmqpError> {
    match timeout(limit, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(AmqpError::Unanswered(limit)),
    }
}
