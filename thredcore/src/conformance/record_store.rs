//! What [`RecordStore`](crate::port::RecordStore) promises.

use std::sync::Arc;

use super::{
    Fixture,
    samples::{
        commit, consumed, facts, key, message, next, published, record, send, store, thred,
        unmoved, with_outbox,
    },
};
use crate::{
    port::{
        Committed, LogType, OutboxEntry, Outgoing, PortErrorKind, Settlement, Storage, Unmoved,
    },
    state::ThredState,
};

type Store = Fixture<dyn Storage>;

async fn write(storage: &dyn Storage, unmoved: Vec<Unmoved>) {
    let settlement = Settlement { unmoved, ..Settlement::default() };
    storage.settle(0, &settlement).await.expect("settle");
}

/// Each step comes with its event, its log and its messages with their recipients; commands and
/// releases are no messages, and a consumed command is no event.
pub async fn history_tells_each_step(fixture: Store) {
    let storage = &*fixture.port;
    let mut first = with_outbox(commit(thred("a")), &["m1", "m2"], 0);
    let release = Outgoing::Release("sample".into());
    first.outbox.push(OutboxEntry { id: "release".into(), at: 0, outgoing: release });
    let mut second = commit(next(&thred("a")));
    second.event = None;
    second.facts = Some(Arc::new(facts()));
    for commit in [first.clone(), second.clone(), commit(thred("b"))] {
        assert_eq!(send(storage, commit).await, Committed::Applied);
    }
    storage.clear_outbox(&[published("a", &["m1"])]).await.unwrap();

    let history = storage.history(&"a".into(), None, 99).await.unwrap();
    assert_eq!(history.iter().map(|step| step.version).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(history[0].event, first.event);
    assert_eq!(history[0].log, first.log);
    assert_eq!(
        history[0].messages,
        [message("m1").into(), message("m2").into()],
        "published or not"
    );
    assert_eq!(history[1].event, None);
    assert_eq!(history[1].log, second.log);
    assert!(history[1].messages.is_empty());
    assert_eq!(history, [first.history(), second.history()]);
    assert!(storage.history(&"nobody".into(), None, 99).await.unwrap().is_empty());
    assert!(storage.unmoved(None, 99).await.unwrap().records.is_empty());
}

/// A limit takes the latest steps, still in the order of the versions.
pub async fn history_is_limited_to_the_latest(fixture: Store) {
    let storage = &*fixture.port;
    let mut state = thred("a");
    for _ in 0..12 {
        store(storage, [state.clone()]).await;
        state = next(&state);
    }
    let versions = async |limit| {
        let history = storage.history(&"a".into(), None, limit).await.expect("history");
        history.iter().map(|step| step.version).collect::<Vec<_>>()
    };
    assert_eq!(versions(3).await, [10, 11, 12]);
    assert_eq!(versions(99).await, (1..=12).collect::<Vec<_>>());
}

/// A page ends before a version; the pages together are the whole past, whatever other threds have
/// done in between.
pub async fn history_is_read_in_pages(fixture: Store) {
    let storage = &*fixture.port;
    let (mut a, mut b) = (thred("a"), thred("b"));
    for _ in 0..10 {
        store(storage, [a.clone(), b.clone()]).await;
        (a, b) = (next(&a), next(&b));
    }
    let versions = async |before, limit| {
        let history = storage.history(&"a".into(), before, limit).await.expect("history");
        history.iter().map(|step| step.version).collect::<Vec<_>>()
    };
    assert_eq!(versions(None, 4).await, [7, 8, 9, 10]);
    assert_eq!(versions(Some(7), 4).await, [3, 4, 5, 6]);
    assert_eq!(versions(Some(3), 4).await, [1, 2]);
    assert_eq!(versions(Some(1), 4).await, [0; 0]);
    assert_eq!(versions(Some(99), 2).await, [9, 10]);
}

/// Only what was applied is past.
pub async fn a_failed_commit_has_no_history(fixture: Store) {
    let storage = &*fixture.port;
    store(storage, [thred("a")]).await;
    let other = ThredState { inbox: vec![consumed("other")], ..thred("a") };
    assert_eq!(send(storage, commit(other)).await, Committed::Conflict);
    assert_eq!(send(storage, commit(thred("a"))).await, Committed::Duplicate);
    assert_eq!(storage.history(&"a".into(), None, 99).await.unwrap().len(), 1);
    assert_eq!(storage.log(99).await.unwrap().len(), 1);
}

/// A record is known by its event's key and its type; the same event may have records of several
/// types.
pub async fn a_record_is_written_once(fixture: Store) {
    let storage = &*fixture.port;
    let none = unmoved("e", LogType::NoPatternMatch, 1);
    let full = unmoved("e", LogType::Constrained, 2);
    write(storage, vec![none.clone(), none.clone()]).await;
    write(storage, vec![none.clone(), full.clone()]).await;
    write(storage, vec![]).await;
    assert_eq!(storage.log(99).await.unwrap(), [none.record.clone(), full.record.clone()]);
    assert_eq!(storage.unmoved(None, 99).await.unwrap().records, [none.clone(), full]);
    let mallory = Unmoved { key: thredlib::EventKey::of("mallory", "e"), ..none };
    write(storage, vec![mallory]).await;
    assert_eq!(storage.log(99).await.unwrap().len(), 3, "the same id from another source");
}

/// Events that changed nothing are on record whole, latest last, apart from the threds' past.
pub async fn what_changed_nothing_is_on_record(fixture: Store) {
    let storage = &*fixture.port;
    store(storage, [thred("a")]).await;
    let records: Vec<_> = (0..5)
        .map(|number| {
            let mut unmoved = unmoved(&format!("e{number}"), LogType::NoThred, number);
            unmoved.record.thred_id = Some("a".into());
            unmoved.record.detail = Some("why".into());
            unmoved
        })
        .collect();
    for unmoved in &records {
        write(storage, vec![unmoved.clone()]).await;
    }
    let page = storage.unmoved(None, 99).await.unwrap();
    assert_eq!((page.records, page.before), (records, None));
    assert_eq!(storage.history(&"a".into(), None, 99).await.unwrap().len(), 1, "a did not move");
}

/// Pages go back in time without gaps or repetitions, whatever threds have done in between.
pub async fn records_are_read_in_pages(fixture: Store) {
    let storage = &*fixture.port;
    for number in 0..10 {
        write(storage, vec![unmoved(&number.to_string(), LogType::NoMatch, number)]).await;
        store(storage, [thred(&format!("thred {number}"))]).await;
    }
    let (mut pages, mut before) = (vec![], None);
    loop {
        let page = storage.unmoved(before.as_deref(), 4).await.unwrap();
        let times: Vec<_> = page.records.iter().map(|unmoved| unmoved.record.timestamp).collect();
        pages.push(times);
        // What comes meanwhile is not on the older pages.
        write(storage, vec![unmoved(&format!("new {}", pages.len()), LogType::NoMatch, 99)]).await;
        let Some(cursor) = page.before else { break };
        before = Some(cursor);
    }
    assert_eq!(pages, [vec![6, 7, 8, 9], vec![2, 3, 4, 5], vec![0, 1]]);
    let error = storage.unmoved(Some("no cursor"), 4).await.expect_err("a foreign cursor");
    assert_eq!(error.kind(), PortErrorKind::Rejected);
}

/// By its key an event is known to be on record; never one that is not.
pub async fn what_is_on_record_is_looked_up(fixture: Store) {
    let storage = &*fixture.port;
    store(storage, [thred("a")]).await;
    let mut settlement = Settlement {
        unmoved: vec![unmoved("e", LogType::NoMatch, 1), unmoved("f", LogType::NoMatch, 1)],
        ..Settlement::default()
    };
    storage.settle(0, &settlement).await.unwrap();
    let keys = ["x", "f", "a#1", "e"].map(key);
    let answer = storage.recorded(&keys).await.unwrap();
    // Where records and receipts are written at once, "none" is an answer too.
    assert!(answer == [false, true, false, true] || answer == [false; 4], "{answer:?}");
    assert!(storage.recorded(&[]).await.unwrap().is_empty());
    settlement.receipts = vec![(key("e"), crate::port::Receipt::Settled)];
    storage.settle(0, &settlement).await.unwrap();
    assert_eq!(storage.log(99).await.unwrap().len(), 3, "written once, with its receipt or not");
}

/// The log holds the records of commits and the others, oldest first; a limit takes the latest.
pub async fn the_log_tells_all_in_order(fixture: Store) {
    let storage = &*fixture.port;
    let first = commit(thred("a"));
    let middle = unmoved("e", LogType::NoPatternMatch, 1_500);
    let mut last = commit(ThredState { modified_at: 2_000, ..next(&thred("a")) });
    let id = last.log[0].event.clone();
    last.log.push(record(&id, LogType::Spawned, Some(&"a".into()), 2_000));
    let mut whole = first.log.clone();
    whole.push(middle.record.clone());
    whole.extend(last.log.clone());

    send(storage, first).await;
    write(storage, vec![middle]).await;
    send(storage, last).await;
    assert_eq!(storage.log(99).await.unwrap(), whole);
    assert_eq!(storage.log(2).await.unwrap(), whole[2..]);
}

/// History and log are there after a restart, and still know what was written.
pub async fn records_survive_a_restart(fixture: Store) {
    let unmoved = unmoved("e", LogType::NoPatternMatch, 1);
    store(&*fixture.port, [thred("a")]).await;
    write(&*fixture.port, vec![unmoved.clone()]).await;
    let Some(fixture) = fixture.reopened().await else { return };
    write(&*fixture.port, vec![unmoved]).await;
    assert_eq!(fixture.port.log(99).await.unwrap().len(), 2);
    assert_eq!(fixture.port.history(&"a".into(), None, 99).await.unwrap().len(), 1);
    assert_eq!(fixture.port.unmoved(None, 99).await.unwrap().records.len(), 1);
}
