//! Threds and commits to test with.

use std::sync::Arc;

pub(crate) use thredcore::conformance::samples::thred;
use thredcore::{conformance::samples, port::Commit, state::ThredState};

/// The state after one more event. The window is short, so that documents stay small.
pub(crate) fn next(state: &ThredState) -> ThredState {
    let mut next = samples::next(state);
    let excess = next.inbox.len().saturating_sub(16);
    next.inbox.drain(..excess);
    next
}

/// The commit that leads to a state.
pub(crate) fn commit(state: ThredState) -> Arc<Commit> {
    Arc::new(samples::commit(state))
}

/// The commit with a message to be published.
pub(crate) fn with_message(commit: Arc<Commit>, id: &str, at: i64) -> Arc<Commit> {
    let mut commit = Arc::unwrap_or_clone(commit);
    commit.outbox.push(samples::entry(id, at));
    Arc::new(commit)
}
