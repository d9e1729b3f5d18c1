//! Threds, commits and events to check with; for the own tests of a backend, too.

use std::sync::Arc;

use serde_json::json;
use thin_vec::ThinVec;
use thredlib::{Event, EventId, EventKey, Message, MessageId, ThredId};

use crate::{
    port::{
        Accepted, Cleared, Commit, Committed, Directory, Facts, Inbound, LogRecord, LogType,
        OutboxEntry, Outgoing, PortError, Routed, Storage, Unmoved,
    },
    state::{Consumed, PatternKey, Status, ThredState, WaitKey},
};

/// Texts that a backend might trip over.
pub const FOREIGN: &str =
    "Gr\u{fc}\u{df}e \u{4f60}\u{597d} \u{1f680} \u{0} \" \\ ' \n \u{2028} {p17}";

/// A text of a mebibyte.
pub fn large() -> String {
    "0123456789abcdef".repeat(65_536)
}

/// An event with two numbers as its values.
pub fn event(id: &str, source: &str) -> Arc<Event> {
    let event = Event::builder("org.example.sample", source).id(id).timestamp(1);
    Arc::new(event.values(json!({ "number": 7, "ratio": 0.1 })).build())
}

/// Such an event as it comes in.
pub fn unbound(id: &str, source: &str) -> Inbound {
    Inbound::Event(Accepted::new(event(id, source), 1_000))
}

/// What an event of the `erp` is known by.
pub fn key(id: &str) -> EventKey {
    EventKey::of("erp", id)
}

/// What an inbox keeps of an event of the `erp`.
pub fn consumed(id: &str) -> Consumed {
    Consumed::new(key(id), 1_000, 0)
}

/// A key that threds wait under.
pub fn wait_key(name: &str) -> WaitKey {
    WaitKey::from_bytes(*EventKey::of("wait", name).as_bytes())
}

/// Keys that threds wait under, as a state has them.
pub fn wait_keys(names: &[&str]) -> ThinVec<WaitKey> {
    let mut keys: ThinVec<_> = names.iter().map(|name| wait_key(name)).collect();
    keys.sort_unstable();
    keys
}

/// A message to two participants.
pub fn message(id: &str) -> Message {
    Message {
        id: id.into(),
        event: event(&format!("event of {id}"), "erp"),
        to: vec!["ann".into(), "bob".into()],
        timestamp: 5,
    }
}

/// Such a message on its way to a topic.
pub fn routed(topic: &str, id: &str) -> Routed {
    Routed { topic: topic.into(), message: message(id).into() }
}

/// A revision of a pattern.
pub fn pattern(id: &str) -> PatternKey {
    PatternKey { id: id.into(), revision: u64::MAX - 1 }
}

/// An active thred at version 1 that has consumed `{id}#1`.
pub fn thred(id: &str) -> ThredState {
    ThredState {
        id: id.into(),
        pattern: Arc::new(pattern("sample")),
        version: 1,
        status: Status::Active,
        reaction: "first".into(),
        waits: Default::default(),
        entry: 1,
        entered_at: 1_000,
        expires_at: None,
        started_at: 1_000,
        modified_at: 1_000,
        locals: Arc::default(),
        participants: vec!["erp".into()],
        matched: Default::default(),
        errors: 0,
        inbox: vec![consumed(&input(id, 1))],
        label: None,
        description: None,
        display: None,
        parent: None,
        children: Default::default(),
    }
}

/// The id of the event that leads a thred to a version.
fn input(id: &str, version: u64) -> String {
    format!("{id}#{version}")
}

/// The state one version later, with the event for that in its inbox.
pub fn next(state: &ThredState) -> ThredState {
    let version = state.version + 1;
    let mut next = ThredState { version, modified_at: state.modified_at + 1, ..state.clone() };
    next.inbox.push(consumed(&input(next.id.as_str(), version)));
    next
}

/// The commit that leads to a state; its event is the last of the inbox.
///
/// # Panics
/// When the state has consumed nothing.
pub fn commit(state: ThredState) -> Commit {
    let consumed = *state.inbox.last().expect("a sample has consumed an event");
    let event = event(&input(state.id.as_str(), state.version), "erp");
    let log = vec![record(&event.id, LogType::Match, Some(&state.id), state.modified_at)];
    let event = Some(event);
    let expected = state.version - 1;
    let state = Arc::new(state);
    Commit { expected, consumed, state, outbox: vec![], log, event, command: None, facts: None }
}

