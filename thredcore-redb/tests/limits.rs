//! Bounds, attempts over restarts, and who may open a directory.

mod common;

use std::{path::Path, sync::Arc, time::Duration};

use common::{
    disk::{Disk, Random, Torn},
    samples::{TOPIC, event, inbound, routed, step, unborn},
};
use thredcore::{
    port::{
        Commit, Committed, DeadLetterFilter, Delivery, EventQ, Inbound, Lease, LeaseStore,
        MessageQ, RecordStore, ThredQuery, ThredStore,
    },
    state::{Status, ThredState},
};
use thredcore_redb::{RedbBackends, RedbConfig, RedbError};

fn open(dir: &Path, config: RedbConfig) -> RedbBackends {
    RedbBackends::open_with(dir, config).expect("the directory opens")
}

fn open_disk(disk: &Disk, config: RedbConfig) -> RedbBackends {
    let disk = disk.clone();
    let config = config.event_partitions(1).backend(move || disk.backend()).on_fatal(|_| {});
    RedbBackends::open_with("a disk of ours", config).expect("the disk can be opened")
}

async fn apply(backends: &RedbBackends, commit: Commit) -> Arc<ThredState> {
    let commit = Arc::new(commit);
    let answer = backends.storage.commit(std::slice::from_ref(&commit)).await.remove(0);
    assert_eq!(answer.expect("a commit"), Committed::Applied);
    commit.state.clone()
}

/// So many steps of one thred.
async fn steps(backends: &RedbBackends, id: &str, count: u64) -> Arc<ThredState> {
    let mut state = Arc::new(unborn(id));
    for number in 1..=count {
        let event = event(&format!("{id}#{number}"), "erp");
        state = apply(backends, step(&state, &event, Status::Active, 0)).await;
    }
    state
}

async fn end(backends: &RedbBackends, id: &str, messages: usize) {
    let event = event(&format!("end of {id}"), "erp");
    apply(backends, step(&unborn(id), &event, Status::Terminated, messages)).await;
}

async fn is_kept(backends: &RedbBackends, id: &str) -> bool {
    backends.storage.load(&[id.into()]).await.expect("load")[0].is_some()
}

#[tokio::test]
async fn a_second_opening_is_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), RedbConfig::default());
    let error = RedbBackends::open(dir.path()).expect_err("in use");
    let pid = std::process::id();
    assert!(matches!(&error, RedbError::InUse { pid: Some(found), .. } if *found == pid));
    assert_eq!(
        error.to_string(),
        format!(
            "{} is in use by another process (pid {pid}); stop that one or choose another directory",
            dir.path().display()
        )
    );
    first.close().await;
    open(dir.path(), RedbConfig::default());
}

#[tokio::test]
async fn the_latest_steps_are_kept_and_live_threds_whatever_their_age() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path(), RedbConfig::default().history_steps(10).cached_threds(0));
    steps(&backends, "a", 3).await;
    let last = steps(&backends, "b", 30).await;
    let history = backends.storage.history(Some(&"b".into()), 99).await.unwrap();
    assert_eq!(history.len(), 10);
    assert_eq!(history[9].version, 30);
    assert!(backends.storage.history(Some(&"a".into()), 99).await.unwrap().is_empty());
    assert_eq!(backends.storage.log(99).await.unwrap().len(), 10);
    let loaded = backends.storage.load(&["a".into(), "b".into()]).await.unwrap();
    assert_eq!(loaded[0].as_ref().unwrap().state.version, 3);
    assert_eq!(loaded[1].as_ref().unwrap().state, last);
}

/// A step with something unpublished stays, and keeps no other.
#[tokio::test]
async fn an_outbox_holds_its_step_alone() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path(), RedbConfig::default().history_steps(10));
    end(&backends, "unpublished", 1).await;
    steps(&backends, "b", 30).await;
    assert_eq!(backends.storage.log(99).await.unwrap().len(), 11);
    let loaded = backends.storage.load(&["unpublished".into()]).await.unwrap().remove(0);
    assert_eq!(loaded.unwrap().outbox.len(), 1);
}

