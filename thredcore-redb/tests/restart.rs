//! What a restart finds, and what it does not read.

mod common;

use std::{path::Path, sync::Arc, time::Duration, time::Instant};

use common::samples::{NOW, TOPIC, event, event_with, step, unborn};
use thredcore::{
    port::{
        Cleared, Commit, Committed, LogRecord, LogType, Receipt, RecordStore, Settlement,
        ThredQuery, ThredStore, Timer, Unmoved,
    },
    state::{Status, ThredState, WaitKey},
};
use thredcore_redb::{RedbBackends, RedbConfig};
use thredlib::EventKey;

fn open(dir: &Path, config: RedbConfig) -> RedbBackends {
    RedbBackends::open_with(dir, config).expect("the directory opens")
}

fn key(id: impl ToString) -> EventKey {
    EventKey::of("erp", &id.to_string())
}

fn unmoved(id: &str, text: &str) -> Unmoved {
    let event = event_with(id, "erp", serde_json::json!({ "text": text }));
    let record = LogRecord {
        log_type: LogType::NoPatternMatch,
        event: event.id.clone(),
        thred_id: None,
        pattern_id: None,
        from: None,
        to: None,
        timestamp: NOW,
        detail: None,
    };
    Unmoved { key: key(id), record, event }
}

async fn settle(backends: &RedbBackends, ids: impl Iterator<Item = u64>, now: i64) {
    let receipts = ids.map(|id| (key(id), Receipt::Settled)).collect();
    let settlement = Settlement { receipts, now, ..Settlement::default() };
    backends.storage.settle(3, &settlement).await.expect("settle");
}

async fn known(backends: &RedbBackends, ids: impl Iterator<Item = u64>) -> usize {
    let keys: Vec<_> = ids.map(key).collect();
    let receipts = backends.storage.receipts(3, &keys).await.expect("receipts");
    receipts.iter().flatten().count()
}

fn count(dir: &Path, table: &str) -> u64 {
    let database = redb::Database::open(dir.join("threds.redb")).unwrap();
    let txn = redb::ReadableDatabase::begin_read(&database).unwrap();
    let table = redb::TableDefinition::<(u64, u64), &[u8]>::new(table);
    redb::ReadableTableMetadata::len(&txn.open_table(table).unwrap()).unwrap()
}

/// Receipts outlive the process; the file forgets them as memory does.
#[tokio::test]
async fn receipts_rotate_in_memory_and_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = RedbConfig::default().receipts_capacity(4_000);
    let mut backends = open(dir.path(), config.clone());
    for round in 0..20_u64 {
        for batch in 0..10 {
            let first = round * 1000 + batch * 100;
            settle(&backends, first..first + 100, NOW + round as i64).await;
        }
        let end = (round + 1) * 1000;
        if round % 4 == 3 {
            backends.close().await;
            backends = open(dir.path(), config.clone());
        }
        let kept = end.saturating_sub(4_000);
        assert_eq!(known(&backends, kept..end).await as u64, end - kept);
    }
    assert_eq!(known(&backends, 0..14_000).await, 0, "older ones are forgotten");
    backends.close().await;
    // A run holds 240 keys or more; 5,000 keys at most are left.
    let runs = count(dir.path(), "receipts");
    assert!((4..30).contains(&runs), "{runs} runs");
}

#[tokio::test]
async fn receipts_of_dead_letters_are_found_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path(), RedbConfig::default());
    let receipts = vec![(key(1), Receipt::Dead(1)), (key(2), Receipt::Dead(2))];
    let settlement = Settlement { receipts, now: NOW, ..Settlement::default() };
    backends.storage.settle(3, &settlement).await.unwrap();
    settle(&backends, 1..2, NOW).await;
    backends.close().await;
    let backends = open(dir.path(), RedbConfig::default());
    let receipts = backends.storage.receipts(3, &[key(1), key(2), key(3)]).await.unwrap();
    assert_eq!(receipts, [Some(Receipt::Settled), Some(Receipt::Dead(2)), None]);
}

#[tokio::test]
async fn a_record_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path(), RedbConfig::default());
    let settlement = Settlement { unmoved: vec![unmoved("u", "")], receipts: vec![], now: NOW };
    backends.storage.settle(0, &settlement).await.unwrap();
    backends.close().await;
    let backends = open(dir.path(), RedbConfig::default());
    assert_eq!(backends.storage.recorded(&[key("u"), key("v")]).await.unwrap(), [true, false]);
    backends.storage.settle(0, &settlement).await.unwrap();
    assert_eq!(backends.storage.unmoved(None, 9).await.unwrap().records.len(), 1);
}

async fn apply(backends: &RedbBackends, commit: Commit) -> Arc<ThredState> {
    let commit = Arc::new(commit);
    let answer = backends.storage.commit(std::slice::from_ref(&commit)).await.remove(0);
    assert_eq!(answer.expect("a commit"), Committed::Applied);
    commit.state.clone()
}

