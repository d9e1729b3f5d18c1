//! Exchanges and queues: what they are called, and making them.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex as StdMutex, PoisonError},
};

use futures::future::try_join_all;
use lapin::{
    Channel, ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use thredlib::Topic;
use tokio::sync::{Mutex, watch};

use crate::{AmqpConfig, AmqpError, Declare, error::is_not_found, link::Link};

/// Knows all names, and sees to it that what they name is there. Things are declared when they are
/// first used, and again when the broker says that they are gone.
pub(crate) struct Topology {
    config: Arc<AmqpConfig>,
    link: Arc<Link>,
    events: Mutex<bool>,
    messages: Mutex<bool>,
    topics: StdMutex<HashSet<Topic>>,
    declaring: Mutex<()>,
    forgotten: watch::Sender<u64>,
}

/// What a queue is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Events,
    Messages,
    Dead,
    Tries,
}

impl Topology {
    pub(crate) fn new(config: Arc<AmqpConfig>, link: Arc<Link>) -> Self {
        let (events, messages) = (Mutex::new(false), Mutex::new(false));
        Self {
            config,
            link,
            events,
            messages,
            topics: StdMutex::default(),
            declaring: Mutex::new(()),
            forgotten: watch::Sender::new(0),
        }
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.config.partitions
    }

    pub(crate) fn event_exchange(&self) -> Result<ShortString, AmqpError> {
        self.name(&self.config.names.event_exchange)
    }

    pub(crate) fn event_queue(&self, partition: u16) -> Result<ShortString, AmqpError> {
        self.name_with(&self.config.names.event_queue, "{partition}", &partition.to_string())
    }

    pub(crate) fn tries_queue(&self, partition: u16) -> Result<ShortString, AmqpError> {
        self.name_with(&self.config.names.tries_queue, "{partition}", &partition.to_string())
    }

    pub(crate) fn engines_queue(&self) -> Result<ShortString, AmqpError> {
        self.name(&self.config.names.engines_queue)
    }

    pub(crate) fn message_exchange(&self) -> Result<ShortString, AmqpError> {
        self.name(&self.config.names.message_exchange)
    }

    pub(crate) fn message_queue(&self, topic: &Topic) -> Result<ShortString, AmqpError> {
        self.name_with(&self.config.names.message_queue, "{topic}", topic.as_str())
    }

    pub(crate) fn dead_exchange(&self) -> Result<ShortString, AmqpError> {
        self.name(&self.config.names.dead_exchange)
    }

    pub(crate) fn dead_events(&self) -> Result<ShortString, AmqpError> {
        self.name(&self.config.names.dead_events)
    }

    pub(crate) fn dead_messages(&self) -> Result<ShortString, AmqpError> {
        self.name(&self.config.names.dead_messages)
    }

    /// Makes what events need.
    pub(crate) async fn events(&self) -> Result<(), AmqpError> {
        let mut done = self.events.lock().await;
        if *done {
            return Ok(());
        }
        let channel = self.link.channel().await?;
        let (exchange, dead) = (self.event_exchange()?, self.dead_events()?);
        if self.config.declare == Declare::No {
            self.find_exchange(&channel, exchange).await?;
            for partition in 0..self.config.partitions {
                self.find_queue(&channel, self.event_queue(partition)?).await?;
            }
            self.find_queue(&channel, dead).await?;
        } else {
            self.check_partitions().await?;
            self.make_exchange(&channel, exchange.clone()).await?;
            self.make_dead(&channel, dead.clone()).await?;
            let make = |partition: u16| {
                let (channel, exchange, dead) = (&channel, exchange.clone(), dead.clone());
                async move {
                    let queue = self.event_queue(partition)?;
                    let arguments = self.arguments(Use::Events, Some(&dead))?;
                    self.make_queue(channel, queue.clone(), arguments).await?;
                    bind(channel, queue, exchange, partition.to_string().into()).await
                }
            };
            // The first one last: where it is, the others are.
            try_join_all((1..self.config.partitions).map(make)).await?;
            make(0).await?;
            self.make_engines_queue(&channel).await?;
        }
        close(channel).await;
        *done = true;
        Ok(())
    }

    /// Makes what all messages need.
    pub(crate) async fn messages(&self) -> Result<(), AmqpError> {
        let mut done = self.messages.lock().await;
        if *done {
            return Ok(());
        }
        let channel = self.link.channel().await?;
        let (exchange, dead) = (self.message_exchange()?, self.dead_messages()?);
        if self.config.declare == Declare::No {
            self.find_exchange(&channel, exchange).await?;
            self.find_queue(&channel, dead).await?;
        } else {
            self.make_exchange(&channel, exchange).await?;
            self.make_dead(&channel, dead).await?;
        }
        close(channel).await;
        *done = true;
        Ok(())
    }

