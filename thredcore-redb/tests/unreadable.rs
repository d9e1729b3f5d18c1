//! What cannot be read stops nothing: it is passed over, listed, and taken out on demand.

mod common;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use common::samples::{NOW, TOPIC, event, inbound, routed, step, unborn};
use redb::{ReadableTable, TableDefinition};
use thredcore::{
    port::{
        Cleared, Committed, DeadLetterFilter, Death, EventQ, Lease, LeaseStore, LogRecord, LogType,
        MessageQ, PatternStore, Quarantine, RecordStore, Settlement, StoredPattern, ThredQuery,
        ThredStore, Unmoved,
    },
    state::{Status, ThredState},
};
use thredcore_redb::{RedbBackends, RedbConfig};
use thredlib::EventKey;

fn open(dir: &Path) -> RedbBackends {
    let config = RedbConfig::default().event_partitions(1).cached_threds(0);
    RedbBackends::open_with(dir, config).expect("the directory opens")
}

/// Spoils all entries of a table that hold a text, by another one of the same length.
fn spoil_table<K: redb::Key + 'static>(
    dir: &Path,
    table: TableDefinition<'_, K, &'static [u8]>,
    text: &str,
) -> usize
where
    for<'a> K::SelfType<'a>: Clone,
{
    let database = redb::Database::open(dir.join("threds.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    let mut spoilt = 0;
    {
        let mut table = txn.open_table(table).unwrap();
        let mut changes = vec![];
        for row in table.iter().unwrap() {
            let (key, value) = row.unwrap();
            let mut bytes = value.value().to_vec();
            let found: Vec<_> = (0..bytes.len().saturating_sub(text.len() - 1))
                .filter(|at| &bytes[*at..*at + text.len()] == text.as_bytes())
                .collect();
            for at in &found {
                bytes[*at..*at + text.len()].fill(b'\x01');
            }
            spoilt += found.len();
            if !found.is_empty() {
                let key = K::as_bytes(&key.value()).as_ref().to_vec();
                changes.push((key, bytes));
            }
        }
        for (key, bytes) in changes {
            table.insert(K::from_bytes(&key), &*bytes).unwrap();
        }
    }
    txn.commit().unwrap();
    spoilt
}

fn spoil(dir: &Path, table: &str, text: &str) {
    let spoilt = spoil_table(dir, TableDefinition::<u64, &[u8]>::new(table), text);
    assert!(spoilt > 0, "nothing is spoilt in {table}");
}

fn unmoved(id: &str) -> Unmoved {
    let event = event(id, "erp");
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
    Unmoved { key: EventKey::of("erp", id), record, event }
}

async fn commit(backends: &RedbBackends, id: &str, messages: usize) {
    let labelled = ThredState { label: Some(id.into()), ..unborn(id) };
    let commit = step(&labelled, &event(&format!("event {id}"), "erp"), Status::Active, messages);
    let answer = backends.storage.commit(&[Arc::new(commit)]).await.remove(0);
    assert_eq!(answer.unwrap(), Committed::Applied);
}

#[tokio::test]
async fn a_state_that_cannot_be_read_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path());
    for id in ["good", "evil", "fair"] {
        commit(&backends, id, 0).await;
    }
    backends.close().await;
    spoil(dir.path(), "states", "\"b\":\"evil\"");

    let backends = open(dir.path());
    let page = backends.storage.threds(&ThredQuery::default()).await.unwrap();
    let ids: BTreeSet<_> = page.threds.iter().map(|state| state.id.to_string()).collect();
    assert_eq!(ids, ["fair", "good"].map(String::from).into());
    let loaded = backends.storage.load(&["good".into(), "evil".into()]).await.unwrap();
    assert!(loaded[0].is_some() && loaded[1].is_none());
    assert_eq!(backends.storage.unreadable_met(), 1);
    // Nobody writes over it.
    let again = step(&unborn("evil"), &event("again", "erp"), Status::Active, 0);
    let answer = backends.storage.commit(&[Arc::new(again.clone())]).await.remove(0);
    assert_eq!(answer.unwrap(), Committed::Conflict);

    let found = backends.storage.unreadable(9).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&*found[0].kind, &*found[0].key), ("thred", "evil"));
    assert!(found[0].content.contains("bench"), "{}", found[0].content);
    assert_eq!(backends.storage.move_out(9).await.unwrap(), found);
    assert!(backends.storage.unreadable(9).await.unwrap().is_empty());
    let answer = backends.storage.commit(&[Arc::new(again)]).await.remove(0);
    assert_eq!(answer.unwrap(), Committed::Applied);
    backends.close().await;
    let backends = open(dir.path());
    let page = backends.storage.threds(&ThredQuery::default()).await.unwrap();
    assert_eq!(page.threds.len(), 3);
    assert_eq!(backends.storage.counts().await.unwrap()[0].threds, 3);
}

