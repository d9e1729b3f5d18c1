//! Items taken out of circulation.

use std::{sync::Arc, time::Duration};

use lapin::{
    Channel,
    message::Delivery,
    options::BasicAckOptions,
    types::{AMQPValue, FieldTable, ShortString},
};
use thredcore::port::{DeadLetter, DeadLetterFilter, DeliveryTag};
use thredlib::derive_id;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use crate::{
    AmqpConfig, AmqpError,
    cargo::Cargo,
    consuming::Consuming,
    inflow::Inflow,
    link::Link,
    publisher::{Parcel, Publisher},
    pump::integer,
    topology::{Topology, close, text, waiting},
};

/// The queue of dead letters of one kind.
///
/// To look through it is to consume it: the letters that stay are given back when the channel
/// closes, in their order. The queue has a single active consumer, so that two who look do not see
/// half of it each. The first 65,535 letters can be seen.
pub(crate) struct DeadLetters<T> {
    pub(crate) queue: ShortString,
    config: Arc<AmqpConfig>,
    topology: Arc<Topology>,
    publisher: Arc<Publisher>,
    link: Arc<Link>,
    looking: Mutex<()>,
    kind: std::marker::PhantomData<fn() -> T>,
}

const REASON: &str = "thredcore-reason";
const AT: &str = "thredcore-at";
const ATTEMPTS: &str = "thredcore-attempts";
const ORIGIN: &str = "thredcore-origin";

/// What is done with the letters that are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Redriven,
    Discarded,
}

impl<T: Cargo> DeadLetters<T> {
    pub(crate) fn new(
        queue: ShortString,
        config: Arc<AmqpConfig>,
        topology: Arc<Topology>,
        publisher: Arc<Publisher>,
        link: Arc<Link>,
    ) -> Self {
        let (looking, kind) = (Mutex::new(()), std::marker::PhantomData);
        Self { queue, config, topology, publisher, link, looking, kind }
    }

