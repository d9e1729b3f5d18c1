//! The queue of what goes out.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::future::{join_all, select_all};
use parking_lot::{Mutex, RwLock};
use thredcore::port::{
    Backlog, DeadLetter, DeadLetterFilter, Delivery, DeliveryTag, MessageQ, PortError, Quarantine,
    Returned, Routed, TopicBacklog, Unreadable,
};
use thredlib::Topic;
use tokio::sync::mpsc;

use crate::{
    AmqpError, QueueDepth,
    cargo::Cargo,
    counts,
    dead_letters::DeadLetters,
    declare::Declaring,
    delays::{self, Delays},
    depth::Sounding,
    gauge::Gauge,
    idle::Idle,
    inflow::{Ask, Inflow, Taken},
    letter::Obituary,
    publisher::Parcel,
    pump::{Pump, Source, Works},
    queues::Wires,
    topics::TopicList,
};

/// A [`MessageQ`] on RabbitMQ: a quorum queue for each topic, bound to one exchange by its name.
///
/// Topics come into being when they are named, by a publisher or a consumer. A process consumes a
/// topic from its first [`receive`](MessageQ::receive) on, until it is closed or dropped, and
/// holds up to its prefetch of each.
///
/// A message that is given back with a delay of up to a minute waits in the process; should that end,
/// the message comes again at once, and the failures since it came to the process are forgotten. With
/// a longer delay it waits at the broker, in queues for 1, 4, 16, … minutes, with all that is known
/// of it.
///
/// [`Delivery::deaths`] counts the processes that ended with the message in hand, as in the
/// [event queue](crate::AmqpEventQ): the first two may be the broker's count of what such a process
/// merely held. From the third on a message is handed out by itself, and it is noted to whom.
///
/// A topic is full when the [capacity](crate::AmqpConfig::message_capacity) waits there, as far as
/// this process can see, or when the broker refuses a message for a limit of its own.
///
/// After an error, later messages of the same topic have errors too, even those that got through
/// while the topic's queue was bound again: publishing them once more keeps the order of the last
/// copies.
pub struct AmqpMessageQ {
    wires: Wires,
    dead: Arc<DeadLetters<Routed>>,
    sounding: Sounding,
    list: Arc<TopicList>,
    delays: Arc<Delays>,
    topics: Arc<RwLock<Topics>>,
    received: AtomicUsize,
    idle: OnceLock<Option<Idle>>,
}

/// The topics that this process has used.
#[derive(Default)]
pub(crate) struct Topics {
    numbers: HashMap<Topic, usize>,
    all: Vec<Arc<TopicState>>,
}

/// A topic, as this process has it.
struct TopicState {
    topic: Topic,
    inflow: Arc<Inflow<Routed>>,
    gauge: Gauge,
    pump: OnceLock<Pump>,
    asks: Mutex<Option<mpsc::UnboundedReceiver<Ask>>>,
}

impl Topics {
    /// Lets go of a topic if nothing of it is in use here; says whether that is so.
    pub(crate) fn let_go(&self, topic: &Topic) -> bool {
        let number = self.numbers.get(topic);
        number.is_none_or(|number| self.all[*number].inflow.let_go())
    }
}

impl std::fmt::Debug for AmqpMessageQ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmqpMessageQ").field("config", &self.wires.config).finish_non_exhaustive()
    }
}

impl AmqpMessageQ {
    pub(crate) fn new(wires: Wires) -> Result<Self, AmqpError> {
        let sounding = Sounding::new(wires.consuming.clone());
        let (topology, publisher) = (wires.topology.clone(), wires.publisher.clone());
        let list = Arc::new(TopicList::new(topology.clone(), publisher.clone()));
        let delays = Arc::new(Delays::new(topology, publisher, list.clone()));
        let dead = wires.dead_letters(wires.config.names.dead_messages()?);
        let dead = Arc::new(dead.of_topics(delays.clone()));
        let (topics, received) = (Arc::default(), AtomicUsize::new(0));
        let idle = OnceLock::new();
        Ok(Self { wires, dead, sounding, list, delays, topics, received, idle })
    }

