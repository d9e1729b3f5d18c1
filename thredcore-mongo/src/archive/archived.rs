//! Any storage, with its past in the archive.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use serde_json::json;
use thredcore::{
    port::{
        Commit, Committed, Due, History, Loaded, LogRecord, OutboxEntry, Outgoing, PendingOutbox,
        PortError, PortErrorKind, RecordStore, Storage, ThredPage, ThredQuery, ThredStore,
    },
    state::{PatternKey, Status},
};
use thredlib::{Event, Message, MessageId, ThredId, derive_id};
use tracing::warn;

use super::{Filer, MongoArchive, Origin, filer};
use crate::documents::{Past, Step};

/// A storage whose past goes to the archive: history, log and ended threds are kept there for ever,
/// and the storage itself needs to remember none of it.
///
/// Each commit carries its step to the storage as one more entry of the outbox, to the topic
/// [`Archived::TOPIC`], and the entry is cleared when the archive has the step. So the step is
/// durable with the commit, in the same atomic write; the archive is written behind the commit, in
/// batches; and what a killed process has left is archived when an engine looks after forgotten
/// outboxes. The archive's ids derive from thred and version, so a step that is archived twice is
/// there once.
///
/// Every process that uses the storage must use it like this: to an engine without the archive, such
/// an entry is a message to a topic that nobody reads.
///
/// When the archive cannot be reached, commits go on until
/// [`backlog`](crate::MongoConfig::backlog) steps wait, then they wait too. The log of steps that
/// other processes have just made may come a moment late; the history of a thred does not.
pub struct Archived {
    storage: Arc<dyn Storage>,
    archive: MongoArchive,
    filer: Filer,
}

impl std::fmt::Debug for Archived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archived").field("filer", &self.filer).finish_non_exhaustive()
    }
}

impl Archived {
    /// The topic of the outbox entries that go to the archive.
    pub const TOPIC: &'static str = "thredcore.archive";

    /// Puts an archive behind a storage. Needs a runtime.
    pub fn new(storage: Arc<dyn Storage>, archive: MongoArchive) -> Self {
        let filer = Filer::start(archive.clone(), Outboxes(storage.clone()));
        Self { storage, archive, filer }
    }

    /// Waits until all that was committed here is in the archive; but for commits whose answer was
    /// lost, which are archived when an engine looks after forgotten outboxes.
    pub async fn flush(&self) {
        self.filer.flush().await;
    }

    /// Archives what was found in outboxes; what cannot be archived now stays there.
    async fn look_after(&self, steps: &[Step]) {
        for steps in steps.chunks(256) {
            let filed = filer::filed(&self.archive, &Outboxes(self.storage.clone()), steps).await;
            if let Err(error) = filed {
                warn!(%error, "forgotten steps are archived later");
                return;
            }
        }
    }

    /// The steps of a thred that are still in its outbox.
    async fn waiting(&self, id: &ThredId) -> Result<Vec<Step>, PortError> {
        let ids = [id.clone()];
        let loaded = self.storage.load(&ids).await?.pop().flatten();
        Ok(loaded.map(|loaded| separate(loaded.outbox).1).unwrap_or_default())
    }
}

/// The outboxes of a storage as the place where steps wait.
struct Outboxes(Arc<dyn Storage>);

#[async_trait]
impl Origin for Outboxes {
    async fn forget(&self, steps: &[Step]) -> Result<(), PortError> {
        let mut entries: BTreeMap<&ThredId, Vec<MessageId>> = BTreeMap::new();
        for step in steps {
            entries.entry(&step.thred).or_default().push(entry_id(step));
        }
        let entries: Vec<_> = entries.into_iter().map(|(id, ids)| (id.clone(), ids)).collect();
        self.0.clear_outbox(&entries).await
    }

    /// The engines do, when they look after outboxes.
    async fn tend(&self) -> Result<(), PortError> {
        Ok(())
    }
}

fn entry_id(step: &Step) -> MessageId {
    let id = derive_id("archive", &[step.thred.as_str(), &step.version.to_string()]);
    MessageId::from(&*id)
}

/// The entry that carries a step.
fn entry(step: &Step) -> Result<OutboxEntry, PortError> {
    let rejected = |error| PortError::new("commit", PortErrorKind::Rejected, error);
    let id = entry_id(step);
    let values = json!({ "step": serde_json::to_value(step).map_err(rejected)? });
    let event = Event::builder("org.wt.thredcore.step", "thredcore").id(id.as_str());
    let message = Message {
        id: id.clone(),
        event: Arc::new(event.timestamp(step.at).values(values).build()),
        to: vec![],
        timestamp: step.at,
    };
    let outgoing = Outgoing::Message { topic: Archived::TOPIC.into(), message: Arc::new(message) };
    Ok(OutboxEntry { id, at: step.at, outgoing })
}

/// The entries that are the engine's, and the steps.
fn separate(entries: Vec<OutboxEntry>) -> (Vec<OutboxEntry>, Vec<Step>) {
    let mut steps = Vec::new();
    let step = |entry: &OutboxEntry| match &entry.outgoing {
        Outgoing::Message { topic, message } if topic.as_str() == Archived::TOPIC => {
            let step = message.event.value_named("step")?;
            serde_json::from_value::<Step>(step.clone()).ok()
        }
        _ => None,
    };
    let mut own = Vec::with_capacity(entries.len());
    for entry in entries {
        match step(&entry) {
            Some(step) => steps.push(step),
            None => own.push(entry),
        }
    }
    (own, steps)
}

