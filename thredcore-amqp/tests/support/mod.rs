//! A namespace at the broker for each test.

#![allow(dead_code, reason = "not every test file uses all of it")]

pub(crate) mod broker;
pub(crate) mod proxy;

use lapin::{
    Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};
use thredcore_amqp::{AmqpConfig, AmqpQueues};
use uuid::Uuid;

/// Where the broker is; several nodes are separated by commas.
pub(crate) fn url() -> String {
    std::env::var("AMQP_URL").unwrap_or_else(|_| {
        panic!(
            "AMQP_URL is not set; run: eval \"$(scripts/services up rabbitmq > /dev/null; scripts/services env)\""
        )
    })
}

/// The partitions that tests make.
pub(crate) const PARTITIONS: u16 = 3;

/// A namespace that nobody else uses; all in it is deleted when it is dropped.
pub(crate) struct Namespace {
    pub(crate) name: String,
    /// All nodes.
    pub(crate) urls: String,
    /// The first node.
    pub(crate) url: String,
    pub(crate) topics: Vec<&'static str>,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        Self::at(url())
    }

    pub(crate) fn at(urls: String) -> Self {
        let name = format!("test-{}", Uuid::now_v7());
        let topics = vec!["a", "b", "org.wt", "org.wt.a", "org.wt.a1"];
        let url = urls.split(',').next().unwrap_or_default().to_owned();
        Self { name, urls, url, topics }
    }

    pub(crate) fn config(&self) -> AmqpConfig {
        let config = AmqpConfig::new(&self.urls).expect("AMQP_URL");
        config.namespace(&self.name).partitions(PARTITIONS)
    }

    pub(crate) async fn connect(&self) -> AmqpQueues {
        AmqpQueues::connect(self.config()).await.expect("RabbitMQ at AMQP_URL")
    }

    pub(crate) async fn connect_by(&self, proxy: &proxy::Proxy) -> AmqpQueues {
        let config = AmqpConfig::new(&proxy.url).expect("a proxy");
        let config = config.namespace(&self.name).partitions(PARTITIONS);
        AmqpQueues::connect(config).await.expect("RabbitMQ at AMQP_URL")
    }

    pub(crate) async fn admin(&self) -> (Connection, lapin::Channel) {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await;
        let connection = connection.expect("RabbitMQ at AMQP_URL");
        let channel = connection.create_channel().await.expect("a channel");
        (connection, channel)
    }

    async fn delete(&self) {
        let (connection, channel) = self.admin().await;
        let name = &self.name;
        let mut queues = vec![
            format!("{name}.dead.events"),
            format!("{name}.dead.messages"),
            format!("{name}.dead.dropped"),
            format!("{name}.engines"),
            format!("{name}.topics"),
            format!("{name}.ingresses"),
        ];
        for topic in &self.topics {
            queues.push(format!("{name}.messages.{topic}"));
            queues.push(format!("{name}.tries.of.{topic}"));
            let minutes = (0..8).map(|power| 4_u32.pow(power));
            queues.extend(minutes.map(|minutes| format!("{name}.delayed.{minutes}.{topic}")));
        }
        for queue in ["in", "in.dead", "in.tries", "event-queue", "event-queue.dead"] {
            queues.push(format!("{name}.{queue}"));
        }
        for partition in 0..PARTITIONS {
            queues.push(format!("{name}.events.{partition}"));
            queues.push(format!("{name}.tries.{partition}"));
        }
        for queue in queues {
            channel
                .queue_delete(queue.into(), QueueDeleteOptions::default())
                .await
                .expect("delete");
        }
        for exchange in ["events", "messages", "dead", "in"] {
            let options = ExchangeDeleteOptions::default();
            channel
                .exchange_delete(format!("{name}.{exchange}").into(), options)
                .await
                .expect("delete");
        }
        connection.close(200, "OK".into()).await.expect("close");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        std::thread::scope(|scope| {
            let deleting = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
                runtime.expect("a runtime").block_on(self.delete());
            });
            if deleting.join().is_err() {
                eprintln!("the namespace {} is left at the broker", self.name);
            }
        });
    }
}
