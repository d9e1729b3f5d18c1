//! What the storage promises beyond the ports: bounds, and word of changed patterns.

mod servers;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::json;
use servers::own_namespace;
use thredcore::{
    conformance::samples,
    port::{
        Committed, History, LogType, OutboxEntry, Outgoing, PatternStore, PortErrorKind,
        Quarantine, Receipt, RecordStore, Settlement, StoredPattern, ThredQuery, ThredStore,
    },
    state::{Status, ThredState},
};
use thredcore_redis::{RedisConfig, RedisStorage, Request, Tag};
use thredlib::{ConditionBuilder, Event, Message, PatternBuilder, ReactionBuilder, ThredId};

async fn open(config: RedisConfig) -> RedisStorage {
    RedisStorage::open(config).await.unwrap_or_else(|error| panic!("{error}"))
}

fn state(id: &str, version: u64, status: Status) -> ThredState {
    let first = samples::thred(id);
    let inbox = vec![samples::consumed(&format!("{id}#{version}"))];
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
async fn the_history_is_bounded_and_can_be_done_without() {
    let config = own_namespace(servers::one()).partitions(1).history_steps(1_000);
    let storage = open(config).await;
    for version in 1..=3_000 {
        commit(&storage, state("a", version, Status::Active), &[]).await;
    }
    let history = storage.history(&"a".into(), None, usize::MAX).await.expect("history");
    // The server gives memory free in whole blocks.
    assert!((1_000..1_200).contains(&history.len()), "{} steps", history.len());
    assert_eq!(history.last().map(|step| step.version), Some(3_000));
    let some = storage.history(&"a".into(), None, 300).await.expect("history");
    assert_eq!(some, history[history.len() - 300..]);
    assert_eq!(storage.log(usize::MAX).await.expect("a log").len(), history.len());
    let versions = history.iter().map(|step: &History| step.version);
    assert!(versions.eq(3_001 - history.len() as u64..=3_000), "without gaps");

    let unmoved = |number: i64| samples::unmoved(&format!("e{number}"), LogType::NoThred, number);
    let settlement = |numbers: std::ops::Range<i64>| Settlement {
        unmoved: numbers.map(unmoved).collect(),
        ..Settlement::default()
    };
    storage.settle(0, &settlement(0..1_500)).await.expect("settled");
    let records = storage.unmoved(None, 9_999).await.expect("records").records;
    assert_eq!(records.len(), 1_000);
    assert_eq!(records[0].record.timestamp, 500);
    let keys = [samples::key("e499"), samples::key("e500")];
    assert_eq!(storage.recorded(&keys).await.expect("recorded"), [false, true]);

    let storage = open(own_namespace(servers::one()).history_steps(0)).await;
    commit(&storage, state("a", 1, Status::Active), &[]).await;
    storage.settle(0, &settlement(1..2)).await.expect("nothing to do");
    assert!(storage.history(&"a".into(), None, 9).await.expect("history").is_empty());
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
    storage.forget(std::slice::from_ref(&last.id)).await.expect("forgotten");
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
        let history = storage.history(&id.into(), None, usize::MAX).await.expect("history");
        history.iter().map(|step| step.version).collect::<Vec<_>>()
    };
    commit(&storage, state("a", 1, Status::Active), &["m"]).await;
    storage.clear_outbox(&[samples::published("a", &["m"])]).await.expect("cleared");
    commit(&storage, state("a", 2, Status::Terminated), &[]).await;
    assert_eq!(versions("a").await, [1, 2]);
    storage.forget(&["a".into()]).await.expect("forgotten");
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
        let published: Vec<_> = ids.iter().map(|id| samples::published(id, &["m"])).collect();
        let none = vec![samples::published("none", &[])];
        let twice = [published.clone(), published, none].concat();
        storage.clear_outbox(&twice).await.expect("cleared");
    }
    let loaded = storage.load(&ids.iter().map(|id| id.as_str().into()).collect::<Vec<_>>()).await;
    for thred in loaded.expect("load").into_iter().map(|thred| thred.expect("a thred")) {
        assert_eq!((thred.state.version, thred.outbox.len()), (3, 0));
    }
    assert_eq!(storage.pending_outboxes(0, i64::MAX, 9).await.expect("outboxes"), []);
}

