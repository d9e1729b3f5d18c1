//! What one directory takes, `fsync` on: `cargo bench -p thredcore-redb --bench writers`.
//!
//! - `writers`: eight callers, each with one commit at a time (a thred, its step, its outbox, its
//!   timer, its index), written one by one, in groups, and in batches of 32.
//! - `events`: the store's part of a short thred's way, without an engine: accept, receive, look for
//!   receipts, commit, publish one message, clear the outbox, write receipts, acknowledge, forget
//!   ended threds, receive and acknowledge the message. Also says what the writer thread spends on an event, which other work on the machine disturbs less.
//!
//! Numbers of commits and events may be given: `-- writers 20000`, `-- events 300000`.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use samples::{TOPIC, event, step, unborn};
use thredcore::{
    port::{
        Accepted, Cleared, Commit, EventQ, Inbound, MessageQ, Outgoing, Receipt, RecordStore,
        Routed, Settlement, ThredStore,
    },
    state::Status,
};
use thredcore_redb::{RedbBackends, RedbConfig};
use thredlib::Event;

#[path = "../tests/common/samples.rs"]
mod samples;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let count = |default| args.get(1).and_then(|count| count.parse().ok()).unwrap_or(default);
    let wanted = |name| args.first().is_none_or(|first| first == name);
    if wanted("writers") {
        writers("one by one", 0, 1, count(4_000)).await;
        writers("in groups", 4 << 20, 1, count(20_000)).await;
        writers("in groups, batches of 32", 4 << 20, 32, count(100_000)).await;
    }
    if wanted("events") {
        events(count(200_000)).await;
    }
}

fn open(dir: &Path, config: RedbConfig) -> RedbBackends {
    RedbBackends::open_with(dir, config).expect("the directory opens")
}

/// A thred that starts with an event, sends a message and ends, or waits for a while.
fn commit(event: &Arc<Event>, ends: bool) -> Arc<Commit> {
    let id = thredlib::derive_id("bench", &[event.id.as_str()]);
    let mut from = unborn(&id);
    from.expires_at = (!ends).then_some(from.started_at + 100_000);
    let status = if ends { Status::Terminated } else { Status::Active };
    Arc::new(step(&from, event, status, 1))
}

