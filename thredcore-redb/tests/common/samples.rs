//! Threds and events to write.

#![allow(dead_code)]

use std::sync::Arc;

use thredcore::{
    port::{Accepted, Commit, Inbound, LogRecord, LogType, OutboxEntry, Outgoing, Routed},
    state::{Consumed, PatternKey, Status, ThredState},
};
use thredlib::{Event, EventKey, Message, MessageId};

pub(crate) const NOW: i64 = 1_767_225_600_000;

pub(crate) const TOPIC: &str = "org.wt.session";

pub(crate) fn event(id: &str, source: &str) -> Arc<Event> {
    let values = serde_json::json!({ "n": 4711, "customer": "ACME", "amount": 129.5 });
    event_with(id, source, values)
}

pub(crate) fn event_with(id: &str, source: &str, values: serde_json::Value) -> Arc<Event> {
    let event = Event::builder("bench.start", source).id(id).timestamp(NOW);
    Arc::new(event.values(values).build())
}

pub(crate) fn inbound(id: &str, source: &str) -> Inbound {
    Inbound::Event(Accepted::new(event(id, source), NOW))
}

pub(crate) fn message(id: &str, event: &Arc<Event>) -> Arc<Message> {
    let to = vec!["ann".into()];
    Arc::new(Message { id: id.into(), event: event.clone(), to, timestamp: NOW })
}

pub(crate) fn routed(id: &str) -> Routed {
    Routed { topic: TOPIC.into(), message: message(id, &event(id, "erp")) }
}

/// A thred before its first event.
pub(crate) fn unborn(id: &str) -> ThredState {
    ThredState {
        id: id.into(),
        pattern: Arc::new(PatternKey { id: "bench".into(), revision: 7 }),
        version: 0,
        status: Status::Active,
        reaction: "only".into(),
        waits: Default::default(),
        entry: 1,
        entered_at: NOW,
        expires_at: None,
        started_at: NOW,
        modified_at: NOW,
        locals: Arc::default(),
        participants: vec!["erp".into()],
        matched: Default::default(),
        inbox: vec![],
        label: None,
        description: None,
        display: None,
        parent: None,
        children: Default::default(),
        errors: Default::default(),
    }
}

/// The step that an event makes from a state, with so many messages.
pub(crate) fn step(
    from: &ThredState,
    event: &Arc<Event>,
    status: Status,
    messages: usize,
) -> Commit {
    let key = EventKey::of(event.source.id.as_str(), event.id.as_str());
    let consumed = Consumed::new(key, NOW, 0);
    let mut state = ThredState { version: from.version + 1, status, ..from.clone() };
    state.inbox.push(consumed);
    let excess = state.inbox.len().saturating_sub(64);
    state.inbox.drain(..excess);
    let record = LogRecord {
        log_type: LogType::Match,
        event: event.id.clone(),
        thred_id: Some(state.id.clone()),
        pattern_id: Some("bench".into()),
        from: Some("only".into()),
        to: Some("$terminate".into()),
        timestamp: NOW,
        detail: None,
    };
    let entry = |number: usize| {
        let id = MessageId::new(format!("message {}/{}/{number}", state.id, state.version));
        let message = message(id.as_str(), event);
        let outgoing = Outgoing::Message { topic: TOPIC.into(), message };
        OutboxEntry { id, at: NOW, outgoing }
    };
    Commit {
        expected: from.version,
        consumed,
        outbox: (0..messages).map(entry).collect(),
        log: vec![record],
        event: Some(event.clone()),
        command: None,
        facts: Default::default(),
        state: Arc::new(state),
    }
}
