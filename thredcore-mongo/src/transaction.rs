//! Transactions, tried anew where MongoDB asks for it.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use mongodb::{
    ClientSession,
    error::{Error, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT},
    options::{Acknowledgment, ReadConcern, WriteConcern},
};
use thredcore::port::{PortError, PortErrorKind};
use tokio::time::{sleep, timeout};

use crate::{connection::Mongo, error::port_error};

/// What is done in a transaction; perhaps more than once, then from its beginning.
#[async_trait]
pub(crate) trait Work: Send {
    /// What comes out.
    type Output: Send;
    /// Why it must not be done.
    type Refusal: From<PortError> + Send;

    async fn run(
        &mut self,
        session: &mut ClientSession,
    ) -> Result<Self::Output, Stop<Self::Refusal>>;
}

/// Why work ends before its time.
pub(crate) enum Stop<R> {
    /// The driver or the server failed.
    Failed(Error),
    /// It must not be done.
    Refused(R),
}

impl<R> From<Error> for Stop<R> {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The first pause between two tries; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(2);
/// The longest pause.
const LONGEST: Duration = Duration::from_millis(200);

impl Mongo {
    /// Does work as one transaction: all of it, or nothing.
    pub(crate) async fn transact<W: Work>(
        &self,
        operation: &'static str,
        work: &mut W,
    ) -> Result<W::Output, W::Refusal> {
        let end = Instant::now() + self.config.transaction_limit;
        let mut pause = PAUSE;
        loop {
            let error = match self.try_once(operation, work, end).await? {
                Tried::Done(output) => return Ok(output),
                Tried::Conflict(error) => error,
            };
            if Instant::now() + pause >= end {
                return Err(PortError::new(operation, PortErrorKind::Unavailable, error).into());
            }
            sleep(pause.mul_f64(jitter())).await;
            pause = (pause * 2).min(LONGEST);
        }
    }

    async fn try_once<W: Work>(
        &self,
        operation: &'static str,
        work: &mut W,
        end: Instant,
    ) -> Result<Tried<W::Output>, W::Refusal> {
        let client = self.database.client();
        let mut session = self.call(operation, client.start_session()).await?;
        let concern = WriteConcern::builder().w(Acknowledgment::Majority).journal(true);
        let start = session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .write_concern(concern.w_timeout(self.config.time_limit).build());
        self.call(operation, start).await?;
        // Dropping the session aborts what is open.
        let output = match timeout(self.config.transaction_limit, work.run(&mut session)).await {
            Ok(Ok(output)) => output,
            Ok(Err(Stop::Refused(refusal))) => {
                let _ = self.call(operation, session.abort_transaction()).await;
                return Err(refusal);
            }
            Ok(Err(Stop::Failed(error))) => {
                let _ = self.call(operation, session.abort_transaction()).await;
                return if error.contains_label(TRANSIENT_TRANSACTION_ERROR) {
                    Ok(Tried::Conflict(error))
                } else {
                    Err(port_error(operation, error).into())
                };
            }
            Err(late) => {
                // It was not committed, so it is certain that nothing was done.
                return Err(PortError::new(operation, PortErrorKind::Unavailable, late).into());
            }
        };
        loop {
            let commit = async { Ok(session.commit_transaction().await) };
            match self.within(operation, commit).await? {
                Ok(()) => return Ok(Tried::Done(output)),
                Err(error) if error.contains_label(TRANSIENT_TRANSACTION_ERROR) => {
                    return Ok(Tried::Conflict(error));
                }
                Err(error)
                    if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT)
                        && Instant::now() < end =>
                {
                    sleep(PAUSE).await;
                }
                Err(error) => {
                    return Err(PortError::new(operation, PortErrorKind::Unknown, error).into());
                }
            }
        }
    }
}

enum Tried<T> {
    Done(T),
    Conflict(Error),
}

/// From 0.5 to 1.5, so that those who met do not meet again.
fn jitter() -> f64 {
    let nanos = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    0.5 + f64::from(nanos.map_or(0, |since| since.subsec_nanos()) % 1_000) / 1_000.0
}
