//! One partition: what this process holds of it, and how that is fetched.

use std::{sync::Mutex, time::Instant};

use redis::Value;
use thredcore::port::{Delivery, Inbound};
use tokio::sync::Notify;

use super::Shared;
use crate::{
    Error, Tag,
    queue::{
        lane::{Item, Lane},
        letters::Letters,
        lightly, lock,
        reply::{Entry, EntryId, array, entries, malformed, text},
        scripts::{AGAIN, PENDING, TAKE},
    },
};

/// The consumer group of a partition. Its last id is how far items were handed out, to whomever;
/// who has them follows from the lease.
pub(super) const GROUP: &str = "engines";

/// How many handed-out items of a former owner are read at once.
const PAGE: usize = 256;

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) number: u16,
    pub(super) label: String,
    pub(super) tag: Tag,
    pub(super) stream: String,
    /// Set: channels of those who wait for an item.
    pub(super) waiting: String,
    pub(super) dead: String,
    pub(super) lease: String,
    /// Hash: id → how often it was handed out, if more than once.
    pub(super) attempts: String,
    pub(super) state: Mutex<State>,
    /// Told when `receive` may have something to do or to give.
    pub(super) changed: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) tenure: Option<Tenure>,
    pub(super) lane: Lane<Inbound>,
    fetching: bool,
    /// Nothing is to be had until the bell rings.
    quiet: bool,
    /// Counts what may have brought something: the bell may be heard before the answer that there
    /// is nothing.
    rings: u64,
    failure: Option<Error>,
    /// To be given up when nothing is out any more, at the latest then.
    pub(super) leaving: Option<Instant>,
}

impl State {
    /// Whether nobody has an item, or is about to get one.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.fetching && self.lane.is_idle()
    }
}

/// The time in which a partition is this process's.
#[derive(Clone, Debug)]
pub(super) struct Tenure {
    /// Differs from that of any other tenure, an earlier one of this process included.
    pub(super) token: String,
    /// When it ends, unless it is renewed.
    pub(super) until: Instant,
    /// Up to where items were fetched.
    cursor: EntryId,
    /// Whether items up to the cursor may have been handed out that are not in the lane: a former
    /// owner's, or those of an answer that was lost.
    unsure: bool,
}

/// What a fetch is to do.
enum Step {
    /// Read what was handed out before.
    Pending,
    /// Write down what is handed out again.
    Again(Vec<(EntryId, u32)>),
    /// Read what is new.
    Take(EntryId),
}

/// What a fetch has found.
enum Found {
    NotOwner,
    Pending(Vec<(EntryId, Item<Inbound>)>),
    Again(Vec<(EntryId, u32)>),
    New(Vec<(EntryId, Inbound)>, EntryId),
    Nothing { unacknowledged: usize },
}

impl Partition {
    pub(super) fn new(namespace: &str, number: u16) -> Self {
        let tag = Tag::new(namespace, &format!("e{number}"));
        Self {
            number,
            label: number.to_string(),
            stream: tag.key("s"),
            waiting: tag.key("w"),
            dead: tag.key("d"),
            lease: tag.key("l"),
            attempts: tag.key("a"),
            tag,
            state: Mutex::new(State {
                tenure: None,
                lane: Lane::new(usize::from(number)),
                fetching: false,
                quiet: false,
                rings: 0,
                failure: None,
                leaving: None,
            }),
            changed: Notify::new(),
        }
    }

