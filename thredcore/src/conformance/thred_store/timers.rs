//! When timers are due, and how they go.

use super::{Store, due, expiring, of_one_partition};
use crate::{
    conformance::samples::{next, store, thred},
    port::{Storage, Timer},
    state::{Status, ThredState},
};

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
        let due = storage.due(partition, now, None, limit).await.unwrap();
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
    storage.due(partition, i64::MIN, None, 9).await.expect("due").next
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

/// Who has seen some timers goes on after them, though they are still there: those that keep
/// failing do not stand before others.
pub async fn due_timers_are_read_with_a_cursor(fixture: Store) {
    let storage = &*fixture.port;
    let ids = of_one_partition(storage.partitions(), 7);
    // Several are due at one time.
    store(storage, ids.iter().zip([3, 1, 2, 2, 2, 9, 1]).map(|(id, at)| expiring(id, at))).await;
    let partition = ThredState::partition(&ids[0].as_str().into(), storage.partitions());
    let mut all: Vec<_> = due(storage, 5).await;
    all.sort();
    let (mut seen, mut after, mut nexts) = (vec![], None, vec![]);
    loop {
        let due = storage.due(partition, 5, after.as_ref(), 2).await.unwrap();
        nexts.push(due.next);
        let Some(last) = due.timers.last() else { break };
        after = Some(last.clone());
        seen.extend(due.timers);
    }
    assert_eq!(seen, all, "each once, in order");
    assert_eq!(nexts, [Some(2), Some(2), Some(9), Some(9)]);
}

/// The timer that a cursor names need not be there any more.
pub async fn a_cursor_outlives_its_timer(fixture: Store) {
    let storage = &*fixture.port;
    let ids = of_one_partition(storage.partitions(), 3);
    let timers: Vec<_> = ids.iter().zip([1, 2, 3]).map(|(id, at)| expiring(id, at)).collect();
    store(storage, timers.clone()).await;
    let partition = ThredState::partition(&timers[0].id, storage.partitions());
    let first = storage.due(partition, 9, None, 1).await.unwrap().timers.remove(0);
    store(storage, [ThredState { expires_at: None, ..next(&timers[0]) }]).await;
    let rest = storage.due(partition, 9, Some(&first), 9).await.unwrap();
    assert_eq!(rest.timers.iter().map(|timer| timer.at).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(rest.next, None);
}
