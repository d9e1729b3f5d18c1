//! Any storage, with its past in the archive.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use serde_json::json;
use thredcore::{
    port::{
        Cleared, Commit, Committed, Due, Ended, History, Loaded, LogRecord, OutboxEntry, Outgoing,
        ParkedTopic, PendingOutbox, PortError, PortErrorKind, Quarantine, Receipt,
        ReceiptRetention, RecordStore, Settlement, Storage, ThredCount, ThredPage, ThredQuery,
        ThredStore, Timer, UnmovedPage, Unreadable,
    },
    state::{Status, WaitKey},
};
use thredlib::{Event, EventKey, Message, MessageId, ThredId, Topic, derive_id};
use tracing::warn;

use super::{Filer, MongoArchive, Origin, filer};
use crate::documents::{Packed, Past, Step};

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
    async fn steps(&self, id: &ThredId) -> Result<Vec<Step>, PortError> {
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
        let cleared = entries.into_iter().map(|(id, published)| Cleared {
            thred: id.clone(),
            published,
            parked: vec![],
        });
        self.0.clear_outbox(&cleared.collect::<Vec<_>>()).await
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
    let mut own = Vec::with_capacity(entries.len());
    for entry in entries {
        match &entry.outgoing {
            Outgoing::Message { topic, message } if topic.as_str() == Archived::TOPIC => {
                let step = message.event.value_named("step").cloned().unwrap_or_default();
                match serde_json::from_value::<Step>(step) {
                    Ok(step) => steps.push(step),
                    // It stays where it is: to the engine it would be a message that nobody reads.
                    Err(error) => {
                        warn!(entry = %entry.id, %error, "a step for the archive cannot be read");
                    }
                }
            }
            _ => own.push(entry),
        }
    }
    (own, steps)
}

#[async_trait]
impl ThredStore for Archived {
    fn partitions(&self) -> u16 {
        self.storage.partitions()
    }

    /// The step is carried as a text beside what it tells of, so that a commit takes up to four times
    /// its size on the way to the archive.
    fn max_commit_bytes(&self) -> usize {
        /// For what the carrying entry takes besides.
        const FRAME: usize = 4_096;
        let carried = self.storage.max_commit_bytes().saturating_sub(FRAME) / 4;
        carried.min(self.archive.max_step_bytes())
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
            let step = Packed::of(commit).and_then(|packed| Step::of(commit, &packed));
            let (entry, step) = match step.and_then(|step| Ok((entry(&step)?, step))) {
                Ok(step) => step,
                Err(error) => {
                    steps.push(Err(error));
                    continue;
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
            steps.push(Ok(step));
        }
        let mut answers = self.storage.commit(&carrying).await.into_iter();
        let answer = |step: Result<Step, PortError>| {
            let step = step?;
            let missing = || Err(PortError::new("commit", PortErrorKind::Unknown, "no answer"));
            let answer = answers.next().unwrap_or_else(missing);
            if matches!(answer, Ok(Committed::Applied)) {
                self.filer.add(step);
            }
            answer
        };
        steps.into_iter().map(answer).collect()
    }

    async fn clear_outbox(&self, cleared: &[Cleared]) -> Result<(), PortError> {
        self.storage.clear_outbox(cleared).await
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

    async fn parked_topics(&self) -> Result<Vec<ParkedTopic>, PortError> {
        self.storage.parked_topics().await
    }

    async fn parked_outboxes(
        &self,
        partition: u16,
        topic: &Topic,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        let found = self.storage.parked_outboxes(partition, topic, limit).await?.into_iter();
        // Steps on their way are looked after with the pending outboxes.
        let own =
            |outbox: PendingOutbox| PendingOutbox { entries: separate(outbox.entries).0, ..outbox };
        Ok(found.map(own).collect())
    }

    async fn due(
        &self,
        partition: u16,
        at: i64,
        after: Option<&Timer>,
        limit: usize,
    ) -> Result<Due, PortError> {
        self.storage.due(partition, at, after, limit).await
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

    async fn counts(&self) -> Result<Vec<ThredCount>, PortError> {
        self.storage.counts().await
    }

    async fn waiting(
        &self,
        keys: &[WaitKey],
        after: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<ThredId>, PortError> {
        self.storage.waiting(keys, after, limit).await
    }

    /// One whose last steps are on their way to the archive has something left in its outbox.
    async fn surplus(
        &self,
        partition: u16,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Ended>, PortError> {
        self.storage.surplus(partition, skip, limit).await
    }

    async fn forget(&self, threds: &[ThredId]) -> Result<(), PortError> {
        self.filer.flush_in_time().await;
        self.storage.forget(threds).await
    }
}

thredcore::forward_store!(LimitStore, LeaseStore, PatternStore for Archived => storage);

#[async_trait]
impl RecordStore for Archived {
    /// The events are acknowledged after this, so the archive itself is what makes the records
    /// durable; the receipts are the storage's.
    async fn settle(&self, partition: u16, settlement: &Settlement) -> Result<(), PortError> {
        self.archive.append(&settlement.unmoved).await?;
        let receipts = settlement.receipts.clone();
        if receipts.is_empty() {
            return Ok(());
        }
        let rest = Settlement { unmoved: vec![], receipts, now: settlement.now };
        self.storage.settle(partition, &rest).await
    }

    async fn receipts(
        &self,
        partition: u16,
        keys: &[EventKey],
    ) -> Result<Vec<Option<Receipt>>, PortError> {
        self.storage.receipts(partition, keys).await
    }

    async fn recorded(&self, keys: &[EventKey]) -> Result<Vec<bool>, PortError> {
        self.archive.recorded(keys).await
    }

    fn retention(&self) -> ReceiptRetention {
        self.storage.retention()
    }

    async fn history(
        &self,
        thred: &ThredId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        // In this order, a step on its way from the one to the other is seen at least once.
        let waiting = self.steps(thred).await?;
        Ok(merged(&waiting, self.archive.steps(thred, before, limit).await?, before, limit))
    }

    async fn unmoved(&self, before: Option<&str>, limit: usize) -> Result<UnmovedPage, PortError> {
        self.archive.unmoved(before, limit).await
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        self.flush().await;
        self.archive.log(limit).await
    }
}

#[async_trait]
impl Quarantine for Archived {
    async fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        let mut found = self.storage.unreadable(limit).await?;
        let rest = limit.saturating_sub(found.len());
        found.extend(self.archive.quarantined(rest, false).await?);
        Ok(found)
    }

    async fn move_out(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        let mut found = self.storage.move_out(limit).await?;
        let rest = limit.saturating_sub(found.len());
        found.extend(self.archive.quarantined(rest, true).await?);
        Ok(found)
    }
}

/// The latest steps of a thred below a version, oldest first, out of those that wait and those that
/// are archived.
pub(crate) fn merged(
    waiting: &[Step],
    archived: Vec<Past>,
    before: Option<u64>,
    limit: usize,
) -> Vec<History> {
    let steps = waiting.iter().map(Step::past).chain(archived);
    // Those that cannot be read were warned of where they were found.
    let steps = steps.filter_map(|past| past.history().ok());
    let steps = steps.filter(|step| before.is_none_or(|before| step.version < before));
    let steps: BTreeMap<_, _> = steps.map(|step| (step.version, step)).collect();
    let excess = steps.len().saturating_sub(limit);
    steps.into_values().skip(excess).collect()
}
