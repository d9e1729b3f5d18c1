//! Patterns and their revisions.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thredlib::{PatternId, PatternModel};

use crate::{port::error::PortError, state::PatternKey};

/// Keeps patterns: the current revision of each, and the older ones that threds still run.
#[async_trait]
pub trait PatternStore: Send + Sync {
    /// Makes this the current revision of its pattern; earlier ones are kept.
    ///
    /// # Errors
    /// It may have been stored.
    async fn put_pattern(&self, pattern: StoredPattern) -> Result<(), PortError>;

    /// Takes a pattern out of use; its revisions are kept for the threds that run them.
    ///
    /// # Errors
    /// It may have been taken out.
    async fn remove_pattern(&self, id: &PatternId) -> Result<(), PortError>;

    /// The current revisions of all patterns, sorted by id.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn patterns(&self) -> Result<Vec<StoredPattern>, PortError>;

    /// One revision, current or not.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn pattern(&self, key: &PatternKey) -> Result<Option<StoredPattern>, PortError>;

    /// The revisions that active threds wait for unbound events in.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn listening_patterns(&self) -> Result<Vec<PatternKey>, PortError>;

    /// A number that changes whenever the set of current revisions does, and never returns to one
    /// that it had.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn patterns_version(&self) -> Result<u64, PortError>;
}

/// A pattern with the name of its revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredPattern {
    /// Its id and revision.
    pub key: PatternKey,
    /// The pattern as written.
    pub model: Arc<PatternModel>,
}

impl StoredPattern {
    /// Names the revision of a pattern by a hash of its text.
    pub fn new(model: PatternModel) -> Self {
        let text = serde_json::to_vec(&model).unwrap_or_default();
        let revision = thredlib::stable_hash(&text);
        Self { key: PatternKey { id: model.id(), revision }, model: Arc::new(model) }
    }
}
