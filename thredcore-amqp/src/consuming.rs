//! A consumer of a queue.

use std::sync::Arc;

use futures::StreamExt;
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};
use tokio::runtime::Handle;

use crate::{AmqpError, link::Link, topology::close};

/// A consumer on a channel of its own.
///
/// It ends by the closing of the channel, never by being cancelled, as the client library does
/// with one that is dropped: the next consumer would get newer items before those that this one
/// still has go back.
pub(crate) struct Consuming {
    link: Arc<Link>,
    open: Option<(Channel, Consumer)>,
}

impl Consuming {
    /// Starts to consume, with so many items unacknowledged at most.
    pub(crate) async fn start(
        link: &Arc<Link>,
        channel: Channel,
        queue: ShortString,
        prefetch: u16,
    ) -> Result<Self, AmqpError> {
        link.answered(channel.basic_qos(prefetch, BasicQosOptions { global: false })).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consuming = channel.basic_consume(queue, "".into(), options, arguments);
        let consumer = link.answered(consuming).await?;
        Ok(Self { link: link.clone(), open: Some((channel, consumer)) })
    }

    /// The next item; `None` when the broker has cancelled the consumer.
    pub(crate) async fn next(&mut self) -> Option<lapin::Result<Delivery>> {
        match &mut self.open {
            Some((_, consumer)) => consumer.next().await,
            None => None,
        }
    }

    /// Gives back all that is unacknowledged.
    pub(crate) async fn end(mut self) {
        if let Some((channel, _consumer)) = self.open.take() {
            close(&self.link, channel).await;
        }
    }
}

impl Drop for Consuming {
    fn drop(&mut self) {
        let Some((channel, consumer)) = self.open.take() else { return };
        // Without a runtime the connection is at its end, too.
        if let Ok(runtime) = Handle::try_current() {
            let link = self.link.clone();
            runtime.spawn(async move {
                close(&link, channel).await;
                drop(consumer);
            });
        }
    }
}
