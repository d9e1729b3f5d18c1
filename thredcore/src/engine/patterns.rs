//! The patterns that the engine knows, and those who watch it.

use std::{collections::HashMap, sync::Arc};

use thredlib::{ParticipantId, PatternId, PatternModel};
use tokio::{sync::MutexGuard, time::Instant};

use super::{Engine, EngineError};
use crate::{
    pattern::{Library, LoadError, Pattern},
    port::{Lease, PortError, StoredPattern},
    state::PatternKey,
};

/// Patterns that have just been compiled.
type Compiled = HashMap<Arc<PatternKey>, Arc<Pattern>>;

/// The names of the leases of those who watch threds.
pub(super) const WATCH: &str = "watch/";

impl Engine {
    /// The patterns in use.
    pub fn library(&self) -> Arc<Library> {
        self.0.library.read().clone()
    }

    /// Replaces what was `old` a moment ago; revisions that have become known since then stay.
    fn replace_library(&self, old: &Arc<Library>, new: Library) {
        let mut library = self.0.library.write();
        let missed = if Arc::ptr_eq(&library, old) {
            Vec::new()
        } else {
            library.revisions().filter(|p| new.revision(&p.key).is_none()).collect()
        };
        let new = if missed.is_empty() { new } else { new.with_older(missed.into_iter().cloned()) };
        *library = Arc::new(new);
    }

    pub(super) fn watchers(&self) -> Arc<Vec<ParticipantId>> {
        self.0.watchers.read().at(self.now())
    }

    /// Stores patterns and matches events against them from here on. Running threds keep the
    /// revision that they started with.
    ///
    /// # Errors
    /// When one of them cannot run, none is stored.
    pub async fn put_patterns(&self, models: Vec<PatternModel>) -> Result<(), EngineError> {
        let stored: Vec<_> = models.into_iter().map(StoredPattern::new).collect();
        let library = self.library();
        let mut compiled = Compiled::new();
        for pattern in &stored {
            if library.revision(&pattern.key).is_none() {
                let pattern = Arc::new(Pattern::compile(pattern, &self.config().expr_limits)?);
                compiled.insert(pattern.key.clone(), pattern);
            }
        }
        for pattern in stored {
            self.storage().put_pattern(pattern).await?;
        }
        drop(self.reload_with(compiled).await?);
        Ok(())
    }

    /// Takes a pattern out of use; its threds run on.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    pub async fn remove_pattern(&self, id: &PatternId) -> Result<(), EngineError> {
        self.storage().remove_pattern(id).await?;
        self.reload().await?;
        Ok(())
    }

    /// Reads the stored patterns again, if they have changed. A stored pattern that cannot run is
    /// left out with a log message; its earlier revision stays in use if this engine knows it.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    pub async fn reload(&self) -> Result<(), PortError> {
        let _held = self.reload_with(Compiled::new()).await?;
        self.know_listening().await
    }

    /// The same without a look at who waits in older revisions: whoever matches an unbound event
    /// [has it](Self::keep_up_with_listening), and an engine that is idle asks nothing.
    pub(super) async fn reload_changed(&self) -> Result<(), PortError> {
        self.reload_with(Compiled::new()).await.map(drop)
    }

    /// Learns, for who is about to match unbound events, of older revisions in which threds of other
    /// engines have come to wait for them; once in a while.
    pub(super) async fn keep_up_with_listening(&self) {
        let is_known = || {
            let looked = *self.0.listening_known.lock();
            looked.is_some_and(|at| at.elapsed() < self.config().sweep_interval)
        };
        if is_known() {
            return;
        }
        // One looks for all.
        let _held = self.0.library_version.lock().await;
        if is_known() {
            return;
        }
        if let Err(error) = self.know_listening().await {
            tracing::warn!(%error, "could not look for threds that wait in older revisions");
        }
    }

    /// Reads the stored patterns again, changed or not.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    pub async fn reload_all(&self) -> Result<(), PortError> {
        *self.0.library_version.lock().await = None;
        self.reload().await
    }

    /// Compiles only what is neither in use nor in `compiled`. No other reload begins as long as the
    /// answer is held.
    async fn reload_with(
        &self,
        compiled: Compiled,
    ) -> Result<MutexGuard<'_, Option<u64>>, PortError> {
        // Held to the end: of two reloads, the one that read first would else write last.
        let mut known = self.0.library_version.lock().await;
        // Read before the patterns: what changes in between is seen by the next reload.
        let version = self.storage().patterns_version().await?;
        if *known == Some(version) {
            return Ok(known);
        }
        let old = self.library();
        let compile = |stored: &StoredPattern| {
            let known = old.revision(&stored.key).or_else(|| compiled.get(&stored.key));
            known.cloned().or_else(|| self.compile(stored))
        };
        let mut current = Vec::new();
        for stored in self.storage().patterns().await? {
            current.extend(compile(&stored).or_else(|| old.current(&stored.key.id).cloned()));
        }
        let mut older: Vec<_> = old.revisions().cloned().collect();
        for key in self.storage().listening_patterns().await? {
            if old.revision(&key).is_none()
                && let Some(stored) = self.storage().pattern(&key).await?
            {
                older.extend(compile(&stored));
            }
        }
        self.replace_library(&old, Library::new(current, older));
        *known = Some(version);
        Ok(known)
    }

    /// Learns of older revisions in which threds of other engines have come to wait for unbound
    /// events.
    async fn know_listening(&self) -> Result<(), PortError> {
        let looked = Instant::now();
        let old = self.library();
        let mut older = Vec::new();
        for key in self.storage().listening_patterns().await? {
            if old.revision(&key).is_none()
                && let Some(stored) = self.storage().pattern(&key).await?
            {
                older.extend(self.compile(&stored));
            }
        }
        if !older.is_empty() {
            self.replace_library(&old, old.with_older(older));
        }
        *self.0.listening_known.lock() = Some(looked);
        Ok(())
    }

    /// Forgets older revisions that no thred has run since the last look, and in which none waits
    /// for unbound events. Should a thred run one after all, it is read again from the storage.
    pub(super) async fn forget_revisions(&self) -> Result<(), PortError> {
        let listening = self.storage().listening_patterns().await?;
        let mut library = self.0.library.write();
        let keep = |pattern: &Pattern| pattern.was_used() || listening.contains(&pattern.key);
        let rest = library.without_older(keep);
        if rest.revisions().count() < library.revisions().count() {
            *library = Arc::new(rest);
        }
        Ok(())
    }

    fn compile(&self, stored: &StoredPattern) -> Option<Arc<Pattern>> {
        match Pattern::compile(stored, &self.config().expr_limits) {
            Ok(pattern) => Some(Arc::new(pattern)),
            Err(LoadError { pattern, faults }) => {
                tracing::error!(%pattern, ?faults, "a stored pattern cannot run");
                None
            }
        }
    }

    /// Adds an older revision that a thred turned out to run, to the patterns in use and to those
    /// that a batch works with: the batch goes on with the set that it began with.
    pub(super) fn know_revision(&self, of_batch: &mut Arc<Library>, pattern: Arc<Pattern>) {
        let mut library = self.0.library.write();
        let same = Arc::ptr_eq(&library, of_batch);
        *library = Arc::new(library.with_older([pattern.clone()]));
        *of_batch = if same { library.clone() } else { Arc::new(of_batch.with_older([pattern])) };
    }

    /// Learns who watches.
    pub(super) async fn find_watchers(&self) -> Result<(), PortError> {
        let leases = self.storage().leases(WATCH, self.now()).await?;
        let watchers = Watchers::new(leases);
        let mut known = self.0.watchers.write();
        if known.leases != watchers.leases {
            *known = watchers;
        }
        Ok(())
    }
}

