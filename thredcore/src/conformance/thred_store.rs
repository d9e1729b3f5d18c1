//! What [`ThredStore`](crate::port::ThredStore) promises.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;
use thredlib::ThredId;

use super::{
    Fixture,
    samples::{
        FOREIGN, applied, commit, entry, event, large, load, message_ids, next, outbox, outbox_ids,
        pattern, send, store, thred, with_outbox,
    },
};
use crate::{
    port::{Command, Committed, OutboxEntry, Outgoing, Start, Storage, ThredQuery, Timer},
    state::{PatternKey, Status, ThredState},
};

type Store = Fixture<dyn Storage>;

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
    let whole = ThredState {
        listening: true,
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
    other.inbox = vec!["other".into()];
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
    let other = ThredState { inbox: vec!["other".into()], ..first.clone() };
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
    assert_eq!(fixture.port.history(Some(&"a".into()), 9).await.unwrap().len(), 2);
}

/// The inbox is asked before the version.
pub async fn a_consumed_event_is_a_duplicate_even_from_an_old_version(fixture: Store) {
    let first = thred("a");
    let second = next(&first);
    let third = next(&second);
    store(&*fixture.port, [first.clone(), second.clone(), third.clone()]).await;
    assert_eq!(send(&*fixture.port, commit(second)).await, Committed::Duplicate);
    assert_eq!(send(&*fixture.port, commit(first)).await, Committed::Duplicate, "the start");
    let again = ThredState { version: 4, inbox: vec![third.inbox[1].clone()], ..third.clone() };
    assert_eq!(send(&*fixture.port, commit(again)).await, Committed::Duplicate, "in version");
    assert_eq!(load(&*fixture.port, "a").await.as_deref(), Some(&third));
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
        inbox: vec![inbox.into()],
        listening: true,
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
    assert!(storage.listeners(&first.pattern, "first").await.unwrap().is_empty());
    assert_eq!(storage.history(Some(&"a".into()), 9).await.unwrap().len(), 1);
    assert_eq!(storage.log(9).await.unwrap().len(), 1);
}

/// In a batch, a conflict and a duplicate fail alone; answers stand in the order of the commits.
pub async fn commits_of_a_batch_stand_alone(fixture: Store) {
    let storage = &*fixture.port;
    store(storage, [thred("duplicate"), thred("conflict"), thred("goes on")]).await;
    let conflict = ThredState { inbox: vec!["x".into()], ..thred("conflict") };
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
            state.inbox[1] = format!("racer {racer}").into();
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
    assert_eq!(state.inbox[1], *format!("racer {}", winners[0]), "the winner's state is stored");
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
    assert_eq!(fixture.port.history(Some(&"a".into()), 99).await.unwrap().len(), 1);
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
                        *state.inbox.last_mut().unwrap() = format!("{racer}/{step}").into();
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
    let events: BTreeSet<_> = state.inbox.iter().collect();
    assert_eq!(events.len() as u64, 1 + RACERS * STEPS, "each event once");
}

/// Entries of later commits come after those of earlier ones, each in its own order.
pub async fn outboxes_keep_their_order_until_cleared(fixture: Store) {
    let storage = &*fixture.port;
    let second = next(&thred("a"));
    send(storage, with_outbox(commit(thred("a")), &["z", "a", "m"], 10)).await;
    send(storage, with_outbox(commit(second.clone()), &["b", "y"], 11)).await;
    send(storage, commit(next(&second))).await;
    let entries = outbox(storage, "a").await;
    assert_eq!(outbox_ids(&entries), ["z", "a", "m", "b", "y"]);
    assert_eq!(entries[0], entry("z", 10));
    storage.clear_outbox(&[("a".into(), message_ids(&["z", "a", "m", "b", "y"]))]).await.unwrap();
    assert!(outbox(storage, "a").await.is_empty());
}

/// What was not named stays, in its order, and other threds' entries do too.
pub async fn clearing_takes_just_the_named_entries(fixture: Store) {
    let storage = &*fixture.port;
    for id in ["a", "b"] {
        send(storage, with_outbox(commit(thred(id)), &["1", "2", "3", "4"], 0)).await;
    }
    let cleared = [("a".into(), message_ids(&["3", "1"])), ("b".into(), message_ids(&["4"]))];
    storage.clear_outbox(&cleared).await.unwrap();
    assert_eq!(outbox_ids(&outbox(storage, "a").await), ["2", "4"]);
    assert_eq!(outbox_ids(&outbox(storage, "b").await), ["1", "2", "3"]);
}

