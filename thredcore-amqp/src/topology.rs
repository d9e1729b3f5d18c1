//! Exchanges and queues: what is made when.

use std::{collections::HashSet, sync::Arc, time::Duration};

use lapin::{
    Channel,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable, ShortString},
};
use parking_lot::{Mutex, MutexGuard};
use thredlib::Topic;
use tokio::sync::{Mutex as AsyncMutex, watch};

use crate::{
    AmqpConfig, AmqpError, Declare,
    declare::{Arguments, Declaring},
    error::is_not_found,
    link::Link,
    lock::Lock,
    names::{Names, short},
};

/// Sees to it that what the names name is there. Things are declared when they are first used, and
/// again when the broker says that they are gone.
pub(crate) struct Topology {
    pub(crate) config: Arc<AmqpConfig>,
    pub(crate) link: Arc<Link>,
    events: AsyncMutex<bool>,
    messages: AsyncMutex<bool>,
    topics: Mutex<HashSet<Topic>>,
    /// Queues that were made for one use or other.
    extra: Mutex<HashSet<ShortString>>,
    declaring: AsyncMutex<()>,
    forgotten: watch::Sender<u64>,
}

impl Topology {
    pub(crate) fn new(config: Arc<AmqpConfig>, link: Arc<Link>) -> Self {
        let (events, messages) = (AsyncMutex::new(false), AsyncMutex::new(false));
        Self {
            config,
            link,
            events,
            messages,
            topics: Mutex::default(),
            extra: Mutex::default(),
            declaring: AsyncMutex::new(()),
            forgotten: watch::Sender::new(0),
        }
    }

    pub(crate) fn names(&self) -> &Names {
        &self.config.names
    }

    pub(crate) fn is_declaring(&self) -> bool {
        self.config.declare == Declare::Yes
    }

    /// Makes what events need.
    pub(crate) async fn events(&self) -> Result<(), AmqpError> {
        let mut done = self.events.lock().await;
        if *done {
            return Ok(());
        }
        let mut declaring = Declaring::on(&self.link);
        let (exchange, dead) = (self.names().event_exchange()?, self.names().dead_events()?);
        if self.is_declaring() {
            self.check_partitions(&mut declaring).await?;
            declaring.exchange(&exchange).await?;
            self.make_dead(&mut declaring, &dead).await?;
            // The first one last: where it is, the others are.
            for partition in (0..self.config.partitions).rev() {
                let queue = self.names().event_queue(partition)?;
                let arguments = self.events_arguments(&dead)?;
                declaring.queue(&queue, arguments).await?;
                declaring.bind(&queue, &exchange, &partition.to_string().into()).await?;
            }
            // A classic queue, which tells all its consumers; a quorum queue tells the active one.
            let arguments = Arguments::default().text("x-queue-type", "classic");
            declaring.queue(&self.names().engines_queue()?, arguments).await?;
        } else {
            declaring.find_exchange(&exchange).await?;
            for partition in 0..self.config.partitions {
                declaring.find_queue(&self.names().event_queue(partition)?).await?;
            }
            declaring.find_queue(&dead).await?;
        }
        declaring.end().await;
        *done = true;
        Ok(())
    }

    /// Makes what all messages need.
    pub(crate) async fn messages(&self) -> Result<(), AmqpError> {
        let mut done = self.messages.lock().await;
        if *done {
            return Ok(());
        }
        let mut declaring = Declaring::on(&self.link);
        let (exchange, dead) = (self.names().message_exchange()?, self.names().dead_messages()?);
        if self.is_declaring() {
            declaring.exchange(&exchange).await?;
            self.make_dead(&mut declaring, &dead).await?;
            declaring.queue(&self.names().topics_queue()?, self.bounded()).await?;
        } else {
            declaring.find_exchange(&exchange).await?;
            declaring.find_queue(&dead).await?;
        }
        declaring.end().await;
        *done = true;
        Ok(())
    }

    /// Makes what messages of some topics need; says which topics this process had not known.
    pub(crate) async fn topics(&self, topics: &[&Topic]) -> Result<Vec<Topic>, AmqpError> {
        self.messages().await?;
        let unknown = || {
            let known = self.known();
            topics.iter().copied().filter(|topic| !known.contains(*topic)).collect::<Vec<_>>()
        };
        if !self.is_declaring() || unknown().is_empty() {
            return Ok(vec![]);
        }
        // One at a time: the broker answers a second declaration before the first has started the
        // queue, and then fails whoever uses it.
        let _alone = self.declaring.lock().await;
        let unknown = unknown();
        if unknown.is_empty() {
            return Ok(vec![]);
        }
        let lock = match self.config.idle_expiry {
            Some(_) => Some(self.lock_topics().await?),
            None => None,
        };
        let made = self.make_topics(&unknown).await;
        if let Some(lock) = lock {
            lock.release().await;
        }
        made.map(|()| unknown.into_iter().cloned().collect())
    }

