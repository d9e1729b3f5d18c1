//! Large steps: what fits is taken, what does not harms nobody else, and nothing is sent for ever.

use std::sync::Arc;

use mongodb::bson::{Document, doc};
use serde_json::json;
use thredcore::{
    conformance::{
        run,
        samples::{self, published},
    },
    memory::MemoryStorage,
    port::{
        Commit, Committed, LogType, OutboxEntry, Outgoing, PortErrorKind, RecordStore, Settlement,
        ThredQuery, ThredStore, Unmoved,
    },
    state::{Status, ThredState},
};
use thredcore_mongo::{Archived, MongoArchive, MongoStorage};
use thredlib::{Event, Message};

use crate::samples::{commit, next, thred};
use crate::server::{Dropped, client, config, connect};

fn told(bytes: usize) -> Arc<Event> {
    let event = Event::builder("org.example.told", "erp").id("told");
    Arc::new(event.values(json!({ "text": "x".repeat(bytes) })).build())
}

/// A step that tells an event to participants on so many nodes.
fn fan(state: ThredState, event: &Arc<Event>, nodes: usize) -> Arc<Commit> {
    let mut commit = Arc::unwrap_or_clone(commit(state));
    let version = commit.state.version;
    commit.outbox = (0..nodes)
        .map(|node| {
            let id = format!("{version}/{node}");
            let (to, event) = (vec![format!("ann {node}").into()], event.clone());
            let message = Message { id: id.as_str().into(), event, to, timestamp: 5 };
            let topic = format!("node {node}").into();
            let outgoing = Outgoing::Message { topic, message: Arc::new(message) };
            OutboxEntry { id: id.as_str().into(), at: 5, outgoing }
        })
        .collect();
    Arc::new(commit)
}

fn ids(commit: &Commit) -> Vec<&str> {
    commit.outbox.iter().map(|entry| entry.id.as_str()).collect()
}

#[test]
fn a_large_message_to_many_nodes_is_stored_once() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        let first = fan(thred("a"), &told(200_000), 100);
        assert!(first.size() < storage.max_commit_bytes());
        assert_eq!(
            storage.commit(std::slice::from_ref(&first)).await.remove(0).unwrap(),
            Committed::Applied
        );
        let stored = bytes(&config, "a").await;
        assert!(stored < 300_000, "200 kB are stored as {stored} bytes");
        let loaded = storage.load(&["a".into()]).await.unwrap().remove(0).expect("a thred");
        assert_eq!(loaded.outbox, first.outbox);
        let past = storage.history(&"a".into(), None, 9).await.unwrap();
        assert_eq!(past, [first.history()]);

        // Some are published; the others still have their event, also when the step is archived.
        let all = ids(&first);
        storage.clear_outbox(&[published("a", &all[..99])]).await.unwrap();
        storage.flush().await;
        let loaded = storage.load(&["a".into()]).await.unwrap().remove(0).expect("a thred");
        assert_eq!(loaded.outbox, first.outbox[99..]);
        storage.clear_outbox(&[published("a", &all)]).await.unwrap();
        assert!(bytes(&config, "a").await < 10_000, "nothing is left of it");
        assert_eq!(storage.history(&"a".into(), None, 9).await.unwrap(), [first.history()]);
    });
}

/// How large a thred's document is.
async fn bytes(config: &thredcore_mongo::MongoConfig, thred: &str) -> usize {
    let threds = client(config).await.collection::<Document>("threds");
    let found = threds.find_one(doc! { "_id": thred }).await.unwrap().expect("a thred");
    mongodb::bson::serialize_to_vec(&found).unwrap().len()
}

#[test]
fn a_step_that_no_document_holds_is_rejected_alone() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        storage.commit(&[commit(thred("b"))]).await.remove(0).unwrap();
        let large = fan(next(&thred("b")), &told(17 << 20), 1);
        let batch = [commit(thred("a")), large, commit(thred("c"))];
        let mut answers = storage.commit(&batch).await;
        let error = answers.remove(1).expect_err("too large");
        assert_eq!(error.kind(), PortErrorKind::Rejected, "{error:?}");
        for answer in answers {
            assert_eq!(answer.unwrap(), Committed::Applied);
        }
    });
}

