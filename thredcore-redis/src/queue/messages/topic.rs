//! One topic: what this process holds of it, and how that is fetched.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use redis::Value;
use thredcore::port::{Delivery, Routed};
use thredlib::Topic;
use tokio::sync::Notify;

use super::Shared;
use crate::{
    Error, Tag,
    queue::{
        lane::{Item, Lane},
        letters::Letters,
        lightly, lock,
        reply::{Entry, EntryId, array, entries, malformed, text},
        scripts::{BEAT, DRAW, ENTER, LEAVE, MINE, REDRAW},
    },
};

/// The consumer group of a topic, of all its consumers.
pub(super) const GROUP: &str = "agents";

/// How many messages at hand are read at once, and how many of the dead are taken over at once.
const PAGE: usize = 256;

#[derive(Debug)]
pub(super) struct TopicLane {
    pub(super) number: usize,
    pub(super) name: Topic,
    pub(super) tag: Tag,
    pub(super) stream: String,
    /// Set: channels of those who wait for a message.
    pub(super) waiting: String,
    pub(super) dead: String,
    /// Sorted set: the consumers by when they were heard last.
    pub(super) alive: String,
    /// A key that is never there, in the place of the events' counts: a group counts by itself.
    pub(super) attempts: String,
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
    Mine,
    Again(Vec<(EntryId, u32)>),
    Draw,
}

enum Found {
    Entered(String),
    NotAlive,
    Mine(Vec<(EntryId, Item<Routed>)>),
    Again(Vec<(EntryId, u32)>),
    New(Vec<(EntryId, Routed)>),
}

impl TopicLane {
    pub(super) fn new(namespace: &str, number: usize, name: &Topic) -> Self {
        let tag = Tag::new(namespace, &format!("m:{name}"));
        Self {
            number,
            name: name.clone(),
            stream: tag.key("s"),
            waiting: tag.key("w"),
            dead: tag.key("d"),
            alive: tag.key("c"),
            attempts: tag.key("a"),
            tag,
            state: Mutex::new(State {
                membership: None,
                lane: Lane::new(number),
                fetching: false,
                quiet: false,
                rings: 0,
                failure: None,
                asked: Instant::now(),
            }),
            changed: Notify::new(),
            receivers: AtomicUsize::new(0),
        }
    }

