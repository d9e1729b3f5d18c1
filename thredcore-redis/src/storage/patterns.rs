//! Patterns, their revisions, and word of their changes.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use thredcore::{
    port::{PatternStore, PortError, StoredPattern},
    state::PatternKey,
};
use thredlib::PatternId;
use tokio::sync::Notify;

use super::{RedisStorage, record, script};
use crate::{
    connection::{Request, Script},
    error::Error,
    listener::{Heard, Listener},
};

script!(PUT, "put_pattern.lua");
script!(PATTERNS, "patterns.lua");

impl RedisStorage {
    /// Word of changed patterns, so that an engine need not wait for its next sweep:
    ///
    /// ```no_run
    /// # async fn example(storage: thredcore_redis::RedisStorage, engine: thredcore::Engine) {
    /// let mut changes = storage.pattern_changes();
    /// loop {
    ///     changes.next().await;
    ///     if let Err(error) = engine.reload().await {
    ///         eprintln!("could not reload the patterns: {error}");
    ///     }
    /// }
    /// # }
    /// ```
    pub fn pattern_changes(&self) -> PatternChanges {
        PatternChanges { storage: self.clone(), changed: Arc::default(), listener: None }
    }

    fn change_call(&self, script: &Script, id: &PatternId) -> Request {
        let shared = &self.0.shared;
        let keys = [&*shared.pattern_texts, &shared.pattern_revisions, &shared.patterns_version];
        let request = Request::script(&shared.patterns, script, &keys);
        request.arg(shared.patterns_channel()).arg(id.as_str())
    }
}

/// Tells when patterns have changed.
#[derive(Debug)]
pub struct PatternChanges {
    storage: RedisStorage,
    changed: Arc<Notify>,
    listener: Option<Listener>,
}

impl PatternChanges {
    /// Waits until the patterns have changed, or may have while nobody listened: at the first call
    /// and after a broken connection it returns as soon as it listens. Dropping the future
    /// loses nothing.
    pub async fn next(&mut self) {
        if self.listener.is_none() {
            let channels = vec![self.storage.0.shared.patterns_channel()];
            let (connection, changed) = (self.storage.0.connection.clone(), self.changed.clone());
            let hear = move |_: Heard<'_>| changed.notify_one();
            self.listener = Some(Listener::start(connection, channels, hear));
        }
        self.changed.notified().await;
    }
}

/// A pattern; one that cannot be read is left where it is.
fn stored(id: String, revision: u64, text: &[u8]) -> Option<StoredPattern> {
    let warn = |error: &Error| {
        tracing::warn!(%error, pattern = id, revision, "a pattern cannot be read, and is passed over");
    };
    let model = record::parse(text).inspect_err(warn).ok()?;
    Some(StoredPattern { key: PatternKey { id: id.into(), revision }, model })
}

#[async_trait]
impl PatternStore for RedisStorage {
    async fn put_pattern(&self, pattern: StoredPattern) -> Result<(), PortError> {
        let text = record::json(&pattern.model).map_err(|error| error.of("store a pattern"))?;
        let request = self.change_call(&PUT, &pattern.key.id).arg(pattern.key.revision).arg(text);
        self.one::<i64>("store a pattern", request).await.map(drop)
    }

    async fn remove_pattern(&self, id: &PatternId) -> Result<(), PortError> {
        self.one::<i64>("remove a pattern", self.change_call(&PUT, id)).await.map(drop)
    }

    async fn patterns(&self) -> Result<Vec<StoredPattern>, PortError> {
        let shared = &self.0.shared;
        let keys = [&*shared.pattern_texts, &shared.pattern_revisions];
        let request = Request::asking_script(&shared.patterns, &PATTERNS, &keys);
        let found: Vec<(String, u64, Vec<u8>)> = self.one("read patterns", request).await?;
        let found = found.into_iter();
        let mut patterns: Vec<_> =
            found.filter_map(|(id, revision, text)| stored(id, revision, &text)).collect();
        patterns.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(patterns)
    }

    async fn pattern(&self, key: &PatternKey) -> Result<Option<StoredPattern>, PortError> {
        let shared = &self.0.shared;
        let mut command = redis::cmd("HGET");
        command.arg(&shared.pattern_texts).arg(format!("{}\n{}", key.revision, key.id));
        let request = Request::read(&shared.patterns, command);
        let text: Option<Vec<u8>> = self.one("read a pattern", request).await?;
        Ok(text.and_then(|text| stored(key.id.to_string(), key.revision, &text)))
    }

    async fn listening_patterns(&self) -> Result<Vec<PatternKey>, PortError> {
        let places = self.places("find listening patterns").await?.into_iter().flatten();
        let listening = places.filter(|(place, _)| place.listening);
        let keys: BTreeSet<_> = listening.map(|(place, _)| place.pattern).collect();
        Ok(keys.into_iter().collect())
    }

    async fn patterns_version(&self) -> Result<u64, PortError> {
        let shared = &self.0.shared;
        let mut command = redis::cmd("GET");
        command.arg(&shared.patterns_version);
        let request = Request::read(&shared.patterns, command);
        let version: Option<u64> = self.one("read the version of the patterns", request).await?;
        Ok(version.unwrap_or(0))
    }
}