#[tokio::test]
async fn the_threds_that_ended_last_are_kept_and_those_with_messages() {
    let dir = tempfile::tempdir().unwrap();
    let config = RedbConfig::default().ended_threds(2);
    let backends = open(dir.path(), config.clone());
    end(&backends, "unpublished", 1).await;
    for id in ["a", "b", "c", "d", "e"] {
        end(&backends, id, 0).await;
    }
    assert!(is_kept(&backends, "unpublished").await);
    assert!(!is_kept(&backends, "a").await && !is_kept(&backends, "b").await);
    assert!(is_kept(&backends, "e").await);
    let ids = vec!["message unpublished/1/0".into()];
    backends.storage.clear_outbox(&[("unpublished".into(), ids)]).await.unwrap();
    backends.close().await;
    let backends = open(dir.path(), config);
    for id in ["f", "g", "h", "i"] {
        end(&backends, id, 0).await;
    }
    assert!(!is_kept(&backends, "unpublished").await);
    assert!(is_kept(&backends, "i").await);
}

/// A live thred among many that ended does not keep their file space.
#[tokio::test]
async fn live_threds_are_gathered() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path(), RedbConfig::default().ended_threds(50).cached_threds(0));
    for round in 0..20 {
        let commits = (0..64).map(|number| {
            let status = if number == 7 { Status::Active } else { Status::Terminated };
            let event = event(&format!("{round}/{number}"), "erp");
            Arc::new(step(&unborn(&format!("{round}/{number}")), &event, status, 0))
        });
        for answer in backends.storage.commit(&commits.collect::<Vec<_>>()).await {
            assert_eq!(answer.unwrap(), Committed::Applied);
        }
    }
    let live = backends.storage.threds(&ThredQuery::default()).await.unwrap().threds;
    assert_eq!(live.len(), 20);
    for state in &live {
        let event = event(&format!("next of {}", state.id), "erp");
        apply(&backends, step(state, &event, Status::Active, 0)).await;
    }
    backends.close().await;
    let segments = |table: &str| {
        let database = redb::Database::open(dir.path().join("threds.redb")).unwrap();
        let txn = redb::ReadableDatabase::begin_read(&database).unwrap();
        let table = redb::TableDefinition::<u64, &[u8]>::new(table);
        redb::ReadableTableMetadata::len(&txn.open_table(table).unwrap()).unwrap()
    };
    // A batch of 64 makes one or two; of twenty batches nearly all are gone.
    assert!(segments("states") <= 20 + 4, "{} segments", segments("states"));
    let backends = open(dir.path(), RedbConfig::default());
    let again = backends.storage.threds(&ThredQuery::default()).await.unwrap().threds;
    assert_eq!(again.len(), 20);
    assert!(again.iter().all(|state| state.version == 2));
}

/// While one group is being synced, all others gather for the next; of no size, each goes alone.
#[tokio::test]
async fn a_group_has_one_sync() {
    for (bytes, expected) in [(4 << 20, 2), (0, 33)] {
        let disk = Disk::default();
        let backends = open_disk(&disk, RedbConfig::default().group_bytes(bytes));
        let before = disk.syncs();
        disk.hold(true);
        let publish = |number: usize| {
            let queue = backends.event_q.clone();
            tokio::spawn(async move {
                queue.publish(vec![inbound(&number.to_string(), "erp")]).await.expect("publish");
            })
        };
        let mut tasks = vec![publish(0)];
        while disk.syncs() == before {
            tokio::task::yield_now().await;
        }
        tasks.extend((1..=32).map(publish));
        // All of them have sent what they have by the time that this task runs again.
        tokio::task::yield_now().await;
        disk.hold(false);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(disk.syncs() - before, expected, "groups of {bytes} bytes");
    }
}

