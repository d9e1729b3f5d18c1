//! What a commit is, alone, in a batch and in a race.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;
use thredlib::{EventKey, ThredId};

use super::{Store, due, waiting};
use crate::{
    conformance::{
        LARGEST,
        samples::{
            FOREIGN, commit, consumed, load, next, outbox, outbox_ids, send, store, thred,
            wait_keys, with_outbox,
        },
    },
    port::{Commit, Committed, PortErrorKind, Storage},
    state::{Consumed, ThredState},
};

/// An id that was never committed has no thred.
pub async fn what_does_not_exist_loads_as_none(store: Store) {
    assert_eq!(load(&*store.port, "nobody").await, None);
    assert!(store.port.load(&[]).await.unwrap().is_empty());
}

/// Answers of `load` stand in the order of the ids, with gaps and repetitions.
pub async fn answers_stand_in_the_order_of_the_ids(fixture: Store) {
    store(&*fixture.port, [thred("a"), thred("b"), thred("c")]).await;
    let ids = ["c", "missing", "a", "c"].map(ThredId::from);
    let loaded = fixture.port.load(&ids).await.unwrap();
    let ids: Vec<_> =
        loaded.iter().map(|one| one.as_ref().map(|one| one.state.id.as_str())).collect();
    assert_eq!(ids, [Some("c"), None, Some("a"), Some("c")]);
}

/// Each field of a state comes back as it was given.
pub async fn a_state_survives_whole(fixture: Store) {
    let locals = json!({
        "text": FOREIGN, "": null, "a.b": 1, "$set": true, "list": [1, -2.5, 1e300, i64::MIN],
        "great": u64::MAX, "seven": 7, "seven.0": 7.0, "deep": { "er": { "est": [[], {}] } },
    });
    let serde_json::Value::Object(locals) = locals else { unreachable!("an object") };
    let inbox = [i64::MIN, 0, i64::MAX]
        .map(|at| Consumed::new(EventKey::from_bytes([at as u8; 16]), at, Consumed::NO_RECEIPT));
    let whole = ThredState {
        waits: wait_keys(&["a", "b", "c"]),
        inbox: [&inbox[..], &[consumed("whole#1")]].concat(),
        entry: 1,
        entered_at: -5,
        expires_at: Some(i64::MAX),
        locals: Arc::new(locals),
        participants: vec!["erp".into(), "\u{fc}".into()],
        matched: [0, 3, u16::MAX].into(),
        label: Some(FOREIGN.into()),
        description: Some("".into()),
        display: Some("uri://icon".into()),
        parent: Some("parent".into()),
        children: ["child 1".into(), "child 2".into()].into(),
        ..thred("whole")
    };
    store(&*fixture.port, [whole.clone()]).await;
    assert_eq!(load(&*fixture.port, "whole").await.as_deref(), Some(&whole));
    let bare = thred("bare");
    store(&*fixture.port, [bare.clone()]).await;
    assert_eq!(load(&*fixture.port, "bare").await.as_deref(), Some(&bare));
}

/// A chain of commits arrives at its last state.
pub async fn each_commit_raises_the_version(fixture: Store) {
    let mut state = thred("a");
    for _ in 0..5 {
        store(&*fixture.port, [state.clone()]).await;
        assert_eq!(load(&*fixture.port, "a").await.as_deref(), Some(&state));
        state = next(&state);
    }
}

/// The expected version must be the stored one.
pub async fn a_commit_from_an_old_version_conflicts(fixture: Store) {
    let first = thred("a");
    let second = next(&first);
    store(&*fixture.port, [first.clone(), second.clone()]).await;
    let mut other = next(&first);
    other.inbox = vec![consumed("other")];
    assert_eq!(send(&*fixture.port, commit(other.clone())).await, Committed::Conflict);
    other.version = 4;
    assert_eq!(send(&*fixture.port, commit(other)).await, Committed::Conflict, "from the future");
    assert_eq!(load(&*fixture.port, "a").await.as_deref(), Some(&second));
}