    /// How much is in the queue of each topic that was published to or received from here, and in
    /// that of the dead letters.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn depths(&self) -> Result<Vec<QueueDepth>, AmqpError> {
        let all = self.topics.read().all.clone();
        let queues: Vec<_> = all.iter().map(|state| state.inflow.queue.clone()).collect();
        let waiting = self.sounding.waiting(&queues).await?;
        let exact =
            join_all(all.iter().map(|state| state.inflow.depth(&self.wires.consuming))).await;
        let parts = all.iter().zip(waiting).zip(exact);
        let mut depths: Vec<_> = parts
            .map(|((state, waiting), exact)| {
                let (waiting, held) = exact.unwrap_or_else(|| (waiting, state.inflow.held()));
                QueueDepth { queue: state.inflow.queue.to_string(), waiting, held }
            })
            .collect();
        let (queue, waiting) = (self.dead.queue.to_string(), self.dead.count().await?);
        depths.push(QueueDepth { queue, waiting, held: 0 });
        Ok(depths)
    }

    pub(crate) fn close(&self) {
        let topics = self.topics.read();
        topics.all.iter().for_each(|state| state.inflow.close());
    }

    fn topic(&self, topic: &Topic) -> Result<Arc<TopicState>, AmqpError> {
        {
            let topics = self.topics.read();
            if let Some(number) = topics.numbers.get(topic) {
                return Ok(topics.all[*number].clone());
            }
        }
        let queue = self.wires.config.names.message_queue(topic)?;
        let mut topics = self.topics.write();
        if let Some(number) = topics.numbers.get(topic) {
            return Ok(topics.all[*number].clone());
        }
        let number = topics.all.len();
        let (inflow, asks) = Inflow::new(number as u64, queue);
        let state = Arc::new(TopicState {
            topic: topic.clone(),
            inflow,
            gauge: Gauge::default(),
            pump: OnceLock::new(),
            asks: Mutex::new(Some(asks)),
        });
        topics.numbers.insert(topic.clone(), number);
        topics.all.push(state.clone());
        Ok(state)
    }

    fn consumed(&self, topic: &Topic) -> Result<Arc<TopicState>, AmqpError> {
        let state = self.topic(topic)?;
        self.wires.count_dropped();
        state.pump.get_or_init(|| {
            let asks = state.asks.lock().take();
            let works = Works {
                inflow: state.inflow.clone(),
                source: Source::Topic(topic.clone(), self.delays.clone()),
                prefetch: self.wires.config.message_prefetch,
                topology: self.wires.topology.clone(),
                link: self.wires.consuming.clone(),
                dead: self.dead.clone(),
            };
            Pump::start(works, asks.unwrap_or_else(|| mpsc::unbounded_channel().1))
        });
        Ok(state)
    }

    /// Starts to remove idle topics, if that is configured.
    fn watch_idle(&self) {
        self.idle.get_or_init(|| {
            let expiry = self.wires.config.idle_expiry?;
            let (topology, list) = (self.wires.topology.clone(), self.list.clone());
            Some(Idle::start(topology, list, self.topics.clone(), expiry))
        });
    }

    fn inflow(&self, tag: DeliveryTag) -> Option<Arc<TopicState>> {
        let topics = self.topics.read();
        topics.all.get(usize::try_from(tag.0).ok()?).cloned()
    }

    /// How many more messages a topic takes.
    async fn room(&self, state: &TopicState, wanted: usize) -> Result<usize, AmqpError> {
        let room = |depth: usize| self.wires.config.message_capacity.saturating_sub(depth);
        if let Some(known) = state.gauge.depth().map(room)
            && known >= wanted
        {
            return Ok(known);
        }
        let waiting = self.sounding.waiting(std::slice::from_ref(&state.inflow.queue)).await?;
        let depth = waiting.iter().sum::<usize>() + state.inflow.held();
        state.gauge.measured(depth);
        Ok(room(depth))
    }

    async fn try_publish(
        &self,
        messages: &[Routed],
        answers: &mut [Option<Result<(), AmqpError>>],
    ) -> Result<(), AmqpError> {
        self.watch_idle();
        let mut parcels = self.read(messages, answers);
        let chosen = self.choose(messages, answers).await?;
        let parcels = chosen.iter().filter_map(|number| parcels[*number].take()).collect();
        self.publish_chosen(messages, &chosen, parcels, answers).await;
        Ok(())
    }

    /// The messages as they are sent; what never can be is rejected.
    fn read(
        &self,
        messages: &[Routed],
        answers: &mut [Option<Result<(), AmqpError>>],
    ) -> Vec<Option<Parcel>> {
        let limit = self.wires.config.max_item_bytes;
        let expires = self.wires.config.message_ttl.is_some();
        let mut read = |(message, answer): (&Routed, &mut Option<Result<(), AmqpError>>)| {
            // A topic may be too long a name for a queue.
            let parcel = self.topic(&message.topic);
            match parcel.and_then(|_| message.parcel(&self.wires.topology)) {
                Ok(parcel) if parcel.body.len() > limit => {
                    *answer = Some(Err(AmqpError::TooLarge { bytes: parcel.body.len(), limit }));
                    None
                }
                Ok(mut parcel) => {
                    parcel.headers = expires.then(counts::published_now);
                    Some(parcel)
                }
                Err(error) => {
                    *answer = Some(Err(error));
                    None
                }
            }
        };
        messages.iter().zip(answers).map(&mut read).collect()
    }

    /// The open messages for which there is room, in order. Those for which there is none have their
    /// answer.
    async fn choose(
        &self,
        messages: &[Routed],
        answers: &mut [Option<Result<(), AmqpError>>],
    ) -> Result<Vec<usize>, AmqpError> {
        let mut wanted: HashMap<&Topic, usize> = HashMap::new();
        let open = messages.iter().zip(&*answers).filter(|(_, answer)| answer.is_none());
        open.for_each(|(message, _)| *wanted.entry(&message.topic).or_default() += 1);
        let names: Vec<&Topic> = wanted.keys().copied().collect();
        self.delays.topics(&names).await?;
        let mut left: HashMap<&Topic, usize> = HashMap::new();
        for (topic, wanted) in wanted {
            let state = self.topic(topic)?;
            let room = self.room(&state, wanted).await?;
            state.gauge.added(room.min(wanted));
            left.insert(topic, room);
        }
        let capacity = self.wires.config.message_capacity;
        let mut chosen = Vec::new();
        for (number, (message, answer)) in messages.iter().zip(answers).enumerate() {
            if answer.is_some() {
                continue;
            }
            match left.get_mut(&message.topic) {
                Some(room) if *room > 0 => {
                    *room -= 1;
                    chosen.push(number);
                }
                _ => {
                    let topic = message.topic.to_string();
                    *answer = Some(Err(AmqpError::Full { topic, capacity }));
                }
            }
        }
        Ok(chosen)
    }

    /// Publishes some messages. Those after a failure, of the same topic, count as failed, unless
    /// that was the message's own fault.
    async fn publish_chosen(
        &self,
        messages: &[Routed],
        chosen: &[usize],
        parcels: Vec<Parcel>,
        answers: &mut [Option<Result<(), AmqpError>>],
    ) {
        let published = self.wires.publisher.publish(&parcels).await;
        let is_missing =
            |answer: &Result<(), AmqpError>| answer.as_ref().is_err_and(AmqpError::is_missing);
        if published.iter().any(is_missing) {
            self.wires.topology.forget().await;
        }
        for (number, answer) in chosen.iter().zip(published) {
            let topic = &messages[*number].topic;
            answers[*number] = Some(match answer {
                // A limit of the broker's own.
                Err(AmqpError::Refused { .. }) => {
                    let capacity = self.wires.config.message_capacity;
                    Err(AmqpError::Full { topic: topic.to_string(), capacity })
                }
                answer => answer,
            });
        }
        let mut failed: HashSet<&Topic> = HashSet::new();
        for (message, answer) in messages.iter().zip(answers) {
            match answer {
                Some(Err(error)) if error.is_own_fault() => {}
                Some(Err(_)) => _ = failed.insert(&message.topic),
                Some(Ok(())) if failed.contains(&message.topic) => {
                    *answer = Some(Err(AmqpError::Overtaking));
                }
                _ => {}
            }
        }
    }

    /// What is there of some topics, to each an equal part.
    fn take(&self, states: &[Arc<TopicState>], max: usize) -> Result<TakenOfAll, AmqpError> {
        let mut batch = Vec::new();
        let mut next: Option<tokio::time::Instant> = None;
        // Another topic goes first each time, for batches smaller than the number of topics.
        let first = self.received.fetch_add(1, Ordering::Relaxed);
        for round in 0..2 {
            for place in 0..states.len() {
                let left = max.max(1) - batch.len();
                if left == 0 {
                    return Ok(TakenOfAll::Batch(batch));
                }
                let others = states.len() - place;
                let part = if round == 0 { left.div_ceil(others) } else { left };
                let state = &states[(first + place) % states.len()];
                match state.inflow.take(part, batch.is_empty())? {
                    // It stays by itself.
                    Taken::Batch(part) if part.iter().any(is_suspect) => {
                        return Ok(TakenOfAll::Batch(part));
                    }
                    Taken::Batch(part) => batch.extend(part),
                    Taken::Nothing(until) => next = [next, until].into_iter().flatten().min(),
                    Taken::Suspect { tag, generation, key } => {
                        let state = state.clone();
                        return Ok(TakenOfAll::Suspect { state, tag, generation, key });
                    }
                }
            }
        }
        if batch.is_empty() { Ok(TakenOfAll::Nothing(next)) } else { Ok(TakenOfAll::Batch(batch)) }
    }

    async fn next(&self, topics: &[Topic], max: usize) -> Result<Vec<Delivery<Routed>>, AmqpError> {
        let states: Vec<_> =
            topics.iter().map(|topic| self.consumed(topic)).collect::<Result<_, _>>()?;
        let _waiting: Vec<_> = states.iter().map(|state| state.inflow.want()).collect();
        if states.is_empty() {
            std::future::pending::<()>().await;
        }
        loop {
            let mut told: Vec<_> = states.iter().map(|it| Box::pin(it.inflow.told())).collect();
            told.iter_mut().for_each(|told| _ = told.as_mut().enable());
            let until = match self.take(&states, max)? {
                TakenOfAll::Batch(batch) => return Ok(batch),
                TakenOfAll::Suspect { state, tag, generation, key } => {
                    let notes = self.wires.config.names.topic_tries_queue(&state.topic)?;
                    let others = self.wires.tries.note(&notes, &key).await?;
                    state.inflow.judge(tag, generation, others);
                    continue;
                }
                TakenOfAll::Nothing(until) => until,
            };
            let told = select_all(told);
            match until {
                None => _ = told.await,
                Some(until) => {
                    let until = pin!(tokio::time::sleep_until(until));
                    futures::future::select(told, until).await;
                }
            }
        }
    }
}

