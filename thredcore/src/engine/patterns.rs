//! The patterns that the engine knows, and those who watch it.

use std::sync::{Arc, PoisonError};

use thredlib::{ParticipantId, PatternId, PatternModel};

use super::{Engine, EngineError};
use crate::{
    pattern::{Library, LoadError, Pattern},
    port::{Lease, PortError, StoredPattern},
};

/// The names of the leases of those who watch threds.
pub(super) const WATCH: &str = "watch/";

impl Engine {
    /// The patterns in use.
    pub fn library(&self) -> Arc<Library> {
        self.0.library.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_library(&self, library: Library) -> Arc<Library> {
        let library = Arc::new(library);
        *self.0.library.write().unwrap_or_else(PoisonError::into_inner) = library.clone();
        library
    }

    pub(super) fn watchers(&self) -> Arc<Vec<ParticipantId>> {
        self.0.watchers.read().unwrap_or_else(PoisonError::into_inner).at(self.now())
    }

    /// Stores patterns and matches events against them from here on. Running threds keep the
    /// revision that they started with.
    ///
    /// # Errors
    /// When one of them cannot run, none is stored.
    pub async fn put_patterns(&self, models: Vec<PatternModel>) -> Result<(), EngineError> {
        let stored: Vec<_> = models.into_iter().map(StoredPattern::new).collect();
        for pattern in &stored {
            Pattern::compile(pattern, &self.config().expr_limits)?;
        }
        for pattern in stored {
            self.storage().put_pattern(pattern).await?;
        }
        self.reload().await?;
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
        let version = self.storage().patterns_version().await?;
        let known = *self.0.library_version.read().unwrap_or_else(PoisonError::into_inner);
        if known == Some(version) {
            return Ok(());
        }
        let old = self.library();
        let mut current = Vec::new();
        for stored in self.storage().patterns().await? {
            current.extend(
                self.compile(&old, &stored).or_else(|| old.current(&stored.key.id).cloned()),
            );
        }
        let mut older: Vec<_> = old.revisions().cloned().collect();
        for key in self.storage().listening_patterns().await? {
            if old.revision(&key).is_none()
                && let Some(stored) = self.storage().pattern(&key).await?
            {
                older.extend(self.compile(&old, &stored));
            }
        }
        self.set_library(Library::new(current, older));
        *self.0.library_version.write().unwrap_or_else(PoisonError::into_inner) = Some(version);
        Ok(())
    }

    /// Reads the stored patterns again, changed or not.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    pub async fn reload_all(&self) -> Result<(), PortError> {
        *self.0.library_version.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.reload().await
    }

    fn compile(&self, old: &Library, stored: &StoredPattern) -> Option<Arc<Pattern>> {
        if let Some(known) = old.revision(&stored.key) {
            return Some(known.clone());
        }
        match Pattern::compile(stored, &self.config().expr_limits) {
            Ok(pattern) => Some(Arc::new(pattern)),
            Err(LoadError { pattern, faults }) => {
                tracing::error!(%pattern, ?faults, "a stored pattern cannot run");
                None
            }
        }
    }

    /// Adds an older revision that a thred turned out to run.
    pub(super) fn know_revision(&self, pattern: Arc<Pattern>) -> Arc<Library> {
        let library = self.library();
        let older = library.revisions().cloned().chain([pattern]);
        self.set_library(Library::new(library.all().cloned(), older))
    }

    /// Learns who watches.
    pub(super) async fn find_watchers(&self) -> Result<(), PortError> {
        let leases = self.storage().leases(WATCH, self.now()).await?;
        let watchers = Watchers::new(leases);
        let mut known = self.0.watchers.write().unwrap_or_else(PoisonError::into_inner);
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