/// Only version 0 stands for a thred that is not there.
pub async fn a_commit_to_a_missing_thred_conflicts(fixture: Store) {
    let second = next(&thred("a"));
    assert_eq!(send(&*fixture.port, commit(second)).await, Committed::Conflict);
    assert_eq!(load(&*fixture.port, "a").await, None);
}

/// Version 0 does not stand for a thred that is there.
pub async fn a_second_start_conflicts(fixture: Store) {
    let first = thred("a");
    store(&*fixture.port, [first.clone()]).await;
    let other = ThredState { inbox: vec![consumed("other")], ..first.clone() };
    assert_eq!(send(&*fixture.port, commit(other)).await, Committed::Conflict);
    assert_eq!(load(&*fixture.port, "a").await.as_deref(), Some(&first));
}

/// Sent again, as after a lost answer, a commit tells that it was applied, and adds nothing.
pub async fn the_identical_commit_is_a_duplicate(fixture: Store) {
    let start = with_outbox(commit(thred("a")), &["m1"], 0);
    let then = with_outbox(commit(next(&thred("a"))), &["m2"], 0);
    for commit in [start, then] {
        assert_eq!(send(&*fixture.port, commit.clone()).await, Committed::Applied);
        assert_eq!(send(&*fixture.port, commit.clone()).await, Committed::Duplicate);
        assert_eq!(load(&*fixture.port, "a").await, Some(commit.state));
    }
    assert_eq!(outbox_ids(&outbox(&*fixture.port, "a").await), ["m1", "m2"]);
    assert_eq!(fixture.port.history(&"a".into(), None, 9).await.unwrap().len(), 2);
}

/// The inbox is asked before the version.
pub async fn a_consumed_event_is_a_duplicate_even_from_an_old_version(fixture: Store) {
    let first = thred("a");
    let second = next(&first);
    let third = next(&second);
    store(&*fixture.port, [first.clone(), second.clone(), third.clone()]).await;
    assert_eq!(send(&*fixture.port, commit(second)).await, Committed::Duplicate);
    assert_eq!(send(&*fixture.port, commit(first)).await, Committed::Duplicate, "the start");
    let again = ThredState { version: 4, inbox: vec![third.inbox[1]], ..third.clone() };
    assert_eq!(send(&*fixture.port, commit(again)).await, Committed::Duplicate, "in version");
    assert_eq!(load(&*fixture.port, "a").await.as_deref(), Some(&third));
}

/// An id is its sender's own: the same one from somebody else is another event.
pub async fn the_same_id_from_another_source_is_no_duplicate(fixture: Store) {
    let first = thred("a");
    store(&*fixture.port, [first.clone()]).await;
    let mut second = next(&first);
    second.inbox[1] = Consumed { key: EventKey::of("mallory", "a#1"), ..second.inbox[1] };
    assert_eq!(send(&*fixture.port, commit(second)).await, Committed::Applied);
}

/// The inbox is what the last commit says it is.
pub async fn an_event_that_left_the_inbox_is_no_duplicate(fixture: Store) {
    let first = thred("a");
    let mut second = next(&first);
    let forgotten = second.inbox.remove(0);
    store(&*fixture.port, [first, second.clone()]).await;
    let mut third = next(&second);
    third.inbox = vec![forgotten];
    assert_eq!(send(&*fixture.port, commit(third)).await, Committed::Applied);
}