/// What there is to hand out of several topics.
enum TakenOfAll {
    Batch(Vec<Delivery<Routed>>),
    Suspect {
        state: Arc<TopicState>,
        tag: u64,
        generation: u64,
        key: String,
    },
    /// Nothing before then.
    Nothing(Option<tokio::time::Instant>),
}

/// Whether a message is handed out by itself.
fn is_suspect(delivery: &Delivery<Routed>) -> bool {
    delivery.deaths() >= crate::inflow::SUSPECT
}

#[async_trait]
impl MessageQ for AmqpMessageQ {
    fn max_item_bytes(&self) -> usize {
        self.wires.config.max_item_bytes
    }

    async fn publish(&self, messages: Vec<Routed>) -> Vec<Result<(), PortError>> {
        let mut answers: Vec<Option<Result<(), AmqpError>>> = Vec::new();
        answers.resize_with(messages.len(), || None);
        let failure = if messages.is_empty() {
            None
        } else {
            self.try_publish(&messages, &mut answers).await.err()
        };
        // What has no answer was not sent.
        let answers = answers.into_iter().map(|answer| {
            let answer =
                answer.unwrap_or_else(|| Err(failure.clone().unwrap_or(AmqpError::NotTried)));
            answer.map_err(|error| error.at("publish messages"))
        });
        answers.collect()
    }