    /// While topics are removed for being idle, none is made: it would be removed with what was just
    /// published to it.
    pub(crate) async fn lock_topics(&self) -> Result<Lock, AmqpError> {
        const PATIENCE: Duration = Duration::from_secs(10);
        Lock::take(&self.link, self.names().lock("topics")?, PATIENCE).await
    }

    async fn make_topics(&self, topics: &[&Topic]) -> Result<(), AmqpError> {
        let mut declaring = Declaring::on(&self.link);
        let (exchange, dead) = (self.names().message_exchange()?, self.names().dead_messages()?);
        for topic in topics {
            let queue = self.names().message_queue(topic)?;
            let mut arguments = self.dying(self.quorum(), &dead)?;
            if let Some(limit) = self.config.message_ttl {
                let limit = limit.as_millis() as u64;
                arguments = carried_on(arguments.number("x-message-ttl", limit));
            }
            declaring.queue(&queue, arguments).await?;
            declaring.bind(&queue, &exchange, &short(topic.as_str())?).await?;
            self.known().insert((*topic).clone());
        }
        declaring.end().await;
        Ok(())
    }

    /// Makes a queue in which tries are noted; says whether there is one.
    pub(crate) async fn tries(&self, queue: &ShortString) -> Result<bool, AmqpError> {
        let notes = self.quorum().number("x-max-length", 16).text("x-overflow", "drop-head");
        self.extra_queue(queue, notes).await
    }

    /// Makes a queue in which messages of a topic wait for some minutes, in their order, and then
    /// go back to the topic; says whether there is one.
    pub(crate) async fn delays(&self, topic: &Topic, minutes: u32) -> Result<bool, AmqpError> {
        let queue = self.names().delay_queue(topic, minutes)?;
        let waiting = self
            .quorum()
            .number("x-message-ttl", u64::from(minutes) * 60_000)
            .text("x-dead-letter-exchange", self.names().message_exchange()?.as_str())
            .text("x-dead-letter-routing-key", topic.as_str());
        self.extra_queue(&queue, carried_on(waiting)).await
    }

    /// Makes the queue of dead letters that are dropped; says whether there is one.
    pub(crate) async fn dropped(&self) -> Result<bool, AmqpError> {
        self.extra_queue(&self.names().dropped_queue()?, self.bounded()).await
    }

    /// Makes the list of the ingress queues; says whether there is one.
    pub(crate) async fn ingresses(&self) -> Result<bool, AmqpError> {
        self.extra_queue(&self.names().ingresses_queue()?, self.bounded()).await
    }

    /// Makes a queue that others publish events to, with an exchange to publish them to, and the
    /// queue of its dead letters. One that is there is used as it is.
    pub(crate) async fn ingress(
        &self,
        queue: &ShortString,
        dead: &ShortString,
    ) -> Result<(), AmqpError> {
        let mut declaring = Declaring::on(&self.link);
        if self.is_declaring() {
            self.make_dead(&mut declaring, dead).await?;
            if !declaring.has_queue(queue).await? {
                declaring.exchange(queue).await?;
                declaring.queue(queue, self.dying(self.quorum(), dead)?).await?;
                declaring.bind(queue, queue, queue).await?;
            }
        } else {
            declaring.find_queue(queue).await?;
            declaring.find_queue(dead).await?;
        }
        declaring.end().await;
        Ok(())
    }

    /// Makes a queue at its first use, or looks whether somebody has; says whether there is one.
    async fn extra_queue(
        &self,
        queue: &ShortString,
        arguments: Arguments,
    ) -> Result<bool, AmqpError> {
        if self.extra().contains(queue) {
            return Ok(true);
        }
        let mut declaring = Declaring::on(&self.link);
        if self.is_declaring() {
            declaring.queue(queue, arguments).await?;
        } else if !declaring.has_queue(queue).await? {
            return Ok(false);
        }
        declaring.end().await;
        self.extra().insert(queue.clone());
        Ok(true)
    }

    /// The broker says that something is gone: all is declared again before the next use, and
    /// consumed again. A queue that is deleted and soon made again may still have the consumer of
    /// before, which gets nothing any more.
    pub(crate) async fn forget(&self) {
        let events = std::mem::take(&mut *self.events.lock().await);
        let messages = std::mem::take(&mut *self.messages.lock().await);
        let topics = std::mem::take(&mut *self.known());
        self.extra().clear();
        if events || messages || !topics.is_empty() {
            self.forgotten.send_modify(|times| *times += 1);
        }
    }

    /// A topic is made again before its next use.
    pub(crate) fn forget_topic(&self, topic: &Topic) {
        self.known().remove(topic);
        self.extra().clear();
    }