/// A conflict or duplicate writes nothing: no timer, no outbox, no listener, no record.
pub async fn a_failed_commit_leaves_no_trace(fixture: Store) {
    let storage = &*fixture.port;
    let first = thred("a");
    store(storage, [first.clone()]).await;
    let loud = |inbox: &str, version| ThredState {
        version,
        inbox: vec![consumed(inbox)],
        waits: wait_keys(&["a"]),
        expires_at: Some(1),
        ..first.clone()
    };
    let conflict = with_outbox(commit(loud("new", 3)), &["m1"], 0);
    assert_eq!(send(storage, conflict).await, Committed::Conflict);
    let duplicate = with_outbox(commit(loud("a#1", 2)), &["m2"], 0);
    assert_eq!(send(storage, duplicate).await, Committed::Duplicate);

    assert_eq!(load(storage, "a").await.as_deref(), Some(&first));
    assert!(outbox(storage, "a").await.is_empty());
    assert!(due(storage, i64::MAX).await.is_empty());
    assert!(waiting(storage, &["a"]).await.is_empty());
    assert!(storage.listening_patterns().await.unwrap().is_empty());
    assert_eq!(storage.history(&"a".into(), None, 9).await.unwrap().len(), 1);
    assert_eq!(storage.log(9).await.unwrap().len(), 1);
}

/// In a batch, a conflict and a duplicate fail alone; answers stand in the order of the commits.
pub async fn commits_of_a_batch_stand_alone(fixture: Store) {
    let storage = &*fixture.port;
    store(storage, [thred("duplicate"), thred("conflict"), thred("goes on")]).await;
    let conflict = ThredState { inbox: vec![consumed("x")], ..thred("conflict") };
    let batch = [
        commit(thred("new 1")),
        commit(conflict),
        commit(next(&thred("goes on"))),
        commit(thred("duplicate")),
        commit(thred("new 2")),
    ];
    let answers = storage.commit(&batch.map(Arc::new)).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
    use Committed::{Applied, Conflict, Duplicate};
    assert_eq!(answers, [Applied, Conflict, Applied, Duplicate, Applied]);
    for (id, version) in [("new 1", 1), ("conflict", 1), ("goes on", 2), ("new 2", 1)] {
        assert_eq!(load(storage, id).await.expect(id).version, version, "{id}");
    }
}

/// A batch of a thousand is as good as one of one; an empty one is nothing.
pub async fn a_large_batch_is_committed(fixture: Store) {
    let states: Vec<_> = (0..1000).map(|number| thred(&format!("thred {number}"))).collect();
    store(&*fixture.port, states.clone()).await;
    let ids: Vec<_> = states.iter().map(|state| state.id.clone()).collect();
    let loaded = fixture.port.load(&ids).await.unwrap();
    assert!(loaded.iter().zip(&states).all(|(one, state)| *one.as_ref().unwrap().state == *state));
    assert!(fixture.port.commit(&[]).await.is_empty());
}

/// Of many commits from one version, with different events, exactly one is applied.
pub async fn one_of_many_racing_commits_wins(fixture: Store) {
    let first = thred("a");
    store(&*fixture.port, [first.clone()]).await;
    let racers: Vec<_> = (0..32)
        .map(|racer| {
            let storage = fixture.port.clone();
            let mut state = next(&first);
            state.inbox[1] = consumed(&format!("racer {racer}"));
            let commit = with_outbox(commit(state), &[&*format!("m{racer}")], 0);
            tokio::spawn(async move { (racer, send(&*storage, commit).await) })
        })
        .collect();
    let mut winners = vec![];
    for racer in racers {
        match racer.await.expect("a racer") {
            (racer, Committed::Applied) => winners.push(racer),
            (_, answer) => assert_eq!(answer, Committed::Conflict),
        }
    }
    assert_eq!(winners.len(), 1, "applied: {winners:?}");
    let state = load(&*fixture.port, "a").await.unwrap();
    let winner = consumed(&format!("racer {}", winners[0]));
    assert_eq!(state.inbox[1], winner, "the winner's state is stored");
    assert_eq!(outbox(&*fixture.port, "a").await.len(), 1);
}