/// A command on a key of a partition.
async fn ask(storage: &RedisStorage, partition: u16, key: &str, command: &[&str]) -> redis::Value {
    let connection = storage.connection();
    let tag = Tag::partition(&connection.config().namespace, partition);
    let mut request = redis::cmd(command[0]);
    request.arg(tag.key(key)).arg(&command[1..]);
    connection.ask(Request::read(&tag, request)).await.expect("an answer")
}

#[tokio::test]
async fn what_cannot_be_read_stops_nothing_and_is_moved_out() {
    let storage = open(own_namespace(servers::one()).partitions(1)).await;
    let ill = ["bad head", "bad state", "bad text"];
    for id in ill.iter().chain(&["good"]) {
        let waits = samples::wait_keys(&["k"]);
        let first = ThredState { waits, expires_at: Some(5), ..state(id, 1, Status::Active) };
        commit(&storage, first, &["m"]).await;
    }
    ask(&storage, 0, "t", &["HSET", "bad head", "nonsense"]).await;
    let record = ask(&storage, 0, "t", &["HGET", "bad state"]).await;
    let record: String = redis::from_redis_value(record).expect("a record");
    let (head, _) = record.rsplit_once('\n').expect("lines");
    ask(&storage, 0, "t", &["HSET", "bad state", &format!("{head}\n{{")]).await;
    let connection = storage.connection();
    let tag = Tag::partition(&connection.config().namespace, 0);
    let mut command = redis::cmd("HSET");
    command.arg(tag.key("t")).arg("bad text").arg(&b"\xff\xfe"[..]);
    connection.ask::<i64>(Request::write(&tag, command)).await.expect("set");
    let place = ask(&storage, 0, "h", &["LPOS", "1\tgood"]).await;
    let place: i64 = redis::from_redis_value(place).expect("a place");
    ask(&storage, 0, "h", &["LSET", &(place + 1).to_string(), "{"]).await;
    ask(&storage, 0, "u", &["HSET", "n", "1", "1", "0123456789abcdefNO_MATCH\n{"]).await;
    ask(&storage, 0, "o", &["HSET", "good", "Mx\t{\n"]).await;

    for id in ill {
        assert!(!is_there(&storage, id).await, "{id}");
        let other =
            ThredState { inbox: vec![samples::consumed("other")], ..state(id, 1, Status::Active) };
        assert_eq!(samples::send(&storage, samples::commit(other)).await, Committed::Conflict);
    }
    assert!(is_there(&storage, "good").await);
    let page = storage.threds(&ThredQuery::default()).await.expect("a page");
    assert_eq!(page.threds.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["good"]);
    let key = samples::wait_keys(&["k"]);
    let query = ThredQuery { key: Some(key[0]), ..ThredQuery::default() };
    assert_eq!(storage.threds(&query).await.expect("a page").threds.len(), 1);
    assert!(storage.log(9).await.is_ok());
    assert!(storage.unmoved(None, 9).await.expect("records").records.is_empty());
    assert!(storage.history(&"good".into(), None, 9).await.expect("history").is_empty());
    let pending = storage.pending_outboxes(0, i64::MAX, 9).await.expect("outboxes");
    assert!(pending.iter().all(|outbox| outbox.thred_id != "good"), "set aside");

    let found = storage.unreadable(99).await.expect("unreadable");
    let kinds: BTreeSet<_> = found.iter().map(|it| (&*it.kind, it.content.len())).collect();
    assert_eq!(found.len(), 6, "{found:?}");
    let names: BTreeSet<_> = kinds.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(names, ["outbox", "record", "step", "thred"].into());
    assert!(found.iter().any(|it| it.key.starts_with("bad head in ")));
    let moved = storage.move_out(99).await.expect("moved");
    assert_eq!(moved.len(), found.len());
    assert_eq!(storage.unreadable(99).await.expect("unreadable"), []);
    assert_eq!(storage.due(0, 9, None, 9).await.expect("due").timers.len(), 1);
    assert_eq!(storage.waiting(&key, None, 9).await.expect("waiting"), [ThredId::from("good")]);
    let counts = storage.counts().await.expect("counts");
    assert_eq!(counts.iter().map(|it| it.threds).sum::<u64>(), 1);
    // A thred of that id starts anew.
    commit(&storage, state("bad head", 1, Status::Active), &[]).await;
    assert!(is_there(&storage, "bad head").await);
}