#[test]
fn a_thred_with_much_under_way_waits() {
    run(async {
        let config = config().linger(std::time::Duration::from_secs(3_600));
        let _guard = Dropped(config.clone());
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        let mut state = thred("a");
        let mut sent = vec![];
        let refused = loop {
            // Each fits by itself, and they are published and archived before the last one.
            let step = fan(state.clone(), &told(5 << 20), 1);
            match storage.commit(std::slice::from_ref(&step)).await.remove(0) {
                Ok(answer) => assert_eq!(answer, Committed::Applied),
                Err(error) => {
                    assert_eq!(error.kind(), PortErrorKind::Unavailable, "{error:?}");
                    break step;
                }
            }
            sent.push(step.outbox[0].id.clone());
            assert!(sent.len() < 4, "a document holds 16 MiB");
            state = next(&state);
        };
        let sent: Vec<_> = sent.iter().map(|id| id.as_str()).collect();
        storage.clear_outbox(&[published("a", &sent)]).await.unwrap();
        storage.flush().await;
        assert_eq!(storage.commit(&[refused]).await.remove(0).unwrap(), Committed::Applied);
    });
}

#[test]
fn many_short_participants_fit() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        let digit = |n: usize| char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[n % 36]);
        let participants = (0..100_000).map(|n| {
            let name: String = [n, n / 36, n / 1_296, n / 46_656].map(digit).into_iter().collect();
            thredlib::ParticipantId::from(&*name)
        });
        let mut state = ThredState { participants: participants.collect(), ..thred("a") };
        let rest = storage.max_commit_bytes() - commit(state.clone()).size() - 100;
        let mut locals = serde_json::Map::new();
        locals.insert("text".into(), "x".repeat(rest).into());
        state.locals = Arc::new(locals);
        let answer = storage.commit(&[commit(state.clone())]).await.remove(0);
        assert_eq!(answer.unwrap(), Committed::Applied);
        let loaded = storage.load(&["a".into()]).await.unwrap().remove(0).expect("a thred");
        assert_eq!(*loaded.state, state);
    });
}

#[test]
fn what_is_too_large_for_the_archive_is_shortened() {
    run(async {
        let config = config().archived_step_bytes(50_000);
        let _guard = Dropped(config.clone());
        let archive = MongoArchive::open(&connect(&config).await).await.expect("an archive");
        let storage = Archived::new(Arc::new(MemoryStorage::default()), archive.clone());
        assert!(storage.max_commit_bytes() < 50_000, "nobody need send such a step");
        let large = fan(thred("a"), &told(100_000), 2);
        let mut locals = serde_json::Map::new();
        locals.insert("text".into(), "x".repeat(100_000).into());
        let state =
            ThredState { status: Status::Terminated, locals: Arc::new(locals), ..thred("b") };
        for answer in storage.commit(&[large, commit(state)]).await {
            assert_eq!(answer.unwrap(), Committed::Applied);
        }
        storage.flush().await;
        assert_eq!(archive.shortened(), 2);
        let past = archive.history(&"a".into(), None, 9).await.unwrap().remove(0);
        assert_eq!((past.version, past.event, past.messages.len()), (1, None, 0));
        let detail = past.log[0].detail.as_deref().unwrap_or_default();
        assert!(detail.contains("too large for the archive"), "{detail}");
        let ended = archive.ended(&ThredQuery::default()).await.unwrap().threds.remove(0);
        assert!(ended.locals.is_empty() && ended.id == "b");
        let left = storage.load(&["a".into()]).await.unwrap().remove(0).expect("a thred");
        assert_eq!(left.outbox.len(), 2, "the messages are still to be published");

        let event = told(100_000);
        let record = samples::record(&event.id, LogType::NoMatch, None, 5);
        let unmoved = vec![Unmoved { key: samples::key("e"), record, event }];
        let settlement = Settlement { unmoved, ..Settlement::default() };
        storage.settle(0, &settlement).await.unwrap();
        assert_eq!(archive.shortened(), 3);
        let page = archive.unmoved(None, 9).await.unwrap();
        assert_eq!((page.records.len(), &page.records[0].event.data), (1, &None));
    });
}