/// The header of a state is all that opening reads of it.
#[tokio::test]
async fn a_state_without_a_header_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path());
    commit(&backends, "good", 0).await;
    commit(&backends, "evil", 0).await;
    backends.close().await;
    // The length of the id, which then is far too long.
    spoil(dir.path(), "states", "\u{4}\0\0\0evil");
    let backends = open(dir.path());
    let page = backends.storage.threds(&ThredQuery::default()).await.unwrap();
    assert_eq!(page.threds.len(), 1);
    let found = backends.storage.move_out(9).await.unwrap();
    assert_eq!((found.len(), &*found[0].kind), (1, "thred"));
    assert!(backends.storage.unreadable(9).await.unwrap().is_empty());
}

#[tokio::test]
async fn steps_and_records_that_cannot_be_read_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path());
    let mut state = unborn("a");
    for number in 1..=5 {
        let commit = step(&state, &event(&format!("e{number}"), "erp"), Status::Active, 1);
        state = (*commit.state).clone();
        backends.storage.commit(&[Arc::new(commit)]).await.remove(0).unwrap();
    }
    for id in ["u1", "u2", "u3"] {
        let settlement = Settlement { unmoved: vec![unmoved(id)], receipts: vec![], now: NOW };
        backends.storage.settle(0, &settlement).await.unwrap();
    }
    backends.close().await;
    spoil(dir.path(), "steps", "\"version\":3");
    spoil(dir.path(), "steps", "\"id\":\"u2\"");

    let backends = open(dir.path());
    let versions = async || -> Vec<u64> {
        let history = backends.storage.history(&"a".into(), None, 99).await.unwrap();
        history.iter().map(|step| step.version).collect()
    };
    assert_eq!(versions().await, [1, 2, 4, 5]);
    let records = backends.storage.unmoved(None, 99).await.unwrap().records;
    let ids: Vec<_> = records.iter().map(|it| it.event.id.to_string()).collect();
    assert_eq!(ids, ["u1", "u3"]);
    assert_eq!(backends.storage.log(99).await.unwrap().len(), 6);
    let loaded = backends.storage.load(&["a".into()]).await.unwrap().remove(0).unwrap();
    assert_eq!(loaded.outbox.len(), 4, "what can be read of the outbox");

    let found = backends.storage.unreadable(1).await.unwrap();
    assert_eq!((found.len(), &*found[0].kind), (1, "step"));
    assert_eq!(backends.storage.move_out(9).await.unwrap().len(), 2);
    assert!(backends.storage.unreadable(9).await.unwrap().is_empty());
    // What stood around them is there.
    assert_eq!(versions().await, [1, 2, 4, 5]);
    backends.close().await;
    let backends = open(dir.path());
    assert_eq!(backends.storage.unmoved(None, 99).await.unwrap().records.len(), 2);
    assert!(backends.storage.unreadable(9).await.unwrap().is_empty());
}

#[tokio::test]
async fn items_of_queues_that_cannot_be_read_stop_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path());
    let items = ["good", "evil", "dead", "lost"].map(|id| inbound(id, "erp")).into();
    backends.event_q.publish(items).await.unwrap();
    let batch = backends.event_q.receive(0, 9).await.unwrap();
    let death = Death { reason: "bad".into(), times: 1, moved: vec![] };
    for delivery in &batch[2..] {
        backends.event_q.dead_letter(delivery.tag, &death).await.unwrap();
    }
    for answer in backends.message_q.publish(["good", "evil"].map(routed).into()).await {
        answer.unwrap();
    }
    backends.close().await;
    spoil(dir.path(), "events", "\"id\":\"evil\"");
    spoil(dir.path(), "messages", "\"id\":\"evil\"");
    let dead = TableDefinition::<(u8, u64), &[u8]>::new("dead letters");
    assert_eq!(spoil_table(dir.path(), dead, "\"id\":\"lost\""), 1);

    let backends = open(dir.path());
    let events = backends.event_q.receive(0, 9).await.unwrap();
    assert_eq!(events.len(), 1);
    let messages = backends.message_q.receive(&[TOPIC.into()], 9).await.unwrap();
    assert_eq!(messages.len(), 1);
    let letters = backends.event_q.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!(letters.len(), 1);
    let kinds = |found: Vec<thredcore::port::Unreadable>| -> Vec<String> {
        found.into_iter().map(|it| format!("{} {}", it.kind, it.key)).collect()
    };
    let found = kinds(backends.event_q.unreadable(9).await.unwrap());
    assert_eq!(found, ["event 2", "event dead letter 2"]);
    assert_eq!(kinds(backends.event_q.move_out(9).await.unwrap()), found);
    assert_eq!(kinds(backends.message_q.move_out(9).await.unwrap()), ["message 2"]);
    assert!(backends.event_q.unreadable(9).await.unwrap().is_empty());
    backends.close().await;
    let backends = open(dir.path());
    assert!(backends.event_q.unreadable(9).await.unwrap().is_empty());
    assert!(backends.message_q.unreadable(9).await.unwrap().is_empty());
    assert_eq!(backends.event_q.depth().await.unwrap(), 1);
}

