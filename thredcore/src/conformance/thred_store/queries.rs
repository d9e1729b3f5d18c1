//! How threds are found, and that they stay.

use std::{collections::BTreeSet, sync::Arc};

use super::{Store, due, expiring, set, waiting};
use crate::{
    conformance::samples::{
        FOREIGN, applied, commit, consumed, large, load, next, outbox, outbox_ids, published, send,
        store, thred, wait_key, wait_keys, with_outbox,
    },
    port::{Committed, PortErrorKind, Storage, ThredCount, ThredQuery},
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

/// By reaction, by key, and by when they started and last changed; from the first to before the
/// last.
pub async fn queries_filter_by_reaction_key_and_time(fixture: Store) {
    let storage = &*fixture.port;
    let thred = |id: &str, reaction: &str, started_at, modified_at| ThredState {
        reaction: reaction.into(),
        started_at,
        modified_at,
        ..thred(id)
    };
    let a = ThredState { waits: wait_keys(&["k", "l"]), ..thred("a", "one", 10, 20) };
    let d = ThredState { waits: wait_keys(&["k"]), ..thred("d", "one", 40, 41) };
    store(storage, [a.clone(), thred("b", "two", 20, 50), thred("c", "one", 30, 30), d]).await;
    let all = ThredQuery::default();
    let one = ThredQuery { reaction: Some("one".into()), ..all.clone() };
    assert_eq!(found(storage, one.clone()).await, ["a", "c", "d"]);
    let none = ThredQuery { pattern: Some("other".into()), ..one.clone() };
    assert!(found(storage, none).await.is_empty());
    let k = ThredQuery { key: Some(wait_key("k")), ..all.clone() };
    assert_eq!(found(storage, k.clone()).await, ["a", "d"]);
    let l = ThredQuery { key: Some(wait_key("l")), ..all.clone() };
    assert_eq!(found(storage, l).await, ["a"]);
    let started = |from, before| ThredQuery {
        started_from: Some(from),
        started_before: Some(before),
        ..all.clone()
    };
    assert_eq!(found(storage, started(20, 40)).await, ["b", "c"]);
    let modified = |from, before| ThredQuery {
        modified_from: Some(from),
        modified_before: Some(before),
        ..all.clone()
    };
    assert_eq!(found(storage, modified(30, 50)).await, ["c", "d"]);
    let both = ThredQuery { started_from: Some(20), ..one };
    assert_eq!(found(storage, both).await, ["c", "d"]);
    let late = ThredQuery { started_before: Some(40), ..k.clone() };
    assert_eq!(found(storage, late).await, ["a"]);
    store(storage, [ThredState { waits: wait_keys(&["l"]), ..next(&a) }]).await;
    assert_eq!(found(storage, k).await, ["d"], "it waits under another key");
}

/// Pages of each kind of query, with threds that other queries mean between them.
pub async fn filtered_queries_page_too(fixture: Store) {
    let storage = &*fixture.port;
    store(
        storage,
        (0..40).map(|number| ThredState {
            started_at: 1_000 + number / 3,
            reaction: if number % 2 == 0 { "even".into() } else { "odd".into() },
            participants: vec!["erp".into(), format!("p{}", number % 4).into()],
            waits: if number % 2 == 0 { wait_keys(&["k"]) } else { Default::default() },
            ..thred(&format!("thred {number}"))
        }),
    )
    .await;
    let all = ThredQuery { limit: 3, ..ThredQuery::default() };
    let sample = || Some("sample".into());
    let even = || Some("even".into());
    for (name, query, count) in [
        ("all", all.clone(), 40),
        ("pattern", ThredQuery { pattern: sample(), ..all.clone() }, 40),
        ("reaction", ThredQuery { reaction: even(), ..all.clone() }, 20),
        ("both", ThredQuery { pattern: sample(), reaction: even(), ..all.clone() }, 20),
        ("participant", ThredQuery { participant: Some("p1".into()), ..all.clone() }, 10),
        ("everywhere", ThredQuery { participant: Some("erp".into()), ..all.clone() }, 40),
        ("key", ThredQuery { key: Some(wait_key("k")), ..all.clone() }, 20),
    ] {
        let mut query = query;
        let (mut places, mut seen) = (vec![], BTreeSet::new());
        loop {
            let page = storage.threds(&query).await.unwrap();
            assert!(page.threds.len() == 3 || page.next.is_none(), "{name}: a short page");
            for state in &page.threds {
                assert!(seen.insert(state.id.clone()), "{name}: {} is on two pages", state.id);
                places.push((state.started_at, state.id.to_string()));
            }
            let Some(after) = page.next else { break };
            query.after = Some(after);
        }
        assert_eq!(seen.len(), count, "{name}");
        assert!(places.is_sorted(), "{name}: {places:?}");
    }
}

/// A cursor that no page has given is an error, not a page.
pub async fn a_foreign_cursor_is_rejected(fixture: Store) {
    let query = ThredQuery { after: Some("x".into()), ..ThredQuery::default() };
    let error = fixture.port.threds(&query).await.expect_err("a foreign cursor");
    assert_eq!(error.kind(), PortErrorKind::Rejected);
}

/// Live threds are counted by revision, reaction and status, with each commit.
pub async fn live_threds_are_counted(fixture: Store) {
    let storage = &*fixture.port;
    assert!(storage.counts().await.unwrap().is_empty());
    let revision = |revision| Arc::new(PatternKey { id: "sample".into(), revision });
    let in_reaction = |id: &str, number, name: &str, status| ThredState {
        pattern: revision(number),
        reaction: name.into(),
        status,
        ..thred(id)
    };
    let count = |number, reaction: &str, status, threds| ThredCount {
        pattern: (*revision(number)).clone(),
        reaction: reaction.into(),
        status,
        threds,
    };
    let a = in_reaction("a", 1, "one", Status::Active);
    let c = in_reaction("c", 2, "one", Status::Active);
    let states = [
        a.clone(),
        in_reaction("b", 1, "one", Status::Active),
        c.clone(),
        in_reaction("d", 1, "one", Status::Finished),
        in_reaction("e", 1, "one", Status::Terminated),
    ];
    store(storage, states).await;
    let [active, finished] = [Status::Active, Status::Finished];
    let expected =
        [count(1, "one", active, 2), count(1, "one", finished, 1), count(2, "one", active, 1)];
    assert_eq!(storage.counts().await.unwrap(), expected, "sorted");
    store(storage, [ThredState { reaction: "two".into(), ..next(&a) }]).await;
    store(storage, [ThredState { status: Status::Terminated, ..next(&c) }]).await;
    let expected =
        [count(1, "one", active, 1), count(1, "one", finished, 1), count(1, "two", active, 1)];
    assert_eq!(storage.counts().await.unwrap(), expected);
    let refused = ThredState { version: 7, reaction: "three".into(), ..thred("b") };
    let refused = ThredState { inbox: vec![consumed("x")], ..refused };
    assert_eq!(send(storage, commit(refused)).await, Committed::Conflict);
    assert_eq!(storage.counts().await.unwrap(), expected, "a conflict counts for nothing");
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

/// Ids and contents may be any text, and large.
pub async fn large_and_foreign_texts_survive(fixture: Store) {
    let storage = &*fixture.port;
    let mut locals = serde_json::Map::new();
    locals.insert(FOREIGN.to_owned(), large().into());
    let state = ThredState {
        id: FOREIGN.into(),
        reaction: FOREIGN.into(),
        inbox: vec![consumed(FOREIGN)],
        participants: vec![FOREIGN.into()],
        locals: Arc::new(locals),
        waits: wait_keys(&[FOREIGN]),
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
    assert_eq!(waiting(storage, &[FOREIGN]).await, set(&[FOREIGN]));
    let count = ThredCount {
        pattern: (*state.pattern).clone(),
        reaction: FOREIGN.into(),
        status: Status::Active,
        threds: 1,
    };
    assert_eq!(storage.counts().await.unwrap(), [count]);
}

/// Whatever was committed is there after a restart: state, outbox, timer, keys, duplicate.
pub async fn committed_threds_survive_a_restart(fixture: Store) {
    let state = ThredState { waits: wait_keys(&["k"]), ..expiring("a", 10) };
    let first = with_outbox(commit(state.clone()), &["1", "2"], 0);
    applied(fixture.port.commit(&[Arc::new(first.clone())]).await);
    fixture.port.clear_outbox(&[published("a", &["1"])]).await.unwrap();
    let Some(fixture) = fixture.reopened().await else { return };
    let storage = &*fixture.port;
    assert_eq!(load(storage, "a").await.as_deref(), Some(&state));
    assert_eq!(outbox_ids(&outbox(storage, "a").await), ["2"]);
    assert_eq!(due(storage, 10).await.len(), 1);
    assert_eq!(waiting(storage, &["k"]).await, set(&["a"]));
    assert_eq!(storage.counts().await.unwrap().len(), 1);
    assert_eq!(send(storage, first).await, Committed::Duplicate);
    store(storage, [next(&state)]).await;
}
