//! One topic: what this process holds of it, and how that is fetched.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use redis::Value;
use thredcore::port::{Delivery, DeliveryTag, Returned, Routed};
use thredlib::Topic;
use tokio::sync::Notify;

use super::Shared;
use crate::{
    Error, Request, Tag,
    queue::{
        IDS,
        items::{Drawn, Holder, ItemId, Items, Run, Waiting, millis},
        lane::{Count, Item, Lane},
        letters::LetterLimits,
        lightly,
        scripts::{BEAT, DELAY, ENTER, LEAVE, MEMBER},
    },
};

/// How many messages of the dead are taken over at once.
const PAGE: usize = 256;

#[derive(Debug)]
pub(super) struct TopicLane {
    pub(super) number: usize,
    pub(super) name: Topic,
    pub(super) items: Arc<Items>,
    /// Sorted set: the consumers by when they were heard last.
    pub(super) alive: String,
    pub(super) state: Mutex<State>,
    /// Told when `receive` may have something to do or to give.
    pub(super) changed: Notify,
    /// How many calls wait for its messages.
    receivers: AtomicUsize,
}

#[derive(Debug)]
pub(super) struct State {
    membership: Option<Membership>,
    pub(super) lane: Lane<Routed>,
    fetching: bool,
    /// Nothing is to be had until the bell rings.
    quiet: bool,
    /// When something is due that waits on the server.
    due: Option<Instant>,
    /// Counts what may have brought something: the bell may be heard before the answer that there
    /// is nothing.
    rings: u64,
    failure: Option<Error>,
    /// When a call last asked for messages.
    asked: Instant,
}

/// The time in which this process is one of the topic's consumers.
#[derive(Clone, Debug)]
struct Membership {
    /// Differs from that of any other, an earlier one of this process included.
    token: String,
    /// Whether it may have messages that are not in the lane.
    unsure: bool,
}

enum Step {
    Enter,
    /// Read what was handed out before.
    Held,
    /// Write down what is handed out again.
    Again(Vec<(ItemId, Count)>),
    /// Take what is new, and tell which runs have ended.
    Draw(Vec<ItemId>),
}

enum Found {
    Entered(String),
    NotAlive,
    Held(Vec<Run>, Vec<(ItemId, Item<Routed>)>),
    Again(Vec<(ItemId, Count)>),
    New(Vec<Run>, Vec<(ItemId, Routed)>, Vec<(ItemId, Item<Routed>)>),
    /// The first one that waits on the server is due then.
    Nothing(Option<Instant>),
}

impl TopicLane {
    pub(super) fn new(namespace: &str, number: usize, name: &Topic, limits: LetterLimits) -> Self {
        let tag = Tag::new(namespace, &format!("m:{name}"));
        Self {
            number,
            name: name.clone(),
            alive: tag.key("c"),
            items: Arc::new(Items::new(tag, name.to_string(), limits)),
            state: Mutex::new(State {
                membership: None,
                lane: Lane::new(number),
                fetching: false,
                quiet: false,
                due: None,
                rings: 0,
                failure: None,
                asked: Instant::now(),
            }),
            changed: Notify::new(),
            receivers: AtomicUsize::new(0),
        }
    }

    /// The consumer that has a token.
    pub(super) fn holder<'a>(&'a self, token: &'a str) -> Holder<'a> {
        Holder { scripts: &MEMBER, fence: &self.alive, token, name: token }
    }

    /// What is there for a consumer.
    pub(super) fn take(&self, max: usize) -> Result<Vec<Delivery<Routed>>, Error> {
        let mut state = self.state.lock();
        state.asked = Instant::now();
        match state.failure.take() {
            Some(error) => Err(error),
            None => Ok(state.lane.take(max)),
        }
    }

    /// Whether messages are to be fetched now; and when a delayed one is due.
    pub(super) fn wants(&self) -> (bool, Option<Instant>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        let mut due = state.lane.wake_delayed(now);
        match state.due {
            Some(later) if later <= now => {
                state.due = None;
                state.quiet = false;
            }
            later => due = due.into_iter().chain(later).min(),
        }
        let fetch = !state.fetching && (!state.quiet || state.lane.has_again());
        state.fetching |= fetch;
        (fetch, due)
    }