#[async_trait]
impl ThredStore for Archived {
    fn partitions(&self) -> u16 {
        self.storage.partitions()
    }

    async fn load(&self, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, PortError> {
        let loaded = self.storage.load(ids).await?.into_iter();
        let own = |loaded: Loaded| Loaded { outbox: separate(loaded.outbox).0, ..loaded };
        Ok(loaded.map(|loaded| loaded.map(own)).collect())
    }

    async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Result<Committed, PortError>> {
        if let Err(error) = self.filer.room().await {
            let text = error.to_string();
            let refused = || PortError::new("commit", error.kind(), text.clone());
            return commits.iter().map(|_| Err(refused())).collect();
        }
        let mut steps = Vec::with_capacity(commits.len());
        let mut carrying = Vec::with_capacity(commits.len());
        for commit in commits {
            let step = Step::of(commit).and_then(|step| Ok((entry(&step)?, step)));
            let (entry, step) = match step {
                Ok(step) => step,
                Err(error) => {
                    let text = error.to_string();
                    let refused = || PortError::new("commit", error.kind(), text.clone());
                    return commits.iter().map(|_| Err(refused())).collect();
                }
            };
            // What the step carries need not be kept twice.
            let mut commit = Commit {
                log: vec![],
                event: None,
                command: None,
                facts: None,
                ..(**commit).clone()
            };
            commit.outbox.push(entry);
            carrying.push(Arc::new(commit));
            steps.push(step);
        }
        let answers = self.storage.commit(&carrying).await;
        for (step, answer) in steps.into_iter().zip(&answers) {
            if matches!(answer, Ok(Committed::Applied)) {
                self.filer.add(step);
            }
        }
        answers
    }

    async fn clear_outbox(&self, published: &[(ThredId, Vec<MessageId>)]) -> Result<(), PortError> {
        self.storage.clear_outbox(published).await
    }

    async fn pending_outboxes(
        &self,
        partition: u16,
        made_before: i64,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        loop {
            // Those that hold nothing but steps on their way must not hide the others.
            let most = limit.saturating_add(self.filer.backlog());
            let found = self.storage.pending_outboxes(partition, made_before, most).await?;
            let full = found.len() >= most;
            let mut pending = Vec::with_capacity(found.len());
            let mut forgotten = Vec::new();
            for PendingOutbox { thred_id, entries } in found {
                let (entries, steps) = separate(entries);
                forgotten.extend(steps.into_iter().filter(|step| step.at < made_before));
                // A step may be the oldest entry of an outbox whose others are young.
                if entries.iter().any(|entry| entry.at < made_before) {
                    pending.push(PendingOutbox { thred_id, entries });
                }
            }
            let progress = !forgotten.is_empty();
            self.look_after(&forgotten).await;
            if !pending.is_empty() || !full || !progress {
                pending.truncate(limit);
                return Ok(pending);
            }
        }
    }

    async fn due(&self, partition: u16, at: i64, limit: usize) -> Result<Due, PortError> {
        self.storage.due(partition, at, limit).await
    }

    async fn threds(&self, query: &ThredQuery) -> Result<ThredPage, PortError> {
        if !query.status.contains(&Status::Terminated) {
            return self.storage.threds(query).await;
        }
        // One more than fits tells that there is another page.
        let limit = query.page_size().saturating_add(1);
        let wider = ThredQuery { limit, ..query.clone() };
        let stored = self.storage.threds(&wider).await?;
        let archived = self.archive.ended(&wider).await?;
        let mut both = BTreeMap::new();
        // The storage's own state is the later one, should they differ.
        for state in archived.threds.into_iter().chain(stored.threds) {
            both.insert((state.started_at, state.id.clone()), state);
        }
        Ok(ThredPage::of(query, both.into_values()))
    }

    async fn listeners(
        &self,
        pattern: &PatternKey,
        reaction: &str,
    ) -> Result<Vec<ThredId>, PortError> {
        self.storage.listeners(pattern, reaction).await
    }
}

thredcore::forward_store!(LimitStore, LeaseStore, PatternStore for Archived => storage);

#[async_trait]
impl RecordStore for Archived {
    /// The events are acknowledged after this, so the archive itself is what makes the records
    /// durable.
    async fn append_log(&self, records: Vec<(LogRecord, Arc<Event>)>) -> Result<(), PortError> {
        self.archive.append(&records).await
    }

    async fn history(
        &self,
        thred: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        let Some(id) = thred else { return self.archive.history(None, limit).await };
        // In this order, a step on its way from the one to the other is seen at least once.
        let waiting = self.waiting(id).await?;
        merged(&waiting, self.archive.steps(id, limit).await?, limit)
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        self.flush().await;
        self.archive.log(limit).await
    }
}

/// The latest steps of a thred, oldest first, out of those that wait and those that are archived.
pub(crate) fn merged(
    waiting: &[Step],
    archived: Vec<Past>,
    limit: usize,
) -> Result<Vec<History>, PortError> {
    let steps = waiting.iter().map(Step::past).chain(archived);
    let steps: BTreeMap<_, _> = steps.map(|past| (past.version(), past)).collect();
    let excess = steps.len().saturating_sub(limit);
    steps.values().skip(excess).map(Past::history).collect()
}
