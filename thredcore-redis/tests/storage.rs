//! What the storage promises beyond the ports: bounds, and word of changed patterns.

mod servers;

use std::{sync::Arc, time::Duration};

use serde_json::json;
use servers::own_namespace;
use thredcore::{
    conformance::samples,
    port::{
        Committed, History, LogRecord, LogType, PatternStore, RecordStore, StoredPattern,
        ThredQuery, ThredStore,
    },
    state::{Status, ThredState},
};
use thredcore_redis::{RedisConfig, RedisStorage};
use thredlib::{ConditionBuilder, Event, PatternBuilder, ReactionBuilder};

async fn open(config: RedisConfig) -> RedisStorage {
    RedisStorage::open(config).await.unwrap_or_else(|error| panic!("{error}"))
}

fn state(id: &str, version: u64, status: Status) -> ThredState {
    let first = samples::thred(id);
    let inbox = vec![format!("{id}#{version}").into()];
    ThredState { version, status, started_at: version as i64, inbox, ..first }
}

async fn commit(storage: &RedisStorage, state: ThredState, outbox: &[&str]) {
    let commit = samples::with_outbox(samples::commit(state), outbox, 0);
    assert_eq!(samples::send(storage, commit).await, Committed::Applied);
}

async fn is_there(storage: &RedisStorage, id: &str) -> bool {
    storage.load(&[id.into()]).await.expect("load")[0].is_some()
}

#[tokio::test]
async fn only_the_latest_ended_threds_are_kept_and_those_that_publish() {
    let config = own_namespace(servers::one()).partitions(1).ended_threds(3);
    let storage = open(config).await;
    commit(&storage, state("lives", 1, Status::Active), &[]).await;
    commit(&storage, state("publishes", 1, Status::Terminated), &["m"]).await;
    for number in 0..10 {
        commit(&storage, state(&number.to_string(), 1, Status::Terminated), &[]).await;
    }
    for (id, kept) in [("lives", true), ("publishes", true), ("0", false), ("9", true)] {
        assert_eq!(is_there(&storage, id).await, kept, "{id}");
    }
    let ended = ThredQuery { status: vec![Status::Terminated], ..ThredQuery::default() };
    assert_eq!(storage.threds(&ended).await.expect("a page").threds.len(), 3);
    storage.clear_outbox(&[("publishes".into(), vec!["m".into()])]).await.expect("cleared");
    for number in 10..20 {
        commit(&storage, state(&number.to_string(), 1, Status::Terminated), &[]).await;
    }
    assert!(!is_there(&storage, "publishes").await, "it has nothing left to do");
    assert!(is_there(&storage, "lives").await);
}

#[tokio::test]
async fn the_history_is_bounded_and_can_be_done_without() {
    let config = own_namespace(servers::one()).partitions(1).history_steps(1_000);
    let storage = open(config).await;
    for version in 1..=3_000 {
        commit(&storage, state("a", version, Status::Active), &[]).await;
    }
    let history = storage.history(Some(&"a".into()), usize::MAX).await.expect("history");
    // The server gives memory free in whole blocks.
    assert!((1_000..1_200).contains(&history.len()), "{} steps", history.len());
    assert_eq!(history.last().map(|step| step.version), Some(3_000));
    let some = storage.history(Some(&"a".into()), 300).await.expect("history");
    assert_eq!(some, history[history.len() - 300..]);
    assert_eq!(storage.log(usize::MAX).await.expect("a log").len(), history.len());
    let versions = history.iter().map(|step: &History| step.version);
    assert!(versions.eq(3_001 - history.len() as u64..=3_000), "without gaps");

    let event = |number: i64| {
        let event = Event::builder("org.example", "erp").id(&*format!("e{number}")).build();
        let record = LogRecord {
            log_type: LogType::NoThred,
            event: event.id.clone(),
            thred_id: None,
            pattern_id: None,
            from: None,
            to: None,
            timestamp: number,
            detail: None,
        };
        (record, Arc::new(event))
    };
    storage.append_log((0..1_500).map(event).collect()).await.expect("appended");
    let unmoved = storage.history(None, 9_999).await.expect("history");
    assert_eq!(unmoved.len(), 1_000);
    assert_eq!(unmoved[0].log[0].timestamp, 500);

    let storage = open(own_namespace(servers::one()).history_steps(0)).await;
    commit(&storage, state("a", 1, Status::Active), &[]).await;
    storage.append_log(vec![event(1)]).await.expect("nothing to do");
    assert!(storage.history(Some(&"a".into()), 9).await.expect("history").is_empty());
    assert!(storage.log(9).await.expect("a log").is_empty());
}

