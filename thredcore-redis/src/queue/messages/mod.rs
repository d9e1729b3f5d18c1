//! The queue of what goes out.

mod config;
mod publish;
mod topic;
mod upkeep;

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::future::{join_all, select_all};
use parking_lot::Mutex;
use thredcore::port::{
    DeadLetter, DeadLetterFilter, Death, Delivery, DeliveryTag, MessageQ, PortError, PortErrorKind,
    Quarantine, Returned, Routed, TopicBacklog, Unreadable,
};
use thredlib::Topic;

pub use self::config::RedisMessageQConfig;
use self::topic::TopicLane;
use super::{
    NowAndThen, by_lane, ending,
    lane::Lane,
    letters::{self, Letters},
};
use crate::{
    Connection, Error, Tag,
    listener::{Heard, Listener, Listening},
};

/// A [`MessageQ`] on Redis; each topic is under a hash tag of its own.
///
/// A process is a consumer of a topic while it asks for its messages. What a consumer had at hand
/// that died, or was not heard of for some time
/// ([`visibility`](RedisMessageQConfig::visibility)), goes to the others, with its attempts counted;
/// so do messages that it has put off with [`nack`](MessageQ::nack) for at most a minute: their delays
/// end with it. What is put off for longer waits on the server.
///
/// An idle consumer sends, with the defaults, 0.3 requests a second for each of its topics, and one more
/// every 30 s. Only [expiry](RedisMessageQConfig::message_ttl) asks for all topics, four times in its
/// time, at most once a minute for long ones.
///
/// Dropping the queue without [`close`](Self::close) is like the end of the process. Needs a user
/// who may publish to channels that begin with the namespace.
#[derive(Debug)]
pub struct RedisMessageQ {
    shared: Arc<Shared>,
    consuming: Mutex<Option<Listening>>,
    /// Looks for what has expired, if anything can.
    tending: Mutex<Option<AbortOnDropHandle>>,
}

#[derive(Debug)]
struct Shared {
    connection: Connection,
    config: RedisMessageQConfig,
    tag: Tag,
    /// Set: the names of all topics there are.
    names: String,
    /// Topics that are known to be in it, and since when.
    listed: Mutex<HashMap<Topic, Instant>>,
    topics: Mutex<Topics>,
    /// Where consumers tell each other that they have left messages.
    channel: String,
    /// This consumer's name, and where it is told that a topic has something.
    name: String,
    bell: String,
    tokens: AtomicU64,
    /// Which topic goes first; another each time.
    turn: AtomicUsize,
    closed: AtomicBool,
    dropped_letters: AtomicU64,
    trimmed: NowAndThen,
}

#[derive(Debug, Default)]
struct Topics {
    lanes: Vec<Arc<TopicLane>>,
    numbers: HashMap<Topic, usize>,
}

impl RedisMessageQ {
    /// The reason of a message that nobody has taken in its time.
    pub const EXPIRED: &'static str = "EXPIRED";

    /// Opens the queue.
    pub fn new(connection: Connection, config: RedisMessageQConfig) -> Self {
        let namespace = connection.config().namespace.clone();
        let tag = Tag::new(&namespace, "messages");
        let name = super::unique_name();
        let shared = Shared {
            connection,
            config,
            names: tag.key("topics"),
            tag,
            listed: Mutex::default(),
            topics: Mutex::default(),
            channel: format!("{namespace}:messages"),
            bell: format!("{namespace}:messages:{name}"),
            name,
            tokens: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            dropped_letters: AtomicU64::new(0),
            trimmed: NowAndThen::default(),
        };
        Self { shared: Arc::new(shared), consuming: Mutex::new(None), tending: Mutex::new(None) }
    }

