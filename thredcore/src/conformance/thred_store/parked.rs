//! Messages that wait in outboxes, since their topic is full.

use std::sync::Arc;

use super::{Store, of_one_partition};
use crate::{
    conformance::samples::{
        commit, entry, message, next, outbox, outbox_ids, parked, published, send, thred,
        with_outbox,
    },
    port::{Cleared, Commit, OutboxEntry, Outgoing, ParkedTopic, PendingOutbox, Storage},
    state::ThredState,
};

/// A message in an outbox, for a topic.
fn to(topic: &str, id: &str, at: i64) -> OutboxEntry {
    let outgoing = Outgoing::Message { topic: topic.into(), message: message(id).into() };
    OutboxEntry { outgoing, ..entry(id, at) }
}

fn putting_out(state: ThredState, entries: Vec<OutboxEntry>) -> Commit {
    Commit { outbox: entries, ..commit(state) }
}

async fn topics(storage: &dyn Storage) -> Vec<(String, u64, i64)> {
    let topics = storage.parked_topics().await.expect("parked topics");
    assert!(topics.is_sorted_by(|a, b| a.topic.as_str() < b.topic.as_str()), "{topics:?}");
    let known = |it: ParkedTopic| (it.topic.to_string(), it.messages, it.oldest);
    topics.into_iter().map(known).collect()
}

async fn pending(storage: &dyn Storage, id: &str, made_before: i64) -> Vec<PendingOutbox> {
    let partition = ThredState::partition(&id.into(), storage.partitions());
    storage.pending_outboxes(partition, made_before, 99).await.expect("pending outboxes")
}

async fn parked_for(storage: &dyn Storage, id: &str, topic: &str) -> Vec<PendingOutbox> {
    let partition = ThredState::partition(&id.into(), storage.partitions());
    storage.parked_outboxes(partition, &topic.into(), 99).await.expect("parked outboxes")
}

/// They stay where they are, in the order of their making, and the thred is loaded with them.
pub async fn parked_messages_stay_in_their_outbox(fixture: Store) {
    let storage = &*fixture.port;
    send(storage, with_outbox(commit(thred("a")), &["1", "2", "3", "4"], 0)).await;
    let cleared = Cleared { parked: vec!["2".into(), "4".into()], ..published("a", &["1"]) };
    storage.clear_outbox(&[cleared]).await.unwrap();
    assert_eq!(outbox_ids(&outbox(storage, "a").await), ["2", "3", "4"]);
    send(storage, with_outbox(commit(next(&thred("a"))), &["5"], 1)).await;
    assert_eq!(outbox_ids(&outbox(storage, "a").await), ["2", "3", "4", "5"]);
    let whole = parked_for(storage, "a", "org.wt.session").await;
    assert_eq!(outbox_ids(&whole[0].entries), ["2", "3", "4", "5"], "each outbox whole");
    storage.clear_outbox(&[published("a", &["4", "3"])]).await.unwrap();
    assert_eq!(outbox_ids(&outbox(storage, "a").await), ["2", "5"]);
}

/// How many there are of each topic, and since when.
pub async fn parked_topics_are_counted(fixture: Store) {
    let storage = &*fixture.port;
    assert!(topics(storage).await.is_empty());
    for (id, at) in [("a", 30), ("b", 10), ("c", 20)] {
        let entries = vec![to("x", "1", at), to("y", "2", at + 1), to("x", "3", at + 2)];
        send(storage, putting_out(thred(id), entries)).await;
    }
    assert!(topics(storage).await.is_empty(), "nothing is parked yet");
    let all = [parked("a", &["1", "2", "3"]), parked("b", &["2"]), parked("c", &["3"])];
    storage.clear_outbox(&all).await.unwrap();
    let expected = [("x".to_owned(), 3, 22), ("y".to_owned(), 2, 11)];
    assert_eq!(topics(storage).await, expected);
    // Twice is once, and what is not there is ignored.
    storage.clear_outbox(&all).await.unwrap();
    storage.clear_outbox(&[parked("a", &["9"]), parked("nobody", &["1"])]).await.unwrap();
    assert_eq!(topics(storage).await, expected);
    storage.clear_outbox(&[published("c", &["3"]), published("b", &["1", "2"])]).await.unwrap();
    assert_eq!(topics(storage).await, [("x".to_owned(), 2, 30), ("y".to_owned(), 1, 31)]);
    storage.clear_outbox(&[published("a", &["1", "2", "3"])]).await.unwrap();
    assert!(topics(storage).await.is_empty());
}

