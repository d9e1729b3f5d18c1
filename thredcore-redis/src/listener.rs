//! Listening to channels, over broken connections.

use std::time::Duration;

use futures::StreamExt;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{Connection, Error};

/// How often a silent connection is asked whether it still is one, and any whether it is still that of
/// the node to listen to.
const PING: Duration = Duration::from_secs(5);

/// Before it connects again; doubles, up to the configured pause.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// What was heard.
pub(crate) enum Heard<'a> {
    /// From now on everything is heard. Before, something may have been missed.
    Connected,
    /// A message on a channel.
    Message {
        /// The channel.
        channel: &'a str,
        /// What was said.
        text: &'a [u8],
    },
}

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener(JoinHandle<()>);

impl Listener {
    /// Listens to channels. Must be called within a tokio runtime.
    pub(crate) fn start(
        connection: Connection,
        channels: Vec<String>,
        mut hear: impl FnMut(Heard<'_>) + Send + 'static,
    ) -> Self {
        Self(tokio::spawn(async move {
            let longest = connection.config().reconnect_pause;
            let mut pause = FIRST_PAUSE;
            loop {
                let mut told = |heard: Heard<'_>| {
                    pause = FIRST_PAUSE;
                    hear(heard);
                };
                if let Err(error) = listen(&connection, &channels, &mut told).await {
                    tracing::debug!(%error, ?channels, "cannot listen");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        }))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A listener, and a task that acts on what it hears; both end when it is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    task: JoinHandle<()>,
    _listener: Listener,
}

impl Listening {
    /// Starts the task. Must be called within a tokio runtime.
    pub(crate) fn new(listener: Listener, task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { task: tokio::spawn(task), _listener: listener }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens until the connection breaks.
async fn listen(
    connection: &Connection,
    channels: &[String],
    hear: &mut (impl FnMut(Heard<'_>) + Send),
) -> Result<(), Error> {
    let Some((first, others)) = channels.split_first() else { return Ok(()) };
    let silent = |error: &redis::RedisError| Error::unanswered("the server listened to", error);
    let (listening, ear) = connection.listen_at(first).await?;
    let (mut sink, mut stream) = listening.split();
    if !others.is_empty() {
        sink.subscribe(others).await.map_err(|error| silent(&error))?;
    }
    hear(Heard::Connected);
    let mut checked = Instant::now();
    loop {
        let heard = timeout(PING, stream.next()).await;
        if checked.elapsed() >= PING {
            checked = Instant::now();
            if !connection.still_hears(&ear).await {
                return Ok(());
            }
        }
        match heard {
            Ok(Some(message)) => hear(Heard::Message {
                channel: message.get_channel_name(),
                text: message.get_payload_bytes(),
            }),
            Ok(None) => return Ok(()),
            Err(_) => match timeout(PING, sink.ping::<redis::Value>()).await {
                Ok(answer) => _ = answer.map_err(|error| silent(&error))?,
                Err(_) => return Ok(()),
            },
        }
    }
}
