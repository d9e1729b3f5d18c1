//! Which threds are asked for, and pages of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thredlib::{ParticipantId, PatternId};

use crate::{
    port::error::{PortError, PortErrorKind},
    state::{PatternKey, Status, ThredState, WaitKey},
};

/// Which threds are meant; all fields that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ThredQuery {
    /// Those of a pattern, in any revision.
    pub pattern: Option<PatternId>,
    /// Those that somebody takes part in.
    pub participant: Option<ParticipantId>,
    /// Those in a reaction of this name.
    pub reaction: Option<Arc<str>>,
    /// Those in one of these states; none given: active and finished ones.
    pub status: Vec<Status>,
    /// Those that wait for unbound events under a key.
    pub key: Option<WaitKey>,
    /// Those that started at this time or later, milliseconds since the Unix epoch.
    pub started_from: Option<i64>,
    /// Those that started before this time.
    pub started_before: Option<i64>,
    /// Those that last changed at this time or later.
    pub modified_from: Option<i64>,
    /// Those that last changed before this time.
    pub modified_before: Option<i64>,
    /// Continues after the last page.
    pub after: Option<String>,
    /// At most so many; 0 stands for [`ThredQuery::DEFAULT_LIMIT`].
    pub limit: usize,
}

impl ThredQuery {
    /// The size of a page unless the query says another: 1000.
    pub const DEFAULT_LIMIT: usize = 1000;

    /// Whether a thred is meant, its place among the pages aside.
    pub fn matches(&self, state: &ThredState) -> bool {
        let status = match &*self.status {
            [] => state.status.is_live(),
            any => any.contains(&state.status),
        };
        status
            && self.pattern.as_ref().is_none_or(|id| *id == state.pattern.id)
            && self.participant.as_ref().is_none_or(|id| state.participants.contains(id))
            && self.reaction.as_ref().is_none_or(|name| *name == state.reaction)
            && self.key.is_none_or(|key| state.is_listening() && state.waits.contains(&key))
            && self.started_from.is_none_or(|from| from <= state.started_at)
            && self.started_before.is_none_or(|before| state.started_at < before)
            && self.modified_from.is_none_or(|from| from <= state.modified_at)
            && self.modified_before.is_none_or(|before| state.modified_at < before)
    }

    /// How many threds the page holds at most.
    pub fn page_size(&self) -> usize {
        match self.limit {
            0 => Self::DEFAULT_LIMIT,
            limit => limit,
        }
    }

    /// The place of the last thred of the page before: this one holds what comes after it.
    ///
    /// # Errors
    /// [`PortErrorKind::Rejected`]: `after` is not what an earlier page gave.
    pub fn start(&self) -> Result<Option<(i64, &str)>, PortError> {
        let Some(text) = self.after.as_deref() else { return Ok(None) };
        let place = || {
            let (started, id) = text.split_once('/')?;
            Some((started.parse().ok()?, id))
        };
        let place = place().ok_or_else(|| {
            let cause = "`after` is not what an earlier page gave as `next`";
            PortError::new("query threds", PortErrorKind::Rejected, cause)
        });
        place.map(Some)
    }
}

/// How many threds of one kind there are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThredCount {
    /// The revision of the pattern.
    pub pattern: PatternKey,
    /// The reaction that they are in.
    pub reaction: Arc<str>,
    /// Where they are in their life; ended ones are not counted.
    pub status: Status,
    /// How many.
    pub threds: u64,
}

/// One page of threds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThredPage {
    /// The threds.
    pub threds: Vec<Arc<ThredState>>,
    /// What [`ThredQuery::after`] must be for the next page; `None` on the last one.
    pub next: Option<String>,
}

impl ThredPage {
    /// The first of these threds, as many as the query's page holds. They are sorted by
    /// [`place`](Self::place) and lie behind its [`start`](ThredQuery::start); one more than fits
    /// tells that there is another page.
    pub fn of(query: &ThredQuery, threds: impl IntoIterator<Item = Arc<ThredState>>) -> Self {
        let mut rest = threds.into_iter();
        let threds: Vec<_> = rest.by_ref().take(query.page_size()).collect();
        let last = threds.last().filter(|_| rest.next().is_some());
        let next = last.map(|last| {
            let (started, id) = Self::place(last);
            format!("{started}/{id}")
        });
        Self { threds, next }
    }

    /// What threds are sorted by: their start, then their id.
    pub fn place(state: &ThredState) -> (i64, &str) {
        (state.started_at, state.id.as_str())
    }
}
