//! Bounds, attempts over restarts, and who may open a directory.

mod common;

use std::{path::Path, sync::Arc, time::Duration};

use common::{
    disk::{Disk, Random, Torn},
    samples::{TOPIC, event, event_with, inbound, routed, step, unborn},
};
use thredcore::{
    port::{
        Cleared, Commit, Committed, DeadLetterFilter, Death, Delivery, EventQ, Inbound, Lease,
        LeaseStore, MessageQ, PortErrorKind, RecordStore, Returned, ThredQuery, ThredStore,
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
    let history = backends.storage.history(&"b".into(), None, 99).await.unwrap();
    assert_eq!(history.len(), 10);
    assert_eq!(history[9].version, 30);
    assert!(backends.storage.history(&"a".into(), None, 99).await.unwrap().is_empty());
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

/// What there is beyond the limit, in the order of its ending.
async fn surplus(backends: &RedbBackends) -> Vec<String> {
    let ended = backends.storage.surplus(0, 0, 99).await.expect("surplus");
    for one in &ended {
        let loaded = backends.storage.load(std::slice::from_ref(&one.thred)).await.expect("load");
        assert_eq!(loaded[0].as_ref().expect("it is there").state.inbox, one.inbox);
    }
    ended.iter().map(|ended| ended.thred.to_string()).collect()
}

#[tokio::test]
async fn ended_threds_beyond_the_limit_may_be_forgotten_but_not_those_with_messages() {
    let dir = tempfile::tempdir().unwrap();
    let config = RedbConfig::default().ended_threds(2).partitions(1);
    let backends = open(dir.path(), config.clone());
    end(&backends, "unpublished", 1).await;
    for id in ["a", "b", "c", "d", "e"] {
        end(&backends, id, 0).await;
    }
    steps(&backends, "long", 30).await;
    let last = backends.storage.load(&["long".into()]).await.unwrap().remove(0).unwrap();
    let event = event("end of long", "erp");
    apply(&backends, step(&last.state, &event, Status::Terminated, 0)).await;
    assert_eq!(surplus(&backends).await, ["a", "b", "c", "d"]);
    let some = backends.storage.surplus(0, 1, 2).await.unwrap();
    assert_eq!(some.iter().map(|one| one.thred.as_str()).collect::<Vec<_>>(), ["b", "c"]);

    let ids = ["unpublished", "a", "b", "live", "nobody"].map(Into::into);
    steps(&backends, "live", 1).await;
    backends.storage.forget(&ids).await.unwrap();
    assert!(is_kept(&backends, "unpublished").await && is_kept(&backends, "live").await);
    assert!(!is_kept(&backends, "a").await && !is_kept(&backends, "b").await);
    assert_eq!(surplus(&backends).await, ["c", "d"]);
    let published = vec!["message unpublished/1/0".into()];
    let cleared = Cleared { thred: "unpublished".into(), published, parked: vec![] };
    backends.storage.clear_outbox(&[cleared]).await.unwrap();
    backends.close().await;

    let backends = open(dir.path(), config);
    assert!(!is_kept(&backends, "a").await);
    assert_eq!(surplus(&backends).await, ["unpublished", "c", "d"]);
    end(&backends, "f", 0).await;
    // Its inbox is read from the file.
    end(&backends, "g", 0).await;
    assert_eq!(surplus(&backends).await, ["unpublished", "c", "d", "e", "long"]);
    backends.storage.forget(&["long".into(), "unpublished".into()]).await.unwrap();
    let query = ThredQuery { status: vec![Status::Terminated], ..ThredQuery::default() };
    let left = backends.storage.threds(&query).await.unwrap().threds;
    let mut left: Vec<_> = left.iter().map(|state| state.id.to_string()).collect();
    left.sort_unstable();
    assert_eq!(left, ["c", "d", "e", "f", "g"]);
}

/// A live thred among many that ended does not keep their file space.
#[tokio::test]
async fn live_threds_are_gathered() {
    let dir = tempfile::tempdir().unwrap();
    let config = RedbConfig::default().ended_threds(50).cached_threds(0).partitions(1);
    let backends = open(dir.path(), config);
    for round in 0..20 {
        let commits = (0..64).map(|number| {
            let status = if number == 7 { Status::Active } else { Status::Terminated };
            let event = event(&format!("{round}/{number}"), "erp");
            Arc::new(step(&unborn(&format!("{round}/{number}")), &event, status, 0))
        });
        for answer in backends.storage.commit(&commits.collect::<Vec<_>>()).await {
            assert_eq!(answer.unwrap(), Committed::Applied);
        }
        let ended = backends.storage.surplus(0, 0, 99).await.unwrap();
        let ids: Vec<_> = ended.into_iter().map(|ended| ended.thred).collect();
        backends.storage.forget(&ids).await.unwrap();
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
    backends.event_q.dead_letter(first[0].tag, &death("it kills")).await.unwrap();
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

fn death(reason: &str) -> Death {
    Death { reason: reason.into(), times: 1, moved: vec![] }
}

async fn letters(backends: &RedbBackends, filter: &DeadLetterFilter) -> Vec<String> {
    let letters = backends.event_q.dead_letters(filter).await.expect("letters");
    letters.iter().map(|letter| letter.payload.id().to_string()).collect()
}

#[tokio::test]
async fn dead_letters_beyond_the_quota_are_gone_for_good() {
    let dir = tempfile::tempdir().unwrap();
    // Each takes some 300 bytes.
    let config = RedbConfig::default().dead_letters_bytes(700).event_partitions(1);
    let backends = open(dir.path(), config.clone());
    let items = ["1", "2", "3"].map(|id| inbound(id, "erp")).into();
    backends.event_q.publish(items).await.unwrap();
    for delivery in backends.event_q.receive(0, 3).await.unwrap() {
        backends.event_q.dead_letter(delivery.tag, &death("bad")).await.unwrap();
    }
    assert_eq!(backends.event_q.dropped_dead_letters(), 1);
    backends.close().await;
    let backends = open(dir.path(), config);
    assert_eq!(letters(&backends, &DeadLetterFilter::all()).await, ["2", "3"]);
    assert_eq!(backends.event_q.redrive(&DeadLetterFilter::all()).await.unwrap(), 2);
    backends.close().await;
    let backends = open(dir.path(), RedbConfig::default().event_partitions(1));
    assert_eq!(received(&backends).await.len(), 2);
    assert!(letters(&backends, &DeadLetterFilter::all()).await.is_empty());
}

/// A clock that is set.
#[derive(Debug, Default)]
struct Hands(std::sync::atomic::AtomicI64);

impl Hands {
    fn set(&self, millis: i64) {
        self.0.store(millis, std::sync::atomic::Ordering::Relaxed);
    }
}

impl thredcore::port::Clock for Hands {
    fn now(&self) -> i64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[tokio::test]
async fn dead_letters_leave_when_their_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hands::default());
    let config = RedbConfig::default().event_partitions(1).clock(clock.clone());
    let backends = open(dir.path(), config.clone());
    backends.event_q.publish(["1", "2"].map(|id| inbound(id, "erp")).into()).await.unwrap();
    for (delivery, at) in backends.event_q.receive(0, 2).await.unwrap().iter().zip([0, 10]) {
        clock.set(at);
        backends.event_q.dead_letter(delivery.tag, &death("bad")).await.unwrap();
    }
    clock.set(30 * 24 * 3_600_000);
    assert_eq!(letters(&backends, &DeadLetterFilter::all()).await, ["2"]);
    assert_eq!(backends.event_q.dropped_dead_letters(), 1);
    backends.close().await;
    let backends = open(dir.path(), config);
    assert_eq!(letters(&backends, &DeadLetterFilter::all()).await, ["2"]);
}

/// More than are read at a time: all of them are reached, by page and by redriving.
#[tokio::test]
async fn all_dead_letters_are_reached() {
    let dir = tempfile::tempdir().unwrap();
    let config = RedbConfig::default().event_partitions(1);
    let backends = open(dir.path(), config.clone());
    let items = (0..600).map(|number| inbound(&number.to_string(), "erp")).collect();
    backends.event_q.publish(items).await.unwrap();
    for delivery in backends.event_q.receive(0, 600).await.unwrap() {
        backends.event_q.dead_letter(delivery.tag, &death("bad")).await.unwrap();
    }
    let mut filter = DeadLetterFilter { limit: Some(50), ..DeadLetterFilter::all() };
    let mut found = vec![];
    loop {
        let page = backends.event_q.dead_letters(&filter).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.after = Some(last.id.clone());
        found.extend(page.iter().map(|letter| letter.payload.id().to_string()));
    }
    assert_eq!(found, (0..600).map(|number| number.to_string()).collect::<Vec<_>>());
    filter.after = Some("no number".into());
    let error = backends.event_q.dead_letters(&filter).await.unwrap_err();
    assert_eq!(error.kind(), PortErrorKind::Rejected);
    assert_eq!(backends.event_q.redrive(&DeadLetterFilter::all()).await.unwrap(), 600);
    let again = backends.event_q.receive(0, 600).await.unwrap();
    assert_eq!(again.len(), 600);
    let Inbound::Event(accepted) = &again[0].payload else { panic!("an event") };
    assert_eq!(accepted.times_dead(), 1);
}

#[tokio::test]
async fn what_is_too_large_is_rejected_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path(), RedbConfig::default().max_commit_bytes(10_000));
    let sized = |id: &str, bytes: usize| {
        let mut from = unborn(id);
        from.description = Some("x".repeat(bytes).into());
        Arc::new(step(&from, &event(id, "erp"), Status::Active, 0))
    };
    let room = 10_000 - sized("a", 0).size();
    let commits = [sized("a", room), sized("b", room + 1), sized("c", 10)];
    assert_eq!(commits[0].size(), 10_000);
    let answers = backends.storage.commit(&commits).await;
    let kind = |answer: &Result<Committed, thredcore::port::PortError>| match answer {
        Ok(committed) => Ok(*committed),
        Err(error) => Err(error.kind()),
    };
    let kinds: Vec<_> = answers.iter().map(kind).collect();
    let applied = Ok(Committed::Applied);
    assert_eq!(kinds, [applied, Err(PortErrorKind::Rejected), applied]);
}

/// A message to many nodes is stored once.
#[tokio::test]
async fn a_step_is_stored_in_about_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path(), RedbConfig::default());
    let event = event_with("wide", "erp", serde_json::json!({ "text": "x".repeat(200_000) }));
    let mut commit = step(&unborn("wide"), &event, Status::Active, 100);
    for entry in &mut commit.outbox {
        let thredcore::port::Outgoing::Message { topic, .. } = &mut entry.outgoing else {
            continue;
        };
        *topic = format!("node {}", entry.id).into();
    }
    assert!(commit.size() < 500_000, "{}", commit.size());
    apply(&backends, commit.clone()).await;
    backends.close().await;
    let backends = open(dir.path(), RedbConfig::default());
    let loaded = backends.storage.load(&["wide".into()]).await.unwrap().remove(0).unwrap();
    assert_eq!(loaded.outbox, commit.outbox);
    drop(backends);
    let size = std::fs::metadata(dir.path().join("threds.redb")).unwrap().len();
    assert!(size < 8_000_000, "{size} bytes");
}