/// What a step may have asked of the world.
pub fn facts() -> Facts {
    let mut directory = Directory::new();
    directory
        .add_group("ops", ["bob", "ann"])
        .add_role("none", [""; 0])
        .add_service("org.wt.store")
        .add_session("bob", "org.wt.session2")
        .add_session("ann", "org.wt.session");
    Facts {
        seed: u64::MAX,
        directory,
        patterns: [("Sample".into(), "sample".into())].into(),
        settled: vec![key("settled")],
        watchers: vec!["root".into()],
    }
}

/// A record of a decision.
pub fn record(
    event: &EventId,
    log_type: LogType,
    thred: Option<&ThredId>,
    timestamp: i64,
) -> LogRecord {
    LogRecord {
        log_type,
        event: event.clone(),
        thred_id: thred.cloned(),
        pattern_id: Some("sample".into()),
        from: Some("first".into()),
        to: None,
        timestamp,
        detail: None,
    }
}

/// A record about an event of the `erp` that changed nothing.
pub fn unmoved(id: &str, log_type: LogType, timestamp: i64) -> Unmoved {
    let event = event(id, "erp");
    Unmoved { key: key(id), record: record(&event.id, log_type, None, timestamp), event }
}

/// A message in an outbox.
pub fn entry(id: &str, at: i64) -> OutboxEntry {
    let topic = "org.wt.session".into();
    OutboxEntry {
        id: id.into(),
        at,
        outgoing: Outgoing::Message { topic, message: message(id).into() },
    }
}

/// A commit with messages in its outbox.
pub fn with_outbox(mut commit: Commit, ids: &[&str], at: i64) -> Commit {
    commit.outbox = ids.iter().map(|id| entry(id, at)).collect();
    commit
}

/// The ids of outbox entries.
pub fn outbox_ids(entries: &[OutboxEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.id.as_str()).collect()
}

/// Ids of messages.
pub fn message_ids(ids: &[&str]) -> Vec<MessageId> {
    ids.iter().map(|id| MessageId::from(*id)).collect()
}

/// Entries of a thred that have been published.
pub fn published(thred: &str, ids: &[&str]) -> Cleared {
    Cleared { thred: thred.into(), published: message_ids(ids), parked: vec![] }
}

/// Messages of a thred whose topic is full.
pub fn parked(thred: &str, ids: &[&str]) -> Cleared {
    Cleared { thred: thred.into(), published: vec![], parked: message_ids(ids) }
}

/// Commits that must apply.
///
/// # Panics
/// When one has not.
#[track_caller]
pub fn applied(answers: Vec<Result<Committed, PortError>>) {
    for (place, answer) in answers.into_iter().enumerate() {
        let answer = answer.unwrap_or_else(|error| panic!("commit {place}: {error:?}"));
        assert_eq!(answer, Committed::Applied, "commit {place}");
    }
}

/// Sends one commit.
///
/// # Panics
/// When it fails.
pub async fn send(storage: &dyn Storage, commit: Commit) -> Committed {
    let mut answers = storage.commit(&[Arc::new(commit)]).await;
    assert_eq!(answers.len(), 1, "one commit has one answer");
    answers.remove(0).unwrap_or_else(|error| panic!("commit: {error:?}"))
}

/// Stores states that must apply.
///
/// # Panics
/// When one does not.
pub async fn store(storage: &dyn Storage, states: impl IntoIterator<Item = ThredState>) {
    let commits: Vec<_> = states.into_iter().map(commit).map(Arc::new).collect();
    applied(storage.commit(&commits).await);
}

/// A thred as it is stored.
///
/// # Panics
/// When it cannot be read.
pub async fn load(storage: &dyn Storage, id: &str) -> Option<Arc<ThredState>> {
    let mut loaded = storage.load(&[id.into()]).await.expect("load");
    assert_eq!(loaded.len(), 1, "one id has one answer");
    loaded.remove(0).map(|loaded| loaded.state)
}

/// What a thred has not published yet.
///
/// # Panics
/// When it cannot be read.
pub async fn outbox(storage: &dyn Storage, id: &str) -> Vec<OutboxEntry> {
    let mut loaded = storage.load(&[id.into()]).await.expect("load");
    loaded.remove(0).map(|loaded| loaded.outbox).unwrap_or_default()
}