    /// Stops consuming; what is at hand comes again elsewhere, at once.
    /// [`receive`](MessageQ::receive) answers
    /// [`Closed`](thredcore::port::PortErrorKind::Closed) from now on.
    pub async fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        let consuming = self.consuming.lock().take();
        drop(consuming);
        let lanes = self.shared.lanes();
        lanes.iter().for_each(|topic| topic.changed.notify_waiters());
        let leaving = lanes.iter().filter_map(|topic| {
            let token = topic.token()?;
            Some(async move { self.shared.leave(topic, &token).await })
        });
        join_all(leaving).await;
    }

    /// How many dead letters this queue has dropped for their age or number.
    pub fn dropped_dead_letters(&self) -> u64 {
        self.shared.dropped_letters.load(Ordering::Relaxed)
    }

    /// Looks for what has expired, from the first call on, if anything can expire.
    fn tend(&self) {
        let config = &self.shared.config;
        let Some(time) = config.message_ttl.into_iter().chain(config.idle_expiry).min() else {
            return;
        };
        let mut tending = self.tending.lock();
        if tending.is_some() || self.shared.is_closed() {
            return;
        }
        let shared = self.shared.clone();
        let pause = (time / 4).clamp(SHORTEST_TENDING, LONGEST_TENDING);
        *tending = Some(AbortOnDropHandle(tokio::spawn(async move {
            while !shared.is_closed() {
                tokio::time::sleep(pause).await;
                if let Err(error) = shared.expire().await {
                    tracing::debug!(%error, "cannot look for expired messages and topics");
                }
            }
        })));
    }

    /// Listens and says that it is alive, from the first call on.
    fn consume(&self) {
        let mut consuming = self.consuming.lock();
        if consuming.is_some() || self.shared.is_closed() {
            return;
        }
        let shared = &self.shared;
        let channels = vec![shared.bell.clone(), shared.channel.clone()];
        let told = shared.clone();
        let listener = Listener::start(shared.connection.clone(), channels, move |heard| {
            told.hear(&heard);
        });
        let beating = shared.clone();
        let beat = async move {
            let mut swept = Instant::now();
            loop {
                tokio::time::sleep(beating.config.visibility / 3).await;
                let lanes = beating.lanes();
                join_all(lanes.iter().map(|topic| beating.look_after(topic))).await;
                if swept.elapsed() >= beating.config.sweep {
                    // Whoever rang may not have been heard.
                    lanes.iter().for_each(|topic| topic.rouse());
                    swept = Instant::now();
                }
            }
        };
        *consuming = Some(Listening::new(listener, beat));
    }
}

/// What is delayed for longer (ms) waits on the server.
const LONGEST_HERE: u64 = 60_000;

/// How often it is looked for what has expired.
const SHORTEST_TENDING: Duration = Duration::from_millis(50);
const LONGEST_TENDING: Duration = Duration::from_secs(60);

