//! One partition: what this process holds of it, and how that is fetched.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;
use thredcore::port::{Delivery, Inbound};
use tokio::sync::Notify;

use super::Shared;
use crate::{
    Error, Tag,
    queue::{
        IDS,
        items::{Drawn, Holder, ItemId, Items, Run, Waiting},
        lane::{Count, Item, Lane},
        letters::LetterLimits,
        scripts::OWNER,
    },
};

/// Under which name the owner of a partition holds items, whoever that is: who has them follows from
/// the lease.
const HOLDER: &str = "owner";

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) number: u16,
    pub(super) items: Arc<Items>,
    /// Whose it is.
    pub(super) owner: String,
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
    /// When it may end: others may take this process for gone then.
    pub(super) until: Instant,
    /// Whether items may have been handed out that are not in the lane: a former owner's, or those
    /// of an answer that was lost.
    unsure: bool,
}

/// What a fetch is to do.
enum Step {
    /// Read what was handed out before.
    Held,
    /// Write down what is handed out again.
    Again(Vec<(ItemId, Count)>),
    /// Take what is new, and tell which runs have ended.
    Draw(Vec<ItemId>),
}

/// What a fetch has found.
enum Found {
    NotOwner,
    Held(Vec<Run>, Vec<(ItemId, Item<Inbound>)>),
    Again(Vec<(ItemId, Count)>),
    New(Vec<Run>, Vec<(ItemId, Inbound)>, Vec<(ItemId, Item<Inbound>)>),
    Nothing { unacknowledged: usize },
}

impl Partition {
    pub(super) fn new(namespace: &str, number: u16, limits: LetterLimits) -> Self {
        let tag = Tag::new(namespace, &format!("e{number}"));
        Self {
            number,
            owner: tag.key("l"),
            items: Arc::new(Items::new(tag, number.to_string(), limits)),
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

    /// The owner in the tenure of a token.
    pub(super) fn holder<'a>(&'a self, token: &'a str) -> Holder<'a> {
        Holder { scripts: &OWNER, fence: &self.owner, token, name: HOLDER }
    }

    /// What is there for a consumer; with nothing there, says whether it has to be fetched.
    pub(super) fn try_receive(
        &self,
        max: usize,
    ) -> Result<Result<Vec<Delivery<Inbound>>, bool>, Error> {
        let mut state = self.state.lock();
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
        let mut state = self.state.lock();
        state.quiet = false;
        state.rings += 1;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Begins a tenure.
    pub(super) fn begin(&self, token: String, until: Instant) {
        let mut state = self.state.lock();
        state.lane.clear();
        state.tenure = Some(Tenure { token, until, unsure: true });
        state.quiet = false;
        state.leaving = None;
        state.failure = None;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Ends a tenure, if it is still that one. What was out comes again, elsewhere.
    pub(super) fn end(&self, token: &str) {
        let mut state = self.state.lock();
        if state.tenure.as_ref().is_some_and(|tenure| tenure.token == token) {
            state.tenure = None;
            state.leaving = None;
            state.lane.clear();
        }
    }

    pub(super) fn tenure(&self) -> Option<Tenure> {
        self.state.lock().tenure.clone()
    }
}

impl Shared {
    /// Fetches items of a partition into its lane. Runs as a task of its own: whoever asked for
    /// them may be gone when they come.
    pub(super) async fn fetch(&self, partition: &Partition, max: usize) {
        let Some((token, rings, step)) = partition.next_step(max.min(IDS)) else { return };
        let found = self.step(partition, &token, step, max.min(IDS)).await;
        let mut state = partition.state.lock();
        state.fetching = false;
        let mut lost = false;
        let State { tenure, lane, quiet, rings: now_rings, failure, .. } = &mut *state;
        if let Some(tenure) = tenure.as_mut().filter(|tenure| tenure.token == token) {
            match found {
                Ok(Found::NotOwner) => lost = true,
                Ok(Found::Held(runs, items)) => {
                    tenure.unsure = false;
                    lane.add_again(items);
                    lane.add_runs(runs);
                }
                Ok(Found::Again(counts)) => lane.written(&counts),
                Ok(Found::New(runs, items, again)) => {
                    lane.add(items);
                    lane.add_again(again);
                    lane.add_runs(runs);
                }
                // More than is known here: it was handed out late, to a call that was given up.
                Ok(Found::Nothing { unacknowledged }) if unacknowledged > lane.len() => {
                    tenure.unsure = true;
                }
                Ok(Found::Nothing { .. }) => *quiet = rings == *now_rings && !lane.has_again(),
                Err(error) => {
                    // What a lost answer handed out is this owner's.
                    tenure.unsure = true;
                    *failure = Some(error);
                }
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
        let (items, holder) = (&partition.items, partition.holder(token));
        Ok(match step {
            Step::Held => match items.held(&self.connection, holder).await? {
                Some((runs, items)) => Found::Held(runs, items),
                None => Found::NotOwner,
            },
            Step::Again(counts) => {
                if items.again(&self.connection, holder, &counts).await? {
                    Found::Again(counts)
                } else {
                    Found::NotOwner
                }
            }
            Step::Draw(ended) => {
                let drawn =
                    items.draw(&self.connection, holder, max, &self.bell, Waiting::Ready, &ended);
                match drawn.await? {
                    Drawn::Refused => Found::NotOwner,
                    Drawn::Nothing { unacknowledged, .. } => Found::Nothing { unacknowledged },
                    Drawn::Some(runs, items, again) => Found::New(runs, items, again),
                }
            }
        })
    }
}

impl Partition {
    fn next_step(&self, max: usize) -> Option<(String, u64, Step)> {
        let mut state = self.state.lock();
        let Some(tenure) = state.tenure.clone() else {
            state.fetching = false;
            return None;
        };
        let step = if tenure.unsure {
            Step::Held
        } else if state.lane.has_again() {
            Step::Again(state.lane.next_again(max))
        } else {
            Step::Draw(state.lane.ended())
        };
        Some((tenure.token, state.rings, step))
    }
}