async fn writers(name: &str, group: usize, batch: usize, commits: usize) {
    const WRITERS: usize = 8;
    let dir = tempfile::tempdir().expect("a directory");
    let backends = open(dir.path(), RedbConfig::default().group_bytes(group));
    let begin = Instant::now();
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let storage = backends.storage.clone();
            tokio::spawn(async move {
                for round in 0..commits / WRITERS / batch {
                    let commits = (0..batch).map(|number| {
                        commit(&event(&format!("{writer}/{round}/{number}"), "erp"), false)
                    });
                    for answer in storage.commit(&commits.collect::<Vec<_>>()).await {
                        answer.expect("a commit");
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer");
    }
    let rate = commits as f64 / begin.elapsed().as_secs_f64();
    println!("writers, {name}: {rate:.0} commits/s, {:.1} us each by the writer", spent(commits));
    backends.close().await;
}

async fn events(count: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let backends = open(dir.path(), RedbConfig::default());
    let begin = Instant::now();
    let accepting = {
        let queue = backends.event_q.clone();
        tokio::spawn(async move {
            let batches = (0..count).collect::<Vec<_>>();
            let (sender, receiver) = tokio::sync::mpsc::channel::<tokio::task::JoinHandle<()>>(8);
            let waiting = tokio::spawn(async move {
                let mut receiver = receiver;
                while let Some(task) = receiver.recv().await {
                    task.await.expect("a publisher");
                }
            });
            for batch in batches.chunks(256) {
                let items = batch.iter().map(|number| {
                    let source = format!("source {}", number % 64);
                    let event = event(&format!("event {number}"), &source);
                    Inbound::Event(Accepted::new(event, samples::NOW))
                });
                let items: Vec<_> = items.collect();
                queue.room().await.expect("room");
                let queue = queue.clone();
                let task = tokio::spawn(async move {
                    queue.publish(items).await.expect("publish");
                });
                sender.send(task).await.expect("somebody waits");
            }
            drop(sender);
            waiting.await.expect("all are published");
        })
    };
    let partitions: Vec<_> = (0..backends.event_q.partitions())
        .map(|partition| tokio::spawn(work(backends.clone(), partition)))
        .collect();
    let agent = {
        let queue = backends.message_q.clone();
        tokio::spawn(async move {
            let mut left = count;
            while left > 0 {
                let batch = queue.receive(&[TOPIC.into()], 256).await.expect("messages");
                left -= batch.len();
                let tags: Vec<_> = batch.iter().map(|delivery| delivery.tag).collect();
                queue.ack(&tags).await.expect("ack");
            }
        })
    };
    accepting.await.expect("all are accepted");
    agent.await.expect("all messages came");
    let took = begin.elapsed();
    let spent = spent(count);
    partitions.iter().for_each(tokio::task::JoinHandle::abort);
    println!(
        "events: {:.0}/s, {spent:.1} us each by the writer, {:.1} us by all, {} MB on disk",
        count as f64 / took.as_secs_f64(),
        process_time().as_secs_f64() * 1e6 / count as f64,
        directory_size(dir.path()) >> 20,
    );
    // As a killed process would leave it.
    let killed = tempfile::tempdir().expect("a directory");
    std::fs::copy(dir.path().join("threds.redb"), killed.path().join("threds.redb"))
        .expect("a copy");
    backends.close().await;
    for (name, dir) in [("in order", &dir), ("by a kill", &killed)] {
        let begin = Instant::now();
        let backends = open(dir.path(), RedbConfig::default());
        println!("events: closed {name}, opened in {:.0} ms", begin.elapsed().as_secs_f64() * 1e3);
        backends.close().await;
    }
}

async fn work(backends: RedbBackends, partition: u16) {
    loop {
        let batch = backends.event_q.receive(partition, 256).await.expect("events");
        let keys: Vec<_> = batch.iter().map(|delivery| delivery.payload.key()).collect();
        let receipts = backends.storage.receipts(partition, &keys).await.expect("receipts");
        assert!(receipts.iter().all(Option::is_none), "all are new");
        let commits: Vec<_> = batch
            .iter()
            .filter_map(|delivery| match &delivery.payload {
                Inbound::Event(accepted) => Some(commit(&accepted.event, true)),
                Inbound::Command(_) => None,
            })
            .collect();
        for answer in backends.storage.commit(&commits).await {
            answer.expect("a commit");
        }
        let entries = commits.iter().flat_map(|commit| &commit.outbox);
        let messages = entries.filter_map(|entry| match &entry.outgoing {
            Outgoing::Message { topic, message } => {
                Some(Routed { topic: topic.clone(), message: message.clone() })
            }
            _ => None,
        });
        for answer in backends.message_q.publish(messages.collect()).await {
            answer.expect("a message");
        }
        let cleared: Vec<_> = commits
            .iter()
            .map(|commit| {
                let published = commit.outbox.iter().map(|entry| entry.id.clone()).collect();
                Cleared { thred: commit.state.id.clone(), published, parked: vec![] }
            })
            .collect();
        backends.storage.clear_outbox(&cleared).await.expect("cleared");
        let receipts = keys.into_iter().map(|key| (key, Receipt::Settled)).collect();
        let settlement = Settlement { receipts, now: samples::NOW, ..Settlement::default() };
        backends.storage.settle(partition, &settlement).await.expect("settled");
        let tags: Vec<_> = batch.iter().map(|delivery| delivery.tag).collect();
        backends.event_q.ack(&tags).await.expect("acknowledged");
        for part in 0..4 {
            let part = partition * 4 + part;
            let ended = backends.storage.surplus(part, 0, 256).await.expect("ended threds");
            let ids: Vec<_> = ended.into_iter().map(|ended| ended.thred).collect();
            backends.storage.forget(&ids).await.expect("forgotten");
        }
    }
}

/// What the writer threads that are alive have spent on one of so many, in microseconds.
fn spent(count: usize) -> f64 {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if read("comm").trim() == "thredcore-redb" {
            let stat = read("schedstat");
            nanos += stat.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(nanos).as_secs_f64() * 1e6 / count as f64
}

fn process_time() -> Duration {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanos += stat.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0);
    }
    Duration::from_nanos(nanos)
}

fn directory_size(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum()
}