#[tokio::test]
async fn patterns_leases_and_parked_outboxes_that_cannot_be_read_stop_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path());
    for name in ["good", "evil"] {
        let model = serde_json::json!({ "name": name, "reactions": [{
            "name": "only",
            "condition": { "type": "filter", "xpr": "true" },
        }] });
        let model = serde_json::from_value(model).expect("a pattern");
        backends.storage.put_pattern(StoredPattern::new(model)).await.unwrap();
        let lease = Lease { name: name.into(), owner: "a".into(), until: i64::MAX };
        assert!(backends.storage.acquire(&lease, 0).await.unwrap());
    }
    commit(&backends, "a", 2).await;
    let parked = vec!["message a/1/1".into()];
    let cleared = Cleared { thred: "a".into(), published: vec![], parked };
    backends.storage.clear_outbox(&[cleared]).await.unwrap();
    backends.close().await;
    let (patterns, leases) = (
        TableDefinition::<(&str, u64), &[u8]>::new("patterns"),
        TableDefinition::<&str, &[u8]>::new("leases"),
    );
    assert!(spoil_table(dir.path(), patterns, "\"name\":\"evil\"") > 0);
    assert!(spoil_table(dir.path(), leases, "\"name\":\"evil\"") > 0);
    spoil(dir.path(), "partly published", "\"rest\"");

    let backends = open(dir.path());
    assert_eq!(backends.storage.patterns().await.unwrap().len(), 1);
    assert_eq!(backends.storage.leases("", 1).await.unwrap().len(), 1);
    let loaded = backends.storage.load(&["a".into()]).await.unwrap().remove(0).unwrap();
    assert_eq!(loaded.outbox.len(), 2);
    let found = backends.storage.move_out(9).await.unwrap();
    let kinds: BTreeSet<_> = found.iter().map(|found| found.kind.as_str()).collect();
    assert_eq!(kinds, ["lease", "outbox", "pattern"].into());
    assert!(backends.storage.unreadable(9).await.unwrap().is_empty());
}

/// Whatever bytes of the segments are lost: the directory opens, and lists what it can.
#[tokio::test]
async fn the_directory_opens_whatever_is_lost() {
    for seed in 0..20_u64 {
        let dir = tempfile::tempdir().unwrap();
        let backends = open(dir.path());
        for id in ["a", "b", "c", "d"] {
            commit(&backends, id, 2).await;
        }
        let items = ["1", "2"].map(|id| inbound(id, "erp")).into();
        backends.event_q.publish(items).await.unwrap();
        let settlement = Settlement { unmoved: vec![unmoved("u")], receipts: vec![], now: NOW };
        backends.storage.settle(0, &settlement).await.unwrap();
        backends.close().await;
        {
            let mut random = common::disk::Random(seed);
            let database = redb::Database::open(dir.path().join("threds.redb")).unwrap();
            let txn = database.begin_write().unwrap();
            for name in ["states", "steps", "events", "states live", "steps unpublished"] {
                let definition = TableDefinition::<u64, &[u8]>::new(name);
                let mut table = txn.open_table(definition).unwrap();
                let rows: Vec<_> = table
                    .iter()
                    .unwrap()
                    .map(|row| {
                        row.map(|(key, value)| (key.value(), value.value().to_vec())).unwrap()
                    })
                    .collect();
                for (key, mut bytes) in rows {
                    for _ in 0..3 {
                        let at = random.below(bytes.len() as u64) as usize;
                        bytes[at] = random.next() as u8;
                    }
                    let end = random.below(2 * bytes.len() as u64) as usize;
                    bytes.truncate(end.max(1));
                    table.insert(key, &*bytes).unwrap();
                }
            }
            txn.commit().unwrap();
        }
        let backends = open(dir.path());
        backends.storage.threds(&ThredQuery::default()).await.expect("threds");
        backends.storage.log(99).await.expect("the log");
        backends.storage.unmoved(None, 99).await.expect("records");
        backends.storage.history(&"a".into(), None, 99).await.expect("a history");
        backends.storage.move_out(99).await.expect("what cannot be read");
        backends.event_q.move_out(99).await.expect("what cannot be read");
        commit(&backends, "new", 1).await;
        backends.close().await;
        open(dir.path()).close().await;
    }
}
