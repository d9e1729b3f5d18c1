//! Patterns and their revisions.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use thredlib::{PatternId, PatternModel};

use super::storage::MemoryStorage;
use crate::{
    port::{PatternStore, PortError, StoredPattern},
    state::PatternKey,
};

/// All revisions, and which are current.
#[derive(Debug, Default)]
pub(super) struct Revisions {
    models: HashMap<PatternKey, Arc<PatternModel>>,
    current: BTreeMap<PatternId, u64>,
    /// Raised with each change of the current revisions.
    version: u64,
}

impl Revisions {
    fn put(&mut self, pattern: StoredPattern) {
        let StoredPattern { key, model } = pattern;
        if self.current.insert(key.id.clone(), key.revision) != Some(key.revision) {
            self.version += 1;
        }
        self.models.insert(key, model);
    }

    fn get(&self, key: &PatternKey) -> Option<StoredPattern> {
        let model = self.models.get(key)?;
        Some(StoredPattern { key: key.clone(), model: model.clone() })
    }

    fn current(&self) -> Vec<StoredPattern> {
        let keys = self.current.iter();
        let keys = keys.map(|(id, revision)| PatternKey { id: id.clone(), revision: *revision });
        keys.filter_map(|key| self.get(&key)).collect()
    }
}

#[async_trait]
impl PatternStore for MemoryStorage {
    async fn put_pattern(&self, pattern: StoredPattern) -> Result<(), PortError> {
        self.revisions.lock().put(pattern);
        Ok(())
    }

    async fn remove_pattern(&self, id: &PatternId) -> Result<(), PortError> {
        let mut revisions = self.revisions.lock();
        if revisions.current.remove(id).is_some() {
            revisions.version += 1;
        }
        Ok(())
    }

    async fn patterns(&self) -> Result<Vec<StoredPattern>, PortError> {
        Ok(self.revisions.lock().current())
    }

    async fn pattern(&self, key: &PatternKey) -> Result<Option<StoredPattern>, PortError> {
        Ok(self.revisions.lock().get(key))
    }

    async fn listening_patterns(&self) -> Result<Vec<PatternKey>, PortError> {
        Ok(self.listening.lock().keys())
    }

    async fn patterns_version(&self) -> Result<u64, PortError> {
        Ok(self.revisions.lock().version)
    }
}