#[tokio::test]
async fn what_is_deferred_is_bounded() {
    let disk = Disk::default();
    let backends = open_disk(&disk, RedbConfig::default().deferred_bytes(10_000));
    disk.hold(true);
    let publishing = {
        let queue = backends.message_q.clone();
        tokio::spawn(async move {
            for number in 0..200 {
                queue.publish(vec![routed(&number.to_string())]).await.remove(0).expect("publish");
            }
        })
    };
    tokio::time::timeout(Duration::from_millis(100), async {
        while !publishing.is_finished() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect_err("it waits");
    let depth = backends.message_q.depth(&TOPIC.into()).await.unwrap();
    assert!((10..60).contains(&depth), "{depth} messages");
    disk.hold(false);
    publishing.await.unwrap();
    assert_eq!(backends.message_q.depth(&TOPIC.into()).await.unwrap(), 200);
}

async fn received(backends: &RedbBackends) -> Vec<(String, u32)> {
    let batch = backends.event_q.receive(0, 99).await.expect("events");
    let known = |it: &Delivery<Inbound>| (it.payload.id().to_string(), it.attempt);
    batch.iter().map(known).collect()
}

/// An item that kills its process again and again is found out, and no other is taken for it.
#[tokio::test]
async fn attempts_are_counted_over_crashes() {
    let disk = Disk::default();
    let mut backends = open_disk(&disk, RedbConfig::default());
    let items = ["1", "2", "3"].map(|id| inbound(id, "erp")).into();
    backends.event_q.publish(items).await.unwrap();
    for attempt in 1..=5 {
        let batch = received(&backends).await;
        match attempt {
            // Whether they were handed out is not known after the first crash.
            1 | 2 => {
                let all = ["1", "2", "3"].map(|id| (id.to_owned(), attempt));
                assert_eq!(batch, all);
            }
            // From then on each comes alone: the others have not been tried since.
            _ => assert_eq!(batch, [("1".to_owned(), attempt)]),
        }
        disk.power_cycle(Torn::Lost, &mut Random(0));
        backends = open_disk(&disk, RedbConfig::default());
    }
    let first = backends.event_q.receive(0, 99).await.unwrap();
    backends.event_q.dead_letter(first[0].tag, "it kills").await.unwrap();
    assert_eq!(received(&backends).await, [("2".to_owned(), 3)]);
    assert_eq!(received(&backends).await, [("3".to_owned(), 3)]);
}

/// Closed in order, what was never handed out is no suspect.
#[tokio::test]
async fn closing_keeps_the_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path(), RedbConfig::default().event_partitions(1));
    let items = ["1", "2", "3"].map(|id| inbound(id, "erp")).into();
    backends.event_q.publish(items).await.unwrap();
    let first = backends.event_q.receive(0, 1).await.unwrap();
    assert_eq!(first[0].attempt, 1);
    backends.close().await;
    let backends = open(dir.path(), RedbConfig::default().event_partitions(1));
    let expected = [("1", 2), ("2", 1), ("3", 1)].map(|(id, attempt)| (id.to_owned(), attempt));
    assert_eq!(received(&backends).await, expected);
}

#[tokio::test]
async fn the_number_of_event_partitions_may_change() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path(), RedbConfig::default().event_partitions(7));
    let items = (0..50).map(|number| inbound(&number.to_string(), &format!("s{number}")));
    backends.event_q.publish(items.collect()).await.unwrap();
    backends.close().await;
    let backends = open(dir.path(), RedbConfig::default().event_partitions(1));
    assert_eq!(received(&backends).await.len(), 50);
}

#[tokio::test]
async fn dead_letters_beyond_the_limit_are_gone_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let config = RedbConfig::default().dead_letters(2).event_partitions(1);
    let backends = open(dir.path(), config.clone());
    let items = ["1", "2", "3"].map(|id| inbound(id, "erp")).into();
    backends.event_q.publish(items).await.unwrap();
    for delivery in backends.event_q.receive(0, 3).await.unwrap() {
        backends.event_q.dead_letter(delivery.tag, "bad").await.unwrap();
    }
    assert_eq!(backends.event_q.dropped_dead_letters(), 1);
    backends.close().await;
    let backends = open(dir.path(), config);
    let letters = backends.event_q.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    let ids: Vec<_> = letters.iter().map(|letter| letter.payload.id().to_string()).collect();
    assert_eq!(ids, ["2", "3"]);
    assert_eq!(backends.event_q.redrive(&DeadLetterFilter::all()).await.unwrap(), 2);
    backends.close().await;
    let backends = open(dir.path(), RedbConfig::default().event_partitions(1));
    assert_eq!(received(&backends).await.len(), 2);
    assert!(backends.event_q.dead_letters(&DeadLetterFilter::all()).await.unwrap().is_empty());
}

/// The next process need not wait for a lease of one that is gone; long ones are promises.
#[tokio::test]
async fn only_long_leases_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path(), RedbConfig::default());
    let lease = |name: &str, until| Lease { name: name.into(), owner: "a".into(), until };
    assert!(backends.storage.acquire(&lease("short", 59_999), 0).await.unwrap());
    assert!(backends.storage.acquire(&lease("long", 60_000), 0).await.unwrap());
    backends.close().await;
    let backends = open(dir.path(), RedbConfig::default());
    assert_eq!(backends.storage.leases("", 1).await.unwrap(), [lease("long", 60_000)]);
}
