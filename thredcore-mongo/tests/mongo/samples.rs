//! Threds and commits to test with.

use std::sync::Arc;

use serde_json::json;
use thredcore::{
    port::{Commit, LogRecord, LogType, OutboxEntry, Outgoing},
    state::{PatternKey, Status, ThredState},
};
use thredlib::{Event, Message};

/// A thred that has consumed its first event.
pub(crate) fn thred(id: &str) -> ThredState {
    ThredState {
        id: id.into(),
        pattern: Arc::new(PatternKey { id: "sample".into(), revision: u64::MAX }),
        version: 1,
        status: Status::Active,
        reaction: "first".into(),
        listening: false,
        entry: 1,
        entered_at: 1_000,
        expires_at: None,
        started_at: 1_000,
        modified_at: 1_000,
        locals: Arc::default(),
        participants: vec!["ann".into()],
        matched: Default::default(),
        inbox: vec![format!("{id}#1").as_str().into()],
        label: None,
        description: None,
        display: None,
        parent: None,
        children: Default::default(),
    }
}

/// The state after one more event. The window is short, so that documents stay small.
pub(crate) fn next(state: &ThredState) -> ThredState {
    let version = state.version + 1;
    let mut next = ThredState { version, modified_at: state.modified_at + 1, ..state.clone() };
    next.inbox.push(format!("{}#{version}", state.id).as_str().into());
    let excess = next.inbox.len().saturating_sub(16);
    next.inbox.drain(..excess);
    next
}

/// The commit that leads to a state.
pub(crate) fn commit(state: ThredState) -> Arc<Commit> {
    let consumed = state.inbox.last().cloned().expect("an event was consumed");
    let event = Event::builder("org.example.sample", "erp").id(consumed.as_str()).timestamp(1);
    let log = vec![LogRecord {
        log_type: LogType::Match,
        event: consumed.clone(),
        thred_id: Some(state.id.clone()),
        pattern_id: None,
        from: None,
        to: None,
        timestamp: state.modified_at,
        detail: None,
    }];
    Arc::new(Commit {
        expected: state.version - 1,
        consumed,
        state: Arc::new(state),
        outbox: vec![],
        log,
        event: Some(Arc::new(event.values(json!({ "number": 7 })).build())),
        command: None,
        facts: None,
    })
}

/// The commit with a message to be published.
pub(crate) fn with_message(commit: Arc<Commit>, id: &str, at: i64) -> Arc<Commit> {
    let event = commit.event.clone().expect("a sample has an event");
    let message = Message { id: id.into(), event, to: vec!["bob".into()], timestamp: at };
    let outgoing = Outgoing::Message { topic: "node".into(), message: Arc::new(message) };
    let mut commit = (*commit).clone();
    commit.outbox.push(OutboxEntry { id: id.into(), at, outgoing });
    Arc::new(commit)
}
