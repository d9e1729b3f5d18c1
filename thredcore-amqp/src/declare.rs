//! Declaring exchanges and queues, and getting along with those that are there already.

use std::sync::Arc;

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString, ShortString},
};

use crate::{
    AmqpError,
    error::has_code,
    link::Link,
    topology::{close, peek},
};

const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

/// What a queue must have to be of use at all; the rest may differ.
const ESSENTIAL: [&str; 5] =
    ["x-queue-type", "x-single-active-consumer", "durable", "exclusive", "auto_delete"];

/// The arguments of a queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arguments(Vec<(String, AMQPValue)>);

impl Arguments {
    pub(crate) fn set(mut self, key: &str, value: AMQPValue) -> Self {
        self.change(key, Some(value));
        self
    }

    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        self.set(key, text(value))
    }

    pub(crate) fn number(self, key: &str, value: u64) -> Self {
        self.set(key, AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn change(&mut self, key: &str, value: Option<AMQPValue>) {
        self.0.retain(|(other, _)| other != key);
        self.0.extend(value.map(|value| (key.to_owned(), value)));
    }

    fn table(&self) -> FieldTable {
        let mut table = FieldTable::default();
        for (key, value) in &self.0 {
            table.insert(key.as_str().into(), value.clone());
        }
        table
    }
}

/// Declares one thing after the other. What the broker refuses closes the channel; the next has a
/// new one.
pub(crate) struct Declaring {
    link: Arc<Link>,
    channel: Option<Channel>,
}

impl Declaring {
    pub(crate) fn on(link: &Arc<Link>) -> Self {
        Self { link: link.clone(), channel: None }
    }

    async fn channel(&mut self) -> Result<Channel, AmqpError> {
        match &self.channel {
            Some(channel) if channel.status().connected() => Ok(channel.clone()),
            _ => Ok(self.channel.insert(self.link.channel().await?).clone()),
        }
    }

    pub(crate) async fn end(self) {
        if let Some(channel) = self.channel {
            close(&self.link, channel).await;
        }
    }

    pub(crate) async fn exchange(&mut self, name: &ShortString) -> Result<(), AmqpError> {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let made = self.declare_exchange(name, options).await;
        made.map_err(|error| {
            let remedy = "choose another namespace, or adopt it (Declare::No)";
            explained(error, PRECONDITION_FAILED, "exchange", name, remedy)
        })
    }

    /// Looks whether an exchange is there.
    pub(crate) async fn find_exchange(&mut self, name: &ShortString) -> Result<(), AmqpError> {
        let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let found = self.declare_exchange(name, options).await;
        found.map_err(|error| explained(error, NOT_FOUND, "exchange", name, MISSING))
    }

    async fn declare_exchange(
        &mut self,
        name: &ShortString,
        options: ExchangeDeclareOptions,
    ) -> Result<(), AmqpError> {
        let channel = self.channel().await?;
        let (kind, arguments) = (ExchangeKind::Direct, FieldTable::default());
        self.link.answered(channel.exchange_declare(name.clone(), kind, options, arguments)).await
    }

    /// Makes a queue. One that exists with other limits is used as it is, with a warning that says
    /// how it differs.
    pub(crate) async fn queue(
        &mut self,
        name: &ShortString,
        mut arguments: Arguments,
    ) -> Result<(), AmqpError> {
        let mut differences = Vec::new();
        loop {
            let channel = self.channel().await?;
            let options = QueueDeclareOptions::durable();
            let declared = channel.queue_declare(name.clone(), options, arguments.table());
            let error = match self.link.answered(declared).await {
                Ok(_) => break,
                Err(error) => error,
            };
            let Some(difference) = difference(&error) else {
                return Err(explained(error, PRECONDITION_FAILED, "queue", name, OTHERWISE));
            };
            if ESSENTIAL.contains(&&*difference.argument) {
                return Err(explained(error, PRECONDITION_FAILED, "queue", name, OTHERWISE));
            }
            let is_new =
                !differences.iter().any(|it: &Difference| it.argument == difference.argument);
            let current = difference.current.clone();
            if is_new {
                differences.push(difference);
            }
            if is_new {
                // An answer that was cut off does not say what there is; mostly it is nothing.
                let argument = &differences[differences.len() - 1].argument;
                arguments.change(argument, current.flatten());
            } else {
                // It cannot be told what else differs.
                self.find_queue(name).await?;
                break;
            }
        }
        if !differences.is_empty() {
            let said: Vec<_> = differences.iter().map(|it| it.said.as_str()).collect();
            tracing::warn!(
                queue = name.as_str(),
                "a queue is used as it is, though it was made with other limits: {}; a policy \
                 may change them",
                said.join("; ")
            );
        }
        Ok(())
    }

    /// Looks whether a queue is there.
    pub(crate) async fn find_queue(&mut self, name: &ShortString) -> Result<(), AmqpError> {
        let channel = self.channel().await?;
        let found = self.link.answered(peek(&channel, name.clone())).await;
        found.map(drop).map_err(|error| explained(error, NOT_FOUND, "queue", name, MISSING))
    }

    /// Whether a queue is there.
    pub(crate) async fn has_queue(&mut self, name: &ShortString) -> Result<bool, AmqpError> {
        match self.find_queue(name).await {
            Ok(()) => Ok(true),
            Err(AmqpError::Topology { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn bind(
        &mut self,
        queue: &ShortString,
        exchange: &ShortString,
        key: &ShortString,
    ) -> Result<(), AmqpError> {
        let channel = self.channel().await?;
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let bound =
            channel.queue_bind(queue.clone(), exchange.clone(), key.clone(), options, arguments);
        self.link.answered(bound).await
    }

    pub(crate) async fn unbind(
        &mut self,
        queue: &ShortString,
        exchange: &ShortString,
        key: &ShortString,
    ) -> Result<(), AmqpError> {
        let channel = self.channel().await?;
        let arguments = FieldTable::default();
        let unbound = channel.queue_unbind(queue.clone(), exchange.clone(), key.clone(), arguments);
        self.link.answered(unbound).await
    }

    /// Deletes a queue; says how many messages were in it. One that is not there has none.
    pub(crate) async fn delete(&mut self, queue: &ShortString) -> Result<u64, AmqpError> {
        let channel = self.channel().await?;
        let deleted = channel.queue_delete(queue.clone(), Default::default());
        Ok(self.link.answered(deleted).await?.into())
    }

    /// Deletes what waits in a queue; says how many messages. One that is not there has none.
    pub(crate) async fn purge(&mut self, queue: &ShortString) -> Result<u64, AmqpError> {
        let channel = self.channel().await?;
        let purged = channel.queue_purge(queue.clone(), Default::default());
        match self.link.answered(purged).await {
            Ok(count) => Ok(count.into()),
            Err(AmqpError::Lost { source }) if has_code(&source, NOT_FOUND) => Ok(0),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn delete_exchange(&mut self, name: &ShortString) -> Result<(), AmqpError> {
        let channel = self.channel().await?;
        self.link.answered(channel.exchange_delete(name.clone(), Default::default())).await
    }

    /// How much waits in a queue and who consumes it; `None` when there is no such queue.
    pub(crate) async fn look(
        &mut self,
        queue: &ShortString,
    ) -> Result<Option<(u64, u32)>, AmqpError> {
        let channel = self.channel().await?;
        match self.link.answered(peek(&channel, queue.clone())).await {
            Ok(found) => Ok(Some((found.message_count().into(), found.consumer_count()))),
            Err(AmqpError::Lost { source }) if has_code(&source, NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

const MISSING: &str = "make it, or let the adapter do so (Declare::Yes)";
const OTHERWISE: &str =
    "choose another namespace, delete it if it is empty, or adopt it (Declare::No)";

/// How a queue that exists differs from what was asked for.
struct Difference {
    argument: String,
    /// What it has: `Some(None)` is no such argument; `None`, when the broker's answer was cut off.
    current: Option<Option<AMQPValue>>,
    said: String,
}

/// Reads "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received the value '5' of type
/// 'signedint' but current is the value '10' of type 'long'".
fn difference(error: &AmqpError) -> Option<Difference> {
    let AmqpError::Lost { source } = error else { return None };
    if !has_code(source, PRECONDITION_FAILED) {
        return None;
    }
    let lapin::ErrorKind::ProtocolError(error) = source.kind() else { return None };
    read_difference(error.get_message().as_str())
}

fn read_difference(said: &str) -> Option<Difference> {
    let (_, rest) = said.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once('\'')?;
    let current = rest.split_once("but current is ").and_then(|(_, current)| {
        if current.starts_with("none") {
            return Some(None);
        }
        let (value, kind) = current.strip_prefix("the value '")?.split_once("' of type '")?;
        Some(Some(match kind.strip_suffix('\'')? {
            "longstr" => text(value),
            "bool" => AMQPValue::Boolean(value == "true"),
            _ => AMQPValue::LongLongInt(value.parse().ok()?),
        }))
    });
    let received = rest.split_once("received ").map_or(rest, |(_, received)| received);
    let said = format!("`{argument}`: wanted {received}");
    Some(Difference { argument: argument.to_owned(), current, said })
}

fn explained(
    error: AmqpError,
    code: u16,
    what: &'static str,
    name: &ShortString,
    remedy: &'static str,
) -> AmqpError {
    match error {
        AmqpError::Lost { source } if has_code(&source, code) => {
            AmqpError::Topology { what, name: name.to_string(), remedy, source }
        }
        error => error,
    }
}

pub(crate) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_read_from_the_broker_s_words() {
        let front = "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received the value '5' of type 'signedint' but current is ";
        let read = |back: &str| read_difference(&format!("{front}{back}")).unwrap();
        let found = read("the value '10' of type 'long'");
        assert_eq!(found.argument, "x-max-length");
        assert_eq!(found.current, Some(Some(AMQPValue::LongLongInt(10))));
        assert!(found.said.contains("'5'") && found.said.contains("'10'"), "{}", found.said);
        assert_eq!(read("none").current, Some(None));
        assert_eq!(
            read("the value 'drop-head' of type 'longstr'").current,
            Some(Some(text("drop-head")))
        );
        assert_eq!(read("the value 'drop").current, None, "an answer has 255 bytes");
        assert!(read_difference("PRECONDITION_FAILED - unknown delivery tag 7").is_none());
    }
}