    /// Deletes everything that has a name, and the queues of some topics.
    pub(crate) async fn remove(
        &self,
        topics: impl IntoIterator<Item = Topic>,
    ) -> Result<(), AmqpError> {
        let names = self.names();
        let mut queues = names.own(self.config.partitions)?;
        let mut all = std::mem::take(&mut *self.known());
        all.extend(topics);
        for topic in &all {
            queues.push(names.message_queue(topic)?);
            queues.push(names.topic_tries_queue(topic)?);
        }
        queues.extend(std::mem::take(&mut *self.extra()));
        let mut declaring = Declaring::on(&self.link);
        for queue in queues {
            declaring.delete(&queue).await?;
        }
        for exchange in [names.event_exchange()?, names.message_exchange()?, names.dead_exchange()?]
        {
            declaring.delete_exchange(&exchange).await?;
        }
        declaring.end().await;
        Ok(())
    }

    /// Tells when all was forgotten.
    pub(crate) fn forgotten(&self) -> watch::Receiver<u64> {
        self.forgotten.subscribe()
    }

    fn known(&self) -> MutexGuard<'_, HashSet<Topic>> {
        self.topics.lock()
    }

    fn extra(&self) -> MutexGuard<'_, HashSet<ShortString>> {
        self.extra.lock()
    }

    /// A queue of which every message is at a majority of nodes.
    fn quorum(&self) -> Arguments {
        // The limit is told always: newer brokers have a low default.
        let limit = u64::from(self.config.delivery_limit);
        Arguments::default().text("x-queue-type", "quorum").number("x-delivery-limit", limit)
    }

    fn events_arguments(&self, dead: &ShortString) -> Result<Arguments, AmqpError> {
        let single = ("x-single-active-consumer", AMQPValue::Boolean(true));
        Ok(self.dying(self.quorum(), dead)?.set(single.0, single.1))
    }

    /// A queue whose messages may go to the dead letters.
    fn dying(&self, arguments: Arguments, dead: &ShortString) -> Result<Arguments, AmqpError> {
        Ok(arguments
            .text("x-dead-letter-exchange", self.names().dead_exchange()?.as_str())
            .text("x-dead-letter-routing-key", dead.as_str()))
    }

    /// A queue that is there to be read as a whole.
    fn bounded(&self) -> Arguments {
        self.quorum().number("x-max-length", 100_000).text("x-overflow", "drop-head")
    }

    /// A queue of dead letters. What leaves it for its age or for want of room is counted elsewhere.
    async fn make_dead(
        &self,
        declaring: &mut Declaring,
        queue: &ShortString,
    ) -> Result<(), AmqpError> {
        let (exchange, dropped) = (self.names().dead_exchange()?, self.names().dropped_queue()?);
        declaring.exchange(&exchange).await?;
        declaring.queue(&dropped, self.bounded()).await?;
        declaring.bind(&dropped, &exchange, &dropped).await?;
        let arguments = self
            .dying(self.quorum(), &dropped)?
            .number("x-message-ttl", self.config.dead_letters_time.as_millis() as u64)
            .number("x-max-length-bytes", self.config.dead_letters_bytes)
            .text("x-overflow", "drop-head");
        declaring.queue(queue, arguments).await?;
        declaring.bind(queue, &exchange, queue).await
    }

    /// Two processes with different numbers of partitions would tear threds apart.
    async fn check_partitions(&self, declaring: &mut Declaring) -> Result<(), AmqpError> {
        let (configured, names) = (self.config.partitions, self.names());
        let wrong =
            |found| AmqpError::Partitions { namespace: names.namespace.clone(), found, configured };
        // With a name that does not tell partitions apart there is nothing to compare.
        if names.event_queue(0)? == names.event_queue(configured)? {
            return Ok(());
        }
        if declaring.has_queue(&names.event_queue(configured)?).await? {
            return Err(wrong("more"));
        }
        let is_partial = declaring.has_queue(&names.event_queue(0)?).await?
            && !declaring.has_queue(&names.event_queue(configured - 1)?).await?;
        if is_partial { Err(wrong("fewer")) } else { Ok(()) }
    }
}

/// A queue whose expired messages are not lost on their way to where they go then.
fn carried_on(arguments: Arguments) -> Arguments {
    arguments.text("x-dead-letter-strategy", "at-least-once").text("x-overflow", "reject-publish")
}

/// Looks at a queue, without making it.
pub(crate) async fn peek(channel: &Channel, queue: ShortString) -> lapin::Result<lapin::Queue> {
    let options = QueueDeclareOptions::durable().passive();
    channel.queue_declare(queue, options, FieldTable::default()).await
}

/// How many items wait in a queue; none when there is no such queue, and then the channel is
/// closed.
pub(crate) async fn waiting(
    link: &Link,
    channel: &Channel,
    queue: &ShortString,
) -> Result<usize, AmqpError> {
    match link.answered(peek(channel, queue.clone())).await {
        Ok(found) => Ok(found.message_count() as usize),
        Err(AmqpError::Lost { source }) if is_not_found(&source) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Closes a channel that has done its work; if it cannot be closed, it is.
pub(crate) async fn close(link: &Link, channel: Channel) {
    if !channel.status().connected() {
        return;
    }
    if let Err(error) = link.answered(channel.close(200, "OK".into())).await {
        tracing::debug!(%error, "a channel was closed already");
    }
}
