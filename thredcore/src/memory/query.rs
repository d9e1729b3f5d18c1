//! Who waits for unbound events, and pages of threds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use thredlib::ThredId;

use crate::{
    port::{PortError, ThredPage, ThredQuery},
    state::{PatternKey, Status, ThredState},
};

/// The threds that wait for unbound events, by pattern revision and reaction.
#[derive(Debug, Default)]
pub struct Listeners(BTreeMap<PatternKey, BTreeMap<Arc<str>, BTreeSet<ThredId>>>);

impl Listeners {
    /// Where a thred listens.
    pub fn place(state: &ThredState) -> Option<(&PatternKey, &Arc<str>)> {
        let listens = state.listening && state.status == Status::Active;
        listens.then_some((&*state.pattern, &state.reaction))
    }

    /// Moves a thred from where it listened to where it does now.
    pub fn update(&mut self, old: Option<&ThredState>, new: &ThredState) {
        let (old, place) = (old.and_then(Self::place), Self::place(new));
        if old == place {
            return;
        }
        if let Some((pattern, reaction)) = old
            && let Some(reactions) = self.0.get_mut(pattern)
            && let Some(threds) = reactions.get_mut(reaction)
        {
            threds.remove(&new.id);
            if threds.is_empty() {
                reactions.remove(reaction);
            }
            if reactions.is_empty() {
                self.0.remove(pattern);
            }
        }
        if let Some((pattern, reaction)) = place {
            let reactions = self.0.entry(pattern.clone()).or_default();
            reactions.entry(reaction.clone()).or_default().insert(new.id.clone());
        }
    }

    /// Who listens in a reaction, sorted.
    pub fn threds(&self, pattern: &PatternKey, reaction: &str) -> Vec<ThredId> {
        let threds = self.0.get(pattern).and_then(|reactions| reactions.get(reaction));
        threds.map_or(vec![], |threds| threds.iter().cloned().collect())
    }

    /// The revisions that somebody listens in.
    pub fn patterns(&self) -> Vec<PatternKey> {
        self.0.keys().cloned().collect()
    }
}

/// Gathers one page, the oldest starts first, from threds that come in any order.
#[derive(Debug)]
pub struct Pager<'q> {
    query: &'q ThredQuery,
    after: Option<(i64, &'q str)>,
    found: Vec<Arc<ThredState>>,
}

impl<'q> Pager<'q> {
    /// An empty page.
    ///
    /// # Errors
    /// When the query's `after` is not what an earlier page gave.
    pub fn new(query: &'q ThredQuery) -> Result<Self, PortError> {
        Ok(Self { query, after: query.start()?, found: vec![] })
    }

    /// Takes a thred if it is meant.
    pub fn offer(&mut self, state: &Arc<ThredState>) {
        let behind = || self.after.is_none_or(|after| ThredPage::place(state) > after);
        if self.query.matches(state) && behind() {
            self.found.push(state.clone());
        }
    }

    /// Forgets what cannot be on the page, but one: it tells that there is another page.
    pub fn prune(&mut self) {
        if self.found.len() > self.query.page_size() {
            self.sort();
            self.found.truncate(self.query.page_size().saturating_add(1));
        }
    }

    /// The page, sorted, and where the next one begins.
    pub fn page(mut self) -> ThredPage {
        self.sort();
        ThredPage::of(self.query, self.found)
    }

    fn sort(&mut self) {
        self.found.sort_unstable_by(|a, b| ThredPage::place(a).cmp(&ThredPage::place(b)));
    }
}
