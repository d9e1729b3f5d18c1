//! What [`RecordStore`](crate::port::RecordStore) promises.

use std::sync::Arc;

use super::{
    Fixture,
    samples::{commit, event, facts, message, next, record, send, store, thred, with_outbox},
};
use crate::{
    port::{Committed, LogType, OutboxEntry, Outgoing, Storage},
    state::ThredState,
};

type Store = Fixture<dyn Storage>;

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
    storage.clear_outbox(&[("a".into(), vec!["m1".into()])]).await.unwrap();

    let history = storage.history(Some(&"a".into()), 99).await.unwrap();
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
    assert!(storage.history(Some(&"nobody".into()), 99).await.unwrap().is_empty());
    assert!(storage.history(None, 99).await.unwrap().is_empty());
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
        let history = storage.history(Some(&"a".into()), limit).await.expect("history");
        history.iter().map(|step| step.version).collect::<Vec<_>>()
    };
    assert_eq!(versions(3).await, [10, 11, 12]);
    assert_eq!(versions(99).await, (1..=12).collect::<Vec<_>>());
}

/// Only what was applied is past.
pub async fn a_failed_commit_has_no_history(fixture: Store) {
    let storage = &*fixture.port;
    store(storage, [thred("a")]).await;
    let other = ThredState { inbox: vec!["other".into()], ..thred("a") };
    assert_eq!(send(storage, commit(other)).await, Committed::Conflict);
    assert_eq!(send(storage, commit(thred("a"))).await, Committed::Duplicate);
    assert_eq!(storage.history(Some(&"a".into()), 99).await.unwrap().len(), 1);
    assert_eq!(storage.log(99).await.unwrap().len(), 1);
}

/// A record is known by its event and type; the same event may have records of several types.
pub async fn a_record_is_appended_once(fixture: Store) {
    let storage = &*fixture.port;
    let event = event("e", "erp");
    let none = (record(&event.id, LogType::NoPatternMatch, None, 1), event.clone());
    let full = (record(&event.id, LogType::Constrained, None, 2), event.clone());
    storage.append_log(vec![none.clone(), none.clone()]).await.unwrap();
    storage.append_log(vec![none.clone(), full.clone()]).await.unwrap();
    storage.append_log(vec![]).await.unwrap();
    assert_eq!(storage.log(99).await.unwrap(), [none.0, full.0]);
}

/// Events that moved no thred are told apart from those that did, latest last.
pub async fn records_of_no_thred_have_a_history(fixture: Store) {
    let storage = &*fixture.port;
    store(storage, [thred("a")]).await;
    for number in 0..5 {
        let event = event(&format!("e{number}"), "erp");
        let record = record(&event.id, LogType::NoThred, Some(&"a".into()), number);
        storage.append_log(vec![(record, event)]).await.unwrap();
    }
    let events = async |limit| {
        let history = storage.history(None, limit).await.expect("history");
        assert!(history.iter().all(|step| step.version == 0 && step.messages.is_empty()));
        assert!(history.iter().all(|step| step.log[0].log_type == LogType::NoThred));
        let ids = history.iter().map(|step| step.event.as_ref().expect("an event").id.to_string());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(events(99).await, ["e0", "e1", "e2", "e3", "e4"]);
    assert_eq!(events(2).await, ["e3", "e4"]);
    assert_eq!(storage.history(Some(&"a".into()), 99).await.unwrap().len(), 1, "a was not moved");
}

/// The log holds the records of commits and the others, oldest first; a limit takes the latest.
pub async fn the_log_tells_all_in_order(fixture: Store) {
    let storage = &*fixture.port;
    let first = commit(thred("a"));
    let event = event("e", "erp");
    let middle = record(&event.id, LogType::NoPatternMatch, None, 1_500);
    let mut last = commit(ThredState { modified_at: 2_000, ..next(&thred("a")) });
    last.log.push(record(&last.consumed, LogType::Spawned, Some(&"a".into()), 2_000));
    let mut whole = first.log.clone();
    whole.push(middle.clone());
    whole.extend(last.log.clone());

    send(storage, first).await;
    storage.append_log(vec![(middle, event)]).await.unwrap();
    send(storage, last).await;
    assert_eq!(storage.log(99).await.unwrap(), whole);
    assert_eq!(storage.log(2).await.unwrap(), whole[2..]);
}

/// History and log are there after a restart, and still know what was appended.
pub async fn records_survive_a_restart(fixture: Store) {
    let event = event("e", "erp");
    let appended = (record(&event.id, LogType::NoPatternMatch, None, 1), Arc::clone(&event));
    store(&*fixture.port, [thred("a")]).await;
    fixture.port.append_log(vec![appended.clone()]).await.unwrap();
    let Some(fixture) = fixture.reopened().await else { return };
    fixture.port.append_log(vec![appended]).await.unwrap();
    assert_eq!(fixture.port.log(99).await.unwrap().len(), 2);
    assert_eq!(fixture.port.history(Some(&"a".into()), 99).await.unwrap().len(), 1);
    assert_eq!(fixture.port.history(None, 99).await.unwrap().len(), 1);
}