    async fn receive(
        &self,
        topics: &[Topic],
        max: usize,
    ) -> Result<Vec<Delivery<Routed>>, PortError> {
        self.next(topics, max).await.map_err(|error| error.at("receive messages"))
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        let mut sorted = tags.to_vec();
        sorted.sort_unstable();
        for run in sorted.chunk_by(|a, b| a.0 == b.0) {
            let Some(state) = self.inflow(run[0]) else { continue };
            state.inflow.ack(run).await.map_err(|error| error.at("acknowledge messages"))?;
        }
        Ok(())
    }

    async fn nack(&self, tag: DeliveryTag, delay_ms: u64, why: Returned) -> Result<(), PortError> {
        let Some(state) = self.inflow(tag) else { return Ok(()) };
        let noted = state.inflow.noted(&[tag]);
        let delay = Duration::from_millis(delay_ms);
        if delay > delays::LONGEST_HERE
            && let Some((message, mut counts)) = state.inflow.counts(tag)
        {
            counts.failures += u32::from(why == Returned::Failed);
            counts.due = Some(delays::due(delay_ms));
            let waiting = async {
                let parcel = message.parcel(&self.wires.topology)?;
                self.delays.wait(&state.topic, parcel, counts).await
            };
            match waiting.await {
                Ok(()) => {
                    let done = state.inflow.ack(&[tag]).await;
                    let notes = self.wires.config.names.topic_tries_queue(&state.topic);
                    self.wires.unnote(notes, noted).await;
                    return done.map_err(|error| error.at("give a message back"));
                }
                Err(error) => tracing::debug!(%error, "a message waits in this process"),
            }
        }
        state.inflow.give_back(&[tag], delay, why);
        let notes = self.wires.config.names.topic_tries_queue(&state.topic);
        self.wires.unnote(notes, noted).await;
        Ok(())
    }

