//! The queue of what comes in.

mod config;
mod consumer;
mod partition;
mod room;
mod upkeep;

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use futures::future::join_all;
use parking_lot::Mutex;
use redis::Value;
use thredcore::{
    port::{
        Backlog, DeadLetter, DeadLetterFilter, Death, Delivery, DeliveryTag, EventQ, Inbound,
        PortError, PortErrorKind, Quarantine, Unreadable,
    },
    state::partition_of,
};
use tokio::sync::Notify;

pub use self::config::RedisEventQConfig;
use self::{partition::Partition, room::Room, upkeep::revived};
use super::{
    NowAndThen, agree_on, by_lane, ending,
    lane::Lane,
    letters::{self, LetterLimits, all_unreadable},
    publish::portion,
};
use crate::{
    Connection, Error, Request, Tag,
    listener::{Heard, Listener, Listening},
};

/// An [`EventQ`] on Redis; each partition is under a hash tag of its own.
///
/// A process becomes a consumer with its first [`receive`](EventQ::receive); until then it only
/// publishes. The consumers share the partitions out evenly. A partition comes to another consumer when
/// its owner gives it up ([`close`](Self::close)), or was not heard of for a
/// [`lease`](RedisEventQConfig::lease). The new owner first gets what the former one had at hand, in the old order
/// and with its attempts counted, then what is new.
///
/// An owner that was paused for longer than its lease still works on what it had at hand, while the
/// new owner gets the same. That does no harm: what it commits was consumed before or will be seen
/// to be, for the version is checked; and it can acknowledge nothing that it has not done.
///
/// Dropping the queue without [`close`](Self::close) is like the end of the process: its partitions
/// are free after a lease. Needs a user who may publish to channels that begin with the namespace.
///
/// An idle consumer sends, with the defaults, 0.6 requests a second, whatever the number of partitions;
/// and one for each of its partitions every 30 s.
#[derive(Debug)]
pub struct RedisEventQ {
    shared: Arc<Shared>,
    consuming: Mutex<Option<Listening>>,
}

#[derive(Debug)]
struct Shared {
    connection: Connection,
    config: RedisEventQConfig,
    partitions: Box<[Partition]>,
    tag: Tag,
    /// Sorted set: the consumers by when they were heard last.
    consumers: String,
    /// Where consumers tell each other that they come and go.
    channel: String,
    /// This consumer's name, and where it is told that a partition has something.
    name: String,
    bell: String,
    tenures: AtomicU64,
    /// Told when partitions are to be looked after.
    look: Notify,
    /// Whether something may not have been heard.
    unheard: AtomicBool,
    dropped_letters: AtomicU64,
    trimmed: NowAndThen,
    room: Room,
    closed: AtomicBool,
}

impl RedisEventQ {
    /// Opens the queue.
    ///
    /// # Errors
    /// The server cannot be reached, or the queue has another number of partitions.
    pub async fn open(connection: Connection, config: RedisEventQConfig) -> Result<Self, Error> {
        let namespace = connection.config().namespace.clone();
        let tag = Tag::new(&namespace, "events");
        agree_on(&connection, &tag, "partitions", config.partitions).await?;
        let name = super::unique_name();
        let limits =
            LetterLimits { bytes: config.dead_letters_bytes, time: config.dead_letters_time };
        let shared = Shared {
            partitions: (0..config.partitions)
                .map(|number| Partition::new(&namespace, number, limits))
                .collect(),
            consumers: tag.key("consumers"),
            channel: format!("{namespace}:events"),
            bell: format!("{namespace}:events:{name}"),
            room: Room::new(&config),
            tenures: AtomicU64::new(0),
            look: Notify::new(),
            unheard: AtomicBool::new(false),
            dropped_letters: AtomicU64::new(0),
            trimmed: NowAndThen::default(),
            closed: AtomicBool::new(false),
            connection,
            config,
            tag,
            name,
        };
        Ok(Self { shared: Arc::new(shared), consuming: Mutex::new(None) })
    }

    /// Stops consuming and gives up all partitions at once. What is at hand comes again elsewhere;
    /// [`receive`](EventQ::receive) answers [`PortErrorKind::Closed`] from now on.
    pub async fn close(&self) {
        let shared = &self.shared;
        shared.closed.store(true, Ordering::Release);
        let consuming = self.consuming.lock().take();
        shared.partitions.iter().for_each(|partition| partition.changed.notify_waiters());
        if consuming.is_none() {
            return;
        }
        drop(consuming);
        let mut leave = redis::cmd("ZREM");
        leave.arg(&shared.consumers).arg(&shared.name);
        let left = shared.connection.ask::<Value>(Request::read(&shared.tag, leave)).await;
        if let Err(error) = left {
            tracing::debug!(%error, "will count as a consumer for a lease");
        }
        let releases = shared
            .partitions
            .iter()
            .filter_map(|partition| Some(shared.release(partition, partition.tenure()?.token)));
        join_all(releases).await;
    }

