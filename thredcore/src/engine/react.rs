//! Reacting: from threds and events to commits, in memory.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use thredlib::{ErrorCode, EventError, ExprError, ThredId, expr::Scope};

use super::{
    Engine, Stopped,
    batch::{Batch, Task, What},
};
use crate::{
    pattern::Pattern,
    port::{Commit, Inbound, Loaded, LogType, PortError, PortErrorKind},
    thred::{self, Input, Outcome, StepError, World},
};

/// How often a step that takes too long is computed before its event fails.
const OVERTIME_TRIES: u32 = 3;

/// A task and the commit that does it.
pub(super) struct Reacted {
    pub(super) task: Task,
    pub(super) commit: Arc<Commit>,
    pub(super) pattern: Arc<Pattern>,
    /// Whether the task is still to be done once this is committed: an expiry came first.
    pub(super) prelude: bool,
}

/// A task with the pattern that it needs.
pub(super) struct Ready {
    task: Task,
    pattern: Arc<Pattern>,
}

impl Engine {
    /// Loads the threds of a round and their patterns. Tasks for threds that are not there end
    /// here.
    pub(super) async fn load_threds(
        &self,
        batch: &mut Batch,
        round: Vec<Task>,
    ) -> Result<Vec<Ready>, Stopped> {
        let concerned = round.iter().filter_map(|task| match &task.what {
            What::Bound(id) | What::Offer(id) | What::Obey(id) => Some(id.clone()),
            What::Begin(_) | What::Spawn(_) => None,
        });
        self.hold(batch, concerned).await?;
        let mut ready = Vec::with_capacity(round.len());
        for task in round {
            let pattern = match &task.what {
                What::Begin(pattern) => Some(pattern.clone()),
                What::Spawn(start) => batch.library.current(&start.pattern_id).cloned(),
                What::Bound(id) | What::Offer(id) | What::Obey(id) => match batch.held.get(id) {
                    Some(loaded) => {
                        let key = loaded.state.pattern.clone();
                        self.revision(batch, &key).await?
                    }
                    None => {
                        self.thred_is_gone(batch, &task);
                        continue;
                    }
                },
            };
            match pattern {
                Some(pattern) => ready.push(Ready { task, pattern }),
                None => self.pattern_is_gone(batch, &task),
            }
        }
        Ok(ready)
    }

