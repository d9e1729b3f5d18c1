//! How threds that wait for unbound events are found.

use std::collections::{BTreeMap, BTreeSet};

use super::{Store, set, waiting};
use crate::{
    conformance::samples::{commit, consumed, next, send, store, thred, wait_key, wait_keys},
    port::Committed,
    state::{Status, ThredState},
};

fn under(id: &str, keys: &[&str]) -> ThredState {
    ThredState { waits: wait_keys(keys), ..thred(id) }
}

/// By any of its keys, and by no other.
pub async fn waiting_threds_are_found_by_their_keys(fixture: Store) {
    let storage = &*fixture.port;
    store(storage, [under("a", &["k"]), under("b", &["k", "l"]), thred("deaf")]).await;
    assert_eq!(waiting(storage, &["k"]).await, set(&["a", "b"]));
    assert_eq!(waiting(storage, &["l"]).await, set(&["b"]));
    assert_eq!(waiting(storage, &["m"]).await, set(&[]));
    assert_eq!(waiting(storage, &[]).await, set(&[]));
    assert_eq!(waiting(storage, &["m", "l", "k"]).await, set(&["a", "b"]), "each once");
}

/// A commit moves a thred from its old keys to its new ones.
pub async fn waiting_follows_each_commit(fixture: Store) {
    let storage = &*fixture.port;
    let first = under("a", &["k", "l"]);
    let second = ThredState { waits: wait_keys(&["l", "m"]), ..next(&first) };
    let third = ThredState { modified_at: 9, ..next(&second) };
    let deaf = ThredState { waits: Default::default(), ..next(&third) };
    let found = async || {
        let [k, l, m] =
            [waiting(storage, &["k"]), waiting(storage, &["l"]), waiting(storage, &["m"])];
        [!k.await.is_empty(), !l.await.is_empty(), !m.await.is_empty()]
    };
    for (state, expected) in [
        (first, [true, true, false]),
        (second, [false, true, true]),
        (third, [false, true, true]),
        (deaf, [false, false, false]),
    ] {
        store(storage, [state]).await;
        assert_eq!(found().await, expected);
    }
}

/// Only an active thred waits, whatever keys its state holds.
pub async fn a_finished_or_ended_thred_does_not_wait(fixture: Store) {
    let storage = &*fixture.port;
    for (id, status) in [("a", Status::Finished), ("b", Status::Terminated)] {
        let first = under(id, &["k"]);
        store(storage, [first.clone(), ThredState { status, ..next(&first) }]).await;
        assert_eq!(waiting(storage, &["k"]).await, set(&[]), "{status:?}");
    }
    store(storage, [ThredState { status: Status::Terminated, ..under("c", &["k"]) }]).await;
    assert_eq!(waiting(storage, &["k"]).await, set(&[]), "ended by its first event");
}

/// Pages follow each other in the order of the ids, over all keys and partitions together.
pub async fn waiting_threds_come_in_pages(fixture: Store) {
    let storage = &*fixture.port;
    let mut ids: Vec<_> = (0..23).map(|number| format!("thred {number}")).collect();
    let keys: [&[&str]; 4] = [&["k"], &["l"], &["k", "l"], &["other"]];
    store(storage, ids.iter().enumerate().map(|(number, id)| under(id, keys[number % 4]))).await;
    let mut number = 0..;
    ids.retain(|_| number.next().is_some_and(|number| number % 4 != 3));
    ids.sort();
    let (mut seen, mut after) = (vec![], None);
    loop {
        let keys = wait_keys(&["k", "l"]);
        let page = storage.waiting(&keys, after.as_ref(), 4).await.unwrap();
        assert!(page.len() <= 4);
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page.iter().map(ToString::to_string));
    }
    assert_eq!(seen, ids);
}

/// Whatever happens, the index says what the states say.
pub async fn what_waits_agrees_with_the_states(fixture: Store) {
    const KEYS: [&str; 5] = ["k0", "k1", "k2", "k3", "k4"];
    let storage = &*fixture.port;
    let mut states: BTreeMap<String, ThredState> = BTreeMap::new();
    let mut seed = 7_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for step in 0..200 {
        let id = format!("thred {}", random(20));
        let mut state = match states.get(&id) {
            Some(state) => next(state),
            None => thred(&id),
        };
        let names: Vec<_> = KEYS.iter().filter(|_| random(3) == 0).copied().collect();
        state.waits = wait_keys(&names);
        state.status = if random(5) == 0 { Status::Finished } else { Status::Active };
        if random(4) == 0 {
            // Refused: it comes from a version that never was.
            let late = ThredState { version: state.version + 5, ..state };
            let late = ThredState { inbox: vec![consumed(&format!("late {step}"))], ..late };
            assert_eq!(send(storage, commit(late)).await, Committed::Conflict);
        } else {
            store(storage, [state.clone()]).await;
            states.insert(id, state);
        }
    }
    for name in KEYS {
        let waits = |state: &&ThredState| {
            state.status == Status::Active && state.waits.contains(&wait_key(name))
        };
        let expected: BTreeSet<_> =
            states.values().filter(waits).map(|state| state.id.to_string()).collect();
        assert_eq!(waiting(storage, &[name]).await, expected, "{name}");
    }
}