    async fn dead_letter(&self, tag: DeliveryTag, reason: &str) -> Result<(), PortError> {
        let Some(state) = self.inflow(tag) else { return Ok(()) };
        let obituary = Obituary { reason: reason.to_owned(), ..Obituary::default() };
        let buried = self.dead.bury_delivery(&state.inflow, tag, obituary).await;
        buried.map(drop).map_err(|error| error.at("dead-letter a message"))
    }

    async fn bury(&self, messages: Vec<(Routed, String)>) -> Result<(), PortError> {
        let bury = async {
            self.wires.topology.messages().await?;
            let obituary = |reason| Obituary { reason, ..Obituary::default() };
            let letters = messages.into_iter().map(|(it, reason)| (it, obituary(reason)));
            self.dead.bury(&letters.collect::<Vec<_>>()).await
        };
        bury.await.map_err(|error| error.at("dead-letter messages"))
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Routed>>, PortError> {
        self.wires.topology.messages().await.map_err(|error| error.at("list dead messages"))?;
        self.dead.list(filter).await.map_err(|error| error.at("list dead messages"))
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.wires.topology.messages().await.map_err(|error| error.at("redrive messages"))?;
        self.dead.redrive(filter).await.map_err(|error| error.at("redrive messages"))
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.wires.topology.messages().await.map_err(|error| error.at("discard messages"))?;
        self.dead.discard(filter).await.map_err(|error| error.at("discard messages"))
    }

    async fn depth(&self, topic: &Topic) -> Result<usize, PortError> {
        let count = async {
            let state = self.topic(topic)?;
            let mut delayed = Vec::new();
            for minutes in self.list.delays(topic).await? {
                delayed.push(self.wires.config.names.delay_queue(topic, minutes)?);
            }
            let delayed: usize = self.sounding.waiting(&delayed).await?.iter().sum();
            if let Some((waiting, held)) = state.inflow.depth(&self.wires.consuming).await {
                return Ok(waiting + held + delayed);
            }
            let queue = std::slice::from_ref(&state.inflow.queue);
            let waiting: usize = self.sounding.waiting(queue).await?.iter().sum();
            Ok::<usize, AmqpError>(waiting + state.inflow.held() + delayed)
        };
        count.await.map_err(|error| error.at("count messages"))
    }

    async fn backlog(&self) -> Result<Vec<TopicBacklog>, PortError> {
        self.look_at_all().await.map_err(|error| error.at("look at the topics"))
    }

    async fn purge(&self, topic: &Topic) -> Result<u64, PortError> {
        let purge = async {
            let mut declaring = Declaring::on(&self.wires.consuming);
            let mut purged = 0;
            for queue in self.queues_of(topic).await? {
                purged += declaring.purge(&queue).await?;
            }
            let used = {
                let topics = self.topics.read();
                topics.numbers.get(topic).map(|number| topics.all[*number].clone())
            };
            if let Some(state) = used {
                // What the broker has sent before is here when it is counted.
                state.inflow.depth(&self.wires.consuming).await;
                purged += state.inflow.purge().await?;
            }
            declaring.end().await;
            Ok::<u64, AmqpError>(purged)
        };
        purge.await.map_err(|error| error.at("purge a topic"))
    }

    async fn delete(&self, topic: &Topic) -> Result<u64, PortError> {
        self.try_delete(topic).await.map_err(|error| error.at("delete a topic"))
    }
}

impl AmqpMessageQ {
    /// All queues in which messages of a topic wait, the topic's own first.
    async fn queues_of(&self, topic: &Topic) -> Result<Vec<lapin::types::ShortString>, AmqpError> {
        self.wires.topology.messages().await?;
        let names = &self.wires.config.names;
        let mut queues = vec![names.message_queue(topic)?];
        for minutes in self.list.all().await?.remove(topic).unwrap_or_default() {
            queues.push(names.delay_queue(topic, minutes)?);
        }
        Ok(queues)
    }

