//! Pages of threds.

use std::sync::Arc;

use crate::{
    port::{PortError, ThredPage, ThredQuery},
    state::ThredState,
};

/// Gathers one page, the oldest starts first, from threds that come in any order.
#[derive(Debug)]
pub struct Pager<'q> {
    query: &'q ThredQuery,
    after: Option<(i64, &'q str)>,
    found: Vec<Arc<ThredState>>,
    /// One more than the page holds, and the last of them.
    last: Option<Arc<ThredState>>,
}

impl<'q> Pager<'q> {
    /// An empty page.
    ///
    /// # Errors
    /// When the query's `after` is not what an earlier page gave.
    pub fn new(query: &'q ThredQuery) -> Result<Self, PortError> {
        Ok(Self { query, after: query.start()?, found: vec![], last: None })
    }

    /// Takes a thred if it is meant; says whether it is.
    pub fn offer(&mut self, state: &Arc<ThredState>) -> bool {
        let behind = || self.after.is_none_or(|after| ThredPage::place(state) > after);
        let is_meant = self.query.matches(state) && behind();
        if is_meant {
            self.found.push(state.clone());
        }
        is_meant
    }

    /// Whether what stands at a place is known not to be on the page, nor what comes after it; as far
    /// as known when it was last [pruned](Self::prune).
    pub fn is_beyond(&self, place: (i64, &str)) -> bool {
        self.last.as_ref().is_some_and(|last| place > ThredPage::place(last))
    }

    /// Forgets what cannot be on the page, but one: it tells that there is another page.
    pub fn prune(&mut self) {
        if self.found.len() > self.query.page_size() {
            self.sort();
            self.found.truncate(self.query.page_size().saturating_add(1));
            self.last = self.found.last().cloned();
        }
    }

    /// The page, sorted, and where the next one begins.
    pub fn page(mut self) -> ThredPage {
        self.sort();
        ThredPage::of(self.query, self.found)
    }

    fn sort(&mut self) {
        self.found.sort_by(|a, b| ThredPage::place(a).cmp(&ThredPage::place(b)));
    }
}