/// Who watches, and how long. A watch ends by itself, whenever the leases were last looked at.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    leases: Vec<Lease>,
    owners: Arc<Vec<ParticipantId>>,
}

impl Watchers {
    fn new(leases: Vec<Lease>) -> Self {
        let owners = leases.iter().map(|lease| lease.owner.as_str().into()).collect();
        Self { leases, owners: Arc::new(owners) }
    }

    fn at(&self, now: i64) -> Arc<Vec<ParticipantId>> {
        if self.leases.iter().all(|lease| lease.until > now) {
            return self.owners.clone();
        }
        let running = self.leases.iter().filter(|lease| lease.until > now);
        Arc::new(running.map(|lease| lease.owner.as_str().into()).collect())
    }
}

#[cfg(test)]
mod tests {
    use thredlib::{ConditionBuilder, Event, PatternBuilder, PatternModel, ReactionBuilder};

    use crate::testing::Bed;

    fn pattern(description: &str, listens: bool) -> PatternModel {
        let on = |kind: &str| ConditionBuilder::filter(format!("$event.type = '{kind}'"));
        let wait = ReactionBuilder::new("wait").condition(on("end"));
        let wait = if listens { wait.allow_unbound_events() } else { wait };
        PatternBuilder::new("changing")
            .description(description)
            .reaction(ReactionBuilder::new("start").condition(on("start")))
            .reaction(wait)
            .build()
    }

    #[tokio::test]
    async fn a_revision_that_no_thred_runs_is_forgotten() {
        let mut bed = Bed::new([pattern("old", false)]).await.unwrap();
        bed.send(Event::builder("start", "ann").build()).await.unwrap();
        let engine = bed.engine().clone();
        let known = || engine.library().revisions().count();
        engine.put_patterns(vec![pattern("new", false)]).await.unwrap();
        engine.forget_revisions().await.unwrap();
        assert_eq!(known(), 2, "it has just been compiled");
        engine.forget_revisions().await.unwrap();
        assert_eq!(known(), 1);

        let thred = bed.live_threds().await.unwrap()[0].id.clone();
        let event = |kind: &str| Event::builder(kind, "ann").thred(thred.clone()).build();
        bed.send(event("nothing")).await.unwrap();
        assert_eq!(known(), 2, "its thred runs on");
        engine.forget_revisions().await.unwrap();
        bed.send(event("end")).await.unwrap();
        assert!(bed.live_threds().await.unwrap().is_empty());
        engine.forget_revisions().await.unwrap();
        engine.forget_revisions().await.unwrap();
        assert_eq!(known(), 1);
    }

    #[tokio::test]
    async fn a_revision_in_which_threds_wait_for_unbound_events_is_kept() {
        let mut bed = Bed::new([pattern("old", true)]).await.unwrap();
        bed.send(Event::builder("start", "ann").build()).await.unwrap();
        let engine = bed.engine().clone();
        engine.put_patterns(vec![pattern("new", true)]).await.unwrap();
        for _ in 0..3 {
            engine.forget_revisions().await.unwrap();
        }
        bed.send(Event::builder("end", "ann").build()).await.unwrap();
        assert!(bed.live_threds().await.unwrap().is_empty());
    }
}