/// Clearing twice, or what never was, changes nothing.
pub async fn clearing_what_is_not_there_is_harmless(fixture: Store) {
    let storage = &*fixture.port;
    send(storage, with_outbox(commit(thred("a")), &["1", "2"], 0)).await;
    for _ in 0..2 {
        let cleared = [("a".into(), message_ids(&["1", "x"])), ("no".into(), message_ids(&["2"]))];
        storage.clear_outbox(&cleared).await.unwrap();
        assert_eq!(outbox_ids(&outbox(storage, "a").await), ["2"]);
    }
    assert_eq!(load(storage, "a").await.unwrap().version, 1, "clearing is not a commit");
    assert_eq!(load(storage, "no").await, None, "clearing makes no thred");
}

/// Messages, all commands and releases come back as they were given.
pub async fn every_kind_of_entry_survives(fixture: Store) {
    let mut all = commit(thred("a"));
    all.outbox = vec![entry("message", 1)];
    let commands = commands().into_iter().map(|command| Outgoing::Command(Arc::new(command)));
    for outgoing in commands.chain([Outgoing::Release("sample".into())]) {
        let id = format!("entry {}", all.outbox.len()).into();
        all.outbox.push(OutboxEntry { id, at: 2, outgoing });
    }
    let given = all.outbox.clone();
    send(&*fixture.port, all).await;
    assert_eq!(outbox(&*fixture.port, "a").await, given);
}

/// One command of each kind.
pub(super) fn commands() -> Vec<Command> {
    let thred_id = || ThredId::from("target");
    let locals = json!({ "x": FOREIGN });
    vec![
        Command::Start(Start {
            thred_id: thred_id(),
            pattern_id: "sample".into(),
            parent: Some("a".into()),
            cause: event("cause", "erp"),
            input: Some(event("input", "erp")),
            locals: Arc::new(locals.as_object().cloned().unwrap_or_default()),
            participants: vec!["ann".into()],
        }),
        Command::Expire { thred_id: thred_id(), entry: 7 },
        Command::Transition { thred_id: thred_id(), to: "$next".into(), cause: "c".into() },
        Command::Terminate { thred_id: thred_id(), cause: "c".into() },
        Command::Disown { thred_id: thred_id(), child: "child".into() },
    ]
}

/// A sweep finds what was made before a time, whole threds at once, and only its partition's.
pub async fn pending_outboxes_are_old_whole_and_of_their_partition(fixture: Store) {
    let storage = &*fixture.port;
    for number in 0..20 {
        let id = format!("thred {number}");
        send(storage, with_outbox(commit(thred(&id)), &["m1", "m2"], 100 + number)).await;
    }
    let young = next(&thred("thred 3"));
    send(storage, with_outbox(commit(young), &["m3"], 900)).await;
    let mut found = BTreeSet::new();
    for partition in 0..storage.partitions() {
        assert!(
            storage.pending_outboxes(partition, 100, 99).await.unwrap().is_empty(),
            "too young"
        );
        for pending in storage.pending_outboxes(partition, 110, 99).await.unwrap() {
            let id = pending.thred_id;
            assert_eq!(ThredState::partition(&id, storage.partitions()), partition, "{id}");
            let whole: &[&str] = if id == "thred 3" { &["m1", "m2", "m3"] } else { &["m1", "m2"] };
            assert_eq!(outbox_ids(&pending.entries), whole, "{id}");
            assert!(found.insert(id.to_string()), "{id} comes twice");
        }
    }
    let expected: BTreeSet<_> = (0..10).map(|number| format!("thred {number}")).collect();
    assert_eq!(found, expected);
    for id in &expected {
        let ids = message_ids(&["m1", "m2", "m3"]);
        storage.clear_outbox(&[(id.as_str().into(), ids)]).await.unwrap();
    }
    for partition in 0..storage.partitions() {
        assert!(storage.pending_outboxes(partition, 110, 99).await.unwrap().is_empty(), "cleared");
    }
}

