//! How many events a second a broker takes in and gives out again, published and acknowledged in
//! batches. Needs a broker at `AMQP_URL`, and a release build for figures that count:
//!
//! ```sh
//! cargo run --release -p thredcore-amqp --example throughput -- [EVENTS [BATCH [PUBLISHERS]]]
//! ```

use std::{sync::Arc, time::Instant};

use futures::future::try_join_all;
use serde_json::json;
use thredcore::port::{Accepted, EventQ, Inbound};
use thredcore_amqp::{AmqpConfig, AmqpQueues};
use thredlib::Event;
use tokio::sync::Semaphore;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let mut next = |usual| arguments.next().unwrap_or(Ok(usual));
    let (count, batch, publishers) = (next(100_000)?, next(256)?.max(1), next(4)?.max(1));
    let url = std::env::var("AMQP_URL").map_err(|_| {
        "AMQP_URL is not set; run: eval \"$(scripts/services up rabbitmq > /dev/null; scripts/services env)\""
    })?;
    let config = AmqpConfig::new(url)?.namespace(format!("throughput-{}", std::process::id()));
    let queues = AmqpQueues::connect(config).await?;

    let since = Instant::now();
    let each = count / publishers;
    try_join_all((0..publishers).map(|number| publish(&*queues.event_q, number, each, batch)))
        .await?;
    let rate = |since: Instant| (each * publishers) as f64 / since.elapsed().as_secs_f64();
    println!("published and confirmed: {:.0} events/s", rate(since));

    let since = Instant::now();
    receive(&queues, each * publishers, batch).await?;
    println!("received and acknowledged: {:.0} events/s", rate(since));

    let since = Instant::now();
    let publishing =
        try_join_all((0..publishers).map(|number| publish(&*queues.event_q, number, each, batch)));
    futures::try_join!(publishing, receive(&queues, each * publishers, batch))?;
    println!("both at one time: {:.0} events/s", rate(since));
    queues.close().await;
    Ok(())
}

async fn publish(
    queue: &dyn EventQ,
    number: usize,
    count: usize,
    batch: usize,
) -> Result<(), Failure> {
    for first in (0..count).step_by(batch) {
        let items = (first..count.min(first + batch)).map(|place| {
            let event = Event::builder("org.example.sample", format!("source {}", place % 1_000));
            let values = json!({ "number": place, "publisher": number });
            Inbound::Event(Accepted::new(event.values(values).build(), 1))
        });
        queue.publish(items.collect()).await?;
    }
    Ok(())
}

async fn receive(queues: &AmqpQueues, count: usize, batch: usize) -> Result<(), Failure> {
    let done = Arc::new(Semaphore::new(0));
    let workers: Vec<_> = (0..queues.event_q.partitions())
        .map(|partition| {
            let (queue, done) = (queues.event_q.clone(), done.clone());
            tokio::spawn(async move {
                while let Ok(deliveries) = queue.receive(partition, batch).await {
                    let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
                    if queue.ack(&tags).await.is_ok() {
                        done.add_permits(tags.len());
                    }
                }
            })
        })
        .collect();
    done.acquire_many(u32::try_from(count)?).await?.forget();
    workers.iter().for_each(|worker| worker.abort());
    Ok(())
}