    /// Makes what messages of some topics need.
    pub(crate) async fn topics(&self, topics: &[&Topic]) -> Result<(), AmqpError> {
        self.messages().await?;
        let are_known = |topics: &[&Topic]| {
            let known = self.known();
            topics.iter().all(|topic| known.contains(*topic))
        };
        if self.config.declare == Declare::No || are_known(topics) {
            return Ok(());
        }
        // One at a time: the broker answers a second declaration before the first has started the
        // queue, and then fails whoever uses it.
        let _alone = self.declaring.lock().await;
        if are_known(topics) {
            return Ok(());
        }
        let channel = self.link.channel().await?;
        let (exchange, dead) = (self.message_exchange()?, self.dead_messages()?);
        for topic in topics {
            if are_known(&[topic]) {
                continue;
            }
            let queue = self.message_queue(topic)?;
            let key = short(topic.as_str())?;
            let arguments = self.arguments(Use::Messages, Some(&dead))?;
            self.make_queue(&channel, queue.clone(), arguments).await?;
            bind(&channel, queue, exchange.clone(), key).await?;
            self.known().insert((*topic).clone());
        }
        close(channel).await;
        Ok(())
    }

    /// Makes the queue in which tries of a partition's items are noted; says whether there is one.
    pub(crate) async fn tries(&self, channel: &Channel, partition: u16) -> Result<bool, AmqpError> {
        let queue = self.tries_queue(partition)?;
        let found = match self.config.declare {
            Declare::No => self.find_queue(channel, queue).await,
            Declare::Yes => {
                self.make_queue(channel, queue, self.arguments(Use::Tries, None)?).await
            }
        };
        match found {
            Err(AmqpError::Topology { .. }) if self.config.declare == Declare::No => Ok(false),
            found => found.map(|()| true),
        }
    }

    /// The broker says that something is gone: all is declared again before the next use, and
    /// consumed again. A queue that is deleted and soon made again may still have the consumer of
    /// before, which gets nothing any more.
    pub(crate) async fn forget(&self) {
        let events = std::mem::take(&mut *self.events.lock().await);
        let messages = std::mem::take(&mut *self.messages.lock().await);
        let topics = std::mem::take(&mut *self.known());
        if events || messages || !topics.is_empty() {
            self.forgotten.send_modify(|times| *times += 1);
        }
    }

    /// Deletes everything that has a name.
    pub(crate) async fn remove(&self) -> Result<(), AmqpError> {
        let mut queues = vec![self.engines_queue()?, self.dead_events()?, self.dead_messages()?];
        for partition in 0..self.config.partitions {
            queues.push(self.event_queue(partition)?);
            queues.push(self.tries_queue(partition)?);
        }
        for topic in &std::mem::take(&mut *self.known()) {
            queues.push(self.message_queue(topic)?);
        }
        let channel = self.link.channel().await?;
        for queue in queues {
            channel.queue_delete(queue, QueueDeleteOptions::default()).await?;
        }
        for exchange in [self.event_exchange()?, self.message_exchange()?, self.dead_exchange()?] {
            channel.exchange_delete(exchange, ExchangeDeleteOptions::default()).await?;
        }
        close(channel).await;
        Ok(())
    }

    /// Tells when all was forgotten.
    pub(crate) fn forgotten(&self) -> watch::Receiver<u64> {
        self.forgotten.subscribe()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<Topic>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self, template: &str) -> Result<ShortString, AmqpError> {
        short(&template.replace("{namespace}", &self.config.names.namespace))
    }

    fn name_with(&self, template: &str, hole: &str, with: &str) -> Result<ShortString, AmqpError> {
        let template = template.replace("{namespace}", &self.config.names.namespace);
        short(&template.replace(hole, with))
    }

    fn arguments(&self, purpose: Use, dead: Option<&ShortString>) -> Result<FieldTable, AmqpError> {
        let mut arguments = FieldTable::default();
        let mut set = |key: &str, value: AMQPValue| _ = arguments.insert(key.into(), value);
        set("x-queue-type", text("quorum"));
        // Told always: newer brokers have a low default.
        set("x-delivery-limit", AMQPValue::LongLongInt(i64::from(self.config.delivery_limit)));
        if let Some(dead) = dead {
            set("x-dead-letter-exchange", text(self.dead_exchange()?.as_str()));
            set("x-dead-letter-routing-key", text(dead.as_str()));
        }
        if matches!(purpose, Use::Events | Use::Dead) {
            set("x-single-active-consumer", AMQPValue::Boolean(true));
        }
        if purpose == Use::Tries {
            set("x-max-length", AMQPValue::LongLongInt(1));
            set("x-overflow", text("drop-head"));
        }
        Ok(arguments)
    }

    async fn make_exchange(&self, channel: &Channel, name: ShortString) -> Result<(), AmqpError> {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let made = channel
            .exchange_declare(name.clone(), ExchangeKind::Direct, options, FieldTable::default())
            .await;
        made.map_err(|source| declared_otherwise("exchange", &name, source))
    }

