//! How threds are found, and that they stay.

use std::{collections::BTreeSet, sync::Arc};

use super::{Store, due, expiring};
use crate::{
    conformance::samples::{
        FOREIGN, applied, commit, large, load, message_ids, next, outbox, outbox_ids, pattern,
        send, store, thred, with_outbox,
    },
    port::{Committed, Storage, ThredQuery},
    state::{PatternKey, Status, ThredState},
};

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
