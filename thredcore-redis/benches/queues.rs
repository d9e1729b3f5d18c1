//! What the queues do in a second, and what that costs the server:
//!
//! ```sh
//! scripts/services up redis && eval "$(scripts/services env redis)"
//! cargo bench -p thredcore-redis --bench queues
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use thredcore::port::{Accepted, EventQ, Inbound, MessageQ, Routed};
use thredcore_redis::{
    Connection, RedisConfig, RedisEventQ, RedisEventQConfig, RedisMessageQ, RedisMessageQConfig,
    Request, Tag,
};
use thredlib::{Event, Message, Topic};

const ITEMS: usize = 200_000;
const KEYS: usize = 1_000;

#[tokio::main]
async fn main() {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| {
        panic!(
            r#"REDIS_URL is not set; run: scripts/services up && eval "$(scripts/services env)""#
        )
    });
    let namespace = format!("bench-{}", std::process::id());
    let config = RedisConfig::new(url).namespace(namespace);
    let connection = Connection::open(config).await.unwrap_or_else(|error| panic!("{error}"));
    println!("{:>34} {:>10} {:>12} {:>14}", "", "items/s", "server µs", "commands/item");
    for batch in [1, 16, 64, 256] {
        events(&connection, batch).await;
    }
    for batch in [1, 16, 64] {
        messages(&connection, batch).await;
    }
    idle(&connection).await;
}

fn event(number: usize) -> Arc<Event> {
    let event = Event::builder("org.example.order", format!("source {}", number % KEYS));
    let values = serde_json::json!({ "order": number, "amount": 12.5, "text": "x".repeat(200) });
    Arc::new(event.id(format!("event {number}")).values(values).build())
}

/// Publishers and consumers at once, each as fast as it can.
async fn events(connection: &Connection, batch: usize) {
    let limits = RedisEventQConfig::default();
    let queue = RedisEventQ::open(connection.clone(), limits).await.expect("a queue");
    let queue = Arc::new(queue);
    let items = items(batch);
    let meter = Meter::start(connection).await;
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for partition in 0..queue.partitions() {
        let (queue, done) = (queue.clone(), done.clone());
        tasks.spawn(async move {
            while let Ok(batch) = queue.receive(partition, 64).await {
                let tags: Vec<_> = batch.iter().map(|delivery| delivery.tag).collect();
                queue.ack(&tags).await.expect("ack");
                if done.fetch_add(tags.len(), Ordering::AcqRel) + tags.len() == items {
                    queue.close().await;
                }
            }
        });
    }
    for publisher in 0..16 {
        let queue = queue.clone();
        tasks.spawn(async move {
            for number in (publisher * batch..items).step_by(16 * batch) {
                queue.room().await.expect("room");
                let numbers = number..(number + batch).min(items);
                let events =
                    numbers.map(|number| Inbound::Event(Accepted::new(event(number), 0))).collect();
                queue.publish(events).await.expect("publish");
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    meter.stop(connection, &format!("events, published by {batch}"), items).await;
}

async fn messages(connection: &Connection, batch: usize) {
    let limits = RedisMessageQConfig::default();
    let queue = Arc::new(RedisMessageQ::new(connection.clone(), limits));
    let items = items(batch);
    let meter = Meter::start(connection).await;
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (queue, done) = (queue.clone(), done.clone());
        tasks.spawn(async move {
            let topic = [Topic::from(format!("agents by {batch}").as_str())];
            while let Ok(batch) = queue.receive(&topic, 64).await {
                let tags: Vec<_> = batch.iter().map(|delivery| delivery.tag).collect();
                queue.ack(&tags).await.expect("ack");
                if done.fetch_add(tags.len(), Ordering::AcqRel) + tags.len() == items {
                    queue.close().await;
                }
            }
        });
    }
    for publisher in 0..16 {
        let queue = queue.clone();
        tasks.spawn(async move {
            for number in (publisher * batch..items).step_by(16 * batch) {
                let numbers = number..(number + batch).min(items);
                let messages = numbers.map(|number| Routed {
                    topic: format!("agents by {batch}").as_str().into(),
                    message: Arc::new(Message {
                        id: format!("message {number}").as_str().into(),
                        event: event(number),
                        to: vec!["ann".into()],
                        timestamp: 0,
                    }),
                });
                for answer in queue.publish(messages.collect()).await {
                    answer.expect("publish");
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    meter.stop(connection, &format!("messages, published by {batch}"), items).await;
}

/// From publishing to receiving, with nothing else to do.
async fn idle(connection: &Connection) {
    let limits = RedisEventQConfig::default().partitions(16);
    let queue = RedisEventQ::open(connection.clone(), limits).await.expect("a queue");
    let mut times = vec![];
    for number in 0..300 {
        let since = Instant::now();
        let (published, batch) = futures::join!(
            queue.publish(vec![Inbound::Event(Accepted::new(event(number), 0))]),
            futures::future::select_all(
                (0..16).map(|partition| Box::pin(queue.receive(partition, 1)))
            )
        );
        published.expect("publish");
        let batch = batch.0.expect("receive");
        times.push(since.elapsed());
        queue.ack(&[batch[0].tag]).await.expect("ack");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    queue.close().await;
    times.sort();
    println!("idle, from publish to receive: median {:?}, p99 {:?}", times[150], times[297]);
}

fn items(batch: usize) -> usize {
    if batch == 1 { ITEMS / 4 } else { ITEMS }
}

/// What the server does meanwhile.
struct Meter {
    since: Instant,
    cpu: f64,
    commands: f64,
}

impl Meter {
    async fn start(connection: &Connection) -> Self {
        let (cpu, commands) = server(connection).await;
        Self { since: Instant::now(), cpu, commands }
    }

    async fn stop(self, connection: &Connection, what: &str, items: usize) {
        let seconds = self.since.elapsed().as_secs_f64();
        let (cpu, commands) = server(connection).await;
        println!(
            "{what:>34} {:>10.0} {:>12.1} {:>14.2}",
            items as f64 / seconds,
            (cpu - self.cpu) * 1e6 / items as f64,
            (commands - self.commands) / items as f64
        );
    }
}

/// Seconds of processor time, and commands done.
async fn server(connection: &Connection) -> (f64, f64) {
    let mut command = redis::cmd("INFO");
    command.arg("all");
    let tag = Tag::new("any", "server");
    let info: String = connection.ask(Request::read(&tag, command)).await.expect("INFO");
    let value = |name: &str| -> f64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
    };
    (value("used_cpu_user") + value("used_cpu_sys"), value("total_commands_processed"))
}
