//! What is kept to be published.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;
use thredlib::ThredId;

use super::{Store, of_one_partition};
use crate::{
    conformance::samples::{
        FOREIGN, commit, consumed, entry, event, key, load, next, outbox, outbox_ids, published,
        send, thred, with_outbox,
    },
    port::{Accepted, Command, OutboxEntry, Outgoing, Start},
    state::ThredState,
};

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
    storage.clear_outbox(&[published("a", &["z", "a", "m", "b", "y"])]).await.unwrap();
    assert!(outbox(storage, "a").await.is_empty());
}

/// What was not named stays, in its order, and other threds' entries do too.
pub async fn clearing_takes_just_the_named_entries(fixture: Store) {
    let storage = &*fixture.port;
    for id in ["a", "b"] {
        send(storage, with_outbox(commit(thred(id)), &["1", "2", "3", "4"], 0)).await;
    }
    let cleared = [published("a", &["3", "1"]), published("b", &["4"])];
    storage.clear_outbox(&cleared).await.unwrap();
    assert_eq!(outbox_ids(&outbox(storage, "a").await), ["2", "4"]);
    assert_eq!(outbox_ids(&outbox(storage, "b").await), ["1", "2", "3"]);
}

/// Clearing twice, or what never was, changes nothing.
pub async fn clearing_what_is_not_there_is_harmless(fixture: Store) {
    let storage = &*fixture.port;
    send(storage, with_outbox(commit(thred("a")), &["1", "2"], 0)).await;
    for _ in 0..2 {
        let cleared = [published("a", &["1", "x"]), published("no", &["2"])];
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
pub(in crate::conformance) fn commands() -> Vec<Command> {
    let thred_id = || ThredId::from("target");
    let locals = json!({ "x": FOREIGN });
    vec![
        Command::Start(Start {
            thred_id: thred_id(),
            pattern_id: "sample".into(),
            parent: Some("a".into()),
            cause: event("cause", "erp"),
            consumed: consumed("cause"),
            input: Some(event("input", "erp")),
            locals: Arc::new(locals.as_object().cloned().unwrap_or_default()),
            participants: vec!["ann".into()],
        }),
        Command::Expire { thred_id: thred_id(), entry: 7, at: -7 },
        Command::Transition { thred_id: thred_id(), to: "$next".into(), cause: key("c") },
        Command::Terminate { thred_id: thred_id(), cause: key("c") },
        Command::Offer {
            thred_id: thred_id(),
            pattern_id: "sample".into(),
            accepted: Accepted {
                principal: Some("ann".into()),
                agent: Some("org.wt.agent".into()),
                ..Accepted::new(event("offered", "erp"), 5)
            },
            consumed: consumed("offered"),
        },
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
        storage.clear_outbox(&[published(id, &["m1", "m2", "m3"])]).await.unwrap();
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
            let ids = outbox_ids(&outbox.entries);
            let cleared = [published(outbox.thred_id.as_str(), &ids)];
            storage.clear_outbox(&cleared).await.unwrap();
        }
    }
    assert_eq!(found, ids.into_iter().collect());
}
