//! What only one process may do at a time.

use std::{sync::Arc, time::Duration};

use lapin::{
    Channel,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{FieldTable, ShortString},
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use crate::{AmqpError, error::has_code, link::Link, topology::close};

/// A queue that belongs to a connection: while there is one, no other connection can declare it. It
/// goes when the connection goes.
pub(crate) struct Lock {
    link: Arc<Link>,
    name: ShortString,
    channel: Option<Channel>,
}

impl Lock {
    /// Takes the lock; tries for a time.
    ///
    /// # Errors
    /// [`AmqpError::Locked`]: somebody else has it.
    pub(crate) async fn take(
        link: &Arc<Link>,
        name: ShortString,
        patience: Duration,
    ) -> Result<Self, AmqpError> {
        const LONGEST: Duration = Duration::from_millis(250);
        const ACCESS_REFUSED: u16 = 403;
        const RESOURCE_LOCKED: u16 = 405;
        let until = Instant::now() + patience;
        let mut pause = Duration::from_millis(5);
        loop {
            let channel = link.channel().await?;
            let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
            let declared = channel.queue_declare(name.clone(), options, FieldTable::default());
            match link.answered(declared).await {
                Ok(_) => return Ok(Self { link: link.clone(), name, channel: Some(channel) }),
                Err(AmqpError::Lost { source }) if has_code(&source, RESOURCE_LOCKED) => {}
                // Who may make no queues, and adopts what others have made, does without.
                Err(AmqpError::Lost { source }) if has_code(&source, ACCESS_REFUSED) => {
                    tracing::debug!(%source, "there is no lock");
                    return Ok(Self { link: link.clone(), name, channel: None });
                }
                Err(error) => return Err(error),
            }
            if Instant::now() >= until {
                return Err(AmqpError::Locked(name.to_string()));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// Lets others have it.
    pub(crate) async fn release(mut self) {
        if let Some(channel) = self.channel.take() {
            release(&self.link, channel, self.name.clone()).await;
        }
    }
}

async fn release(link: &Link, channel: Channel, name: ShortString) {
    let deleted = channel.queue_delete(name, QueueDeleteOptions::default());
    if let Err(error) = link.answered(deleted).await {
        tracing::debug!(%error, "a lock is left to its connection");
    }
    close(link, channel).await;
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Without a runtime the connection is at its end, too.
        if let Some(channel) = self.channel.take()
            && let Ok(runtime) = Handle::try_current()
        {
            let (link, name) = (self.link.clone(), self.name.clone());
            runtime.spawn(async move { release(&link, channel, name).await });
        }
    }
}
