//! Committing: making changes durable, each once.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
};

use thredlib::{ErrorCode, EventError, ThredId};

use super::{
    Engine, Stopped,
    batch::{Batch, Task, What},
    react::Reacted,
    receipts::is_refused,
};
use crate::hash::FastHash;
use crate::port::{
    Command, Commit, Committed, Inbound, Loaded, LogType, OutboxEntry, Outgoing, PortError,
    PortErrorKind, Reservation, Reserved, Routed, Start, json_size,
};

/// A thred with what it has to publish.
pub(super) struct Published {
    pub(super) thred: ThredId,
    /// What it had before its last commit, oldest first.
    pub(super) older: Vec<OutboxEntry>,
    pub(super) commit: Option<Arc<Commit>>,
}

impl Published {
    pub(super) fn of(thred: ThredId, entries: Vec<OutboxEntry>) -> Self {
        Self { thred, older: entries, commit: None }
    }

    /// Oldest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = &OutboxEntry> {
        let newer = self.commit.iter().flat_map(|commit| &commit.outbox);
        self.older.iter().chain(newer)
    }
}

impl Engine {
    /// Takes places for new threds of patterns that bound their number; what finds no place ends
    /// here.
    pub(super) async fn reserve_places(
        &self,
        batch: &mut Batch,
        reacted: Vec<Reacted>,
    ) -> Result<Vec<Reacted>, Stopped> {
        if reacted.iter().all(|it| it.commit.expected > 0 || !it.pattern.is_limited()) {
            return Ok(reacted);
        }
        let mut placed = Vec::with_capacity(reacted.len());
        for it in reacted {
            if it.commit.expected > 0 || !it.pattern.is_limited() {
                placed.push(it);
                continue;
            }
            let place = Reservation {
                pattern: it.pattern.key.id.clone(),
                thred: it.commit.state.id.clone(),
                max_instances: it.pattern.max_instances,
                interval: it.pattern.instance_interval,
                now: batch.now,
            };
            let why = match self.until_refused(|| self.storage().reserve(&place)).await? {
                Ok(Reserved::Granted) => {
                    placed.push(it);
                    continue;
                }
                Ok(Reserved::Full) => "maxInstances is reached",
                Ok(Reserved::TooSoon) => "instanceInterval is not over",
                Err(error) => {
                    self.refused(batch, &it, &error);
                    continue;
                }
            };
            if self.has_started(&it.commit).await? {
                self.committed_before(batch, &it, false).await?
            } else {
                self.constrain(batch, &it, why).await?
            }
        }
        Ok(placed)
    }

    /// Whether a start has been done before; the thred may have ended and given its place back.
    async fn has_started(&self, commit: &Commit) -> Result<bool, Stopped> {
        let ids = [commit.state.id.clone()];
        let loaded = self.insist(|| self.storage().load(&ids)).await?;
        Ok(loaded.into_iter().flatten().next().is_some())
    }

    /// There is no place for a new thred: the event goes to those that wait or hold a place; when
    /// there are none, that is on record.
    async fn constrain(
        &self,
        batch: &mut Batch,
        it: &Reacted,
        why: &'static str,
    ) -> Result<(), Stopped> {
        let case = it.task.case;
        batch.cases[case].taken = true;
        if let What::Spawn(start) = &it.task.what {
            let id = &it.pattern.key.id;
            batch.note(case, LogType::Constrained, &start.cause, Some(id), Some(why));
            self.disown(batch, start);
        } else if !self.offer_to_holders(batch, case, &it.pattern).await? {
            batch.cases[case].no_place.push((it.pattern.key.id.clone(), why));
        }
        Ok(())
    }

    /// The storage will never take this: the event fails with that reason, others go on.
    fn refused(&self, batch: &mut Batch, it: &Reacted, error: &PortError) {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let thred = &it.commit.state.id;
        let text = format!("thred {thred}: the storage refuses the step: {cause}");
        let told = EventError::new(ErrorCode::StepFailed, text.clone());
        batch.fail(it.task.case, text, told);
        if let What::Spawn(start) = &it.task.what {
            self.disown(batch, start);
        }
    }