    async fn make_queue(
        &self,
        channel: &Channel,
        name: ShortString,
        arguments: FieldTable,
    ) -> Result<(), AmqpError> {
        let made = channel.queue_declare(name.clone(), QueueDeclareOptions::durable(), arguments);
        let made = made.await;
        made.map(drop).map_err(|source| declared_otherwise("queue", &name, source))
    }

    async fn make_dead(&self, channel: &Channel, queue: ShortString) -> Result<(), AmqpError> {
        let exchange = self.dead_exchange()?;
        self.make_exchange(channel, exchange.clone()).await?;
        self.make_queue(channel, queue.clone(), self.arguments(Use::Dead, None)?).await?;
        bind(channel, queue.clone(), exchange, queue).await
    }

    /// A classic queue, which tells all its consumers; a quorum queue tells the active one.
    async fn make_engines_queue(&self, channel: &Channel) -> Result<(), AmqpError> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("classic"));
        self.make_queue(channel, self.engines_queue()?, arguments).await
    }

    async fn find_exchange(&self, channel: &Channel, name: ShortString) -> Result<(), AmqpError> {
        let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let found = channel
            .exchange_declare(name.clone(), ExchangeKind::Direct, options, FieldTable::default())
            .await;
        found.map_err(|source| missing("exchange", &name, source))
    }

    async fn find_queue(&self, channel: &Channel, name: ShortString) -> Result<(), AmqpError> {
        let found = peek(channel, name.clone()).await;
        found.map(drop).map_err(|source| missing("queue", &name, source))
    }

    /// Two processes with different numbers of partitions would tear threds apart.
    async fn check_partitions(&self) -> Result<(), AmqpError> {
        let configured = self.config.partitions;
        let wrong = |found| AmqpError::Partitions {
            namespace: self.config.names.namespace.clone(),
            found,
            configured,
        };
        // With a name that does not tell partitions apart there is nothing to compare.
        if self.event_queue(0)? == self.event_queue(configured)? {
            return Ok(());
        }
        if self.exists(self.event_queue(configured)?).await? {
            return Err(wrong("more"));
        }
        let is_partial = self.exists(self.event_queue(0)?).await?
            && !self.exists(self.event_queue(configured - 1)?).await?;
        if is_partial { Err(wrong("fewer")) } else { Ok(()) }
    }

    async fn exists(&self, queue: ShortString) -> Result<bool, AmqpError> {
        let channel = self.link.channel().await?;
        match peek(&channel, queue).await {
            Ok(_) => {
                close(channel).await;
                Ok(true)
            }
            Err(error) if is_not_found(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Looks at a queue, without making it.
pub(crate) async fn peek(channel: &Channel, queue: ShortString) -> lapin::Result<lapin::Queue> {
    let options = QueueDeclareOptions::durable().passive();
    channel.queue_declare(queue, options, FieldTable::default()).await
}

/// How many items wait in a queue; none when there is no such queue, and then the channel is
/// closed.
pub(crate) async fn waiting(channel: &Channel, queue: &ShortString) -> Result<usize, AmqpError> {
    match peek(channel, queue.clone()).await {
        Ok(found) => Ok(found.message_count() as usize),
        Err(error) if is_not_found(&error) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Closes a channel that has done its work; if it cannot be closed, it is.
pub(crate) async fn close(channel: Channel) {
    if !channel.status().connected() {
        return;
    }
    if let Err(error) = channel.close(200, "OK".into()).await {
        tracing::debug!(%error, "a channel was closed already");
    }
}

pub(crate) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

pub(crate) fn short(name: &str) -> Result<ShortString, AmqpError> {
    ShortString::try_new(name).map_err(|_| AmqpError::Name(name.to_owned()))
}

async fn bind(
    channel: &Channel,
    queue: ShortString,
    exchange: ShortString,
    key: ShortString,
) -> Result<(), AmqpError> {
    let options = QueueBindOptions::default();
    Ok(channel.queue_bind(queue, exchange, key, options, FieldTable::default()).await?)
}

fn declared_otherwise(what: &'static str, name: &ShortString, source: lapin::Error) -> AmqpError {
    const PRECONDITION_FAILED: u16 = 406;
    let remedy = "choose another namespace, delete it if it is empty, or adopt it (Declare::No)";
    explain(what, name, source, PRECONDITION_FAILED, remedy)
}

fn missing(what: &'static str, name: &ShortString, source: lapin::Error) -> AmqpError {
    const NOT_FOUND: u16 = 404;
    let remedy = "make it, or let the adapter do so (Declare::Yes)";
    explain(what, name, source, NOT_FOUND, remedy)
}

fn explain(
    what: &'static str,
    name: &ShortString,
    source: lapin::Error,
    code: u16,
    remedy: &'static str,
) -> AmqpError {
    match source.kind() {
        lapin::ErrorKind::ProtocolError(error) if error.get_id() == code => {
            AmqpError::Topology { what, name: name.to_string(), remedy, source: Box::new(source) }
        }
        _ => source.into(),
    }
}
