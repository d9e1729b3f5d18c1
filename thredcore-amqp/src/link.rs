//! A connection that is made again when it breaks.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lapin::{
    Channel, Connection, ConnectionProperties, runtime::default_runtime, tcp::OwnedTLSConfig,
    uri::AMQPUri,
};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep_until, timeout},
};

use crate::{AmqpConfig, AmqpError, answer::answered, config::address};

/// One connection of a process. There are two: the broker stops reading from a connection that
/// publishes while it is short of memory, and acknowledgements must not wait behind that.
///
/// The recovery that the client library offers is not used: with it a channel lives on under new
/// delivery tags, and an acknowledgement made before could be sent after.
pub(crate) struct Link {
    purpose: &'static str,
    config: Arc<AmqpConfig>,
    state: Mutex<State>,
    /// How many rounds through the nodes have failed.
    failures: AtomicU64,
    closed: watch::Sender<bool>,
}

struct State {
    connection: Option<Arc<Connection>>,
    /// The node to try first.
    node: usize,
    /// Failures in a row.
    in_a_row: u32,
    not_before: Option<Instant>,
    last_failure: Option<AmqpError>,
}

impl Link {
    pub(crate) fn new(purpose: &'static str, config: Arc<AmqpConfig>) -> Self {
        let state =
            State { connection: None, node: 0, in_a_row: 0, not_before: None, last_failure: None };
        Self {
            purpose,
            config,
            state: Mutex::new(state),
            failures: AtomicU64::new(0),
            closed: watch::Sender::new(false),
        }
    }

    /// A new channel.
    pub(crate) async fn channel(&self) -> Result<Channel, AmqpError> {
        let connection = self.connection().await?;
        self.answered(connection.create_channel()).await
    }

    /// What the broker answers on this connection, within the time limit. A connection that does
    /// not answer is given up: the next is made to another node. What still lives on the old one
    /// ends with its heartbeat.
    pub(crate) async fn answered<T>(
        &self,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, AmqpError> {
        let answer = tokio::select! {
            biased;
            () = self.closing() => Err(AmqpError::Closed),
            answer = answered(self.config.answer_timeout, call) => answer,
        };
        if let Err(AmqpError::Unanswered(_)) = &answer {
            let mut state = self.state.lock().await;
            state.connection = None;
            state.node = (state.node + 1) % self.config.nodes.len();
        }
        answer
    }

    /// The connection; makes it if there is none, with one try at each node. After a failure the
    /// next try waits for a growing pause.
    pub(crate) async fn connection(&self) -> Result<Arc<Connection>, AmqpError> {
        tokio::select! {
            biased;
            () = self.closing() => Err(AmqpError::Closed),
            connection = self.open_connection() => connection,
        }
    }

    /// Waits until the link is closed.
    pub(crate) async fn closing(&self) {
        // The sender is this link's own: it cannot be gone.
        _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    async fn open_connection(&self) -> Result<Arc<Connection>, AmqpError> {
        let failures = self.failures.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            if connection.status().connected() {
                return Ok(connection.clone());
            }
            state.connection = None;
        }
        // Another caller has just tried for this one too.
        if self.failures.load(Ordering::Acquire) != failures
            && let Some(failure) = &state.last_failure
        {
            return Err(failure.clone());
        }
        if let Some(not_before) = state.not_before {
            sleep_until(not_before).await;
        }
        match self.connect_to_any(&mut state).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                state.connection = Some(connection.clone());
                (state.in_a_row, state.not_before, state.last_failure) = (0, None, None);
                Ok(connection)
            }
            Err(error) => {
                state.not_before = Some(Instant::now() + self.pause(state.in_a_row));
                state.in_a_row = state.in_a_row.saturating_add(1);
                state.last_failure = Some(error.clone());
                self.failures.fetch_add(1, Ordering::AcqRel);
                Err(error)
            }
        }
    }

    /// Closes the connection, with all its channels; what is unacknowledged goes back. Ends within
    /// the limit, whatever the broker does.
    pub(crate) async fn close(&self, limit: Duration) {
        self.closed.send_replace(true);
        let closing = async {
            let connection = self.state.lock().await.connection.take();
            match connection {
                Some(connection) if connection.status().connected() => {
                    connection.close(200, "OK".into()).await
                }
                _ => Ok(()),
            }
        };
        match timeout(limit, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a connection was closed already"),
            Err(_) => tracing::warn!(
                "RabbitMQ did not say goodbye within {limit:?}; it finds out by the heartbeat"
            ),
        }
    }

    /// The pause after so many failures.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failures.min(16));
        self.config.first_pause.saturating_mul(factor).min(self.config.longest_pause)
    }

    async fn connect_to_any(&self, state: &mut State) -> Result<Connection, AmqpError> {
        let nodes = &self.config.nodes;
        let mut failure = AmqpError::Closed;
        for _ in 0..nodes.len() {
            let node = &nodes[state.node % nodes.len()];
            match self.connect(node).await {
                Ok(connection) => {
                    tracing::info!(node = address(node), "connected for {}", self.purpose);
                    return Ok(connection);
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot connect for {}", self.purpose);
                    failure = error;
                    state.node = (state.node + 1) % nodes.len();
                }
            }
        }
        Err(failure)
    }

    async fn connect(&self, node: &AMQPUri) -> Result<Connection, AmqpError> {
        let limit = self.config.connect_timeout;
        let mut uri = node.clone();
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        uri.query.connection_timeout.get_or_insert(millis);
        let tls = OwnedTLSConfig { identity: None, cert_chain: self.config.ca_certificate.clone() };
        let name = format!("thredcore, {}", self.purpose);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let failed =
            |source| AmqpError::Connect { address: address(node), source: Box::new(source) };
        let runtime = default_runtime().map_err(failed)?;
        let connecting = Connection::connect_uri_with_config(uri, properties, tls, runtime);
        match timeout(limit, connecting).await {
            Ok(connection) => connection.map_err(failed),
            Err(_) => Err(AmqpError::Silent { address: address(node), limit }),
        }
    }
}
