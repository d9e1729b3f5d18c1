//! What [`PatternStore`](crate::port::PatternStore) promises.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;
use thredlib::{ConditionBuilder, PatternBuilder, PatternModel, ReactionBuilder};

use super::{
    Fixture,
    samples::{FOREIGN, next, store, thred, wait_keys},
};
use crate::{
    port::{Storage, StoredPattern},
    state::{PatternKey, Status, ThredState},
};

type Store = Fixture<dyn Storage>;

fn model(id: &str, description: &str) -> PatternModel {
    let condition = ConditionBuilder::filter("$event.type = 'org.example.sample'")
        .transform(json!({ "title": "$xpr($event.source.id)", "list": [1, 2.5, null] }))
        .publish(json!(["ann", "@ops"]))
        .transition("$terminate");
    PatternBuilder::new(id)
        .id(id)
        .description(description)
        .max_instances(3)
        .reaction(ReactionBuilder::new("first").condition(condition).expiry(500, "$next"))
        .build()
}

fn pattern(id: &str, description: &str) -> StoredPattern {
    StoredPattern::new(model(id, description))
}

async fn current(storage: &dyn Storage) -> Vec<StoredPattern> {
    storage.patterns().await.expect("patterns")
}

/// Putting a pattern again, in another revision, makes that one the current one.
pub async fn the_last_revision_is_current(fixture: Store) {
    let storage = &*fixture.port;
    let (old, new) = (pattern("a", "old"), pattern("a", "new"));
    assert!(current(storage).await.is_empty());
    for pattern in [&old, &new, &old] {
        storage.put_pattern(pattern.clone()).await.unwrap();
        assert_eq!(current(storage).await, std::slice::from_ref(pattern));
    }
}

/// Threds may still run them.
pub async fn earlier_revisions_are_kept(fixture: Store) {
    let storage = &*fixture.port;
    let (old, new) = (pattern("a", "old"), pattern("a", "new"));
    storage.put_pattern(old.clone()).await.unwrap();
    storage.put_pattern(new.clone()).await.unwrap();
    for pattern in [old, new] {
        assert_eq!(storage.pattern(&pattern.key).await.unwrap(), Some(pattern));
    }
    let unknown = PatternKey { id: "a".into(), revision: 1 };
    assert_eq!(storage.pattern(&unknown).await.unwrap(), None);
}

/// Removing twice, or what was never there, is harmless.
pub async fn a_removed_pattern_is_not_current_but_kept(fixture: Store) {
    let storage = &*fixture.port;
    let (a, b) = (pattern("a", ""), pattern("b", ""));
    storage.put_pattern(a.clone()).await.unwrap();
    storage.put_pattern(b.clone()).await.unwrap();
    for id in ["a", "a", "c"] {
        storage.remove_pattern(&id.into()).await.unwrap();
        assert_eq!(current(storage).await, std::slice::from_ref(&b));
    }
    assert_eq!(storage.pattern(&a.key).await.unwrap(), Some(a.clone()));
    storage.put_pattern(a.clone()).await.unwrap();
    assert_eq!(current(storage).await, [a, b], "put again");
}

/// Sorted by id; each as it was given.
pub async fn patterns_are_sorted_and_whole(fixture: Store) {
    let storage = &*fixture.port;
    let mut patterns = vec![];
    for id in ["b", "a/x", FOREIGN, "a", "B", "\u{fc}"] {
        let mut model = model(id, FOREIGN);
        model.extra.insert("unknown".into(), json!({ "kept": [1, 1.0] }));
        patterns.push(StoredPattern::new(model));
        storage.put_pattern(patterns[patterns.len() - 1].clone()).await.unwrap();
    }
    patterns.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(current(storage).await, patterns);
}

/// Who has read the version need not read the patterns until it changes.
pub async fn the_version_changes_with_the_current_revisions(fixture: Store) {
    let storage = &*fixture.port;
    let mut seen = BTreeSet::new();
    let mut fresh = async |what: &str| {
        let version = storage.patterns_version().await.expect("version");
        assert_eq!(storage.patterns_version().await.unwrap(), version, "unchanged");
        assert!(seen.insert(version), "the same version after {what}");
    };
    fresh("nothing").await;
    storage.put_pattern(pattern("a", "old")).await.unwrap();
    fresh("a first pattern").await;
    storage.put_pattern(pattern("a", "new")).await.unwrap();
    fresh("another revision").await;
    storage.put_pattern(pattern("a", "old")).await.unwrap();
    fresh("the old revision again").await;
    storage.remove_pattern(&"a".into()).await.unwrap();
    fresh("a removal").await;
}

/// The revisions of active threds that listen, each once.
pub async fn listening_patterns_follow_the_threds(fixture: Store) {
    let storage = &*fixture.port;
    let listening = |id: &str, revision| ThredState {
        waits: wait_keys(&["k"]),
        pattern: Arc::new(PatternKey { id: "sample".into(), revision }),
        ..thred(id)
    };
    let revisions = async || {
        let keys = storage.listening_patterns().await.expect("listening patterns");
        let mut revisions: Vec<_> = keys.into_iter().map(|key| key.revision).collect();
        revisions.sort_unstable();
        revisions
    };
    let states = [listening("a", 1), listening("b", 1), listening("c", 2), thred("deaf")];
    store(storage, states.clone()).await;
    assert_eq!(revisions().await, [1, 2]);
    store(storage, [ThredState { waits: Default::default(), ..next(&states[0]) }]).await;
    assert_eq!(revisions().await, [1, 2], "b still listens");
    store(storage, [ThredState { status: Status::Terminated, ..next(&states[1]) }]).await;
    store(storage, [ThredState { status: Status::Finished, ..next(&states[2]) }]).await;
    assert!(revisions().await.is_empty());
}

/// Patterns, current and not, are there after a restart.
pub async fn patterns_survive_a_restart(fixture: Store) {
    let (old, new, gone) = (pattern("a", "old"), pattern("a", "new"), pattern("b", ""));
    for pattern in [&old, &new, &gone] {
        fixture.port.put_pattern(pattern.clone()).await.unwrap();
    }
    fixture.port.remove_pattern(&"b".into()).await.unwrap();
    let version = fixture.port.patterns_version().await.unwrap();
    let Some(fixture) = fixture.reopened().await else { return };
    let storage = &*fixture.port;
    assert_eq!(current(storage).await, [new]);
    assert_eq!(storage.pattern(&old.key).await.unwrap(), Some(old));
    assert_eq!(storage.pattern(&gone.key).await.unwrap(), Some(gone));
    assert_eq!(storage.patterns_version().await.unwrap(), version);
}
