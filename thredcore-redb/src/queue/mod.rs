//! The queues: in memory for their consumers, in the file for the next start.

mod event_q;
mod message_q;

pub use event_q::RedbEventQ;
pub use message_q::RedbMessageQ;

use serde::Serialize;
use thredcore::{
    memory::Buried,
    port::{PortError, PortErrorKind},
};

use crate::{
    journal::{StoredLetter, What},
    segments::Body,
    shared::Shared,
    tables::Queue,
};

/// What has been handed out so often before may be what kills the process: it is handed out
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

/// What dead-lettering leaves to be written.
fn buried<T: Clone + Serialize>(queue: Queue, buried: &Buried<T>) -> Result<What, PortError> {
    let number = |id: &str| id.parse().unwrap_or(0);
    let letter = serde_json::to_vec(&StoredLetter::new(&buried.letter))
        .map_err(|error| PortError::new("dead-letter", PortErrorKind::Rejected, error))?;
    Ok(What::Buried {
        queue,
        order: buried.order,
        number: number(&buried.letter.id),
        letter: Body::new(letter),
        lost: buried.lost.as_ref().map(|lost| number(&lost.id)),
    })
}

fn numbers<T>(letters: &[thredcore::port::DeadLetter<T>]) -> Vec<u64> {
    letters.iter().filter_map(|letter| letter.id.parse().ok()).collect()
}