    /// Looks again, whether the bell rang or not.
    pub(super) fn rouse(&self) {
        let mut state = self.state.lock();
        state.quiet = false;
        state.rings += 1;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Counts a call that waits, until it is dropped.
    pub(super) fn receiver(&self) -> Receiver<'_> {
        self.receivers.fetch_add(1, Ordering::AcqRel);
        Receiver(self)
    }

    pub(super) fn token(&self) -> Option<String> {
        self.state.lock().membership.as_ref().map(|membership| membership.token.clone())
    }

    /// Ends a membership, if it is still that one. What was out comes again, to another consumer or
    /// to this one.
    fn end(&self, token: &str) {
        let mut state = self.state.lock();
        if state.membership.as_ref().is_some_and(|membership| membership.token == token) {
            state.membership = None;
            state.quiet = false;
            state.lane.clear();
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Whether nobody has asked for its messages for some time, or has any.
    fn is_deserted(&self, since: Instant) -> bool {
        let state = self.state.lock();
        let idle = self.receivers.load(Ordering::Acquire) == 0 && state.asked < since;
        idle && !state.fetching && state.lane.nothing_is_out()
    }

    fn next_step(&self, max: usize) -> (Option<String>, u64, Step) {
        let mut state = self.state.lock();
        let Some(membership) = state.membership.clone() else {
            return (None, state.rings, Step::Enter);
        };
        let step = if membership.unsure {
            Step::Held
        } else if state.lane.has_again() {
            Step::Again(state.lane.next_again(max))
        } else {
            Step::Draw(state.lane.ended())
        };
        (Some(membership.token), state.rings, step)
    }
}

/// A call that waits for a topic's messages.
pub(super) struct Receiver<'a>(&'a TopicLane);

impl Drop for Receiver<'_> {
    fn drop(&mut self) {
        self.0.receivers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Shared {
    /// Fetches messages of a topic into its lane. Runs as a task of its own: whoever asked for
    /// them may be gone when they come.
    pub(super) async fn fetch(&self, topic: &TopicLane, max: usize) {
        let (token, rings, step) = topic.next_step(max.min(IDS));
        let found =
            self.step(topic, token.as_deref().unwrap_or_default(), step, max.min(IDS)).await;
        let mut state = topic.state.lock();
        state.fetching = false;
        let State { membership, lane, quiet, due, rings: now_rings, failure, .. } = &mut *state;
        let current = membership.as_ref().map(|membership| membership.token.as_str());
        if current == token.as_deref() {
            match found {
                Ok(Found::Entered(token)) => {
                    *membership = Some(Membership { token, unsure: true });
                }
                Ok(Found::NotAlive) => {
                    *membership = None;
                    lane.clear();
                }
                Ok(Found::Held(runs, messages)) => {
                    lane.add_again(messages);
                    lane.add_runs(runs);
                    if let Some(membership) = membership {
                        membership.unsure = false;
                    }
                }
                Ok(Found::Again(counts)) => lane.written(&counts),
                Ok(Found::New(runs, messages, again)) => {
                    lane.add(messages);
                    lane.add_again(again);
                    lane.add_runs(runs);
                }
                Ok(Found::Nothing(next)) => {
                    *quiet = rings == *now_rings;
                    *due = next;
                }
                Err(error) => {
                    // The messages of a lost answer are this consumer's.
                    if let Some(membership) = membership {
                        membership.unsure = true;
                    }
                    *failure = Some(error);
                }
            }
        }
        drop(state);
        topic.changed.notify_waiters();
    }

    async fn step(
        &self,
        topic: &TopicLane,
        token: &str,
        step: Step,
        max: usize,
    ) -> Result<Found, Error> {
        let (items, holder) = (&topic.items, topic.holder(token));
        Ok(match step {
            Step::Enter => {
                let token = self.new_token();
                let request = lightly(&items.tag, &ENTER, &[&*topic.alive]).arg(&token);
                self.connection.ask::<Value>(request).await?;
                // What is left of the dead comes before what is new.
                self.beat(topic, &token).await?;
                Found::Entered(token)
            }
            Step::Held => match items.held(&self.connection, holder).await? {
                Some((runs, messages)) => Found::Held(runs, messages),
                None => Found::NotAlive,
            },
            Step::Again(counts) => {
                if items.again(&self.connection, holder, &counts).await? {
                    Found::Again(counts)
                } else {
                    Found::NotAlive
                }
            }
            Step::Draw(ended) => {
                let waiting = Waiting::Delayed(self.config.message_ttl);
                let drawn = items.draw(&self.connection, holder, max, &self.bell, waiting, &ended);
                match drawn.await? {
                    Drawn::Refused => Found::NotAlive,
                    Drawn::Nothing { due_in, .. } => {
                        Found::Nothing(due_in.map(|time| Instant::now() + time))
                    }
                    Drawn::Some(runs, messages, again) => Found::New(runs, messages, again),
                }
            }
        })
    }

    /// Says that this consumer of a topic is alive; the answer is how many messages it has on the
    /// server, `None` when it counts as dead.
    async fn beat(&self, topic: &TopicLane, token: &str) -> Result<Option<usize>, Error> {
        let keys = [&*topic.alive, &topic.items.items, &topic.items.held];
        let request = lightly(&topic.items.tag, &BEAT, &keys).arg((
            token,
            millis(self.config.visibility),
            PAGE,
        ));
        self.connection.ask(request).await
    }

    /// Keeps up a membership, takes over from dead consumers, and ends it when nobody asks for the
    /// topic's messages any more.
    pub(super) async fn look_after(&self, topic: &TopicLane) {
        let Some(token) = topic.token() else { return };
        let now = Instant::now();
        if now.checked_sub(self.config.visibility).is_some_and(|since| topic.is_deserted(since)) {
            return self.leave(topic, &token).await;
        }
        match self.beat(topic, &token).await {
            Ok(None) => topic.end(&token),
            Ok(Some(count)) => {
                let mut state = topic.state.lock();
                let more = count > state.lane.len() && !state.fetching;
                let Some(membership) = state.membership.as_mut().filter(|_| more) else { return };
                membership.unsure = true;
                drop(state);
                topic.rouse();
            }
            Err(error) => {
                tracing::warn!(%error, topic = %topic.name, "cannot say that a consumer is alive");
            }
        }
    }

    pub(super) async fn leave(&self, topic: &TopicLane, token: &str) {
        topic.end(token);
        let request = lightly(&topic.items.tag, &LEAVE, &[&*topic.alive]).arg((
            token,
            &self.channel,
            topic.name.as_str(),
        ));
        if let Err(error) = self.connection.ask::<Value>(request).await {
            tracing::debug!(%error, topic = %topic.name, "will count as alive for some time");
        }
    }

    /// Has a message that is given back wait on the server, for whoever asks when it is due.
    pub(super) async fn delay(
        &self,
        topic: &TopicLane,
        tag: &DeliveryTag,
        delay_ms: u64,
        why: Returned,
    ) -> Result<(), Error> {
        let Some(token) = topic.token() else { return Ok(()) };
        let Some((id, count)) = topic.state.lock().lane.returned(tag, why) else { return Ok(()) };
        let items = &topic.items;
        let keys = [
            &*topic.alive,
            &items.items,
            &items.attempts,
            &items.delayed,
            &items.last,
            &items.waiting,
        ];
        let delay = i64::try_from(delay_ms).unwrap_or(i64::MAX).min(LONGEST_DELAY);
        let request = Request::script(&items.tag, &DELAY, &keys).arg((
            &token,
            id.0,
            delay,
            count.to_string(),
            topic.name.as_str(),
        ));
        // Refused, it is another's by now.
        self.connection.ask::<Value>(request).await?;
        topic.state.lock().lane.end(tag);
        topic.rouse();
        Ok(())
    }
}

/// Ten years, in milliseconds.
const LONGEST_DELAY: i64 = 10 * 365 * 24 * 3600 * 1000;
