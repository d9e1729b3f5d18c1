//! Publishing: many messages in flight, each confirmed.

use std::{
    collections::HashSet,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use futures::{future::join_all, poll};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{FieldTable, ShortString},
};
use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::{AmqpConfig, AmqpError, config::has_certificate, link::Link};

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
    /// How large a message the broker takes, once it has refused one.
    largest: AtomicUsize,
    /// Whether messages say as whom this process is connected.
    is_named: bool,
}

type Sent<'a> = Pin<Box<dyn Future<Output = lapin::Result<PublisherConfirm>> + Send + 'a>>;

impl Publisher {
    pub(crate) fn new(config: Arc<AmqpConfig>, link: Arc<Link>) -> Self {
        let permits = Semaphore::new(config.publish_channels);
        let largest = AtomicUsize::new(usize::MAX);
        let is_named = !config.nodes.iter().any(has_certificate);
        Self { config, link, idle: Mutex::default(), permits, largest, is_named }
    }

    /// Publishes in order; an answer for each. One that is too large is left out. After another
    /// failure, messages that were not sent yet are not.
    pub(crate) async fn publish(&self, parcels: &[Parcel]) -> Vec<Result<(), AmqpError>> {
        let _permit = match self.permit().await {
            Ok(permit) => permit,
            Err(error) => return failed(error, parcels.len()),
        };
        let (connection, channel) = match self.channel().await {
            Ok(opened) => opened,
            Err(error) => return failed(error, parcels.len()),
        };
        let mut answers = Vec::with_capacity(parcels.len());
        for chunk in parcels.chunks(self.config.in_flight) {
            let sent = self.send_small(&connection, &channel, chunk).await;
            let ends = |answer: &Result<(), AmqpError>| {
                !matches!(answer, Ok(()) | Err(AmqpError::TooLarge { .. }))
            };
            let is_over = sent.iter().any(ends);
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
        if answers.iter().all(is_clean) && channel.status().connected() {
            self.idle.lock().push(channel);
        }
        answers
    }

    async fn permit(&self) -> Result<tokio::sync::SemaphorePermit<'_>, AmqpError> {
        let limit = self.config.confirm_timeout;
        tokio::select! {
            biased;
            () = self.link.closing() => Err(AmqpError::Closed),
            permit = timeout(limit, self.permits.acquire()) => match permit {
                Ok(permit) => permit.map_err(|_| AmqpError::Closed),
                Err(_) => {
                    let channels = self.config.publish_channels;
                    Err(AmqpError::Occupied { channels, limit })
                }
            },
        }
    }

    /// Publishes one message.
    pub(crate) async fn publish_one(&self, parcel: Parcel) -> Result<(), AmqpError> {
        self.publish(&[parcel]).await.pop().unwrap_or(Err(AmqpError::NotTried))
    }

    async fn channel(&self) -> Result<(Arc<Connection>, Channel), AmqpError> {
        let connection = self.link.connection().await?;
        loop {
            let idle = self.idle.lock().pop();
            match idle {
                Some(channel) if channel.status().connected() => return Ok((connection, channel)),
                Some(_) => {}
                None => break,
            }
        }
        let channel = self.link.channel().await?;
        let confirming = channel.confirm_select(ConfirmSelectOptions::default());
        self.link.answered(confirming).await?;
        Ok((connection, channel))
    }

    /// Sends what is not too large.
    async fn send_small(
        &self,
        connection: &Connection,
        channel: &Channel,
        parcels: &[Parcel],
    ) -> Vec<Result<(), AmqpError>> {
        let limit = self.largest.load(Ordering::Relaxed);
        if parcels.iter().all(|parcel| parcel.body.len() <= limit) {
            return self.send(connection, channel, &parcels.iter().collect::<Vec<_>>()).await;
        }
        let small: Vec<_> = parcels.iter().filter(|it| it.body.len() <= limit).collect();
        let mut sent = self.send(connection, channel, &small).await.into_iter();
        let answer = |parcel: &Parcel| match parcel.body.len() {
            bytes if bytes > limit => Err(AmqpError::TooLarge { bytes, limit }),
            _ => sent.next().unwrap_or(Err(AmqpError::NotTried)),
        };
        parcels.iter().map(answer).collect()
    }

    async fn send(
        &self,
        connection: &Connection,
        channel: &Channel,
        parcels: &[&Parcel],
    ) -> Vec<Result<(), AmqpError>> {
        let user = self.is_named.then(|| connection.status().username());
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
                properties(parcel, number, user.as_deref()),
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
            Ok(confirmed) => {
                let mut answers = judge(parcels, confirmed);
                self.blame_the_large(parcels, &mut answers);
                answers
            }
            Err(error) => failed_alike(&error, parcels.len()),
        }
    }

    /// The broker closes a channel for a message that is too large, with all that are on their way
    /// there: only that one is to blame.
    fn blame_the_large(&self, parcels: &[&Parcel], answers: &mut [Result<(), AmqpError>]) {
        let Some(limit) = answers.iter().find_map(|it| size_limit(it.as_ref().err()?)) else {
            return;
        };
        tracing::warn!(limit, "RabbitMQ takes no larger messages (max_message_size)");
        self.largest.fetch_min(limit, Ordering::Relaxed);
        for (parcel, answer) in parcels.iter().zip(answers) {
            if parcel.body.len() > limit {
                *answer = Err(AmqpError::TooLarge { bytes: parcel.body.len(), limit });
            }
        }
    }

    /// Waits for the broker, but not for ever. While it has blocked the connection, for want of
    /// memory or disk, it may take longer.
    async fn in_time<T>(
        &self,
        connection: &Connection,
        work: impl Future<Output = T>,
    ) -> Result<T, AmqpError> {
        let (limit, since) = (self.config.confirm_timeout, Instant::now());
        let mut work = std::pin::pin!(work);
        loop {
            let step = tokio::select! {
                biased;
                step = timeout(limit.min(self.config.alarm_timeout), &mut work) => step,
                () = self.link.closing() => return Err(AmqpError::Closed),
            };
            let waited = since.elapsed();
            match step {
                Ok(done) => return Ok(done),
                Err(_) if waited < self.config.alarm_timeout && is_blocked(connection) => {
                    tracing::warn!("RabbitMQ takes no messages: it is short of memory or disk");
                }
                Err(_) if waited < limit => {}
                Err(_) => return Err(AmqpError::Unconfirmed(waited)),
            }
        }
    }
}

fn is_blocked(connection: &Connection) -> bool {
    connection.status().blocked() && connection.status().connected()
}

/// The limit that the broker speaks of when it refuses a message for its size.
fn size_limit(error: &AmqpError) -> Option<usize> {
    let AmqpError::Lost { source } = error else { return None };
    let lapin::ErrorKind::ProtocolError(error) = source.kind() else { return None };
    let (_, told) = error.get_message().as_str().split_once("larger than configured max size ")?;
    told.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// What became of each message. Returned ones are told by their numbers.
fn judge(
    parcels: &[&Parcel],
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

fn properties(parcel: &Parcel, number: usize, user: Option<&str>) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_correlation_id(number.to_string().into());
    if let Ok(id) = ShortString::try_new(&*parcel.id) {
        properties = properties.with_message_id(id);
    }
    if let Some(user) = user.and_then(|user| ShortString::try_new(user).ok()) {
        properties = properties.with_user_id(user);
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
