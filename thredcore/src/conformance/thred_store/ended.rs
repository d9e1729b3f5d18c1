//! Ended threds, and how they are forgotten.

use super::Store;
use crate::{
    conformance::samples::{
        commit, consumed, load, next, published, send, store, thred, with_outbox,
    },
    port::{Committed, Ended, Storage},
    state::{Status, ThredState},
};

fn ended(id: &str) -> ThredState {
    ThredState { status: Status::Terminated, ..thred(id) }
}

async fn surplus(storage: &dyn Storage, limit: usize) -> Vec<Ended> {
    let mut all = vec![];
    for partition in 0..storage.partitions() {
        let found = storage.surplus(partition, 0, limit).await.expect("surplus");
        assert!(found.len() <= limit);
        for ended in &found {
            let home = ThredState::partition(&ended.thred, storage.partitions());
            assert_eq!(home, partition, "a thred of another partition");
        }
        all.extend(found);
    }
    all
}

/// Ended ones go, with all that they have consumed; others stay as they are.
pub async fn ended_threds_are_forgotten(fixture: Store) {
    let storage = &*fixture.port;
    let busy = with_outbox(commit(ended("busy")), &["m"], 0);
    store(storage, [ended("a"), ended("b"), thred("live")]).await;
    send(storage, busy).await;
    let ids = ["a", "live", "busy", "nobody"].map(Into::into);
    for _ in 0..2 {
        storage.forget(&ids).await.unwrap();
        assert_eq!(load(storage, "a").await, None);
        for id in ["b", "live", "busy"] {
            assert!(load(storage, id).await.is_some(), "{id}");
        }
    }
    storage.clear_outbox(&[published("busy", &["m"])]).await.unwrap();
    storage.forget(&ids).await.unwrap();
    assert_eq!(load(storage, "busy").await, None);
    storage.forget(&[]).await.unwrap();
    assert_eq!(send(storage, commit(ended("a"))).await, Committed::Applied, "it is new");
}

/// Beyond the number to keep they are listed, the oldest end first, with what they have consumed.
pub async fn surplus_threds_are_listed(fixture: Store) {
    let Some(kept) = fixture.keeps() else { return };
    let storage = &*fixture.port;
    let partitions = usize::from(storage.partitions());
    // So many that some are beyond it in each partition, even if each keeps its own part.
    let count = 3 * kept.next_multiple_of(partitions) + 3 * partitions;
    for number in 0..count {
        let mut state = ended(&format!("thred {number}"));
        state.inbox.insert(0, consumed(&format!("before {number}")));
        store(storage, [state]).await;
    }
    store(storage, [thred("live")]).await;
    let number = |ended: &Ended| -> usize {
        let text = ended.thred.as_str().strip_prefix("thred ").expect("an ended thred");
        text.parse().expect("a number")
    };
    for partition in 0..storage.partitions() {
        let all = storage.surplus(partition, 0, 9_999).await.unwrap();
        let numbers: Vec<_> = all.iter().map(number).collect();
        assert!(numbers.is_sorted(), "oldest end first: {numbers:?}");
        for ended in &all {
            let id = number(ended);
            let inbox = [consumed(&format!("before {id}")), consumed(&format!("thred {id}#1"))];
            assert_eq!(ended.inbox, inbox);
        }
        let some = storage.surplus(partition, 1, 2).await.unwrap();
        assert_eq!(some, all.get(1..all.len().min(3)).unwrap_or_default(), "the first is skipped");
    }
    loop {
        let found: Vec<_> = surplus(storage, 5).await.into_iter().map(|it| it.thred).collect();
        if found.is_empty() {
            break;
        }
        storage.forget(&found).await.unwrap();
    }
    // A query may find them in an archive.
    let ids: Vec<_> = (0..count).map(|number| format!("thred {number}").as_str().into()).collect();
    let left = storage.load(&ids).await.unwrap().into_iter().flatten().count();
    assert!((kept.min(1)..=kept + partitions).contains(&left), "{left} are left, {kept} to keep");
    let last = format!("thred {}", count - 1);
    assert_eq!(load(storage, &last).await.is_some(), kept > 0, "the last one is kept");
    assert!(load(storage, "live").await.is_some());
}

/// One with something left to publish is not among them.
pub async fn a_thred_with_an_outbox_is_no_surplus(fixture: Store) {
    let Some(kept) = fixture.keeps() else { return };
    let storage = &*fixture.port;
    let first = thred("busy");
    let end = ThredState { status: Status::Terminated, ..next(&first) };
    store(storage, [first]).await;
    send(storage, with_outbox(commit(end), &["m"], 0)).await;
    let more = 3 * kept.next_multiple_of(usize::from(storage.partitions()));
    let more = more + 3 * usize::from(storage.partitions());
    store(storage, (0..more).map(|number| ended(&format!("thred {number}")))).await;
    let is_surplus =
        async || surplus(storage, 9_999).await.iter().any(|ended| ended.thred == "busy");
    assert!(!is_surplus().await);
    storage.clear_outbox(&[published("busy", &["m"])]).await.unwrap();
    assert!(is_surplus().await, "nothing is left to publish");
}