    /// Whether a step is larger than the storage and the queues take; why.
    fn too_large(&self, commit: &Commit) -> Option<String> {
        let limit = self.storage().max_commit_bytes();
        let messages = self.message_q().max_item_bytes();
        let commands = self.event_q().max_item_bytes();
        if commit.is_surely_within(limit.min(messages).min(commands)) {
            return None;
        }
        let size = commit.size();
        if size > limit {
            return Some(format!("the step has {size} bytes, the storage takes {limit}"));
        }
        // An entry of the outbox is smaller than the step.
        if size <= messages.min(commands) {
            return None;
        }
        commit.outbox.iter().find_map(|entry| {
            let (what, size, limit) = match &entry.outgoing {
                Outgoing::Message { topic, message } => {
                    let routed = Routed { topic: topic.clone(), message: message.clone() };
                    ("a message", json_size(&routed), messages)
                }
                Outgoing::Command(command) => {
                    ("a command", json_size(&Inbound::Command(command.clone())), commands)
                }
                Outgoing::Release(_) => return None,
            };
            (size > limit)
                .then(|| format!("{what} of the step has {size} bytes, the queue takes {limit}"))
        })
    }

    /// Tells the parent of a thred that could not start.
    pub(super) fn disown(&self, batch: &mut Batch, start: &Start) {
        if let Some(parent) = start.parent.clone() {
            let child = start.thred_id.clone();
            batch.commands.push(Command::Disown { thred_id: parent, child });
        }
    }

    /// Commits what was computed. What met a conflict goes back to be computed anew.
    pub(super) async fn commit_all(
        &self,
        batch: &mut Batch,
        reacted: Vec<Reacted>,
    ) -> Result<Vec<Published>, Stopped> {
        let mut published = Vec::with_capacity(reacted.len());
        let mut again = Vec::new();
        let (open, twice) = distinct(reacted);
        again.extend(twice.into_iter().map(|it| it.task));
        let mut open = self.refuse_oversized(batch, open).await?;
        let mut commits: Vec<Arc<Commit>> = open.iter().map(|it| it.commit.clone()).collect();
        let outgoing = commits.iter().filter(|it| !it.outbox.is_empty());
        let outgoing = outgoing.filter(|it| it.state.status.is_live());
        batch.outgoing = Some(self.publishing(outgoing.map(|it| it.state.id.clone()).collect()));
        if !open.is_empty() {
            self.0.committed.store(true, Ordering::Relaxed);
        }
        let mut pauses = self.pauses();
        let mut uncertain = false;
        while !open.is_empty() {
            let answers = self.storage().commit(&commits).await;
            let mut failure: Option<PortError> = None;
            let (mut failed, mut refused) = (Vec::new(), Vec::new());
            for (it, answer) in open.into_iter().zip(answers) {
                match answer {
                    Ok(Committed::Applied) => {
                        published.push(self.applied(batch, &it));
                        again.extend(it.prelude.then_some(it.task));
                    }
                    // After a failed call, that is this very commit; it is published from storage.
                    Ok(Committed::Duplicate) => {
                        self.committed_before(batch, &it, uncertain).await?;
                        again.extend(it.prelude.then_some(it.task));
                    }
                    // A thred's id derives from what starts it: that it is there is this start,
                    // from before the dedupe window.
                    Ok(Committed::Conflict) if it.commit.expected == 0 => {
                        self.committed_before(batch, &it, uncertain).await?;
                    }
                    Ok(Committed::Conflict) => {
                        batch.held.remove(&it.commit.state.id);
                        again.push(Task { conflicts: it.task.conflicts + 1, ..it.task });
                    }
                    Err(error) if is_refused(&error) => refused.push((it, error)),
                    Err(error) => {
                        failed.push(it);
                        failure = Some(error);
                    }
                }
            }
            for (it, error) in refused {
                self.free_place(&it).await?;
                self.refused(batch, &it, &error);
            }
            open = failed;
            commits = open.iter().map(|it| it.commit.clone()).collect();
            if let Some(error) = failure {
                uncertain = true;
                self.pause(&error, &mut pauses).await?;
            }
        }
        let ended = published.iter().filter_map(|it| it.commit.as_ref());
        self.0.ends.add(ended.filter(|commit| !commit.state.status.is_live()).count());
        let contested = again.iter().any(|it| it.conflicts > self.config().conflict_retries);
        if contested {
            self.rest(self.config().first_pause).await?;
        }
        again.into_iter().rev().for_each(|task| batch.again(task));
        Ok(published)
    }