/// Of many identical starts exactly one is applied; the others are duplicates.
pub async fn racing_starts_make_one_thred(fixture: Store) {
    let racers: Vec<_> = (0..32)
        .map(|_| {
            let storage = fixture.port.clone();
            tokio::spawn(async move { send(&*storage, commit(thred("a"))).await })
        })
        .collect();
    let mut applied = 0;
    for racer in racers {
        match racer.await.expect("a racer") {
            Committed::Applied => applied += 1,
            answer => assert_eq!(answer, Committed::Duplicate),
        }
    }
    assert_eq!(applied, 1);
    assert_eq!(fixture.port.history(&"a".into(), None, 99).await.unwrap().len(), 1);
}

/// Committers that load and try again on a conflict all get their turn, and none gets lost.
pub async fn racing_increments_lose_none(fixture: Store) {
    const RACERS: u64 = 8;
    const STEPS: u64 = 10;
    store(&*fixture.port, [thred("a")]).await;
    let racers: Vec<_> = (0..RACERS)
        .map(|racer| {
            let storage = fixture.port.clone();
            tokio::spawn(async move {
                for step in 0..STEPS {
                    loop {
                        let mut state = next(&load(&*storage, "a").await.unwrap());
                        *state.inbox.last_mut().unwrap() = consumed(&format!("{racer}/{step}"));
                        match send(&*storage, commit(state)).await {
                            Committed::Applied => break,
                            answer => assert_eq!(answer, Committed::Conflict),
                        }
                    }
                }
            })
        })
        .collect();
    for racer in racers {
        racer.await.expect("a racer");
    }
    let state = load(&*fixture.port, "a").await.unwrap();
    assert_eq!(state.version, 1 + RACERS * STEPS);
    let events: BTreeSet<_> = state.inbox.iter().map(|consumed| consumed.key).collect();
    assert_eq!(events.len() as u64, 1 + RACERS * STEPS, "each event once");
}

/// A commit of a size.
fn sized(id: &str, size: usize) -> Commit {
    let with = |text: String| {
        let mut locals = serde_json::Map::new();
        locals.insert("text".into(), text.into());
        commit(ThredState { locals: Arc::new(locals), ..thred(id) })
    };
    let rest = size.saturating_sub(with(String::new()).size());
    with("x".repeat(rest))
}

fn stated_size(storage: &dyn Storage) -> Option<usize> {
    let max = storage.max_commit_bytes();
    if max > LARGEST {
        eprintln!("not checked: `max_commit_bytes` is {max}");
    }
    (max <= LARGEST).then_some(max)
}

/// Just as large as the storage says.
pub async fn a_commit_as_large_as_stated_is_taken(fixture: Store) {
    let storage = &*fixture.port;
    let Some(max) = stated_size(storage) else { return };
    let commit = sized("large", max);
    assert_eq!(commit.size(), max);
    assert_eq!(send(storage, commit.clone()).await, Committed::Applied);
    assert_eq!(load(storage, "large").await, Some(commit.state));
}

/// A larger one is taken or rejected for good; the others of its batch are not concerned.
pub async fn a_commit_that_is_too_large_fails_alone(fixture: Store) {
    let storage = &*fixture.port;
    let Some(max) = stated_size(storage) else { return };
    let large = Arc::new(sized("large", max + max / 2));
    let batch = [commit(thred("a")).into(), large.clone(), commit(thred("b")).into()];
    let mut answers = storage.commit(&batch).await;
    assert_eq!(answers.len(), 3);
    let middle = answers.remove(1);
    for answer in answers {
        assert_eq!(answer.expect("the others are taken"), Committed::Applied);
    }
    let loaded = load(storage, "large").await;
    match middle {
        Ok(answer) => assert_eq!((answer, loaded), (Committed::Applied, Some(large.state.clone()))),
        Err(error) => {
            assert_eq!(error.kind(), PortErrorKind::Rejected, "{error:?}");
            assert_eq!(loaded, None);
        }
    }
}
