//! The queues: in memory for their consumers, in the file for the next start.

pub(crate) mod dead;
mod event_q;
mod events;
mod lane;
mod message_q;
mod messages;
mod topics;

pub use event_q::RedbEventQ;
pub use message_q::RedbMessageQ;

pub(crate) use events::Events;
pub(crate) use lane::{Item, Tried};
pub(crate) use messages::Messages;

use thredcore::port::PortError;

use crate::shared::Shared;

/// What has ended so often with whoever had it may be what kills the process: it is handed out
/// alone, and not before its attempt is durable.
pub(crate) const SUSPECT: u32 = 2;

/// Waits for something to be handed out, unless the directory closes.
async fn until_closed<T>(
    shared: &Shared,
    operation: &'static str,
    receive: impl Future<Output = Result<T, PortError>>,
) -> Result<T, PortError> {
    let told = shared.condition.told.notified();
    if shared.is_closed() {
        return Err(PortError::closed(operation));
    }
    tokio::select! {
        biased;
        () = told => Err(PortError::closed(operation)),
        received = receive => received,
    }
}