/// A task that ends when this is dropped.
#[derive(Debug)]
struct AbortOnDropHandle(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDropHandle {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Shared {
    fn hear(self: &Arc<Self>, heard: &Heard<'_>) {
        match heard {
            Heard::Connected => self.lanes().iter().for_each(|topic| topic.rouse()),
            Heard::Message { channel, text } => {
                let Ok(name) = std::str::from_utf8(text) else { return };
                let Some(topic) = self.known(&Topic::from(name)) else { return };
                if *channel == self.channel && topic.token().is_some() {
                    // A consumer has left messages.
                    let shared = self.clone();
                    tokio::spawn(async move { shared.look_after(&topic).await });
                } else {
                    topic.rouse();
                }
            }
        }
    }

    /// The lane of a topic; made when it is named first.
    fn lane(&self, name: &Topic) -> Arc<TopicLane> {
        let mut topics = self.topics.lock();
        if let Some(number) = topics.numbers.get(name) {
            return topics.lanes[*number].clone();
        }
        let number = topics.lanes.len();
        let namespace = &self.connection.config().namespace;
        let lane = Arc::new(TopicLane::new(namespace, number, name, self.letter_limits()));
        topics.numbers.insert(name.clone(), number);
        topics.lanes.push(lane.clone());
        lane
    }

    fn known(&self, name: &Topic) -> Option<Arc<TopicLane>> {
        let topics = self.topics.lock();
        topics.numbers.get(name).map(|number| topics.lanes[*number].clone())
    }

    fn lanes(&self) -> Vec<Arc<TopicLane>> {
        self.topics.lock().lanes.clone()
    }

    fn lane_of(&self, tag: &DeliveryTag) -> Option<Arc<TopicLane>> {
        self.topics.lock().lanes.get(Lane::<Routed>::of(tag)).cloned()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn new_token(&self) -> String {
        format!("{}:{}", self.name, self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    async fn ack(&self, topic: &TopicLane, tags: &[DeliveryTag]) -> Result<(), Error> {
        let requests = ending(&topic.items, &topic.state.lock().lane, tags);
        self.connection.send(&requests).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut state = topic.state.lock();
        tags.iter().for_each(|tag| state.lane.end(tag));
        Ok(())
    }

    /// Hands out what is at hand of some topics, to each an equal part as far as it has so many.
    fn take(&self, lanes: &[Arc<TopicLane>], max: usize) -> Result<Vec<Delivery<Routed>>, Error> {
        let mut batch = vec![];
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut left: Vec<&TopicLane> =
            (0..lanes.len()).map(|place| &*lanes[(first + place) % lanes.len()]).collect();
        while batch.len() < max && !left.is_empty() {
            let share = ((max - batch.len()) / left.len()).max(1);
            let mut failure = None;
            left.retain(|topic| match topic.take(share.min(max - batch.len())) {
                Ok(some) => {
                    let full = some.len() == share;
                    batch.extend(some);
                    full && batch.len() < max
                }
                Err(error) => {
                    failure = Some(error);
                    false
                }
            });
            match failure {
                Some(error) if batch.is_empty() => return Err(error),
                Some(error) => tracing::warn!(%error, "cannot fetch messages of one of the topics"),
                None => {}
            }
        }
        Ok(batch)
    }
}

#[async_trait]
impl MessageQ for RedisMessageQ {
    fn max_item_bytes(&self) -> usize {
        self.shared.config.max_item_bytes
    }

    async fn publish(&self, messages: Vec<Routed>) -> Vec<Result<(), PortError>> {
        self.tend();
        self.shared.publish(messages).await
    }

    async fn receive(
        &self,
        topics: &[Topic],
        max: usize,
    ) -> Result<Vec<Delivery<Routed>>, PortError> {
        const OPERATION: &str = "receive messages";
        let shared = &self.shared;
        let max = max.max(1);
        self.consume();
        self.tend();
        let lanes: Vec<_> = topics.iter().map(|topic| shared.lane(topic)).collect();
        let _receivers: Vec<_> = lanes.iter().map(|lane| lane.receiver()).collect();
        loop {
            let mut told: Vec<_> =
                lanes.iter().map(|lane| Box::pin(lane.changed.notified())).collect();
            told.iter_mut().for_each(|told| _ = told.as_mut().enable());
            if shared.is_closed() {
                return Err(PortError::closed(OPERATION));
            }
            let batch = shared.take(&lanes, max).map_err(|error| error.of(OPERATION))?;
            if !batch.is_empty() {
                return Ok(batch);
            }
            let mut due: Option<Instant> = None;
            for lane in &lanes {
                let (fetch, delayed) = lane.wants();
                due = due.into_iter().chain(delayed).min();
                if fetch {
                    let (shared, lane) = (shared.clone(), lane.clone());
                    tokio::spawn(async move { shared.fetch(&lane, max).await });
                }
            }
            let told = async {
                if told.is_empty() {
                    std::future::pending().await
                } else {
                    _ = select_all(told).await
                }
            };
            match due {
                Some(due) => {
                    let due = pin!(tokio::time::sleep_until(due.into()));
                    futures::future::select(pin!(told), due).await;
                }
                None => told.await,
            }
        }
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        let parts = by_lane(tags.iter().copied(), Lane::<Routed>::of);
        let acks = parts.into_values().filter_map(|tags| {
            let topic = self.shared.lane_of(&tags[0])?;
            Some(async move { self.shared.ack(&topic, &tags).await })
        });
        let results = join_all(acks).await.into_iter();
        results.collect::<Result<(), _>>().map_err(|error| error.of("acknowledge messages"))
    }

    async fn nack(&self, tag: DeliveryTag, delay_ms: u64, why: Returned) -> Result<(), PortError> {
        let Some(topic) = self.shared.lane_of(&tag) else { return Ok(()) };
        if delay_ms > LONGEST_HERE {
            let delayed = self.shared.delay(&topic, &tag, delay_ms, why).await;
            return delayed.map_err(|error| error.of("put a message off"));
        }
        let due = Instant::now().checked_add(Duration::from_millis(delay_ms));
        topic.state.lock().lane.put_back(&tag, due.filter(|_| delay_ms > 0), Some(why));
        // Who waits for a message sees it now, or until when to wait for it.
        topic.changed.notify_waiters();
        Ok(())
    }

    async fn dead_letter(&self, tag: DeliveryTag, reason: &str) -> Result<(), PortError> {
        let Some(topic) = self.shared.lane_of(&tag) else { return Ok(()) };
        let Some(token) = topic.token() else { return Ok(()) };
        let found = topic.state.lock().lane.get(&tag).map(|(id, item)| (id, item.count.attempts));
        let Some((id, attempts)) = found else { return Ok(()) };
        let (connection, holder) = (&self.shared.connection, topic.holder(&token));
        let death = Death { reason: reason.to_owned(), ..Death::default() };
        let buried = topic.items.bury(connection, holder, id, attempts, &death).await;
        let dropped = buried.map_err(|error| error.of("dead-letter a message"))?;
        self.shared.count_dropped(dropped.unwrap_or(0));
        topic.state.lock().lane.end(&tag);
        self.shared.trim_now_and_then().await;
        Ok(())
    }

    async fn bury(&self, messages: Vec<(Routed, String)>) -> Result<(), PortError> {
        let buried = self.shared.bury(messages).await;
        buried.map_err(|error| error.of("put messages among the dead letters"))
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Routed>>, PortError> {
        let found = async {
            let topics = self.shared.all_topics().await?;
            self.shared.trim(&topics).await?;
            let letters: Vec<Letters<'_>> =
                topics.iter().map(|topic| topic.items.letters()).collect();
            letters::list(&self.shared.connection, &letters, filter).await
        };
        let found = found.await.map_err(|error| error.of("list dead letters of messages"))?;
        Ok(found.into_iter().map(|found| found.letter).collect())
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.shared.remove(filter, true).await.map_err(|error| error.of("redrive messages"))
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.shared.remove(filter, false).await.map_err(|error| error.of("discard messages"))
    }

    async fn depth(&self, topic: &Topic) -> Result<usize, PortError> {
        let lane = self.shared.lane(topic);
        let length = self.shared.connection.ask(lane.items.depth()).await;
        length.map_err(|error| error.of("count messages"))
    }

    async fn backlog(&self) -> Result<Vec<TopicBacklog>, PortError> {
        self.shared.backlog().await.map_err(|error| error.of("look at the backlog of messages"))
    }

    async fn purge(&self, topic: &Topic) -> Result<u64, PortError> {
        let purged = self.shared.purge(&self.shared.lane(topic)).await;
        purged.map_err(|error| error.of("purge a topic"))
    }

    async fn delete(&self, topic: &Topic) -> Result<u64, PortError> {
        const OPERATION: &str = "delete a topic";
        let deleted = self.shared.delete(&self.shared.lane(topic), None).await;
        let deleted = deleted.map_err(|error| error.of(OPERATION))?;
        u64::try_from(deleted).map_err(|_| {
            PortError::new(OPERATION, PortErrorKind::Rejected, "the topic has consumers")
        })
    }
}

#[async_trait]
impl Quarantine for RedisMessageQ {
    async fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        let found = self.shared.unreadable(limit, false).await;
        found.map_err(|error| error.of("look for unreadable messages"))
    }

    async fn move_out(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        let found = self.shared.unreadable(limit, true).await;
        found.map_err(|error| error.of("move unreadable messages out"))
    }
}