#[tokio::test]
async fn a_commit_that_is_too_large_is_rejected_and_the_others_go_on() {
    let storage = open(own_namespace(servers::one()).partitions(1).max_commit_bytes(1 << 20)).await;
    let sized = |id: &str, bytes: usize| {
        let mut state = state(id, 1, Status::Active);
        let small = samples::commit(state.clone()).size();
        let text = "x".repeat(bytes - small - r#""locals":{"x":""},"#.len());
        state.locals = Arc::new(json!({ "x": text }).as_object().cloned().unwrap_or_default());
        Arc::new(samples::commit(state))
    };
    let limit = storage.max_commit_bytes();
    let commits = [sized("a", 1_000), sized("exact", limit), sized("large", limit + 1_000)];
    assert_eq!(commits[1].size(), limit);
    let commits = [&commits[..], &[sized("b", 1_000)]].concat();
    let answers = storage.commit(&commits).await;
    for place in [0, 1, 3] {
        assert_eq!(*answers[place].as_ref().expect("taken"), Committed::Applied, "{place}");
    }
    let error = answers[2].as_ref().expect_err("too large");
    assert_eq!(error.kind(), PortErrorKind::Rejected);
    let cause = std::error::Error::source(error).expect("a cause").to_string();
    assert!(cause.contains("at most 1048576"), "{cause}");
    assert!(!is_there(&storage, "large").await);
}

#[tokio::test]
async fn a_message_to_many_nodes_is_stored_once() {
    let storage = open(own_namespace(servers::one()).partitions(1)).await;
    let event = Event::builder("org.example", "erp").id("e").title("x".repeat(200_000)).build();
    let event = Arc::new(event);
    let mut commit = samples::commit(state("a", 1, Status::Active));
    commit.outbox = (0..100)
        .map(|node| {
            let id = format!("m{node}");
            let message = Message { event: event.clone(), ..samples::message(&id) };
            let topic = format!("node {node}").as_str().into();
            let outgoing = Outgoing::Message { topic, message: message.into() };
            OutboxEntry { outgoing, ..samples::entry(&id, 0) }
        })
        .collect();
    let outbox = commit.outbox.clone();
    let history = commit.history();
    assert_eq!(samples::send(&storage, commit).await, Committed::Applied);
    assert_eq!(samples::outbox(&storage, "a").await, outbox);
    assert_eq!(storage.history(&"a".into(), None, 9).await.expect("history"), [history]);
    let length = ask(&storage, 0, "o", &["HSTRLEN", "a"]).await;
    assert!(matches!(length, redis::Value::Int(..260_000)), "{length:?}");
    // What is left of an outbox keeps what it shares.
    let gone: Vec<_> = (0..99).map(|node| format!("m{node}")).collect();
    let gone: Vec<_> = gone.iter().map(String::as_str).collect();
    storage.clear_outbox(&[samples::published("a", &gone)]).await.expect("cleared");
    assert_eq!(samples::outbox(&storage, "a").await, outbox[99..]);
}

#[tokio::test]
async fn receipts_are_small_and_go_with_their_generation() {
    const CAPACITY: u64 = 20_000;
    let config = own_namespace(servers::one()).partitions(2).receipts_capacity(CAPACITY);
    let storage = open(config).await;
    let key = |number: u64| samples::key(&number.to_string());
    let settle = async |numbers: std::ops::Range<u64>, now| {
        for first in numbers.clone().step_by(500) {
            let some = first..(first + 500).min(numbers.end);
            let receipts = some.map(|number| (key(number), Receipt::Settled)).collect();
            let settlement = Settlement { receipts, now, ..Settlement::default() };
            storage.settle(0, &settlement).await.expect("settled");
        }
    };
    let known = async |number| storage.receipts(0, &[key(number)]).await.expect("receipts")[0];
    settle(0..CAPACITY, 1_000).await;
    settle(CAPACITY..2 * CAPACITY, 1_000).await;
    assert!(known(CAPACITY).await.is_some() && known(2 * CAPACITY - 1).await.is_some());
    settle(2 * CAPACITY..4 * CAPACITY, 1_000).await;
    assert_eq!(known(0).await, None, "what is held is bounded");
    let tag = Tag::partition(&storage.connection().config().namespace, 0);
    let mut command = redis::cmd("MEMORY");
    command.arg("USAGE").arg(tag.key("s")).arg("SAMPLES").arg(0);
    let bytes: u64 = storage.connection().ask(Request::read(&tag, command)).await.expect("bytes");
    // So few that most fields hold one; a full generation takes about 20 bytes for each.
    assert!(bytes < 110 * (CAPACITY + CAPACITY / 32), "{bytes}");
}

#[tokio::test]
async fn a_query_looks_at_what_its_index_names() {
    // So many others that reading them would be seen.
    const OTHERS: usize = 2_000;
    let server = servers::Server::start(&[]);
    let storage = open(server.config().partitions(2)).await;
    let sent = || -> u64 {
        let info = server.cli(&["INFO", "stats"]);
        let line = info.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
        line.and_then(|bytes| bytes.trim().parse().ok()).expect("bytes")
    };
    let others = (0..OTHERS).map(|number| {
        let mut state = samples::thred(&format!("other {number}"));
        state.locals = Arc::new(json!({ "x": "y".repeat(500) }).as_object().cloned().expect("one"));
        state
    });
    samples::store(&storage, others).await;
    let rare = ThredState {
        participants: vec!["erp".into(), "ann".into()],
        reaction: "rare".into(),
        waits: samples::wait_keys(&["k"]),
        pattern: Arc::new(samples::pattern("rare")),
        ..samples::thred("rare")
    };
    let ended = (0..OTHERS).map(|number| {
        let mut state = state(&format!("ended {number}"), 1, Status::Terminated);
        state.locals = Arc::new(json!({ "x": "y".repeat(500) }).as_object().cloned().expect("one"));
        state
    });
    samples::store(&storage, ended).await;
    let past = ThredState {
        pattern: Arc::new(samples::pattern("past")),
        ..state("past", 1, Status::Terminated)
    };
    samples::store(&storage, [rare, past]).await;
    let all = ThredQuery::default();
    for (name, query) in [
        (
            "an ended one's pattern",
            ThredQuery {
                pattern: Some("past".into()),
                status: vec![Status::Terminated],
                ..all.clone()
            },
        ),
        ("key", ThredQuery { key: Some(samples::wait_key("k")), ..all.clone() }),
        ("participant", ThredQuery { participant: Some("ann".into()), ..all.clone() }),
        ("pattern", ThredQuery { pattern: Some("rare".into()), ..all.clone() }),
        ("reaction", ThredQuery { reaction: Some("rare".into()), ..all.clone() }),
        (
            "the rarer of two",
            ThredQuery {
                participant: Some("erp".into()),
                reaction: Some("rare".into()),
                ..all.clone()
            },
        ),
    ] {
        let before = sent();
        let page = storage.threds(&query).await.expect("a page");
        assert_eq!(page.threds.len(), 1, "by {name}");
        // All of them together are a megabyte.
        let bytes = sent() - before;
        assert!(bytes < 20_000, "by {name}: {bytes} bytes were read");
    }
}
