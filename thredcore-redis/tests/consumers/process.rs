//! Processes, and what they are asked.

use std::{sync::Arc, time::Duration};

use futures::future::select_all;
use thredcore::port::{Accepted, Death, Delivery, DeliveryTag, EventQ, Inbound, MessageQ, Routed};
use thredcore_redis::{
    Connection, RedisConfig, RedisEventQ, RedisEventQConfig, RedisMessageQ, RedisMessageQConfig,
    Request, Tag,
};
use thredlib::{Event, Message, Topic};
use tokio::runtime::{Builder, Runtime};

use crate::servers;

/// Of those who are to die or to be paused.
pub(crate) const LEASE: Duration = Duration::from_millis(600);

/// Of those who are to live, on a machine that is busy.
pub(crate) const LONG: Duration = Duration::from_secs(8);

/// A process of its own, as far as the servers can tell. It stands still whenever the test does not
/// wait for it, as a process does that was stopped.
pub(crate) struct Process {
    pub(crate) runtime: Runtime,
    pub(crate) connection: Connection,
}

impl Process {
    pub(crate) fn new(config: &RedisConfig) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connection = runtime.block_on(Connection::open(config.clone()));
        Self { runtime, connection: connection.unwrap_or_else(|error| panic!("{error}")) }
    }

    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(Duration::from_secs(30), work).await };
        self.runtime.block_on(limited).expect("the test hangs")
    }

    pub(crate) fn event_q(&self, lease: Duration) -> RedisEventQ {
        let config = RedisEventQConfig::default().partitions(8).lease(lease).sweep(lease);
        self.run(RedisEventQ::open(self.connection.clone(), config)).expect("an event queue")
    }

    pub(crate) fn message_q(&self) -> RedisMessageQ {
        let config = RedisMessageQConfig::default().visibility(LEASE).sweep(LEASE);
        RedisMessageQ::new(self.connection.clone(), config)
    }

    pub(crate) fn default_message_q(&self) -> RedisMessageQ {
        RedisMessageQ::new(self.connection.clone(), RedisMessageQConfig::default())
    }

    /// A command on a key of the namespace.
    pub(crate) fn ask(&self, tag: &str, command: &str, key: &str, args: &[&str]) -> redis::Value {
        let tag = Tag::new(&self.connection.config().namespace, tag);
        let mut request = redis::cmd(command.split(' ').next().expect("a command"));
        command.split(' ').skip(1).for_each(|part| _ = request.arg(part));
        request.arg(tag.key(key)).arg(args);
        self.run(self.connection.ask(Request::read(&tag, request))).expect("an answer")
    }
}

pub(crate) fn event(key: &str, number: usize) -> Inbound {
    let id = format!("{key}/{number}");
    Inbound::Event(Accepted::new(Event::builder("a", key).id(id).build(), 0))
}

/// A first death.
pub(crate) fn death(reason: &str) -> Death {
    Death { reason: reason.to_owned(), times: 1, moved: vec![] }
}

pub(crate) fn events(key: &str, numbers: std::ops::Range<usize>) -> Vec<Inbound> {
    numbers.map(|number| event(key, number)).collect()
}

pub(crate) async fn receive(queue: &RedisEventQ, max: usize) -> Vec<Delivery<Inbound>> {
    let calls = (0..queue.partitions())
        .map(|partition| Box::pin(async move { queue.receive(partition, max).await }));
    select_all(calls).await.0.expect("receive")
}

pub(crate) async fn take(queue: &RedisEventQ, count: usize) -> Vec<Delivery<Inbound>> {
    let mut batch = vec![];
    while batch.len() < count {
        batch.extend(receive(queue, count - batch.len()).await);
    }
    batch
}

pub(crate) fn tags<T>(batch: &[Delivery<T>]) -> Vec<DeliveryTag> {
    batch.iter().map(|delivery| delivery.tag).collect()
}

pub(crate) fn ids(batch: &[Delivery<Inbound>]) -> Vec<String> {
    batch.iter().map(|delivery| delivery.payload.id().to_string()).collect()
}

pub(crate) fn names(key: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{key}/{number}")).collect()
}

pub(crate) fn attempts<T>(batch: &[Delivery<T>]) -> Vec<u32> {
    batch.iter().map(|delivery| delivery.attempt).collect()
}

pub(crate) fn routed(topic: &str, number: usize) -> Routed {
    let message = Message {
        id: format!("{topic}/{number}").as_str().into(),
        event: Arc::new(Event::builder("a", "erp").id("e").build()),
        to: vec![],
        timestamp: 0,
    };
    Routed { topic: topic.into(), message: Arc::new(message) }
}

pub(crate) async fn send(queue: &RedisMessageQ, topic: &str, numbers: std::ops::Range<usize>) {
    for answer in queue.publish(numbers.map(|number| routed(topic, number)).collect()).await {
        answer.expect("publish");
    }
}

pub(crate) async fn draw(
    queue: &RedisMessageQ,
    topic: &str,
    count: usize,
) -> Vec<Delivery<Routed>> {
    let mut batch = vec![];
    while batch.len() < count {
        let more = queue.receive(&[Topic::from(topic)], count - batch.len()).await;
        batch.extend(more.expect("receive"));
    }
    batch
}

/// Lets the queues' own tasks run until something holds.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Makes it a consumer, without taking anything.
pub(crate) async fn consume(queue: &RedisEventQ) {
    let _ = tokio::time::timeout(Duration::from_millis(1), queue.receive(0, 1)).await;
}

pub(crate) fn each_kind_of_server(check: impl Fn(RedisConfig)) {
    check(servers::own_namespace(servers::one()));
    check(servers::own_namespace(servers::cluster()));
}

/// A command that is about no key.
pub(crate) async fn server(connection: &Connection, name: &str, args: &str) {
    let mut command = redis::cmd(name);
    args.split(' ').for_each(|arg| _ = command.arg(arg));
    let request = Request::read(&Tag::new("any", "slot"), command);
    connection.ask::<redis::Value>(request).await.unwrap_or_else(|e| panic!("{name} {args}: {e}"));
}