#[tokio::test]
async fn items_that_are_too_large_or_too_deep_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let backends = open(dir.path(), RedbConfig::default().max_item_bytes(2_000));
    let large = event_with("large", "erp", serde_json::json!({ "text": "x".repeat(2_000) }));
    let deep = (0..200).fold(serde_json::json!({}), |deep, _| serde_json::json!({ "k": deep }));
    let deep = event_with("deep", "erp", deep);
    for event in [&large, &deep] {
        let item = Inbound::Event(thredcore::port::Accepted::new(event.clone(), 0));
        let error = backends.event_q.publish(vec![item]).await.unwrap_err();
        assert_eq!(error.kind(), PortErrorKind::Rejected);
        let commit = Arc::new(step(&unborn("deep"), event, Status::Active, 1));
        let answer = backends.storage.commit(&[commit]).await.remove(0);
        assert_eq!(answer.is_err(), Arc::ptr_eq(event, &deep));
    }
    let to = |event: &Arc<thredlib::Event>| {
        let mut message = routed("m");
        message.message = common::samples::message("m", event);
        message
    };
    let messages = vec![to(&large), to(&deep), to(&event("good", "erp"))];
    let answers = backends.message_q.publish(messages).await;
    let rejected = |answer: &Result<(), thredcore::port::PortError>| {
        answer.as_ref().is_err_and(|error| error.kind() == PortErrorKind::Rejected)
    };
    assert_eq!(answers.iter().map(rejected).collect::<Vec<_>>(), [true, true, false]);
    backends.close().await;
    let backends = open(dir.path(), RedbConfig::default());
    assert_eq!(backends.message_q.depth(&TOPIC.into()).await.unwrap(), 1);
}