#[tokio::test]
async fn paging_goes_on_where_a_thred_has_gone() {
    let storage = open(own_namespace(servers::one()).partitions(2).ended_threds(0)).await;
    for number in 0..10 {
        commit(&storage, state(&number.to_string(), 1, Status::Active), &[]).await;
    }
    let query = ThredQuery { limit: 4, ..ThredQuery::default() };
    let first = storage.threds(&query).await.expect("a page");
    let last = first.threds[3].clone();
    commit(&storage, state(last.id.as_str(), 2, Status::Terminated), &[]).await;
    assert!(!is_there(&storage, last.id.as_str()).await);
    let rest = ThredQuery { after: first.next, limit: 99, ..ThredQuery::default() };
    let rest = storage.threds(&rest).await.expect("a page");
    let ids: Vec<_> = rest.threds.iter().map(|state| state.id.as_str()).collect();
    assert_eq!(ids, ["4", "5", "6", "7", "8", "9"]);
}

fn pattern(description: &str) -> StoredPattern {
    let condition =
        ConditionBuilder::filter("$event.type = 'org.example'").transform(json!({ "title": "x" }));
    StoredPattern::new(
        PatternBuilder::new("a")
            .description(description)
            .reaction(ReactionBuilder::new("first").condition(condition))
            .build(),
    )
}

#[tokio::test]
async fn changes_of_patterns_are_told_at_once() {
    for config in [servers::one(), servers::cluster()] {
        let config = own_namespace(config);
        let storage = open(config.clone()).await;
        let mut changes = open(config).await.pattern_changes();
        let mut told = async || {
            let next = tokio::time::timeout(Duration::from_secs(5), changes.next());
            next.await.expect("no word of a change");
        };
        told().await;
        for description in ["one", "two"] {
            storage.put_pattern(pattern(description)).await.expect("stored");
            told().await;
        }
        storage.put_pattern(pattern("two")).await.expect("stored");
        storage.remove_pattern(&pattern("two").key.id).await.expect("removed");
        told().await;
        let more = tokio::time::timeout(Duration::from_millis(100), changes.next()).await;
        assert!(more.is_err(), "the same pattern again is no change");
    }
}

#[tokio::test]
async fn a_thred_that_was_forgotten_leaves_no_history_to_the_next_of_its_id() {
    let config = own_namespace(servers::one()).partitions(1).ended_threds(1);
    let storage = open(config).await;
    let versions = async |id: &str| {
        let history = storage.history(Some(&id.into()), usize::MAX).await.expect("history");
        history.iter().map(|step| step.version).collect::<Vec<_>>()
    };
    commit(&storage, state("a", 1, Status::Active), &["m"]).await;
    storage.clear_outbox(&[("a".into(), vec!["m".into()])]).await.expect("cleared");
    commit(&storage, state("a", 2, Status::Terminated), &[]).await;
    assert_eq!(versions("a").await, [1, 2]);
    commit(&storage, state("b", 1, Status::Terminated), &[]).await;
    assert_eq!(versions("a").await, [0; 0], "it is forgotten");
    commit(&storage, state("a", 1, Status::Active), &[]).await;
    assert_eq!(versions("a").await, [1]);
}

#[tokio::test]
async fn commits_and_clearings_that_meet_are_done_in_order() {
    let storage = open(own_namespace(servers::one()).partitions(1)).await;
    let ids: Vec<String> = (0..400).map(|number| number.to_string()).collect();
    for version in 1..=3 {
        let work =
            ids.iter().map(|id| commit(&storage, state(id, version, Status::Active), &["m"]));
        futures::future::join_all(work).await;
        // The same one twice, and one that is not there.
        let published: Vec<_> =
            ids.iter().map(|id| (id.as_str().into(), vec!["m".into()])).collect();
        let twice = [published.clone(), published, vec![("none".into(), vec![])]].concat();
        storage.clear_outbox(&twice).await.expect("cleared");
    }
    let loaded = storage.load(&ids.iter().map(|id| id.as_str().into()).collect::<Vec<_>>()).await;
    for thred in loaded.expect("load").into_iter().map(|thred| thred.expect("a thred")) {
        assert_eq!((thred.state.version, thred.outbox.len()), (3, 0));
    }
    assert_eq!(storage.pending_outboxes(0, i64::MAX, 9).await.expect("outboxes"), []);
}
