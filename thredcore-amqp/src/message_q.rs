//! The queue of what goes out.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::future::{join_all, select_all};
use thredcore::port::{
    DeadLetter, DeadLetterFilter, Delivery, DeliveryTag, MessageQ, PortError, Routed,
};
use thredlib::Topic;
use tokio::{sync::mpsc, time::sleep};

use crate::{
    AmqpError, QueueDepth,
    cargo::Cargo,
    dead_letters::DeadLetters,
    depth::Sounding,
    gauge::Gauge,
    inflow::{Ask, Inflow, Taken},
    pump::{Pump, Source, Works},
    queues::Wires,
};

/// A [`MessageQ`] on RabbitMQ: a quorum queue for each topic, bound to one exchange by its name.
///
/// Topics come into being when they are named, by a publisher or a consumer. A process consumes a
/// topic from its first [`receive`](MessageQ::receive) on, until it is closed or dropped, and
/// holds up to its prefetch of each.
///
/// A message that is given back with a delay waits in the process; should that end, the message
/// comes again at once. [`Delivery::attempt`] counts what this process handed out, and one more
/// for a message that has come back from elsewhere.
///
/// After an error, later messages of the same topic have errors too, even those that got through
/// while the topic's queue was bound again: publishing them once more keeps the order of the last
/// copies.
pub struct AmqpMessageQ {
    wires: Wires,
    dead: Arc<DeadLetters<Routed>>,
    sounding: Sounding,
    topics: RwLock<Topics>,
    received: AtomicUsize,
}

#[derive(Default)]
struct Topics {
    numbers: HashMap<Topic, usize>,
    all: Vec<Arc<TopicState>>,
}

struct TopicState {
    inflow: Arc<Inflow<Routed>>,
    gauge: Gauge,
    pump: OnceLock<Pump>,
    asks: Mutex<Option<mpsc::UnboundedReceiver<Ask>>>,
}

impl std::fmt::Debug for AmqpMessageQ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmqpMessageQ").field("config", &self.wires.config).finish_non_exhaustive()
    }
}

impl AmqpMessageQ {
    pub(crate) fn new(wires: Wires) -> Result<Self, AmqpError> {
        let dead = wires.dead_letters(wires.topology.dead_messages()?);
        let sounding = Sounding::new(wires.consuming.clone());
        let (topics, received) = (RwLock::default(), AtomicUsize::new(0));
        Ok(Self { wires, dead, sounding, topics, received })
    }