/// Nested as deeply as the queue takes it, an event is read again wherever it has been put.
#[tokio::test]
async fn what_is_taken_is_read_again_however_deep() {
    let dir = tempfile::tempdir().unwrap();
    let config = RedbConfig::default().event_partitions(1);
    let backends = open(dir.path(), config.clone());
    let nested = |levels: usize| {
        let deep =
            (0..levels).fold(serde_json::json!({}), |deep, _| serde_json::json!({ "k": deep }));
        event_with(&format!("deep {levels}"), "erp", deep)
    };
    let mut deepest = None;
    for levels in 100..130 {
        let event = nested(levels);
        let item = Inbound::Event(thredcore::port::Accepted::new(event.clone(), 0));
        match backends.event_q.publish(vec![item]).await {
            Ok(()) => deepest = Some(event),
            Err(error) => assert_eq!(error.kind(), PortErrorKind::Rejected),
        }
    }
    let deepest = deepest.expect("some are taken");
    let commit = step(&unborn("deep"), &deepest, Status::Active, 2);
    apply(&backends, commit.clone()).await;
    let count = backends.event_q.depth().await.unwrap();
    let batch = backends.event_q.receive(0, count).await.unwrap();
    let last = batch.last().unwrap();
    backends.event_q.dead_letter(last.tag, &death("bad")).await.unwrap();
    drop(backends);

    let backends = open(dir.path(), config);
    assert_eq!(backends.event_q.depth().await.unwrap(), count - 1);
    let loaded = backends.storage.load(&["deep".into()]).await.unwrap().remove(0).unwrap();
    assert_eq!(loaded.outbox, commit.outbox);
    let history = backends.storage.history(&"deep".into(), None, 9).await.unwrap();
    assert_eq!(history[0].event.as_ref(), Some(&deepest));
    let letter = letters(&backends, &DeadLetterFilter::all()).await;
    assert_eq!(letter, [deepest.id.to_string()]);
    assert_eq!(backends.storage.unreadable_met(), 0);
}