/// The limit counts threds; clearing brings the next ones.
pub async fn pending_outboxes_are_limited(fixture: Store) {
    let storage = &*fixture.port;
    let ids = of_one_partition(storage.partitions(), 7);
    for id in &ids {
        send(storage, with_outbox(commit(thred(id)), &["m1", "m2"], 0)).await;
    }
    let partition = ThredState::partition(&ids[0].as_str().into(), storage.partitions());
    let mut found = BTreeSet::new();
    loop {
        let pending = storage.pending_outboxes(partition, 1, 3).await.unwrap();
        assert!(pending.len() <= 3);
        if pending.is_empty() {
            break;
        }
        for outbox in pending {
            assert!(found.insert(outbox.thred_id.to_string()), "a cleared outbox came again");
            let ids = outbox.entries.into_iter().map(|entry| entry.id).collect();
            storage.clear_outbox(&[(outbox.thred_id, ids)]).await.unwrap();
        }
    }
    assert_eq!(found, ids.into_iter().collect());
}

/// Ids of threds that belong to one partition.
fn of_one_partition(partitions: u16, count: usize) -> Vec<String> {
    let ids = (0..).map(|number: u32| format!("thred {number}"));
    let first = ThredState::partition(&"thred 0".into(), partitions);
    ids.filter(|id| ThredState::partition(&id.as_str().into(), partitions) == first)
        .take(count)
        .collect()
}

fn expiring(id: &str, at: i64) -> ThredState {
    ThredState { expires_at: Some(at), ..thred(id) }
}

/// The due timers of all partitions, sorted.
async fn due(storage: &dyn Storage, at: i64) -> Vec<Timer> {
    let mut timers = vec![];
    for partition in 0..storage.partitions() {
        let due = storage.due(partition, at, 9999).await.expect("due");
        assert!(due.timers.is_sorted_by_key(|timer| timer.at), "earliest first");
        for timer in &due.timers {
            let home = ThredState::partition(&timer.thred_id, storage.partitions());
            assert_eq!(home, partition, "a timer of another partition");
        }
        timers.extend(due.timers);
    }
    timers.sort();
    timers
}

/// Timers come at their time, earliest first, not before, each in its thred's partition.
pub async fn timers_are_due_in_order(fixture: Store) {
    let storage = &*fixture.port;
    let at = |number: i64| (number * 7 % 20) - 5;
    store(storage, (0..20).map(|n| expiring(&format!("thred {n}"), at(n)))).await;
    store(storage, [thred("without")]).await;
    assert!(due(storage, -6).await.is_empty());
    for now in [-5, 0, 13, 14, 99] {
        let found: Vec<_> = due(storage, now).await.iter().map(|timer| timer.at).collect();
        assert_eq!(found, (-5..=now.min(14)).collect::<Vec<_>>(), "due at {now}");
    }
    assert!(due(storage, 99).await.iter().all(|timer| timer.entry == 1));
}

/// A limited answer holds the earliest timers and tells when the next one is due.
pub async fn due_timers_are_limited_and_tell_the_next(fixture: Store) {
    let storage = &*fixture.port;
    let ids = of_one_partition(storage.partitions(), 5);
    store(storage, ids.iter().zip([50, 10, 40, 20, 30]).map(|(id, at)| expiring(id, at))).await;
    let partition = ThredState::partition(&ids[0].as_str().into(), storage.partitions());
    for (now, limit, expected, next) in [
        (99, 3, vec![10, 20, 30], Some(40)),
        (99, 9, vec![10, 20, 30, 40, 50], None),
        (25, 9, vec![10, 20], Some(30)),
        (0, 9, vec![], Some(10)),
    ] {
        let due = storage.due(partition, now, limit).await.unwrap();
        let found: Vec<_> = due.timers.iter().map(|timer| timer.at).collect();
        assert_eq!((found, due.next), (expected, next), "due at {now}, at most {limit}");
    }
}

/// Asking does not claim: a timer that nobody has dealt with is there for the next who asks.
pub async fn a_due_timer_stays_until_a_commit_removes_it(fixture: Store) {
    let storage = &*fixture.port;
    let first = expiring("a", 10);
    store(storage, [first.clone()]).await;
    for _ in 0..3 {
        assert_eq!(due(storage, 10).await.len(), 1);
    }
    assert_eq!(next_due(storage, "a").await, Some(10));
    store(storage, [ThredState { expires_at: None, entry: 2, ..next(&first) }]).await;
    assert!(due(storage, i64::MAX).await.is_empty());
    assert_eq!(next_due(storage, "a").await, None);
}

/// When the next timer of a thred's partition is due.
async fn next_due(storage: &dyn Storage, id: &str) -> Option<i64> {
    let partition = ThredState::partition(&id.into(), storage.partitions());
    storage.due(partition, i64::MIN, 9).await.expect("due").next
}