    /// How much is in the queue of each topic that was published to or received from here, and in
    /// that of the dead letters.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn depths(&self) -> Result<Vec<QueueDepth>, AmqpError> {
        let all = self.topics.read().unwrap_or_else(PoisonError::into_inner).all.clone();
        let queues: Vec<_> = all.iter().map(|state| state.inflow.queue.clone()).collect();
        let waiting = self.sounding.waiting(&queues).await?;
        let exact = join_all(all.iter().map(|state| state.inflow.depth())).await;
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
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.all.iter().for_each(|state| state.inflow.close());
    }

    fn topic(&self, topic: &Topic) -> Result<Arc<TopicState>, AmqpError> {
        {
            let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(number) = topics.numbers.get(topic) {
                return Ok(topics.all[*number].clone());
            }
        }
        let queue = self.wires.topology.message_queue(topic)?;
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = topics.numbers.get(topic) {
            return Ok(topics.all[*number].clone());
        }
        let number = topics.all.len();
        let (inflow, asks) = Inflow::new(number as u64, queue, false);
        let state = Arc::new(TopicState {
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
        state.pump.get_or_init(|| {
            let asks = state.asks.lock().unwrap_or_else(PoisonError::into_inner).take();
            let works = Works {
                inflow: state.inflow.clone(),
                source: Source::Topic(topic.clone()),
                prefetch: self.wires.config.message_prefetch,
                topology: self.wires.topology.clone(),
                link: self.wires.consuming.clone(),
                dead: self.dead.clone(),
            };
            Pump::start(works, asks.unwrap_or_else(|| mpsc::unbounded_channel().1))
        });
        Ok(state)
    }

    fn inflow(&self, tag: DeliveryTag) -> Option<Arc<TopicState>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
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
        const LONGEST: Duration = Duration::from_millis(200);
        let mut pause = Duration::from_millis(5);
        loop {
            let chosen = self.choose(messages, answers).await?;
            match chosen.is_empty() {
                true if answers.iter().all(Option::is_some) => return Ok(()),
                true => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST);
                }
                false => {
                    self.publish_chosen(messages, &chosen, answers).await?;
                    pause = Duration::from_millis(5);
                }
            }
        }
    }

    /// The open messages for which there is room, in order.
    async fn choose(
        &self,
        messages: &[Routed],
        answers: &[Option<Result<(), AmqpError>>],
    ) -> Result<Vec<usize>, AmqpError> {
        let open = || messages.iter().zip(answers).filter(|(_, answer)| answer.is_none());
        let mut wanted: HashMap<&Topic, usize> = HashMap::new();
        open().for_each(|(message, _)| *wanted.entry(&message.topic).or_default() += 1);
        let names: Vec<&Topic> = wanted.keys().copied().collect();
        self.wires.topology.topics(&names).await?;
        let mut left: HashMap<&Topic, usize> = HashMap::new();
        for (topic, wanted) in wanted {
            let state = self.topic(topic)?;
            let room = self.room(&state, wanted).await?;
            state.gauge.added(room.min(wanted));
            left.insert(topic, room);
        }
        let mut chosen = Vec::new();
        for (number, (message, answer)) in messages.iter().zip(answers).enumerate() {
            if answer.is_none()
                && let Some(room) = left.get_mut(&message.topic)
                && *room > 0
            {
                *room -= 1;
                chosen.push(number);
            }
        }
        Ok(chosen)
    }

    /// Publishes some messages. Those after a failure, of the same topic, count as failed.
    async fn publish_chosen(
        &self,
        messages: &[Routed],
        chosen: &[usize],
        answers: &mut [Option<Result<(), AmqpError>>],
    ) -> Result<(), AmqpError> {
        let parcels = chosen.iter().map(|number| messages[*number].parcel(&self.wires.topology));
        let parcels = parcels.collect::<Result<Vec<_>, _>>()?;
        let published = self.wires.publisher.publish(&parcels).await;
        let is_missing =
            |answer: &Result<(), AmqpError>| answer.as_ref().is_err_and(AmqpError::is_missing);
        if published.iter().any(is_missing) {
            self.wires.topology.forget().await;
        }
        for (number, answer) in chosen.iter().zip(published) {
            answers[*number] = Some(answer);
        }
        let mut failed: HashSet<&Topic> = HashSet::new();
        for (message, answer) in messages.iter().zip(answers) {
            match answer {
                Some(Err(_)) => _ = failed.insert(&message.topic),
                Some(Ok(())) if failed.contains(&message.topic) => {
                    *answer = Some(Err(AmqpError::Overtaking));
                }
                None if failed.contains(&message.topic) => *answer = Some(Err(AmqpError::NotTried)),
                _ => {}
            }
        }
        Ok(())
    }

    /// What is there of some topics, to each an equal part.
    fn take(
        &self,
        states: &[Arc<TopicState>],
        max: usize,
    ) -> Result<(Vec<Delivery<Routed>>, Option<tokio::time::Instant>), AmqpError> {
        let mut batch = Vec::new();
        let mut next: Option<tokio::time::Instant> = None;
        // Another topic goes first each time, for batches smaller than the number of topics.
        let first = self.received.fetch_add(1, Ordering::Relaxed);
        for round in 0..2 {
            for place in 0..states.len() {
                let left = max.max(1) - batch.len();
                if left == 0 {
                    return Ok((batch, None));
                }
                let others = states.len() - place;
                let part = if round == 0 { left.div_ceil(others) } else { left };
                let state = &states[(first + place) % states.len()];
                match state.inflow.take(part)? {
                    Taken::Batch(part) => batch.extend(part),
                    Taken::Nothing(until) => next = [next, until].into_iter().flatten().min(),
                    Taken::Suspect { .. } => {}
                }
            }
        }
        Ok((batch, next))
    }

    async fn next(&self, topics: &[Topic], max: usize) -> Result<Vec<Delivery<Routed>>, AmqpError> {
        let states: Vec<_> =
            topics.iter().map(|topic| self.consumed(topic)).collect::<Result<_, _>>()?;
        if states.is_empty() {
            std::future::pending::<()>().await;
        }
        loop {
            let mut told: Vec<_> = states.iter().map(|it| Box::pin(it.inflow.told())).collect();
            told.iter_mut().for_each(|told| _ = told.as_mut().enable());
            let (batch, until) = self.take(&states, max)?;
            if !batch.is_empty() {
                return Ok(batch);
            }
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

#[async_trait]
impl MessageQ for AmqpMessageQ {
    async fn publish(&self, messages: Vec<Routed>) -> Vec<Result<(), PortError>> {
        let mut answers: Vec<Option<Result<(), AmqpError>>> = Vec::new();
        answers.resize_with(messages.len(), || None);
        let failure = match messages.is_empty() {
            true => None,
            false => self.try_publish(&messages, &mut answers).await.err(),
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

    async fn nack(&self, tag: DeliveryTag, delay_ms: u64) -> Result<(), PortError> {
        if let Some(state) = self.inflow(tag) {
            state.inflow.give_back(&[tag], Duration::from_millis(delay_ms));
        }
        Ok(())
    }

    async fn dead_letter(&self, tag: DeliveryTag, reason: &str) -> Result<(), PortError> {
        let Some(state) = self.inflow(tag) else { return Ok(()) };
        let buried = self.dead.bury_delivery(&state.inflow, tag, reason).await;
        buried.map_err(|error| error.at("dead-letter a message"))
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
            if let Some((waiting, held)) = state.inflow.depth().await {
                return Ok(waiting + held);
            }
            let queue = std::slice::from_ref(&state.inflow.queue);
            let waiting = self.sounding.waiting(queue).await?;
            Ok::<usize, AmqpError>(waiting.iter().sum::<usize>() + state.inflow.held())
        };
        count.await.map_err(|error| error.at("count messages"))
    }
}