    /// Adds a letter; it is confirmed.
    pub(crate) async fn bury(
        &self,
        body: Vec<u8>,
        id: &str,
        origin: &str,
        reason: &str,
        attempts: u32,
    ) -> Result<(), AmqpError> {
        let mut headers = FieldTable::default();
        headers.insert(REASON.into(), text(reason));
        headers.insert(AT.into(), AMQPValue::LongLongInt(self.config.clock.now()));
        headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(attempts.into()));
        headers.insert(ORIGIN.into(), text(origin));
        headers.insert("thredcore-item".into(), text(id));
        let parcel = Parcel {
            exchange: self.topology.dead_exchange()?,
            key: self.queue.clone(),
            id: Uuid::now_v7().to_string(),
            headers: Some(headers),
            body,
        };
        let buried = self.publisher.publish_one(parcel).await;
        if buried.as_ref().is_err_and(AmqpError::is_missing) {
            self.topology.forget().await;
        }
        buried
    }

    /// Moves an item that is out to the letters. Until that is confirmed it stays out, so that it
    /// can be tried again.
    pub(crate) async fn bury_delivery(
        &self,
        inflow: &Inflow<T>,
        tag: DeliveryTag,
        reason: &str,
    ) -> Result<(), AmqpError> {
        let Some((payload, attempts)) = inflow.peek(tag) else { return Ok(()) };
        let body = payload.parcel(&self.topology)?.body;
        self.bury(body, &payload.id(), payload.origin(), reason, attempts).await?;
        inflow.ack(&[tag]).await
    }

    pub(crate) async fn list(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<T>>, AmqpError> {
        self.look(filter, Fate::Kept).await
    }

    pub(crate) async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, AmqpError> {
        Ok(self.look(filter, Fate::Redriven).await?.len())
    }

    pub(crate) async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, AmqpError> {
        Ok(self.look(filter, Fate::Discarded).await?.len())
    }

    /// How many letters there are.
    pub(crate) async fn count(&self) -> Result<usize, AmqpError> {
        let channel = self.link.channel().await?;
        let count = waiting(&channel, &self.queue).await?;
        close(channel).await;
        Ok(count)
    }

    /// Finds letters, and does with them what is to be done.
    async fn look(
        &self,
        filter: &DeadLetterFilter,
        fate: Fate,
    ) -> Result<Vec<DeadLetter<T>>, AmqpError> {
        let _alone = self.looking.lock().await;
        let channel = self.link.channel().await?;
        let count = waiting(&channel, &self.queue).await?.min(usize::from(u16::MAX));
        if count == 0 {
            close(channel).await;
            return Ok(vec![]);
        }
        let mut consuming = Consuming::start(channel.clone(), self.queue.clone(), u16::MAX).await?;
        let done = self.look_through(&channel, &mut consuming, count, filter, fate).await;
        let (letters, stay) = match done {
            Ok((letters, seen)) if fate == Fate::Kept => (Ok(letters), seen),
            Ok((letters, seen)) => {
                let stay = seen - letters.len();
                (Ok(letters), stay)
            }
            Err(error) => (Err(error), 0),
        };
        consuming.end().await;
        self.wait_for_return(stay).await;
        letters
    }

    /// Reads the letters; says how many it has read.
    async fn look_through(
        &self,
        channel: &Channel,
        consuming: &mut Consuming,
        count: usize,
        filter: &DeadLetterFilter,
        fate: Fate,
    ) -> Result<(Vec<DeadLetter<T>>, usize), AmqpError> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let mut all: Vec<(DeadLetter<T>, u64)> = Vec::new();
        let mut seen = 0;
        while seen < count {
            let Ok(next) = timeout(PATIENCE, consuming.next()).await else {
                return Err(AmqpError::Busy(self.queue.to_string()));
            };
            let Some(delivery) = next else {
                return Err(AmqpError::Gone(self.queue.to_string()));
            };
            let delivery = delivery?;
            seen += 1;
            match letter(&delivery) {
                Ok(letter) if filter.matches(&letter) => all.push((letter, delivery.delivery_tag)),
                Ok(_) => {}
                Err(error) => {
                    let queue = self.queue.as_str();
                    tracing::warn!(%error, queue, "a dead letter cannot be read and is left there");
                }
            }
        }
        all.sort_by(|(a, _), (b, _)| (a.at, &a.id).cmp(&(b.at, &b.id)));
        all.truncate(filter.limit.unwrap_or(usize::MAX));
        if fate == Fate::Redriven {
            let parcels = all.iter().map(|(letter, _)| letter.payload.parcel(&self.topology));
            let parcels = parcels.collect::<Result<Vec<_>, _>>()?;
            self.publisher.publish(&parcels).await.into_iter().collect::<Result<(), _>>()?;
        }
        if fate != Fate::Kept {
            self.settle(channel, all.iter().map(|(_, tag)| *tag).collect()).await?;
        }
        Ok((all.into_iter().map(|(letter, _)| letter).collect(), seen))
    }

    /// Acknowledges letters. A channel passes on some thirty acknowledgements to a quorum queue
    /// and keeps the others until those have taken effect; closing it forgets them.
    async fn settle(&self, channel: &Channel, mut tags: Vec<u64>) -> Result<(), AmqpError> {
        const AT_ONCE: usize = 16;
        const A_MOMENT: Duration = Duration::from_millis(20);
        tags.sort_unstable();
        // The first letters up to where one stays, which is nearly always all, take one.
        let first = tags.iter().zip(1..).take_while(|(tag, number)| *tag == number).count();
        if let Some(last) = first.checked_sub(1) {
            channel.basic_ack(tags[last], BasicAckOptions { multiple: true }).await?;
        }
        for some in tags[first..].chunks(AT_ONCE) {
            for tag in some {
                channel.basic_ack(*tag, BasicAckOptions { multiple: false }).await?;
            }
            waiting(channel, &self.queue).await?;
            sleep(A_MOMENT).await;
        }
        Ok(())
    }

    /// Letters that stay go back a moment after the channel has closed.
    async fn wait_for_return(&self, stay: usize) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let until = Instant::now() + PATIENCE;
        let Ok(channel) = self.link.channel().await else { return };
        while waiting(&channel, &self.queue).await.is_ok_and(|count| count < stay)
            && Instant::now() < until
        {
            sleep(Duration::from_millis(2)).await;
        }
        close(channel).await;
    }
}

/// Reads a dead letter, the broker's own ones included.
fn letter<T: Cargo>(delivery: &Delivery) -> Result<DeadLetter<T>, serde_json::Error> {
    let headers = delivery.properties.headers().as_ref().map(FieldTable::inner);
    let get = |key: &str| headers.and_then(|headers| headers.get(key));
    let death = get("x-death").and_then(|deaths| match deaths {
        AMQPValue::FieldArray(deaths) => deaths.as_slice().first()?.as_field_table(),
        _ => None,
    });
    let of_death = |key: &str| death.and_then(|death| death.inner().get(key));
    let origin = get(ORIGIN).and_then(words).or_else(|| {
        let keys = of_death("routing-keys")?.as_array()?;
        words(keys.as_slice().first()?)
    });
    let reason = get(REASON).and_then(words);
    let reason = reason
        .or_else(|| Some(format!("the broker says: {}", words(get("x-first-death-reason")?)?)));
    let at = get(AT).and_then(integer);
    let at = at.or_else(|| integer(of_death("time")?)?.checked_mul(1_000)).unwrap_or(0);
    let attempts = get(ATTEMPTS).or_else(|| of_death("count")).and_then(integer);
    let payload = T::read(&origin.unwrap_or_default(), &delivery.data)?;
    let id = match delivery.properties.message_id() {
        Some(id) if get(REASON).is_some() => id.to_string(),
        _ => derive_id("dead letter", &[&payload.id(), &at.to_string()]).to_string(),
    };
    Ok(DeadLetter {
        id,
        payload,
        reason: reason.unwrap_or_else(|| "unknown".to_owned()),
        at,
        attempts: attempts.and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(0),
    })
}

fn words(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}