/// What threds are found by is the same after a restart.
#[tokio::test]
async fn indexes_are_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let config = RedbConfig::default().partitions(2);
    let mut backends = open(dir.path(), config.clone());
    let wait = |number: u8| WaitKey::from_bytes([number; 16]);
    for number in 0..40_u8 {
        let mut from = unborn(&format!("t{number}"));
        from.started_at += i64::from(number);
        from.reaction = if number % 2 == 0 { "even".into() } else { "odd".into() };
        from.waits = [wait(number % 4), wait(100)].into_iter().collect();
        from.participants = vec![format!("p{}", number % 5).as_str().into()];
        from.expires_at = Some(NOW + i64::from(number));
        apply(&backends, step(&from, &event(&number.to_string(), "erp"), Status::Active, 0)).await;
    }
    let ended = backends.storage.load(&["t0".into()]).await.unwrap().remove(0).unwrap();
    apply(&backends, step(&ended.state, &event("end", "erp"), Status::Terminated, 0)).await;
    for is_restarted in [false, true] {
        if is_restarted {
            backends.close().await;
            backends = open(dir.path(), config.clone());
        }
        let storage = &backends.storage;
        let keys = [wait(0), wait(100)];
        let waiting = storage.waiting(&keys[..1], None, 99).await.unwrap();
        let all = storage.waiting(&keys, None, 99).await.unwrap();
        assert!(all.is_sorted() && all.len() > 10);
        let rest = storage.waiting(&keys, Some(&all[4]), 3).await.unwrap();
        assert_eq!(rest, all[5..8]);
        assert_eq!(waiting.len(), 9, "every fourth but the ended one");
        let counts = storage.counts().await.unwrap();
        let counts: Vec<_> = counts.iter().map(|it| (&*it.reaction, it.threds)).collect();
        assert_eq!(counts, [("even", 19), ("odd", 20)]);
        let found = async |query: ThredQuery| -> Vec<String> {
            let page = storage.threds(&query).await.unwrap();
            page.threds.iter().map(|state| state.id.to_string()).collect()
        };
        let all = ThredQuery::default;
        let p1 = ThredQuery { participant: Some("p1".into()), ..all() };
        let ids = ["t1", "t6", "t11", "t16", "t21", "t26", "t31", "t36"];
        assert_eq!(found(p1.clone()).await, ids);
        let odd = ThredQuery { reaction: Some("odd".into()), ..p1.clone() };
        assert_eq!(found(odd).await, ["t1", "t11", "t21", "t31"]);
        let keyed = ThredQuery { key: Some(wait(1)), started_before: Some(NOW + 10), ..all() };
        assert_eq!(found(keyed).await, ["t1", "t5", "t9"]);
        let ended = ThredQuery { status: vec![Status::Terminated], ..all() };
        assert_eq!(found(ended).await, ["t0"]);
        let late = ThredQuery { started_from: Some(NOW + 37), ..all() };
        assert_eq!(found(late).await, ["t37", "t38", "t39"]);
        let mut pages = ThredQuery { limit: 7, ..all() };
        let mut ids = vec![];
        loop {
            let page = storage.threds(&pages).await.unwrap();
            ids.extend(page.threds.iter().map(|state| state.id.to_string()));
            pages.after = page.next;
            if pages.after.is_none() {
                break;
            }
        }
        assert_eq!(ids, (1..40).map(|number| format!("t{number}")).collect::<Vec<_>>());
        let first = storage.due(0, i64::MAX, None, 5).await.unwrap();
        let after: Option<&Timer> = first.timers.last();
        let rest = storage.due(0, i64::MAX, after, 99).await.unwrap();
        assert_eq!(first.next, rest.timers.first().map(|timer| timer.at));
        let other = storage.due(1, i64::MAX, None, 99).await.unwrap();
        assert_eq!(first.timers.len() + rest.timers.len() + other.timers.len(), 39);
    }
}

