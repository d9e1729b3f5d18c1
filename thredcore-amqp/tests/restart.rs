//! A broker that is killed, and one that is short of memory. The tests start one of their own, by
//! `scripts/services`.

mod support;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::select_all;
use support::{Namespace, broker::Broker};
use thredcore::port::{Accepted, DeliveryTag, EventQ, Inbound};
use thredlib::Event;
use tokio::time::{sleep, timeout};

fn events(numbers: std::ops::Range<usize>) -> Vec<Inbound> {
    let event = |number| Event::builder("a", "erp").id(format!("erp/{number}")).build();
    numbers.map(|number| Inbound::Event(Accepted::new(event(number), 1))).collect()
}

/// What comes next from any partition: the ids and the tags.
async fn receive(queue: &dyn EventQ) -> (Vec<String>, Vec<DeliveryTag>) {
    let calls = (0..queue.partitions()).map(|partition| queue.receive(partition, 64));
    let batch = timeout(Duration::from_secs(40), select_all(calls)).await.expect("an item in time");
    let batch = batch.0.expect("receive");
    batch.into_iter().map(|it| (it.payload.id().to_string(), it.tag)).unzip()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_loses_nothing_and_a_full_one_makes_publishers_wait() {
    let broker = Arc::new(Broker::start());
    let namespace = Namespace::at(broker.url());
    let queues = namespace.connect().await;
    let (queue, publishing) = (&*queues.event_q, queues.event_q.clone());

    let restarting = tokio::task::spawn_blocking({
        let broker = broker.clone();
        move || {
            for _ in 0..2 {
                std::thread::sleep(Duration::from_secs(1));
                broker.kill_and_start();
                std::thread::sleep(Duration::from_secs(10));
            }
        }
    });
    let publisher = tokio::spawn(async move {
        let mut failures = 0;
        for first in (0..2_000).step_by(20) {
            while let Err(error) = publishing.publish(events(first..first + 20)).await {
                assert!(error.is_retryable(), "{error:?}");
                failures += 1;
            }
            sleep(Duration::from_millis(20)).await;
        }
        failures
    });
    let (mut seen, mut order) = (BTreeSet::new(), vec![]);
    while order.len() < 2_000 {
        let (ids, tags) = receive(queue).await;
        order.extend(ids.into_iter().filter(|id| seen.insert(id.clone())));
        _ = queue.ack(&tags).await;
    }
    let expected: Vec<String> = events(0..2_000).iter().map(|it| it.id().to_string()).collect();
    assert_eq!(order, expected);
    assert!(publisher.await.unwrap() > 0, "the broker was away while something was published");
    restarting.await.unwrap();

    // What is left are doubles of what could not be acknowledged.
    while let Ok((_, tags)) = timeout(Duration::from_secs(1), receive(queue)).await {
        queue.ack(&tags).await.unwrap();
    }
    queue.publish(events(0..10)).await.unwrap();
    let control = |limit: &'static str| {
        let broker = broker.clone();
        let control = move || broker.control(&["set_vm_memory_high_watermark", limit]);
        tokio::task::spawn_blocking(control)
    };
    control("0.000001").await.unwrap();
    let publishing = queues.event_q.clone();
    let publisher = tokio::spawn(async move { publishing.publish(events(10..20)).await });
    let (ids, tags) = receive(queue).await;
    assert_eq!(ids[0], "erp/0", "receiving goes on");
    queue.ack(&tags).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(!publisher.is_finished(), "publishing waits");
    control("0.4").await.unwrap();
    timeout(Duration::from_secs(20), publisher).await.expect("in time").unwrap().unwrap();
    queues.close().await;
}