/// A message that waits for long does so over a restart, and counts as what it was.
#[tokio::test]
async fn a_long_delay_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hands::default());
    let config = RedbConfig::default().clock(clock.clone());
    let backends = open(dir.path(), config.clone());
    backends.message_q.publish(vec![routed("m")]).await.remove(0).unwrap();
    let first = backends.message_q.receive(&[TOPIC.into()], 9).await.unwrap().remove(0);
    backends.message_q.nack(first.tag, 90_000, Returned::Failed).await.unwrap();
    backends.close().await;
    clock.set(60_000);
    let backends = open(dir.path(), config.clone());
    assert_eq!(backends.message_q.depth(&TOPIC.into()).await.unwrap(), 1);
    let soon = Duration::from_millis(50);
    let topics = [TOPIC.into()];
    let received = tokio::time::timeout(soon, backends.message_q.receive(&topics, 9)).await;
    assert!(received.is_err(), "it waits");
    backends.close().await;
    clock.set(90_000);
    let backends = open(dir.path(), config);
    let again = backends.message_q.receive(&topics, 9).await.unwrap().remove(0);
    assert_eq!((again.attempt, again.failures, again.deaths()), (2, 1, 0));
}

#[tokio::test]
async fn messages_and_topics_expire_if_that_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hands::default());
    let config = RedbConfig::default().clock(clock.clone());
    let config = config.message_ttl(Duration::from_secs(10)).idle_expiry(Duration::from_secs(60));
    let backends = open(dir.path(), config.clone());
    backends.message_q.publish(vec![routed("1")]).await.remove(0).unwrap();
    clock.set(5_000);
    backends.message_q.publish(vec![routed("2")]).await.remove(0).unwrap();
    clock.set(10_000);
    let backlog = backends.message_q.backlog().await.unwrap().remove(0).backlog;
    assert_eq!((backlog.depth, backlog.oldest, backlog.dead_letters), (1, Some(5_000), 1));
    let letters = backends.message_q.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!(letters[0].reason, "EXPIRED");
    backends.close().await;
    let backends = open(dir.path(), config);
    assert_eq!(backends.message_q.depth(&TOPIC.into()).await.unwrap(), 1);
    clock.set(80_000);
    assert_eq!(backends.message_q.depth(&TOPIC.into()).await.unwrap(), 0);
    backends.message_q.discard(&DeadLetterFilter::all()).await.unwrap();
    assert!(backends.message_q.backlog().await.unwrap().is_empty());
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