    /// The numbers of the partitions that are this process's.
    pub fn owned(&self) -> Vec<u16> {
        let owned = self.shared.partitions.iter().filter(|it| it.tenure().is_some());
        owned.map(|partition| partition.number).collect()
    }

    /// How many dead letters this queue has dropped for their age or number.
    pub fn dropped_dead_letters(&self) -> u64 {
        self.shared.dropped_letters.load(Ordering::Relaxed)
    }

    /// Becomes a consumer, if it is none.
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
        *consuming = Some(Listening::new(listener, shared.clone().hold_partitions()));
    }
}

impl Shared {
    fn hear(self: &Arc<Self>, heard: &Heard<'_>) {
        match heard {
            Heard::Connected => {
                self.unheard.store(true, Ordering::Release);
                self.look.notify_one();
            }
            Heard::Message { channel, text } if *channel == self.channel => {
                if let Some(text) = str::from_utf8(text).ok().filter(|text| text.contains(' ')) {
                    let (shared, text) = (self.clone(), text.to_owned());
                    tokio::spawn(async move { shared.reminded(&text).await });
                } else {
                    self.look.notify_one();
                }
            }
            Heard::Message { text, .. } => {
                let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
                if let Some(partition) = number.and_then(|it: usize| self.partitions.get(it)) {
                    partition.rouse();
                }
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn tenures(&self) -> u64 {
        self.tenures.fetch_add(1, Ordering::Relaxed)
    }

    /// The partition of an item.
    fn home(&self, item: &Inbound) -> u16 {
        partition_of(item.partition_key(), self.config.partitions)
    }

    fn text(&self, item: &Inbound) -> Result<Vec<u8>, Error> {
        let text = serde_json::to_vec(item).map_err(|error| Error::Malformed(error.to_string()))?;
        let (bytes, limit) = (text.len(), self.config.max_item_bytes);
        if bytes > limit {
            Err(Error::TooLarge { what: "an item", bytes, limit })
        } else {
            Ok(text)
        }
    }

    async fn publish_to(&self, partition: &Partition, texts: Vec<Vec<u8>>) -> Result<(), Error> {
        let texts = Arc::new(texts);
        let mut done = 0;
        while done < texts.len() {
            let some = portion(&texts, done);
            done += partition.items.publish(&self.connection, None, &texts, some).await?;
        }
        Ok(())
    }

    async fn ack(&self, partition: &Partition, tags: &[DeliveryTag]) -> Result<(), Error> {
        let requests = ending(&partition.items, &partition.state.lock().lane, tags);
        self.connection.send(&requests).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut state = partition.state.lock();
        tags.iter().for_each(|tag| state.lane.end(tag));
        Ok(())
    }

    async fn depth(&self) -> Result<usize, Error> {
        let depths = self.partitions.iter().map(|partition| partition.items.depth());
        let mut depth = 0;
        for length in self.connection.send(&depths.collect::<Vec<_>>()).await {
            if let Value::Int(length) = length? {
                depth += usize::try_from(length).unwrap_or(0);
            }
        }
        Ok(depth)
    }
}

#[async_trait]
impl EventQ for RedisEventQ {
    fn partitions(&self) -> u16 {
        self.shared.config.partitions
    }

    fn max_item_bytes(&self) -> usize {
        self.shared.config.max_item_bytes
    }

    async fn room(&self) -> Result<(), PortError> {
        const OPERATION: &str = "wait for room";
        self.shared.room.wait(&self.shared).await.map_err(|error| error.of(OPERATION))?;
        if self.shared.is_closed() { Err(PortError::closed(OPERATION)) } else { Ok(()) }
    }

    async fn publish(&self, items: Vec<Inbound>) -> Result<(), PortError> {
        const OPERATION: &str = "publish events";
        let shared = &self.shared;
        let count = items.len();
        let mut parts = vec![];
        for (number, items) in by_lane(items, |item| usize::from(shared.home(item))) {
            let texts = items.iter().map(|item| shared.text(item)).collect::<Result<_, _>>();
            let texts = texts.map_err(|error| error.of(OPERATION))?;
            parts.push(shared.publish_to(&shared.partitions[number], texts));
        }
        shared.room.published(count);
        for result in join_all(parts).await {
            result.map_err(|error| error.of(OPERATION))?;
        }
        Ok(())
    }

    async fn receive(
        &self,
        partition: u16,
        max: usize,
    ) -> Result<Vec<Delivery<Inbound>>, PortError> {
        const OPERATION: &str = "receive events";
        let shared = &self.shared;
        let number = usize::from(partition);
        let partition = shared.partitions.get(number).ok_or_else(|| {
            PortError::new(OPERATION, PortErrorKind::Rejected, "there is no such partition")
        })?;
        self.consume();
        loop {
            let mut changed = pin!(partition.changed.notified());
            changed.as_mut().enable();
            if shared.is_closed() {
                return Err(PortError::closed(OPERATION));
            }
            match partition.try_receive(max.max(1)).map_err(|error| error.of(OPERATION))? {
                Ok(batch) => return Ok(batch),
                Err(false) => {}
                Err(true) => {
                    let shared = shared.clone();
                    tokio::spawn(async move {
                        shared.fetch(&shared.partitions[number], max.max(1)).await;
                    });
                }
            }
            changed.await;
        }
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        let parts = by_lane(tags.iter().copied(), Lane::<Inbound>::of);
        let acks = parts.iter().filter_map(|(number, tags)| {
            Some(self.shared.ack(self.shared.partitions.get(*number)?, tags))
        });
        let results = join_all(acks).await.into_iter();
        results.collect::<Result<(), _>>().map_err(|error| error.of("acknowledge events"))
    }

    async fn nack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        for (number, tags) in by_lane(tags.iter().copied(), Lane::<Inbound>::of) {
            let Some(partition) = self.shared.partitions.get(number) else { continue };
            let mut state = partition.state.lock();
            tags.iter().for_each(|tag| state.lane.put_back(tag, None, None));
            drop(state);
            partition.rouse();
        }
        Ok(())
    }

    async fn dead_letter(&self, tag: DeliveryTag, death: &Death) -> Result<bool, PortError> {
        let Some(partition) = self.shared.partitions.get(Lane::<Inbound>::of(&tag)) else {
            return Ok(false);
        };
        let (token, id, attempts) = {
            let state = partition.state.lock();
            match (&state.tenure, state.lane.get(&tag)) {
                (Some(tenure), Some((id, item))) => (tenure.token.clone(), id, item.count.attempts),
                _ => return Ok(false),
            }
        };
        let (connection, holder) = (&self.shared.connection, partition.holder(&token));
        let buried = partition.items.bury(connection, holder, id, attempts, death).await;
        let dropped = buried.map_err(|error| error.of("dead-letter an event"))?;
        partition.state.lock().lane.end(&tag);
        let Some(dropped) = dropped else { return Ok(false) };
        self.shared.count_dropped(dropped);
        self.shared.trim_now_and_then().await;
        Ok(true)
    }

    async fn bury(&self, items: Vec<(Inbound, String)>) -> Result<(), PortError> {
        let shared = &self.shared;
        for (number, items) in by_lane(items, |(item, _)| usize::from(shared.home(item))) {
            let partition = &shared.partitions[number];
            let buried = partition.items.bury_new(&shared.connection, &items).await;
            shared.count_dropped(buried.map_err(|error| error.of("dead-letter events"))?);
        }
        shared.trim_now_and_then().await;
        Ok(())
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Inbound>>, PortError> {
        const OPERATION: &str = "list dead letters of events";
        let shared = &self.shared;
        shared.trim().await.map_err(|error| error.of(OPERATION))?;
        let found = letters::list(&shared.connection, &shared.letters(), filter).await;
        let found = found.map_err(|error| error.of(OPERATION))?;
        Ok(found.into_iter().map(|found| found.letter).collect())
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        const OPERATION: &str = "redrive events";
        let shared = &self.shared;
        shared.trim().await.map_err(|error| error.of(OPERATION))?;
        let letters = shared.letters();
        let done = letters::remove(&shared.connection, &letters, filter, Some(revived)).await;
        done.map_err(|error| error.of(OPERATION))
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        let (connection, letters) = (&self.shared.connection, self.shared.letters());
        let done = letters::remove::<Inbound>(connection, &letters, filter, None).await;
        done.map_err(|error| error.of("discard events"))
    }

    async fn backlog(&self) -> Result<Vec<Backlog>, PortError> {
        self.shared.backlog().await.map_err(|error| error.of("look at the backlog of events"))
    }

    async fn depth(&self) -> Result<usize, PortError> {
        self.shared.depth().await.map_err(|error| error.of("count events"))
    }
}

#[async_trait]
impl Quarantine for RedisEventQ {
    async fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        let (connection, letters) = (&self.shared.connection, self.shared.letters());
        let found = all_unreadable::<Inbound>(connection, &letters, "event", limit, false).await;
        found.map_err(|error| error.of("look for unreadable events"))
    }

    async fn move_out(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        let (connection, letters) = (&self.shared.connection, self.shared.letters());
        let found = all_unreadable::<Inbound>(connection, &letters, "event", limit, true).await;
        found.map_err(|error| error.of("move unreadable events out"))
    }
}