#[tokio::test]
async fn parked_messages_are_parked_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut backends = open(dir.path(), RedbConfig::default().partitions(1));
    let made = step(&unborn("a"), &event("1", "erp"), Status::Active, 3);
    apply(&backends, made.clone()).await;
    apply(&backends, step(&unborn("b"), &event("2", "erp"), Status::Active, 1)).await;
    let ids: Vec<_> = made.outbox.iter().map(|entry| entry.id.clone()).collect();
    let cleared = |published: &[usize], parked: &[usize]| Cleared {
        thred: "a".into(),
        published: published.iter().map(|place| ids[*place].clone()).collect(),
        parked: parked.iter().map(|place| ids[*place].clone()).collect(),
    };
    backends.storage.clear_outbox(&[cleared(&[0], &[1])]).await.unwrap();
    let all = [&made.outbox[1], &made.outbox[2]];
    for (is_restarted, is_all_parked) in
        [(false, false), (true, false), (false, true), (true, true)]
    {
        if is_restarted {
            backends.close().await;
            backends = open(dir.path(), RedbConfig::default().partitions(1));
        } else if is_all_parked {
            backends.storage.clear_outbox(&[cleared(&[], &[2])]).await.unwrap();
        }
        let storage = &backends.storage;
        let topics = storage.parked_topics().await.unwrap();
        let count = if is_all_parked { 2 } else { 1 };
        assert_eq!((topics.len(), topics[0].messages, topics[0].oldest), (1, count, NOW));
        let parked = storage.parked_outboxes(0, &TOPIC.into(), 9).await.unwrap();
        assert_eq!(parked.len(), 1);
        assert_eq!(parked[0].entries.iter().collect::<Vec<_>>(), all);
        let loaded = storage.load(&["a".into()]).await.unwrap().remove(0).unwrap();
        assert_eq!(loaded.outbox, parked[0].entries);
        let pending = storage.pending_outboxes(0, i64::MAX, 9).await.unwrap();
        assert_eq!(pending.len(), if is_all_parked { 1 } else { 2 });
    }
    backends.storage.clear_outbox(&[cleared(&[1, 2], &[])]).await.unwrap();
    assert!(backends.storage.parked_topics().await.unwrap().is_empty());
    backends.close().await;
    let backends = open(dir.path(), RedbConfig::default().partitions(1));
    assert!(backends.storage.parked_topics().await.unwrap().is_empty());
    let loaded = backends.storage.load(&["a".into()]).await.unwrap().remove(0).unwrap();
    assert!(loaded.outbox.is_empty());
}

/// A thred's messages to a topic are published in the order of its steps, whichever were parked.
#[tokio::test]
async fn an_outbox_has_the_same_order_after_a_restart() {
    const STEPS: usize = 20;
    for parked_of_three in 0..=3 {
        let dir = tempfile::tempdir().unwrap();
        let backends = open(dir.path(), RedbConfig::default());
        let (mut state, mut made) = (unborn("a"), vec![]);
        for number in 0..STEPS {
            let commit = step(&state, &event(&number.to_string(), "erp"), Status::Active, 1);
            made.extend(commit.outbox.clone());
            state = (*apply(&backends, commit).await).clone();
        }
        let is_parked = |number: usize| number % 3 < parked_of_three;
        let parked = (0..STEPS).filter(|number| is_parked(*number));
        let parked = parked.map(|number| made[number].id.clone()).collect();
        let cleared = Cleared { thred: "a".into(), published: vec![], parked };
        backends.storage.clear_outbox(&[cleared]).await.unwrap();
        backends.close().await;
        let backends = open(dir.path(), RedbConfig::default());
        let loaded = backends.storage.load(&["a".into()]).await.unwrap().remove(0).unwrap();
        assert_eq!(loaded.outbox, made, "{parked_of_three} of three are parked");
    }
}

const DIR: &str = "THRED_RESTART_DIR";

/// Opens a directory in a process of its own; without one there is nothing to do.
#[tokio::test]
async fn opens_in_a_process_of_its_own() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let begin = Instant::now();
    let backends = open(Path::new(&dir), RedbConfig::default());
    let took = begin.elapsed();
    let page = backends.storage.unmoved(None, 10).await.unwrap();
    assert_eq!(page.records.len(), 10);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|text| text.trim().split(' ').next()?.parse::<u64>().ok());
    println!("opened {} {}", took.as_millis(), peak.unwrap_or(0) / 1024);
    // The end of a process that is killed.
    std::process::exit(0);
}

/// What is on record is not read when a directory is opened, however much that is.
#[tokio::test]
async fn a_restart_reads_no_records() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path(), RedbConfig::default());
    let text = "x".repeat(100_000);
    for batch in 0..50 {
        let ids = batch * 50..(batch + 1) * 50;
        let unmoved = ids.clone().map(|id| unmoved(&format!("{id}"), &text)).collect();
        let receipts = ids.map(|id| (key(id), Receipt::Settled)).collect();
        let settlement = Settlement { unmoved, receipts, now: NOW };
        backends.storage.settle(0, &settlement).await.unwrap();
    }
    // As a killed process leaves it.
    let killed = tempfile::tempdir().unwrap();
    std::fs::copy(dir.path().join("threds.redb"), killed.path().join("threds.redb")).unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "opens_in_a_process_of_its_own", "--nocapture"])
        .env(DIR, killed.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let opened = said.lines().find_map(|line| {
        let (_, numbers) = line.split_once("opened ")?;
        let (took, peak) = numbers.split_once(' ')?;
        Some((took.parse::<u64>().ok()?, peak.trim().parse::<u64>().ok()?))
    });
    let (took, peak) = opened.unwrap_or_else(|| panic!("{said}"));
    println!("opened in {took} ms with {peak} MB at most");
    assert!(Duration::from_millis(took) < Duration::from_secs(3), "opened in {took} ms");
    assert!(peak < 300, "{peak} MB");
}