/// A thred has one timer: that of its last commit, kept by commits that do not change it.
pub async fn a_commit_replaces_the_timer(fixture: Store) {
    let storage = &*fixture.port;
    let first = expiring("a", 10);
    let second = next(&first);
    let third = ThredState { expires_at: Some(5), entry: 3, ..next(&second) };
    let fourth = ThredState { entry: 4, ..next(&third) };
    for (state, at, entry) in [(first, 10, 1), (second, 10, 1), (third, 5, 3), (fourth, 5, 4)] {
        store(storage, [state]).await;
        let expected = Timer { at, thred_id: "a".into(), entry };
        assert_eq!(due(storage, i64::MAX).await, [expected]);
        assert_eq!(next_due(storage, "a").await, Some(at));
    }
}

/// Only an active thred's reaction expires.
pub async fn a_finished_or_ended_thred_has_no_timer(fixture: Store) {
    let storage = &*fixture.port;
    for (id, status) in [("a", Status::Finished), ("b", Status::Terminated)] {
        let first = expiring(id, 10);
        store(storage, [first.clone(), ThredState { status, ..next(&first) }]).await;
        assert!(due(storage, i64::MAX).await.is_empty(), "{status:?}");
    }
    store(storage, [ThredState { status: Status::Terminated, ..expiring("c", 10) }]).await;
    assert!(due(storage, i64::MAX).await.is_empty(), "ended by its first event");
}

/// An ended thred still tells what it has consumed.
pub async fn ended_threds_can_be_loaded(fixture: Store) {
    let storage = &*fixture.port;
    let ended = ThredState { status: Status::Terminated, ..thred("a") };
    store(storage, [ended.clone()]).await;
    assert_eq!(load(storage, "a").await.as_deref(), Some(&ended));
    assert_eq!(send(storage, commit(ended)).await, Committed::Duplicate);
}

async fn found(storage: &dyn Storage, query: ThredQuery) -> Vec<String> {
    let page = storage.threds(&query).await.expect("query");
    assert_eq!(page.next, None, "one page is enough");
    page.threds.iter().map(|state| state.id.to_string()).collect()
}

/// Queries by pattern (in any revision), participant and status, and all of them together.
pub async fn queries_filter(fixture: Store) {
    let storage = &*fixture.port;
    let other = |id: &str, revision| Arc::new(PatternKey { id: id.into(), revision });
    store(
        storage,
        [
            thred("a"),
            ThredState { pattern: other("sample", 2), started_at: 2_000, ..thred("b") },
            ThredState { pattern: other("samples", 2), started_at: 3_000, ..thred("c") },
            ThredState { status: Status::Finished, started_at: 4_000, ..thred("d") },
            ThredState { status: Status::Terminated, started_at: 5_000, ..thred("e") },
            ThredState {
                participants: vec!["ann".into(), "erp".into()],
                started_at: 6_000,
                ..thred("f")
            },
        ],
    )
    .await;
    let all = ThredQuery::default();
    assert_eq!(found(storage, all.clone()).await, ["a", "b", "c", "d", "f"], "those that live");
    let sample = ThredQuery { pattern: Some("sample".into()), ..all.clone() };
    assert_eq!(found(storage, sample.clone()).await, ["a", "b", "d", "f"]);
    let ann = ThredQuery { participant: Some("ann".into()), ..all.clone() };
    assert_eq!(found(storage, ann).await, ["f"]);
    let nobody = ThredQuery { participant: Some("an".into()), ..all.clone() };
    assert!(found(storage, nobody).await.is_empty());
    let ended = ThredQuery { status: vec![Status::Terminated, Status::Finished], ..all };
    assert_eq!(found(storage, ended).await, ["d", "e"]);
    let both =
        ThredQuery { status: vec![Status::Active], participant: Some("erp".into()), ..sample };
    assert_eq!(found(storage, both.clone()).await, ["a", "b", "f"]);
    // A commit moves a thred from one answer to the other.
    store(storage, [ThredState { status: Status::Terminated, ..next(&thred("a")) }]).await;
    assert_eq!(found(storage, both).await, ["b", "f"]);
}