    pub(super) fn letters(&self) -> Letters<'_> {
        Letters {
            label: &self.label,
            tag: &self.tag,
            stream: &self.stream,
            waiting: &self.waiting,
            dead: &self.dead,
        }
    }

    /// What is there for a consumer; with nothing there, says whether it has to be fetched.
    pub(super) fn try_receive(
        &self,
        max: usize,
    ) -> Result<Result<Vec<Delivery<Inbound>>, bool>, Error> {
        let mut state = lock(&self.state);
        let now = Instant::now();
        if state.tenure.as_ref().is_none_or(|tenure| tenure.until <= now) {
            return Ok(Err(false));
        }
        if let Some(error) = state.failure.take() {
            return Err(error);
        }
        let batch = state.lane.take(max);
        if !batch.is_empty() {
            return Ok(Ok(batch));
        }
        let fetch = !state.fetching && !state.quiet && state.leaving.is_none();
        state.fetching |= fetch;
        Ok(Err(fetch))
    }

    /// Looks again, whether the bell rang or not.
    pub(super) fn rouse(&self) {
        let mut state = lock(&self.state);
        state.quiet = false;
        state.rings += 1;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Begins a tenure.
    pub(super) fn begin(&self, token: String, until: Instant, cursor: EntryId) {
        let mut state = lock(&self.state);
        state.lane.clear();
        state.tenure = Some(Tenure { token, until, cursor, unsure: true });
        state.quiet = false;
        state.leaving = None;
        state.failure = None;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Ends a tenure, if it is still that one. What was out comes again, elsewhere.
    pub(super) fn end(&self, token: &str) {
        let mut state = lock(&self.state);
        if state.tenure.as_ref().is_some_and(|tenure| tenure.token == token) {
            state.tenure = None;
            state.leaving = None;
            state.lane.clear();
        }
    }

    pub(super) fn tenure(&self) -> Option<Tenure> {
        lock(&self.state).tenure.clone()
    }
}

impl Shared {
    /// Fetches items of a partition into its lane. Runs as a task of its own: whoever asked for
    /// them may be gone when they come.
    pub(super) async fn fetch(&self, partition: &Partition, max: usize) {
        let Some((token, rings, step)) = partition.next_step(max) else { return };
        let found = self.step(partition, &token, step, max).await;
        let mut state = lock(&partition.state);
        state.fetching = false;
        let mut lost = false;
        let State { tenure, lane, quiet, rings: now_rings, failure, .. } = &mut *state;
        if let Some(tenure) = tenure.as_mut().filter(|tenure| tenure.token == token) {
            match found {
                Ok(Found::NotOwner) => lost = true,
                Ok(Found::Pending(items)) => {
                    tenure.unsure = false;
                    lane.add_again(items);
                }
                Ok(Found::Again(counts)) => lane.written(&counts),
                Ok(Found::New(items, last)) => {
                    tenure.cursor = last;
                    lane.add(items);
                }
                // More than is known here: an answer was lost, or the server lost its memory of a
                // newer entry and with it the order of ids.
                Ok(Found::Nothing { unacknowledged }) if unacknowledged > lane.len() => {
                    tenure.unsure = true;
                }
                Ok(Found::Nothing { .. }) => *quiet = rings == *now_rings && !lane.has_again(),
                Err(error) => *failure = Some(error),
            }
        }
        drop(state);
        if lost {
            partition.end(&token);
            self.look.notify_one();
        }
        partition.changed.notify_waiters();
    }

    async fn step(
        &self,
        partition: &Partition,
        token: &str,
        step: Step,
        max: usize,
    ) -> Result<Found, Error> {
        match step {
            Step::Pending => self.pending(partition, token).await,
            Step::Again(counts) => {
                let keys = [&*partition.lease, &partition.attempts];
                let mut request = lightly(&partition.tag, &AGAIN, &keys).arg(token);
                for (id, attempts) in &counts {
                    request.push((id.to_string(), attempts));
                }
                Ok(match self.connection.ask(request).await? {
                    Value::Nil => Found::NotOwner,
                    _ => Found::Again(counts),
                })
            }
            Step::Take(cursor) => {
                let keys = [&*partition.lease, &partition.stream, &partition.waiting];
                let request = lightly(&partition.tag, &TAKE, &keys).arg((
                    token,
                    cursor.to_string(),
                    max,
                    GROUP,
                    &self.bell,
                ));
                match self.connection.ask(request).await? {
                    Value::Nil => Ok(Found::NotOwner),
                    Value::Int(count) => {
                        Ok(Found::Nothing { unacknowledged: usize::try_from(count).unwrap_or(0) })
                    }
                    value => {
                        let entries = entries(value)?;
                        let last = entries.last().map_or(cursor, |entry| entry.id);
                        let items = self.readable(partition, token, entries).await;
                        Ok(Found::New(items, last))
                    }
                }
            }
        }
    }

    /// All that has been handed out and not acknowledged, in order.
    async fn pending(&self, partition: &Partition, token: &str) -> Result<Found, Error> {
        let Some(Tenure { cursor, .. }) = partition.tenure() else { return Ok(Found::NotOwner) };
        let mut all = vec![];
        let mut from = "-".to_owned();
        loop {
            let keys = [&*partition.lease, &partition.stream, &partition.attempts];
            let request = lightly(&partition.tag, &PENDING, &keys).arg((
                token,
                &from,
                cursor.to_string(),
                PAGE,
            ));
            let value: Value = self.connection.ask(request).await?;
            if value == Value::Nil {
                return Ok(Found::NotOwner);
            }
            let mut parts = array(value)?.into_iter();
            let mut part = || parts.next().ok_or_else(|| malformed("half an answer"));
            let page = entries(part()?)?;
            let attempts = array(part()?)?;
            let Some(last) = page.last() else { break };
            from = format!("({}", last.id);
            let mut counts = std::collections::HashMap::with_capacity(page.len());
            for (entry, attempts) in page.iter().zip(attempts) {
                counts.insert(entry.id, text(attempts)?.parse().unwrap_or(1));
            }
            let items = self.readable(partition, token, page).await.into_iter();
            all.extend(items.map(|(id, payload)| {
                (id, Item { payload, attempts: counts.get(&id).copied().unwrap_or(1) })
            }));
        }
        Ok(Found::Pending(all))
    }

    /// Reads items. One that cannot be read would be in the way for ever, so it is put away.
    async fn readable(
        &self,
        partition: &Partition,
        token: &str,
        entries: Vec<Entry>,
    ) -> Vec<(EntryId, Inbound)> {
        let mut items = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry.item() {
                Ok(item) => items.push((entry.id, item)),
                Err(error) => {
                    tracing::error!(%error, partition = partition.number, "an item is unreadable");
                    let reason = error.to_string();
                    // If that fails, the next owner of the partition tries.
                    let _ = self.bury(partition, token, entry.id, &reason, 0).await;
                }
            }
        }
        items
    }
}

impl Partition {
    fn next_step(&self, max: usize) -> Option<(String, u64, Step)> {
        let mut state = lock(&self.state);
        let Some(tenure) = state.tenure.clone() else {
            state.fetching = false;
            return None;
        };
        let step = if tenure.unsure {
            Step::Pending
        } else if state.lane.has_again() {
            Step::Again(state.lane.next_again(max))
        } else {
            Step::Take(tenure.cursor)
        };
        Some((tenure.token, state.rings, step))
    }
}
