//! Publishing: many messages in flight, each confirmed.

use std::{
    collections::HashSet,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};

use futures::{future::join_all, poll};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{FieldTable, ShortString},
};
use tokio::{sync::Semaphore, time::timeout};

use crate::{AmqpConfig, AmqpError, link::Link};

/// A message on its way to an exchange.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) exchange: ShortString,
    pub(crate) key: ShortString,
    /// Names it for people; left out when it is too long.
    pub(crate) id: String,
    pub(crate) headers: Option<FieldTable>,
    pub(crate) body: Vec<u8>,
}

/// Publishes with confirms. A call has a channel to itself: the client library hands a returned
/// message to whichever confirm comes next, so that calls on one channel could be told of each
/// other's.
pub(crate) struct Publisher {
    config: Arc<AmqpConfig>,
    link: Arc<Link>,
    idle: Mutex<Vec<Channel>>,
    permits: Semaphore,
}

type Sent<'a> = Pin<Box<dyn Future<Output = lapin::Result<PublisherConfirm>> + Send + 'a>>;

impl Publisher {
    pub(crate) fn new(config: Arc<AmqpConfig>, link: Arc<Link>) -> Self {
        let permits = Semaphore::new(config.publish_channels);
        Self { config, link, idle: Mutex::default(), permits }
    }

    /// Publishes in order; an answer for each. After a failure, messages that were not sent yet
    /// are not.
    pub(crate) async fn publish(&self, parcels: &[Parcel]) -> Vec<Result<(), AmqpError>> {
        let Ok(_permit) = self.permits.acquire().await else {
            return failed(AmqpError::Closed, parcels.len());
        };
        let (connection, channel) = match self.channel().await {
            Ok(opened) => opened,
            Err(error) => return failed(error, parcels.len()),
        };
        let mut answers = Vec::with_capacity(parcels.len());
        for chunk in parcels.chunks(self.config.in_flight) {
            let sent = self.send(&connection, &channel, chunk).await;
            let is_over = sent.iter().any(Result::is_err);
            answers.extend(sent);
            if is_over {
                break;
            }
        }
        answers.resize_with(parcels.len(), || Err(AmqpError::NotTried));
        // A channel on which something is still open would mix it up with what comes next.
        let is_clean = |answer: &Result<(), AmqpError>| {
            !matches!(answer, Err(AmqpError::Lost { .. } | AmqpError::Unconfirmed(_)))
        };
        if answers.iter().all(is_clean) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
        }
        answers
    }

    /// Publishes one message.
    pub(crate) async fn publish_one(&self, parcel: Parcel) -> Result<(), AmqpError> {
        self.publish(&[parcel]).await.pop().unwrap_or(Err(AmqpError::NotTried))
    }

    async fn channel(&self) -> Result<(Arc<Connection>, Channel), AmqpError> {
        let connection = self.link.connection().await?;
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(channel) if channel.status().connected() => return Ok((connection, channel)),
                Some(_) => {}
                None => break,
            }
        }
        let channel = self.link.channel().await?;
        let confirming = channel.confirm_select(ConfirmSelectOptions::default());
        self.in_time(&connection, confirming).await??;
        Ok((connection, channel))
    }

    async fn send(
        &self,
        connection: &Connection,
        channel: &Channel,
        parcels: &[Parcel],
    ) -> Vec<Result<(), AmqpError>> {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let mut sent: Vec<Poll<lapin::Result<PublisherConfirm>>> =
            Vec::with_capacity(parcels.len());
        let mut sending: Vec<Option<Sent<'_>>> = Vec::with_capacity(parcels.len());
        for (number, parcel) in parcels.iter().enumerate() {
            let mut send: Sent<'_> = Box::pin(channel.basic_publish(
                parcel.exchange.clone(),
                parcel.key.clone(),
                options,
                &parcel.body,
                properties(parcel, number),
            ));
            // The first poll puts it in line; order is the order of these.
            let first = poll!(&mut send);
            sending.push(first.is_pending().then_some(send));
            sent.push(first);
        }
        let confirmed = join_all(sent.into_iter().zip(sending).map(|(first, send)| async {
            let confirm = match (first, send) {
                (Poll::Ready(confirm), _) => confirm?,
                (Poll::Pending, Some(send)) => send.await?,
                (Poll::Pending, None) => return Err(AmqpError::NotTried),
            };
            Ok::<Confirmation, AmqpError>(confirm.await?)
        }));
        match self.in_time(connection, confirmed).await {
            Ok(confirmed) => judge(parcels, confirmed),
            Err(error) => failed_alike(&error, parcels.len()),
        }
    }

    /// Waits for the broker, but not for ever. While it has blocked the connection, for want of
    /// memory or disk, no time passes.
    async fn in_time<T>(
        &self,
        connection: &Connection,
        work: impl Future<Output = T>,
    ) -> Result<T, AmqpError> {
        let mut work = std::pin::pin!(work);
        loop {
            match timeout(self.config.confirm_timeout, &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) if connection.status().blocked() && connection.status().connected() => {
                    tracing::warn!("RabbitMQ takes no messages: it is short of memory or disk");
                }
                Err(_) => return Err(AmqpError::Unconfirmed(self.config.confirm_timeout)),
            }
        }
    }
}

/// What became of each message. Returned ones are told by their numbers.
fn judge(
    parcels: &[Parcel],
    confirmed: Vec<Result<Confirmation, AmqpError>>,
) -> Vec<Result<(), AmqpError>> {
    let mut returned = HashSet::new();
    let mut answers: Vec<Result<(), AmqpError>> = Vec::with_capacity(parcels.len());
    for (number, (parcel, confirmation)) in parcels.iter().zip(confirmed).enumerate() {
        answers.push(match &confirmation {
            Ok(Confirmation::Nack(_)) => Err(AmqpError::Refused {
                exchange: parcel.exchange.to_string(),
                key: parcel.key.to_string(),
            }),
            Ok(_) => Ok(()),
            Err(error) => Err(error.clone()),
        });
        if let Ok(Some(message)) = confirmation.map(Confirmation::take_message) {
            let told = message.properties.correlation_id().as_ref();
            returned.insert(told.and_then(|told| told.as_str().parse().ok()).unwrap_or(number));
        }
    }
    for number in returned {
        if let (Some(answer), Some(parcel)) = (answers.get_mut(number), parcels.get(number)) {
            *answer = Err(AmqpError::Unroutable {
                exchange: parcel.exchange.to_string(),
                key: parcel.key.to_string(),
            });
        }
    }
    answers
}

fn properties(parcel: &Parcel, number: usize) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_correlation_id(number.to_string().into());
    if let Ok(id) = ShortString::try_new(&*parcel.id) {
        properties = properties.with_message_id(id);
    }
    match &parcel.headers {
        Some(headers) => properties.with_headers(headers.clone()),
        None => properties,
    }
}

/// Nothing was sent.
fn failed(error: AmqpError, count: usize) -> Vec<Result<(), AmqpError>> {
    let mut answers: Vec<_> = (0..count).map(|_| Err(AmqpError::NotTried)).collect();
    if let Some(first) = answers.first_mut() {
        *first = Err(error);
    }
    answers
}

/// Nobody knows what was done.
fn failed_alike(error: &AmqpError, count: usize) -> Vec<Result<(), AmqpError>> {
    (0..count).map(|_| Err(error.clone())).collect()
}
