use std::sync::Arc;

use thredlib::{EventId, MessageId, ThredId};

use crate::{
    memory::{MemoryStorage, MemoryStorageConfig},
    port::{Commit, Committed, LogRecord, LogType, OutboxEntry, Outgoing, RecordStore, ThredStore},
    state::{PatternKey, Status, ThredState},
};

/// A thred that starts and ends with one event.
fn ended(id: &str) -> Commit {
    let consumed = EventId::new(format!("event of {id}"));
    let state = ThredState {
        id: id.into(),
        pattern: Arc::new(PatternKey { id: "p".into(), revision: 1 }),
        version: 1,
        status: Status::Terminated,
        reaction: "only".into(),
        listening: false,
        entry: 1,
        entered_at: 0,
        expires_at: None,
        started_at: 0,
        modified_at: 0,
        locals: Arc::default(),
        participants: vec![],
        matched: Default::default(),
        inbox: vec![consumed.clone()],
        label: None,
        description: None,
        display: None,
        parent: None,
        children: Default::default(),
    };
    let record = LogRecord {
        log_type: LogType::Match,
        event: consumed.clone(),
        thred_id: Some(id.into()),
        pattern_id: Some("p".into()),
        from: None,
        to: None,
        timestamp: 0,
        detail: None,
    };
    let state = Arc::new(state);
    Commit {
        expected: 0,
        consumed,
        state,
        outbox: vec![],
        log: vec![record],
        event: None,
        command: None,
        facts: None,
    }
}

fn with_outbox(mut commit: Commit) -> Commit {
    let id = MessageId::new(format!("release of {}", commit.state.id));
    commit.outbox.push(OutboxEntry { id, at: 0, outgoing: Outgoing::Release("p".into()) });
    commit
}

async fn apply(storage: &MemoryStorage, commits: Vec<Commit>) {
    let commits: Vec<_> = commits.into_iter().map(std::sync::Arc::new).collect();
    for answer in storage.commit(&commits).await {
        assert_eq!(answer.unwrap(), Committed::Applied);
    }
}

async fn kept(storage: &MemoryStorage, ids: &[&str]) -> Vec<bool> {
    let ids: Vec<ThredId> = ids.iter().map(|id| ThredId::from(*id)).collect();
    storage.load(&ids).await.unwrap().iter().map(Option::is_some).collect()
}

#[tokio::test]
async fn the_threds_that_ended_last_are_kept() {
    let storage = MemoryStorage::new(MemoryStorageConfig::default().ended_threds(2));
    apply(&storage, ["a", "b", "c"].map(ended).into()).await;
    assert_eq!(kept(&storage, &["a", "b", "c"]).await, [false, true, true]);
}

#[tokio::test]
async fn an_ended_thred_outlives_the_limit_until_its_outbox_is_empty() {
    let storage = MemoryStorage::new(MemoryStorageConfig::default().ended_threds(1));
    apply(&storage, vec![with_outbox(ended("a")), ended("b"), ended("c")]).await;
    assert_eq!(kept(&storage, &["a", "b"]).await, [true, false]);
    storage.clear_outbox(&[("a".into(), vec!["release of a".into()])]).await.unwrap();
    apply(&storage, vec![ended("d"), ended("e")]).await;
    assert_eq!(kept(&storage, &["a", "e"]).await, [false, true]);
}

#[tokio::test]
async fn the_latest_steps_are_kept_and_outboxes_do_not_depend_on_them() {
    let storage = MemoryStorage::new(MemoryStorageConfig::default().history_records(2));
    apply(&storage, vec![with_outbox(ended("a")), ended("b"), ended("c")]).await;
    assert_eq!(storage.log(9).await.unwrap().len(), 2);
    assert!(storage.history(Some(&"a".into()), 9).await.unwrap().is_empty());
    let loaded = storage.load(&["a".into()]).await.unwrap();
    assert_eq!(loaded[0].as_ref().unwrap().outbox.len(), 1);
}

#[tokio::test]
async fn the_tally_counts_what_is_no_longer_kept() {
    let config = MemoryStorageConfig::default().ended_threds(1).history_records(1);
    let storage = MemoryStorage::new(config);
    let mut live = ended("d");
    Arc::make_mut(&mut live.state).status = Status::Active;
    apply(&storage, vec![ended("a"), ended("b"), ended("c"), live]).await;
    let tally = storage.tally();
    assert_eq!((tally.started, tally.ended, tally.live()), (4, 3, 1));
}