/// An outbox is pending for what is not parked; then it comes whole.
pub async fn an_outbox_of_parked_messages_is_not_pending(fixture: Store) {
    let storage = &*fixture.port;
    send(storage, with_outbox(commit(thred("a")), &["1", "2"], 10)).await;
    storage.clear_outbox(&[parked("a", &["1"])]).await.unwrap();
    let found = pending(storage, "a", 11).await;
    assert_eq!(outbox_ids(&found[0].entries), ["1", "2"]);
    storage.clear_outbox(&[parked("a", &["2"])]).await.unwrap();
    assert!(pending(storage, "a", 11).await.is_empty());
    send(storage, with_outbox(commit(next(&thred("a"))), &["3"], 20)).await;
    assert!(pending(storage, "a", 20).await.is_empty(), "what is not parked is too young");
    let found = pending(storage, "a", 21).await;
    assert_eq!(outbox_ids(&found[0].entries), ["1", "2", "3"]);
}

/// Those of the topic and of the partition, those with the oldest parked message first.
pub async fn parked_outboxes_are_found_by_topic(fixture: Store) {
    let storage = &*fixture.port;
    let ids = of_one_partition(storage.partitions(), 5);
    for (id, at) in ids.iter().zip([30, 10, 20, 5, 40]) {
        let entries = vec![to("other", "0", 0), to("x", "1", at), to("x", "2", at + 100)];
        send(storage, putting_out(thred(id), entries)).await;
        storage.clear_outbox(&[parked(id, &["1", "2"])]).await.unwrap();
    }
    // The oldest of this one is not parked.
    storage.clear_outbox(&[published(&ids[3], &["1"])]).await.unwrap();
    storage.clear_outbox(&[parked(&ids[4], &["0"])]).await.unwrap();
    let partition = ThredState::partition(&ids[0].as_str().into(), storage.partitions());
    let found = async |topic: &str, limit| {
        let found = storage.parked_outboxes(partition, &topic.into(), limit).await;
        let found = found.expect("parked outboxes");
        found.into_iter().map(|outbox| outbox.thred_id.to_string()).collect::<Vec<_>>()
    };
    let expected = [1, 2, 0, 4, 3].map(|place: usize| ids[place].clone());
    assert_eq!(found("x", 99).await, expected);
    assert_eq!(found("x", 2).await, expected[..2]);
    assert_eq!(found("other", 99).await, [ids[4].clone()]);
    assert!(found("unknown", 99).await.is_empty());
    for other in (0..storage.partitions()).filter(|other| *other != partition) {
        let found = storage.parked_outboxes(other, &"x".into(), 99).await.unwrap();
        assert!(found.is_empty(), "of partition {other}");
    }
}

/// Commands and releases have no topic that could be full.
pub async fn only_messages_are_parked(fixture: Store) {
    let storage = &*fixture.port;
    let release = OutboxEntry { outgoing: Outgoing::Release("sample".into()), ..entry("r", 1) };
    send(storage, putting_out(thred("a"), vec![release])).await;
    storage.clear_outbox(&[parked("a", &["r"])]).await.unwrap();
    assert!(topics(storage).await.is_empty());
    assert_eq!(pending(storage, "a", 9).await.len(), 1);
}

/// What is parked is parked after a restart.
pub async fn parked_messages_survive_a_restart(fixture: Store) {
    let commit = with_outbox(commit(thred("a")), &["1", "2"], 7);
    fixture.port.commit(&[Arc::new(commit)]).await;
    fixture.port.clear_outbox(&[parked("a", &["2"])]).await.unwrap();
    let Some(fixture) = fixture.reopened().await else { return };
    let storage = &*fixture.port;
    assert_eq!(topics(storage).await, [("org.wt.session".to_owned(), 1, 7)]);
    assert_eq!(outbox_ids(&outbox(storage, "a").await), ["1", "2"]);
    storage.clear_outbox(&[published("a", &["1"])]).await.unwrap();
    assert!(pending(storage, "a", 99).await.is_empty());
    assert_eq!(parked_for(storage, "a", "org.wt.session").await.len(), 1);
}