    /// Loads those of some threds that the batch does not hold yet.
    pub(super) async fn hold(
        &self,
        batch: &mut Batch,
        threds: impl Iterator<Item = ThredId>,
    ) -> Result<(), Stopped> {
        let missing: Vec<ThredId> = threds.filter(|id| !batch.held.contains_key(id)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let loaded = self.load_settled(&missing).await?;
        let found: Vec<_> = missing.into_iter().zip(loaded).collect();
        self.look_up_inboxes(batch, &found).await?;
        batch.held.extend(found.into_iter().filter_map(|(id, loaded)| Some((id, loaded?))));
        Ok(())
    }

    /// Loads threds. Those that other workers of this engine are just publishing are waited for: what
    /// stands in their outboxes would be published twice.
    async fn load_settled(&self, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, Stopped> {
        /// Others may go on with a busy thred for ever. Then some is published twice.
        const TRIES: usize = 16;
        let mut ended = self.0.outgoing.ended();
        let mut loaded = self.insist(|| self.storage().load(ids)).await?;
        for _ in 0..TRIES {
            let has_more =
                |it: &Option<Loaded>| it.as_ref().is_some_and(|it| !it.outbox.is_empty());
            let places: Vec<_> = (0..ids.len()).filter(|at| has_more(&loaded[*at])).collect();
            let unpublished: Vec<_> = places.iter().map(|at| ids[*at].clone()).collect();
            if unpublished.is_empty() {
                break;
            }
            let mut stop = self.0.stop.subscribe();
            // A worker that stops in the middle of publishing never says that it is done.
            let is_stale = tokio::select! {
                biased;
                is_stale = self.0.outgoing.wait_for(&unpublished, ended) => is_stale,
                _ = stop.wait_for(|stop| *stop) => return Err(Stopped),
            };
            if !is_stale {
                break;
            }
            ended = self.0.outgoing.ended();
            let again = self.insist(|| self.storage().load(&unpublished)).await?;
            places.into_iter().zip(again).for_each(|(at, again)| loaded[at] = again);
        }
        Ok(loaded)
    }

    /// Computes what follows from each task.
    pub(super) fn react_all(&self, batch: &mut Batch, round: Vec<Ready>) -> Vec<Reacted> {
        let mut reacted = Vec::with_capacity(round.len());
        // One scope serves all patterns that an event is offered to.
        let mut scope: Option<(usize, Scope)> = None;
        for Ready { task, pattern } in round {
            if let What::Begin(_) = task.what
                && scope.as_ref().is_none_or(|(case, _)| *case != task.case)
                && let Some(accepted) = batch.accepted(task.case)
            {
                let event = accepted.event.clone();
                scope = Some((task.case, Scope::new(event, batch.now, batch.seed)));
            }
            let mut attempt = || {
                let scope = scope.as_mut().map(|(_, scope)| scope);
                catch_unwind(AssertUnwindSafe(|| react_one(batch, &task, &pattern, scope)))
            };
            let mut outcome = attempt();
            // The machine may have been busy with something else: the limit is on the clock.
            for _ in 1..OVERTIME_TRIES {
                match &outcome {
                    Ok(Err(error)) if is_overtime(error) => outcome = attempt(),
                    _ => break,
                }
            }
            let outcome = outcome.unwrap_or_else(|_| {
                scope = None;
                Err(StepError::Shape {
                    reaction: pattern.name.clone(),
                    what: "an expression panicked; this is a defect, please report it".into(),
                })
            });
            match outcome {
                Ok(Outcome::Commit(commit)) => {
                    let commit = Arc::new(commit);
                    reacted.push(Reacted { task, commit, pattern, prelude: false });
                }
                Ok(Outcome::ExpireFirst(commit)) => {
                    let commit = Arc::new(commit);
                    reacted.push(Reacted { task, commit, pattern, prelude: true });
                }
                Ok(Outcome::Unmoved(log)) => batch.unmoved(&task, log),
                Ok(Outcome::Nothing) => self.offer_refused(batch, task.case),
                Ok(Outcome::Duplicate) => batch.seen_before(&task),
                Ok(Outcome::Ended) if batch.is_offer(task.case) => {
                    // The place is free by now, or soon.
                    batch.cases[task.case].deferred = true;
                }
                Ok(Outcome::Ended) => self.thred_is_gone(batch, &task),
                Err(error) => self.step_failed(batch, &task, &pattern, &error),
            }
        }
        reacted
    }

    fn step_failed(&self, batch: &mut Batch, task: &Task, pattern: &Pattern, error: &StepError) {
        let id = &pattern.key.id;
        let reason = match task.what.thred_id() {
            Some(thred) => format!("pattern `{id}`, thred {thred}, {error}"),
            None => format!("pattern `{id}`, {error}"),
        };
        batch.fail(task.case, reason, error.to_event_error());
        if let What::Spawn(start) = &task.what {
            self.disown(batch, start);
        }
    }

    fn pattern_is_gone(&self, batch: &mut Batch, task: &Task) {
        if let What::Spawn(start) = &task.what {
            let text = format!("pattern `{}` is not stored any more", start.pattern_id);
            let error = EventError::new(ErrorCode::ServerError, text.clone());
            let start = start.clone();
            batch.fail(task.case, text, error);
            self.disown(batch, &start);
            return;
        }
        let text = "the pattern revision that the thred runs is not stored any more";
        batch.fail(task.case, text.into(), EventError::new(ErrorCode::ServerError, text));
    }

    /// A bound event whose thred is not there is recorded, and its source told.
    fn thred_is_gone(&self, batch: &mut Batch, task: &Task) {
        let (What::Bound(thred), Inbound::Event(accepted)) =
            (&task.what, batch.cases[task.case].inbound.clone())
        else {
            return self.offer_refused(batch, task.case);
        };
        let event = accepted.event;
        let text = format!("there is no thred {thred}, or it has ended");
        batch.note(task.case, LogType::NoThred, &event, None, Some(&text));
        batch.tell_source(&event, &EventError::new(ErrorCode::ThredDoesNotExist, text));
        batch.cases[task.case].taken = true;
    }

    /// The revision of a pattern that a thred runs.
    pub(super) async fn revision(
        &self,
        batch: &mut Batch,
        key: &crate::state::PatternKey,
    ) -> Result<Option<Arc<Pattern>>, Stopped> {
        if let Some(pattern) = batch.library.revision(key) {
            pattern.mark_used();
            return Ok(Some(pattern.clone()));
        }
        let stored = self.insist(|| self.storage().pattern(key)).await?;
        let compiled = stored.map(|stored| Pattern::compile(&stored, &self.config().expr_limits));
        match compiled {
            Some(Ok(pattern)) => {
                let pattern = Arc::new(pattern);
                self.know_revision(&mut batch.library, pattern.clone());
                Ok(Some(pattern))
            }
            Some(Err(error)) => {
                let error = PortError::new("compile pattern", PortErrorKind::Rejected, error);
                tracing::error!(%error, pattern = %key.id, "a stored revision cannot run");
                Ok(None)
            }
            None => Ok(None),
        }
    }
}

fn is_overtime(error: &StepError) -> bool {
    let StepError::Expression { source, .. } = error else { return false };
    matches!(source, ExprError::Limit { limit: "time", .. })
}

fn react_one(
    batch: &Batch,
    task: &Task,
    pattern: &Pattern,
    scope: Option<&mut Scope>,
) -> Result<Outcome, StepError> {
    let held = |id: &ThredId| batch.held.get(id).map(|loaded| &*loaded.state);
    let consumed = batch.cases[task.case].consumed;
    let world = batch.world();
    let (input, id) = match (&task.what, &batch.cases[task.case].inbound) {
        (What::Begin(_), _) => {
            let Some(scope) = scope else { return Ok(Outcome::Nothing) };
            let consumed = batch.consumed_event(task.case);
            let commit = thred::start(pattern, scope, consumed, &world)?;
            return Ok(commit.map_or(Outcome::Nothing, Outcome::Commit));
        }
        (What::Spawn(start), _) => {
            return thred::spawn(pattern, start, consumed, &world).map(Outcome::Commit);
        }
        (What::Bound(id), Inbound::Event(accepted)) => (Input::Bound(&accepted.event), id),
        (What::Offer(id), Inbound::Event(accepted)) => (Input::Offered(&accepted.event), id),
        (What::Obey(id), Inbound::Command(command)) => (Input::Command(command), id),
        _ => return Ok(Outcome::Nothing),
    };
    if batch.cases[task.case].moved.contains(id) {
        return Ok(Outcome::Duplicate);
    }
    if matches!(input, Input::Offered(_))
        && held(id).is_some_and(|state| !batch.is_awaited(task.case, state))
    {
        // It has come to wait for something else.
        return Ok(Outcome::Nothing);
    }
    let settled = batch.settled.get(id).map_or(&[][..], |settled| settled);
    let world = World { settled, ..world };
    match held(id) {
        Some(state) => thred::react(pattern, state, input, consumed, &world),
        None => Ok(Outcome::Ended),
    }
}