    /// Sorts out the steps that no storage or queue would take.
    async fn refuse_oversized(
        &self,
        batch: &mut Batch,
        reacted: Vec<Reacted>,
    ) -> Result<Vec<Reacted>, Stopped> {
        let mut fitting = Vec::with_capacity(reacted.len());
        for it in reacted {
            match self.too_large(&it.commit) {
                None => fitting.push(it),
                Some(why) => {
                    self.free_place(&it).await?;
                    let error = PortError::new("commit", PortErrorKind::Rejected, why);
                    self.refused(batch, &it, &error);
                }
            }
        }
        Ok(fitting)
    }

    /// Gives back the place of a thred that will not start.
    async fn free_place(&self, it: &Reacted) -> Result<(), Stopped> {
        if it.commit.expected > 0 || !it.pattern.is_limited() {
            return Ok(());
        }
        let place = [(it.pattern.key.id.clone(), it.commit.state.id.clone())];
        self.insist(|| self.storage().release(&place)).await
    }

    fn applied(&self, batch: &mut Batch, it: &Reacted) -> Published {
        let commit = &it.commit;
        batch.cases[it.task.case].taken = true;
        batch.cases[it.task.case].moved.push(commit.state.id.clone());
        batch.settled.remove(&commit.state.id);
        if let Some((at, _)) = commit.state.timer() {
            self.timer_armed(at);
        }
        let id = commit.state.id.clone();
        let older = match &it.task.what {
            // Nothing was loaded for it.
            What::Begin(_) => Vec::new(),
            _ => batch.held.remove(&id).map(|loaded| loaded.outbox).unwrap_or_default(),
        };
        batch.meet(it.task.case, &commit.state);
        // A thred of an unbound event is not met again in this batch. What the others have to
        // publish goes out before their next task, or the batch ends.
        if !matches!(it.task.what, What::Begin(_)) {
            let loaded = Loaded { state: commit.state.clone(), outbox: Vec::new() };
            batch.held.insert(id.clone(), loaded);
        }
        Published { thred: id, older, commit: Some(commit.clone()) }
    }

    /// A commit that had been made before: by an engine that died, or by a call whose answer was
    /// lost. Its outbox may not have been published, and its place not given back.
    async fn committed_before(
        &self,
        batch: &mut Batch,
        it: &Reacted,
        uncertain: bool,
    ) -> Result<(), Stopped> {
        let id = it.commit.state.id.clone();
        batch.cases[it.task.case].taken = true;
        batch.cases[it.task.case].moved.push(id.clone());
        let ids = [id.clone()];
        let mut loaded = self.insist(|| self.storage().load(&ids)).await?;
        let Some(loaded) = loaded.pop().flatten() else { return Ok(()) };
        if uncertain && let Some((at, _)) = loaded.state.timer() {
            self.timer_armed(at);
        }
        let ended = !loaded.state.status.is_live();
        if it.commit.expected == 0 && it.pattern.is_limited() && ended {
            let place = [(it.pattern.key.id.clone(), id.clone())];
            self.insist(|| self.storage().release(&place)).await?;
        }
        if !loaded.outbox.is_empty() {
            batch.unpublished.push(id.clone());
        }
        batch.held.insert(id, loaded);
        Ok(())
    }
}

/// Splits off all but the first change of a thred: one event delivered twice in a batch would
/// start its thred twice in one call.
fn distinct(reacted: Vec<Reacted>) -> (Vec<Reacted>, Vec<Reacted>) {
    let mut seen: HashSet<_, FastHash> =
        HashSet::with_capacity_and_hasher(reacted.len(), FastHash::new());
    reacted.into_iter().partition(|it| seen.insert(it.commit.state.id.clone()))
}
