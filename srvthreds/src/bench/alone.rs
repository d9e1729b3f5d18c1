//! What each server does with nothing else to do: the ceiling of every figure.

use std::{
    slice::from_ref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use thredcore::{
    Ports,
    port::{Accepted, Commit, Committed, Directory, Inbound, Routed, Storage},
};
use thredlib::{Event, Message, Topic};
use tokio::{task::JoinSet, time::timeout};

use super::{Failure, PATIENCE, backend::Backend, workload};

/// Events each second that each could have a part in; `None`: not measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Alone {
    /// Commits of the store.
    pub(super) commits: Option<f64>,
    /// What the queue carries: an event comes in and is acknowledged, a message goes out and is
    /// acknowledged.
    pub(super) queued: Option<f64>,
    /// Steps that the archive takes.
    pub(super) archived: Option<f64>,
}

impl Alone {
    /// Measures on a backend that nobody uses any more, with commits that were seen there.
    ///
    /// # Errors
    /// When a server fails.
    pub(super) async fn measure(
        backend: &Backend,
        samples: &[Arc<Commit>],
    ) -> Result<Self, Failure> {
        let samples: Vec<_> = samples.iter().filter(|it| it.expected == 0).collect();
        let queued = if backend.is_remote() { Some(queued(&backend.ports).await?) } else { None };
        if samples.len() < AT_ONCE {
            return Ok(Self { queued, ..Self::default() });
        }
        let since = Instant::now();
        let count = commits(&backend.store(), &samples).await?;
        let commits_took = since.elapsed().as_secs_f64();
        let mut archived = None;
        if let Some(archive) = backend.archive().await? {
            let since = Instant::now();
            let storage: Arc<dyn Storage> = archive.clone();
            let count = commits(&storage, &samples).await?;
            archive.flush().await;
            archived = Some(count as f64 / since.elapsed().as_secs_f64());
        }
        Ok(Self { commits: Some(count as f64 / commits_took), queued, archived })
    }
}

/// Commits that go together, as in a busy engine.
const AT_ONCE: usize = 64;

/// Commits what the workload does to start a thred, under new ids; says how often.
async fn commits(storage: &Arc<dyn Storage>, samples: &[&Arc<Commit>]) -> Result<usize, Failure> {
    const TASKS: usize = 16;
    const ROUNDS: usize = 40;
    let batch = || -> Vec<Arc<Commit>> {
        let renamed = samples.iter().take(AT_ONCE).map(|sample| {
            let mut commit = Commit::clone(sample);
            Arc::make_mut(&mut commit.state).id = thredlib::new_event_id().as_str().into();
            Arc::new(commit)
        });
        renamed.collect()
    };
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (storage, batches) =
            (storage.clone(), (0..ROUNDS).map(|_| batch()).collect::<Vec<_>>());
        tasks.spawn(async move {
            for batch in batches {
                for answer in storage.commit(&batch).await {
                    if answer? != Committed::Applied {
                        return Err("a commit of its own thred met another one".into());
                    }
                }
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(TASKS * ROUNDS * AT_ONCE)
}

/// Sends events and messages through the queues; says how many of each in a second. Each engine's
/// queue is a consumer that has partitions of its own.
async fn queued(engines: &[Ports]) -> Result<f64, Failure> {
    const TASKS: usize = 8;
    const ROUNDS: usize = 8;
    const BATCH: usize = 256;
    const ALL: usize = TASKS * ROUNDS * BATCH;
    let ports = engines.first().ok_or("no engine")?;
    let topic = Topic::from(Directory::DEFAULT_NODE);
    let mut tasks = JoinSet::<Result<(), Failure>>::new();
    let since = Instant::now();
    for task in 0..TASKS {
        let (event_q, message_q, topic) =
            (ports.event_q.clone(), ports.message_q.clone(), topic.clone());
        tasks.spawn(async move {
            for round in 0..ROUNDS {
                let first = (task * ROUNDS + round) * BATCH;
                let events = (first..first + BATCH).map(event).collect::<Result<Vec<_>, _>>()?;
                let messages = events.iter().map(|event| message(event, &topic)).collect();
                event_q.room().await?;
                event_q
                    .publish(
                        events.into_iter().map(|it| Inbound::Event(Accepted::new(it, 0))).collect(),
                    )
                    .await?;
                for answer in message_q.publish(messages).await {
                    answer?;
                }
            }
            Ok(())
        });
    }
    let events = Arc::new(AtomicUsize::new(0));
    let mut takers = JoinSet::<Result<(), Failure>>::new();
    let partitions = 0..ports.event_q.partitions();
    let consumers = engines.iter().flat_map(|it| partitions.clone().map(move |n| (it, n)));
    for (engine, partition) in consumers {
        let (event_q, events) = (engine.event_q.clone(), events.clone());
        takers.spawn(async move {
            loop {
                let taken = event_q.receive(partition, BATCH).await?;
                let tags: Vec<_> = taken.iter().map(|it| it.tag).collect();
                event_q.ack(&tags).await?;
                events.fetch_add(tags.len(), Ordering::Relaxed);
            }
        });
    }
    let mut messages = 0;
    while messages < ALL {
        let taken = timeout(PATIENCE, ports.message_q.receive(from_ref(&topic), BATCH)).await??;
        let tags: Vec<_> = taken.iter().map(|it| it.tag).collect();
        ports.message_q.ack(&tags).await?;
        messages += tags.len();
    }
    while events.load(Ordering::Relaxed) < ALL {
        if since.elapsed() > PATIENCE {
            return Err("the queue alone stands still".into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(ALL as f64 / since.elapsed().as_secs_f64())
}

fn event(n: usize) -> Result<Arc<Event>, Failure> {
    let mut bytes = Vec::new();
    workload::start_event(&mut bytes, usize::MAX, n);
    Ok(Arc::new(serde_json::from_slice(&bytes)?))
}

fn message(event: &Arc<Event>, topic: &Topic) -> Routed {
    let message = Message {
        id: event.id.as_str().into(),
        event: event.clone(),
        to: vec!["client".into()],
        timestamp: event.timestamp.unwrap_or_default(),
    };
    Routed { topic: topic.clone(), message: Arc::new(message) }
}