    pub(super) fn letters(&self) -> Letters<'_> {
        Letters {
            label: self.name.as_str(),
            tag: &self.tag,
            stream: &self.stream,
            waiting: &self.waiting,
            dead: &self.dead,
        }
    }

    /// What is there for a consumer.
    pub(super) fn take(&self, max: usize) -> Result<Vec<Delivery<Routed>>, Error> {
        let mut state = lock(&self.state);
        state.asked = Instant::now();
        match state.failure.take() {
            Some(error) => Err(error),
            None => Ok(state.lane.take(max)),
        }
    }

    /// Whether messages are to be fetched now; and when a delayed one is due.
    pub(super) fn wants(&self) -> (bool, Option<Instant>) {
        let mut state = lock(&self.state);
        let due = state.lane.wake_delayed(Instant::now());
        let fetch = !state.fetching && (!state.quiet || state.lane.has_again());
        state.fetching |= fetch;
        (fetch, due)
    }

    /// Looks again, whether the bell rang or not.
    pub(super) fn rouse(&self) {
        let mut state = lock(&self.state);
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
        lock(&self.state).membership.as_ref().map(|membership| membership.token.clone())
    }

    /// Ends a membership, if it is still that one. What was out comes again, to another consumer or
    /// to this one.
    fn end(&self, token: &str) {
        let mut state = lock(&self.state);
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
        let state = lock(&self.state);
        let idle = self.receivers.load(Ordering::Acquire) == 0 && state.asked < since;
        idle && !state.fetching && state.lane.nothing_is_out()
    }

    fn next_step(&self, max: usize) -> (Option<String>, u64, Step) {
        let state = lock(&self.state);
        let Some(membership) = state.membership.clone() else {
            return (None, state.rings, Step::Enter);
        };
        let step = if membership.unsure {
            Step::Mine
        } else if state.lane.has_again() {
            Step::Again(state.lane.next_again(max))
        } else {
            Step::Draw
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
        let (token, rings, step) = topic.next_step(max);
        let found = self.step(topic, token.as_deref().unwrap_or_default(), step, max).await;
        let mut state = lock(&topic.state);
        state.fetching = false;
        let State { membership, lane, quiet, rings: now_rings, failure, .. } = &mut *state;
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
                Ok(Found::Mine(messages)) => {
                    lane.add_again(messages);
                    if let Some(membership) = membership {
                        membership.unsure = false;
                    }
                }
                Ok(Found::Again(counts)) => lane.written(&counts),
                Ok(Found::New(messages)) if messages.is_empty() => *quiet = rings == *now_rings,
                Ok(Found::New(messages)) => lane.add(messages),
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
        match step {
            Step::Enter => {
                let token = self.new_token();
                let keys = [&*topic.alive, &topic.stream];
                let request = lightly(&topic.tag, &ENTER, &keys).arg((&token, GROUP));
                self.connection.ask::<Value>(request).await?;
                // What is left of the dead comes before what is new.
                self.beat(topic, &token).await?;
                Ok(Found::Entered(token))
            }
            Step::Mine => self.mine(topic, token).await,
            Step::Again(counts) => {
                let keys = [&*topic.alive, &topic.stream];
                let mut request = lightly(&topic.tag, &REDRAW, &keys).arg((token, GROUP));
                for (id, attempts) in &counts {
                    request.push((id.to_string(), attempts));
                }
                Ok(match self.connection.ask(request).await? {
                    Value::Nil => Found::NotAlive,
                    _ => Found::Again(counts),
                })
            }
            Step::Draw => {
                let keys = [&*topic.alive, &topic.stream, &topic.waiting];
                let request =
                    lightly(&topic.tag, &DRAW, &keys).arg((token, GROUP, max, &self.bell));
                match self.connection.ask(request).await? {
                    Value::Nil => Ok(Found::NotAlive),
                    value => Ok(Found::New(self.readable(topic, token, entries(value)?).await)),
                }
            }
        }
    }

    /// Says that this consumer of a topic is alive; the answer is how many messages it has on the
    /// server, `None` when it counts as dead.
    async fn beat(&self, topic: &TopicLane, token: &str) -> Result<Option<usize>, Error> {
        let visibility = u64::try_from(self.config.visibility.as_millis()).unwrap_or(u64::MAX);
        let request = lightly(&topic.tag, &BEAT, &[&*topic.alive, &topic.stream])
            .arg((token, GROUP, visibility, PAGE));
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
                let mut state = lock(&topic.state);
                let more = count > state.lane.len() && !state.fetching;
                if let Some(membership) = state.membership.as_mut().filter(|_| more) {
                    membership.unsure = true;
                }
                drop(state);
                // Whoever rang may not have been heard.
                topic.rouse();
            }
            Err(error) => {
                tracing::warn!(%error, topic = %topic.name, "cannot say that a consumer is alive");
            }
        }
    }

    pub(super) async fn leave(&self, topic: &TopicLane, token: &str) {
        topic.end(token);
        let request = lightly(&topic.tag, &LEAVE, &[&*topic.alive]).arg((
            token,
            &self.channel,
            topic.name.as_str(),
        ));
        if let Err(error) = self.connection.ask::<Value>(request).await {
            tracing::debug!(%error, topic = %topic.name, "will count as alive for some time");
        }
    }

    /// All messages that this consumer has on the server.
    async fn mine(&self, topic: &TopicLane, token: &str) -> Result<Found, Error> {
        let mut all = vec![];
        let mut from = "-".to_owned();
        loop {
            let request = lightly(&topic.tag, &MINE, &[&*topic.alive, &topic.stream])
                .arg((token, GROUP, &from, PAGE));
            let value: Value = self.connection.ask(request).await?;
            if value == Value::Nil {
                return Ok(Found::NotAlive);
            }
            let mut parts = array(value)?.into_iter();
            let mut part = || parts.next().ok_or_else(|| malformed("half an answer"));
            let (page, attempts, last) = (entries(part()?)?, array(part()?)?, text(part()?)?);
            if last.is_empty() {
                return Ok(Found::Mine(all));
            }
            from = format!("({last}");
            let mut counts = std::collections::HashMap::with_capacity(page.len());
            for (entry, attempts) in page.iter().zip(attempts) {
                counts.insert(entry.id, text(attempts)?.parse().unwrap_or(1));
            }
            let messages = self.readable(topic, token, page).await.into_iter();
            all.extend(messages.map(|(id, payload)| {
                (id, Item { payload, attempts: counts.get(&id).copied().unwrap_or(1) })
            }));
        }
    }

    /// Reads messages. One that cannot be read would come again for ever, so it is put away.
    async fn readable(
        &self,
        topic: &TopicLane,
        token: &str,
        entries: Vec<Entry>,
    ) -> Vec<(EntryId, Routed)> {
        let mut messages = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry.item() {
                Ok(message) => messages.push((entry.id, message)),
                Err(error) => {
                    tracing::error!(%error, topic = %topic.name, "a message is unreadable");
                    let reason = error.to_string();
                    // If that fails, whoever gets it next tries.
                    let _ = self.bury(topic, token, entry.id, &reason, 0).await;
                }
            }
        }
        messages
    }
}
