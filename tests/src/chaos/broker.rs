//! A RabbitMQ of a test's own: to be killed, kept short of memory, and to lose bindings.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use tokio::process::Command;

use super::services::{Frozen, Node, START, Services};

/// A RabbitMQ of one node, or a cluster.
#[derive(Debug)]
pub struct Broker {
    url: String,
    /// Those of a test's own.
    services: Option<Services>,
}

impl Broker {
    /// A single node.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Self {
        Self::own(Services::start("rabbitmq", "AMQP_URL").await)
    }

    /// A cluster of three nodes.
    ///
    /// # Panics
    /// When it does not come together.
    pub async fn cluster() -> Self {
        Self::own(Services::start("rabbitmq-cluster", "AMQP_CLUSTER_URL").await)
    }

    /// A node that is not to be broken: the one that `AMQP_URL` names first, or a new one.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn usual() -> Self {
        match std::env::var("AMQP_URL") {
            Ok(urls) => {
                let url = urls.split(',').next().unwrap_or_default().to_owned();
                Self { url, services: None }
            }
            Err(_) => Self::start().await,
        }
    }

    fn own(services: Services) -> Self {
        Self { url: services.url().to_owned(), services: Some(services) }
    }

    /// How it is reached: all nodes.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How the first node is reached by way of another port of this machine.
    ///
    /// # Panics
    /// When the address cannot be read.
    pub fn url_by(&self, port: u16) -> String {
        let (before, _, after) = self.parts();
        format!("{before}127.0.0.1:{port}{after}")
    }

    /// The port of the first node.
    ///
    /// # Panics
    /// When the address cannot be read.
    pub fn port(&self) -> u16 {
        let port = self.parts().1.rsplit_once(':').map(|(_, port)| port.parse());
        port.map_or(5672, |port| port.expect("AMQP_URL has a port"))
    }

    /// What is before the first node's host and port, they, and what is behind.
    fn parts(&self) -> (&str, &str, &str) {
        let url = self.url.split(',').next().unwrap_or_default();
        let scheme = url.find("://").expect("AMQP_URL is an address") + 3;
        let end = url[scheme..].find('/').map_or(url.len(), |end| scheme + end);
        let start = url[..end].rfind('@').map_or(scheme, |at| at + 1);
        (&url[..start], &url[start..end], &url[end..])
    }

    /// How many nodes there are of the test's own.
    pub fn nodes(&self) -> usize {
        self.services.as_ref().map_or(0, |services| services.nodes().len())
    }

    fn node(&self, number: usize) -> &Node {
        let services = self.services.as_ref();
        &services.expect("only a broker of a test's own is broken").nodes()[number]
    }

    /// Has a node stand still.
    ///
    /// # Panics
    /// When it is gone.
    pub fn freeze(&self, number: usize) -> Frozen {
        self.node(number).freeze()
    }

    /// Ends a node, by SIGKILL or in good order.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn end(&self, number: usize, killed: bool) {
        self.node(number).end(if killed { "KILL" } else { "TERM" }).await;
    }

    /// Starts a node again, with what it has stored, and waits until it serves all queues.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_again(&self, number: usize) {
        let node = self.node(number);
        let out = std::fs::File::create(node.dir.join("out")).expect("a file for its output");
        let mut start = Command::new("setsid");
        start.arg("--fork").arg(node.dir.join("start"));
        start.stdin(Stdio::null()).stdout(out).stderr(Stdio::null());
        assert!(start.status().await.expect("setsid").success());
        let begin = Instant::now();
        let port = node.port;
        while connect(&self.url_by(port)).await.is_none() {
            assert!(begin.elapsed() < START, "RabbitMQ on port {port} does not come back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Calls `rabbitmqctl` of the first node; gives what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub async fn control(&self, arguments: &[&str]) -> String {
        let done = Command::new(self.node(0).dir.join("ctl")).args(arguments).output().await;
        let done = done.expect("rabbitmqctl");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// A channel, and the connection that it lives on.
    ///
    /// # Panics
    /// When the first node is not there.
    pub async fn channel(&self) -> (Connection, Channel) {
        let connection = connect(self.url.split(',').next().unwrap_or_default())
            .await
            .expect("RabbitMQ answers");
        let channel = connection.create_channel().await.expect("a channel");
        (connection, channel)
    }

    /// Deletes what a run has left there: exchanges, queues of so many partitions and of topics.
    ///
    /// # Panics
    /// When RabbitMQ refuses.
    pub async fn clear(&self, name: &str, partitions: u16, topics: &[String]) {
        let (_connection, channel) = self.channel().await;
        let partitions = (0..partitions).flat_map(|number| {
            [format!("{name}.events.{number}"), format!("{name}.tries.{number}")]
        });
        let others = ["engines", "dead.events", "dead.messages"].map(|it| format!("{name}.{it}"));
        let topics = topics.iter().map(|topic| format!("{name}.messages.{topic}"));
        for queue in partitions.chain(others).chain(topics) {
            let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
            deleted.await.expect("the queue is deleted");
        }
        for exchange in ["events", "messages", "dead"] {
            let exchange = format!("{name}.{exchange}").into();
            let deleted = channel.exchange_delete(exchange, ExchangeDeleteOptions::default());
            deleted.await.expect("the exchange is deleted");
        }
    }
}

/// Connects, if the broker lets us. One that is starting may accept and then fall silent, and the
/// client library would wait for ever.
async fn connect(url: &str) -> Option<Connection> {
    let connecting = Connection::connect(url, ConnectionProperties::default());
    tokio::time::timeout(Duration::from_secs(5), connecting).await.ok()?.ok()
}

/// A queue of a direct exchange.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The exchange.
    pub exchange: String,
    /// The queue.
    pub queue: String,
    /// The routing key.
    pub key: String,
}

impl Binding {
    /// Takes the queue from its exchange.
    ///
    /// # Panics
    /// When RabbitMQ refuses.
    pub async fn undo(&self, channel: &Channel) {
        let Self { exchange, queue, key } = self.clone();
        let undone =
            channel.queue_unbind(queue.into(), exchange.into(), key.into(), FieldTable::default());
        undone.await.expect("it is unbound");
    }

    /// Gives the queue back to its exchange.
    ///
    /// # Panics
    /// When RabbitMQ refuses.
    pub async fn make(&self, channel: &Channel) {
        let Self { exchange, queue, key } = self.clone();
        let options = QueueBindOptions::default();
        let made = channel.queue_bind(
            queue.into(),
            exchange.into(),
            key.into(),
            options,
            FieldTable::default(),
        );
        made.await.expect("it is bound");
    }

    /// How many items wait in the queue.
    ///
    /// # Panics
    /// When there is no such queue.
    pub async fn waiting(&self, channel: &Channel) -> u32 {
        let options = QueueDeclareOptions::durable().passive();
        let queue = self.queue.clone().into();
        let found = channel.queue_declare(queue, options, FieldTable::default()).await;
        found.expect("the queue is there").message_count()
    }
}