/// Pages follow each other without gaps or repetitions, oldest start first.
pub async fn queries_page_from_the_oldest_start(fixture: Store) {
    let storage = &*fixture.port;
    let started = |number: i64| 1_000 + (number * 7) % 25 / 2;
    let ids = |number| format!("thred {number}");
    store(storage, (0..25).map(|n| ThredState { started_at: started(n), ..thred(&ids(n)) })).await;
    let mut query = ThredQuery { limit: 10, ..ThredQuery::default() };
    let (mut starts, mut seen, mut sizes) = (vec![], BTreeSet::new(), vec![]);
    loop {
        let page = storage.threds(&query).await.unwrap();
        sizes.push(page.threds.len());
        for state in &page.threds {
            starts.push(state.started_at);
            assert!(seen.insert(state.id.clone()), "{} is on two pages", state.id);
        }
        let Some(after) = page.next else { break };
        query.after = Some(after);
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert!(starts.is_sorted(), "{starts:?}");
    let exact = ThredQuery { limit: 25, ..ThredQuery::default() };
    assert_eq!(storage.threds(&exact).await.unwrap().next, None, "there is no empty last page");
}

/// A thred is found where it listens, and only as long as it does.
pub async fn listeners_follow_the_reaction(fixture: Store) {
    let storage = &*fixture.port;
    let listening = |id: &str| ThredState { listening: true, ..thred(id) };
    let moved = ThredState { reaction: "second".into(), ..next(&listening("a")) };
    let key = pattern("sample");
    let listeners = async |reaction: &str| {
        let ids = storage.listeners(&key, reaction).await.expect("listeners");
        ids.iter().map(ToString::to_string).collect::<BTreeSet<_>>()
    };
    let set = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    store(storage, [listening("a"), listening("b"), thred("deaf")]).await;
    assert_eq!(listeners("first").await, set(&["a", "b"]));
    store(storage, [moved.clone()]).await;
    assert_eq!((listeners("first").await, listeners("second").await), (set(&["b"]), set(&["a"])));
    store(storage, [ThredState { listening: false, ..next(&moved) }]).await;
    store(storage, [ThredState { status: Status::Terminated, ..next(&listening("b")) }]).await;
    assert_eq!((listeners("first").await, listeners("second").await), (set(&[]), set(&[])));
    let other = PatternKey { revision: 5, ..key.clone() };
    assert!(storage.listeners(&other, "first").await.unwrap().is_empty(), "another revision");
}

/// Ids and contents may be any text, and large.
pub async fn large_and_foreign_texts_survive(fixture: Store) {
    let storage = &*fixture.port;
    let mut locals = serde_json::Map::new();
    locals.insert(FOREIGN.to_owned(), large().into());
    let state = ThredState {
        id: FOREIGN.into(),
        reaction: FOREIGN.into(),
        inbox: vec![FOREIGN.into()],
        participants: vec![FOREIGN.into()],
        locals: Arc::new(locals),
        listening: true,
        expires_at: Some(5),
        ..thred("x")
    };
    let first = with_outbox(commit(state.clone()), &[FOREIGN], 0);
    assert_eq!(send(storage, first.clone()).await, Committed::Applied);
    assert_eq!(send(storage, first).await, Committed::Duplicate);
    assert_eq!(load(storage, FOREIGN).await.as_deref(), Some(&state));
    assert_eq!(outbox_ids(&outbox(storage, FOREIGN).await), [FOREIGN]);
    assert_eq!(due(storage, 5).await[0].thred_id, *FOREIGN);
    let query = ThredQuery { participant: Some(FOREIGN.into()), ..ThredQuery::default() };
    assert_eq!(found(storage, query).await, [FOREIGN]);
    assert_eq!(storage.listeners(&state.pattern, FOREIGN).await.unwrap(), [FOREIGN]);
}

/// Whatever was committed is there after a restart: state, outbox, timer, listener, duplicate.
pub async fn committed_threds_survive_a_restart(fixture: Store) {
    let state = ThredState { listening: true, ..expiring("a", 10) };
    let first = with_outbox(commit(state.clone()), &["1", "2"], 0);
    applied(fixture.port.commit(&[Arc::new(first.clone())]).await);
    fixture.port.clear_outbox(&[("a".into(), message_ids(&["1"]))]).await.unwrap();
    let Some(fixture) = fixture.reopened().await else { return };
    let storage = &*fixture.port;
    assert_eq!(load(storage, "a").await.as_deref(), Some(&state));
    assert_eq!(outbox_ids(&outbox(storage, "a").await), ["2"]);
    assert_eq!(due(storage, 10).await.len(), 1);
    assert_eq!(storage.listeners(&state.pattern, "first").await.unwrap(), ["a"]);
    assert_eq!(send(storage, first).await, Committed::Duplicate);
    store(storage, [next(&state)]).await;
}
