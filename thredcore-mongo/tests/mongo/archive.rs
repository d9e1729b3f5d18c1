//! The archive: nothing is lost on the way to it, and ended threds are found in it.

use std::{sync::Arc, time::Duration};

use thredcore::{
    conformance::samples::published,
    memory::MemoryStorage,
    port::{Committed, RecordStore, Storage, ThredQuery, ThredStore},
    state::{Status, ThredState},
};
use thredcore_mongo::{Archived, MongoArchive, MongoConfig, MongoStorage};

use crate::samples::{commit, next, thred, with_message};
use crate::server::{Dropped, config, connect};

/// Runs something in a process of its own, as far as that can be seen: all its tasks end with it.
fn process<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    let limited = async { tokio::time::timeout(Duration::from_secs(60), run).await };
    let done = runtime.block_on(limited).expect("it ends within a minute");
    runtime.shutdown_background();
    done
}

/// Whoever uses this archives nothing by itself.
fn never(config: &MongoConfig) -> MongoConfig {
    let hour = Duration::from_secs(3_600);
    config.clone().linger(hour).left_behind(hour)
}

/// Not dropped: it would archive what it has.
fn killed<T>(storage: T) {
    std::mem::forget(storage);
}

async fn archive(config: &MongoConfig) -> MongoArchive {
    MongoArchive::open(&connect(config).await).await.expect("an archive")
}

async fn applied(storage: &dyn Storage, commits: &[Arc<thredcore::port::Commit>]) {
    for answer in storage.commit(commits).await {
        assert_eq!(answer.expect("a commit"), Committed::Applied);
    }
}

fn ended(state: &ThredState) -> ThredState {
    ThredState { status: Status::Terminated, ..next(state) }
}

fn terminated() -> ThredQuery {
    ThredQuery { status: vec![Status::Terminated], ..ThredQuery::default() }
}

#[test]
fn a_dead_process_s_steps_are_archived_by_the_next() {
    let config = config().left_behind(Duration::ZERO).ended_threds(0);
    let _guard = Dropped(config.clone());
    process(async {
        let slow = never(&config);
        let storage = MongoStorage::open(&connect(&slow).await).await.expect("a storage");
        applied(&storage, &[commit(thred("a")), commit(thred("b"))]).await;
        applied(&storage, &[commit(ended(&thred("a")))]).await;
        let archived = archive(&slow).await.log(9).await.expect("the archive");
        assert_eq!(archived, [], "nothing is archived yet");
        assert_eq!(storage.log(9).await.expect("the log").len(), 3, "but all is told");
        killed(storage);
    });
    process(async {
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        for _ in 0..2 {
            storage.clean_up().await.expect("cleaning up");
            let steps = storage.archive().history(&"a".into(), None, 9).await.expect("history");
            assert_eq!(steps.iter().map(|step| step.version).collect::<Vec<_>>(), [1, 2]);
            assert_eq!(storage.archive().log(9).await.expect("the log").len(), 3, "each once");
        }
        let surplus = storage.surplus(0, 0, 9).await.expect("surplus");
        assert_eq!(surplus.iter().map(|it| it.thred.as_str()).collect::<Vec<_>>(), ["a"]);
        storage.forget(&["a".into(), "b".into()]).await.expect("forget");
        let gone = storage.load(&["a".into(), "b".into()]).await.expect("load");
        assert!(gone[0].is_none() && gone[1].is_some(), "a has ended");
        let page = storage.threds(&terminated()).await.expect("query");
        assert_eq!(*page.threds[0], ended(&thred("a")), "the archive knows it");
    });
}

#[test]
fn an_ended_thred_with_something_to_publish_is_kept() {
    let config = config().ended_threds(0);
    let _guard = Dropped(config.clone());
    process(async {
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        let last = with_message(commit(ended(&thred("a"))), "m", 5);
        applied(&storage, &[commit(thred("a"))]).await;
        applied(&storage, &[last]).await;
        storage.flush().await;
        storage.forget(&["a".into()]).await.expect("forget");
        assert_eq!(storage.pending_outboxes(0, 6, 9).await.expect("pending").len(), 1);
        storage.clear_outbox(&[published("a", &["m"])]).await.expect("clear");
        storage.forget(&["a".into()]).await.expect("forget");
        assert_eq!(storage.load(&["a".into()]).await.expect("load"), [None]);
    });
}

#[test]
fn steps_wait_in_the_outbox_of_any_storage() {
    let config = config();
    let _guard = Dropped(config.clone());
    let inner = Arc::new(MemoryStorage::default());
    process(async {
        let slow = never(&config);
        let storage = Archived::new(inner.clone(), archive(&slow).await);
        let first = with_message(commit(thred("a")), "m", 5);
        applied(&storage, &[first, commit(thred("b"))]).await;
        applied(&storage, &[commit(ended(&thred("b")))]).await;
        let seen = storage.load(&["a".into()]).await.expect("load").remove(0).expect("a thred");
        assert_eq!(seen.outbox.len(), 1, "the engine sees its own entries alone");
        let told = storage.history(&"b".into(), None, 9).await.expect("history");
        assert_eq!(told.iter().map(|step| step.version).collect::<Vec<_>>(), [1, 2]);
        killed(storage);
    });
    process(async {
        let archive = archive(&config).await;
        assert_eq!(archive.log(9).await.expect("the archive"), [], "it died too early");
        let storage = Archived::new(inner.clone(), archive.clone());
        for partition in 0..storage.partitions() {
            let pending = storage.pending_outboxes(partition, i64::MAX, 9).await.expect("pending");
            assert!(pending.iter().all(|it| it.entries.len() == 1 && it.thred_id == *"a"));
        }
        assert_eq!(archive.log(9).await.expect("the archive").len(), 3);
        let page = storage.threds(&terminated()).await.expect("query");
        assert_eq!(page.threds.len(), 1, "b is told once");
        let left = inner.load(&["a".into(), "b".into()]).await.expect("load");
        let left = left.into_iter().map(|it| it.expect("a thred").outbox.len());
        assert_eq!(left.collect::<Vec<_>>(), [1, 0], "only the message is left");
    });
}

#[test]
fn a_full_outbox_makes_the_next_commit_wait() {
    let config = config().outbox_limit(2);
    let _guard = Dropped(config.clone());
    process(async {
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        let first = with_message(with_message(commit(thred("a")), "1", 5), "2", 5);
        applied(&storage, &[first]).await;
        let second = [commit(next(&thred("a")))];
        let error = storage.commit(&second).await.remove(0).expect_err("no room");
        assert!(error.is_retryable(), "{error}");
        storage.clear_outbox(&[published("a", &["1"])]).await.expect("clear");
        applied(&storage, &second).await;
    });
}