    async fn look_at_all(&self) -> Result<Vec<TopicBacklog>, AmqpError> {
        self.wires.topology.messages().await?;
        let mut all = self.list.all().await?;
        {
            let used = self.topics.read();
            used.numbers.keys().for_each(|topic| _ = all.entry(topic.clone()).or_default());
        }
        let dead = self.dead.origins().await?;
        for topic in dead.keys() {
            all.entry(Topic::from(topic.as_str())).or_default();
        }
        let mut declaring = Declaring::on(&self.wires.consuming);
        let mut found = Vec::with_capacity(all.len());
        for (topic, delays) in all {
            let dead_letters = dead.get(topic.as_str()).copied().unwrap_or(0);
            let looked = self.look_at(&mut declaring, &topic, delays).await?;
            let Some((depth, consumers)) = looked.or((dead_letters > 0).then_some((0, 0))) else {
                continue;
            };
            let consumers = Some(consumers);
            let backlog = Backlog { depth, oldest: None, consumers, dead_letters };
            found.push(TopicBacklog { topic, backlog });
        }
        declaring.end().await;
        Ok(found)
    }

    /// How much waits on a topic, and who consumes it; `None` when there is no such topic.
    async fn look_at(
        &self,
        declaring: &mut Declaring,
        topic: &Topic,
        delays: BTreeSet<u32>,
    ) -> Result<Option<(u64, u32)>, AmqpError> {
        let names = &self.wires.config.names;
        let Some((mut depth, consumers)) = declaring.look(&names.message_queue(topic)?).await?
        else {
            return Ok(None);
        };
        for minutes in delays {
            let delayed = declaring.look(&names.delay_queue(topic, minutes)?).await?;
            depth += delayed.map_or(0, |(waiting, _)| waiting);
        }
        depth += self.topic(topic)?.inflow.held() as u64;
        Ok(Some((depth, consumers)))
    }

    async fn try_delete(&self, topic: &Topic) -> Result<u64, AmqpError> {
        let queues = self.queues_of(topic).await?;
        let mut declaring = Declaring::on(&self.wires.consuming);
        let is_unused_here = {
            let topics = self.topics.read();
            topics.let_go(topic)
        };
        // A consumer that is let go takes a moment.
        let mut looks = if is_unused_here { 50 } else { 1 };
        while let Some((_, consumers)) = declaring.look(&queues[0]).await?
            && consumers > 0
        {
            looks -= 1;
            if looks == 0 {
                declaring.end().await;
                return Err(AmqpError::InUse { topic: topic.to_string(), consumers });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut deleted = 0;
        for queue in &queues {
            deleted += declaring.delete(queue).await?;
        }
        declaring.delete(&self.wires.config.names.topic_tries_queue(topic)?).await?;
        declaring.end().await;
        self.wires.topology.forget_topic(topic);
        self.list.remove(topic).await?;
        Ok(deleted)
    }

    /// The topics that this process knows of, for removing them.
    pub(crate) async fn known_topics(&self) -> Result<Vec<Topic>, AmqpError> {
        Ok(self.list.all().await?.into_keys().collect())
    }
}

#[async_trait]
impl Quarantine for AmqpMessageQ {
    async fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        let found = self.dead.unreadable(limit, false).await;
        found.map_err(|error| error.at("look for unreadable messages"))
    }

    async fn move_out(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        let found = self.dead.unreadable(limit, true).await;
        found.map_err(|error| error.at("move unreadable messages out"))
    }
}
