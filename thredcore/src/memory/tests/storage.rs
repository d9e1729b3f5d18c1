use std::sync::Arc;

use thredlib::{EventId, EventKey, MessageId, ThredId};

use crate::{
    memory::{MemoryStorage, MemoryStorageConfig},
    port::{
        Cleared, Commit, Committed, LogRecord, LogType, OutboxEntry, Outgoing, RecordStore,
        ThredQuery, ThredStore,
    },
    state::{Consumed, PatternKey, Status, ThredState},
};

/// A thred that starts and ends with one event.
fn ended(id: &str) -> Commit {
    let event = EventId::new(format!("event of {id}"));
    let consumed = Consumed::new(EventKey::of("erp", event.as_str()), 0, 0);
    let state = ThredState {
        id: id.into(),
        pattern: Arc::new(PatternKey { id: "p".into(), revision: 1 }),
        version: 1,
        status: Status::Terminated,
        reaction: "only".into(),
        waits: Default::default(),
        entry: 1,
        entered_at: 0,
        expires_at: None,
        started_at: 0,
        modified_at: 0,
        locals: Arc::default(),
        participants: vec![],
        errors: 0,
        matched: Default::default(),
        inbox: vec![consumed],
        label: None,
        description: None,
        display: None,
        parent: None,
        children: Default::default(),
    };
    let record = LogRecord {
        log_type: LogType::Match,
        event,
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

async fn surplus(storage: &MemoryStorage) -> Vec<ThredId> {
    let mut all = vec![];
    for partition in 0..storage.partitions() {
        let found = storage.surplus(partition, 0, 99).await.unwrap();
        all.extend(found.into_iter().map(|ended| ended.thred));
    }
    all.sort();
    all
}

#[tokio::test]
async fn the_threds_that_ended_last_are_no_surplus() {
    let storage = MemoryStorage::new(MemoryStorageConfig::default().ended_threds(2));
    apply(&storage, ["a", "b", "c"].map(ended).into()).await;
    assert_eq!(surplus(&storage).await, ["a"]);
    assert_eq!(kept(&storage, &["a", "b", "c"]).await, [true; 3], "until they are forgotten");
    storage.forget(&["a".into(), "c".into()]).await.unwrap();
    assert_eq!(kept(&storage, &["a", "b", "c"]).await, [false, true, false]);
    apply(&storage, ["d", "e"].map(ended).into()).await;
    assert_eq!(surplus(&storage).await, ["b"], "the latest two are to be kept");
}

#[tokio::test]
async fn an_ended_thred_is_no_surplus_until_its_outbox_is_empty() {
    let storage = MemoryStorage::new(MemoryStorageConfig::default().ended_threds(1));
    apply(&storage, vec![with_outbox(ended("a")), ended("b"), ended("c")]).await;
    assert_eq!(surplus(&storage).await, ["b"]);
    let published = vec!["release of a".into()];
    let cleared = Cleared { thred: "a".into(), published, parked: vec![] };
    storage.clear_outbox(&[cleared]).await.unwrap();
    assert_eq!(surplus(&storage).await, ["a", "b"]);
}

#[tokio::test]
async fn the_past_of_a_forgotten_thred_stays_while_its_steps_do() {
    let storage = MemoryStorage::new(MemoryStorageConfig::default().history_records(3));
    apply(&storage, vec![ended("a"), ended("b")]).await;
    storage.forget(&["a".into(), "b".into()]).await.unwrap();
    let steps = async |id: &str| storage.history(&id.into(), None, 9).await.unwrap().len();
    assert_eq!((steps("a").await, steps("b").await), (1, 1));
    apply(&storage, vec![ended("c"), ended("d")]).await;
    assert_eq!((steps("a").await, steps("b").await), (0, 1));
    apply(&storage, vec![ended("b")]).await;
    assert_eq!(steps("b").await, 1, "a new one has a past of its own");
}

#[tokio::test]
async fn what_starts_and_ends_at_once_is_in_no_index() {
    let storage = MemoryStorage::default();
    apply(&storage, vec![ended("a")]).await;
    assert!(storage.counts().await.unwrap().is_empty());
    let mut query = ThredQuery { pattern: Some("p".into()), ..ThredQuery::default() };
    assert!(storage.threds(&query).await.unwrap().threds.is_empty());
    query.status = vec![Status::Terminated];
    assert_eq!(storage.threds(&query).await.unwrap().threds.len(), 1, "but it is found");
}

#[tokio::test]
async fn the_latest_steps_are_kept_and_outboxes_do_not_depend_on_them() {
    let storage = MemoryStorage::new(MemoryStorageConfig::default().history_records(2));
    apply(&storage, vec![with_outbox(ended("a")), ended("b"), ended("c")]).await;
    assert_eq!(storage.log(9).await.unwrap().len(), 2);
    assert!(storage.history(&"a".into(), None, 9).await.unwrap().is_empty());
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

/// What is asked early and what is asked late are the same: the index of live threds is made by the
/// first question, and kept up by the commits after it.
#[tokio::test]
async fn an_index_that_is_kept_up_is_as_one_that_is_made_late() {
    let (asked, not_asked) = (MemoryStorage::default(), MemoryStorage::default());
    assert_eq!(asked.counts().await.unwrap(), []);
    let mut states: Vec<Arc<ThredState>> = Vec::new();
    for number in 0..40 {
        // Each thred starts, goes on with somebody else, and one in three ends.
        let before = states.get(number % 13).filter(|state| state.status.is_live()).cloned();
        let id = before.as_ref().map_or_else(|| format!("t{number}"), |it| it.id.to_string());
        let mut commit = ended(&id);
        let version = before.as_ref().map_or(0, |before| before.version);
        let consumed = Consumed::new(EventKey::of("erp", &number.to_string()), 0, 0);
        let state = ThredState {
            version: version + 1,
            status: if number % 3 == 0 { Status::Terminated } else { Status::Active },
            reaction: format!("r{}", number % 4).into(),
            participants: vec![format!("p{}", number % 5).as_str().into()],
            inbox: vec![consumed],
            ..(*commit.state).clone()
        };
        (commit.expected, commit.consumed, commit.state) = (version, consumed, Arc::new(state));
        match states.iter_mut().find(|state| state.id == commit.state.id) {
            Some(state) => *state = commit.state.clone(),
            None => states.push(commit.state.clone()),
        }
        apply(&asked, vec![commit.clone()]).await;
        apply(&not_asked, vec![commit]).await;
    }
    let counts = asked.counts().await.unwrap();
    assert!(counts.len() > 3, "{counts:?}");
    assert_eq!(counts, not_asked.counts().await.unwrap());
    for number in 0..5 {
        let participant = Some(format!("p{number}").as_str().into());
        let query = ThredQuery { participant, ..ThredQuery::default() };
        let found = asked.threds(&query).await.unwrap().threds;
        assert!(!found.is_empty(), "p{number}");
        assert_eq!(found, not_asked.threds(&query).await.unwrap().threds);
    }
}
