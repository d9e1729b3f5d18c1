//! Consumers of messages.

use std::time::{Duration, Instant};

use thredcore::port::{DeadLetterFilter, MessageQ, Returned};

use crate::{process::*, servers};

#[test]
fn what_a_dead_consumer_of_a_topic_had_goes_to_the_others() {
    each_kind_of_server(|config| {
        let (dying, heir) = (Process::new(&config), Process::new(&config));
        let (first, second) = (dying.message_q(), heir.message_q());
        heir.run(async {
            let idle = tokio::time::timeout(Duration::from_millis(50), draw(&second, "a", 1)).await;
            assert!(idle.is_err());
        });
        dying.run(async {
            send(&first, "a", 0..4).await;
            let batch = draw(&first, "a", 3).await;
            first.ack(&tags(&batch[..1])).await.expect("ack");
            first.nack(batch[1].tag, 50_000, Returned::Failed).await.expect("nack");
        });
        drop((first, dying));
        let since = Instant::now();
        heir.run(async {
            let mut batch = draw(&second, "a", 3).await;
            assert!(since.elapsed() < LEASE * 4, "too late: {:?}", since.elapsed());
            batch.sort_by_key(|delivery| delivery.payload.message.id.clone());
            let found: Vec<_> = batch.iter().map(|it| it.payload.clone()).collect();
            assert_eq!(found, [routed("a", 1), routed("a", 2), routed("a", 3)]);
            assert_eq!(attempts(&batch), [2, 2, 1]);
            second.ack(&tags(&batch)).await.expect("ack");
            assert_eq!(second.depth(&"a".into()).await.expect("depth"), 0);
        });
    });
}

#[test]
fn who_leaves_a_topic_leaves_its_messages_at_once() {
    let process = Process::new(&servers::own_namespace(servers::one()));
    let (first, second) = (process.message_q(), process.message_q());
    process.run(async {
        send(&first, "a", 0..2).await;
        let _held = draw(&first, "a", 2).await;
        let (batch, ()) = futures::join!(draw(&second, "a", 2), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            first.close().await;
        });
        assert_eq!(attempts(&batch), [2, 2]);
    });
}

#[test]
fn a_paused_consumer_of_a_topic_ends_nothing() {
    let config = servers::own_namespace(servers::one());
    let (paused, awake) = (Process::new(&config), Process::new(&config));
    let (first, second) = (paused.message_q(), awake.message_q());
    let held = paused.run(async {
        send(&first, "a", 0..1).await;
        draw(&first, "a", 1).await
    });
    let taken = awake.run(draw(&second, "a", 1));
    paused.run(async {
        first.dead_letter(held[0].tag, "stale").await.expect("no error");
        first.nack(held[0].tag, 0, Returned::Failed).await.expect("no error");
        let more = tokio::time::timeout(LEASE / 2, draw(&first, "a", 1)).await;
        assert!(more.is_err(), "a stale consumer got a message");
    });
    awake.run(async {
        let letters = second.dead_letters(&DeadLetterFilter::all()).await.expect("letters");
        assert!(letters.is_empty());
        second.ack(&tags(&taken)).await.expect("ack");
        assert_eq!(second.depth(&"a".into()).await.expect("depth"), 0);
    });
}

#[test]
fn messages_of_a_lost_answer_come_again() {
    let process = Process::new(&servers::own_namespace(servers::one()));
    let queue = process.message_q();
    process.run(async {
        let idle = tokio::time::timeout(Duration::from_millis(50), draw(&queue, "a", 1)).await;
        assert!(idle.is_err());
    });
    let text = serde_json::to_string(&routed("a", 0)).expect("JSON");
    process.ask("m:a", "HSET", "i", &["5", &text]);
    // The server handed it out, and nobody heard of it.
    let consumers = process.ask("m:a", "ZRANGE", "c", &["0", "-1"]);
    let name: Vec<String> = redis::from_redis_value(consumers).expect("consumers");
    process.ask("m:a", "HSET", "h", &[&name[0], "5 1\n"]);
    let batch = process.run(draw(&queue, "a", 1));
    assert_eq!((batch[0].payload.clone(), batch[0].attempt), (routed("a", 0), 2));
}

#[test]
fn what_a_dead_consumer_had_comes_while_there_is_always_more() {
    let process = Process::new(&servers::own_namespace(servers::one()));
    let queue = process.message_q();
    let text = serde_json::to_string(&routed("a", 0)).expect("JSON");
    process.ask("m:a", "HSET", "i", &["5", &text]);
    process.ask("m:a", "HSET", "h", &["dead", "5 1\n"]);
    process.run(async {
        send(&queue, "a", 1..3).await;
        let mut number = 3;
        loop {
            send(&queue, "a", number..number + 1).await;
            number += 1;
            let batch = draw(&queue, "a", 1).await;
            queue.ack(&tags(&batch)).await.expect("ack");
            if batch.iter().any(|it| it.payload == routed("a", 0) && it.attempt == 2) {
                break;
            }
        }
        let left = queue.depth(&"a".into()).await.expect("depth");
        queue.ack(&tags(&draw(&queue, "a", left).await)).await.expect("ack");
        assert_eq!(queue.depth(&"a".into()).await.expect("depth"), 0);
    });
}

#[test]
fn any_number_of_messages_may_be_asked_for() {
    const COUNT: usize = 9_000;
    let process = Process::new(&servers::own_namespace(servers::one()));
    let queue = process.message_q();
    process.run(async {
        send(&queue, "a", 0..COUNT).await;
        let batch = draw(&queue, "a", COUNT).await;
        for delivery in &batch {
            queue.nack(delivery.tag, 0, Returned::Failed).await.expect("nack");
        }
        let again = draw(&queue, "a", COUNT).await;
        assert_eq!((batch.len(), attempts(&again)), (COUNT, vec![2; COUNT]));
        queue.ack(&tags(&again)).await.expect("ack");
        assert_eq!(queue.depth(&"a".into()).await.expect("depth"), 0);
    });
}

#[test]
fn a_long_delay_outlives_its_consumer_and_keeps_its_count() {
    each_kind_of_server(|config| {
        let (dying, heir) = (Process::new(&config), Process::new(&config));
        let (first, second) = (dying.message_q(), heir.message_q());
        dying.run(async {
            send(&first, "a", 0..2).await;
            let batch = draw(&first, "a", 2).await;
            first.nack(batch[0].tag, 61_000, Returned::Failed).await.expect("nack");
            first.ack(&tags(&batch[1..])).await.expect("ack");
        });
        drop((first, dying));
        heir.run(async {
            let more = tokio::time::timeout(LEASE * 3, draw(&second, "a", 1)).await;
            assert!(more.is_err(), "it is early");
            assert_eq!(second.depth(&"a".into()).await.expect("depth"), 1);
        });
        // A minute goes by.
        let waiting = heir.ask("m:a", "ZRANGE", "z", &["0", "-1"]);
        let ids: Vec<String> = redis::from_redis_value(waiting).expect("ids");
        heir.ask("m:a", "ZADD", "z", &["1", &ids[0]]);
        heir.run(async {
            send(&second, "a", 2..3).await;
            let batch = draw(&second, "a", 2).await;
            let again = batch.iter().find(|it| it.payload == routed("a", 0)).expect("it comes");
            assert_eq!((again.attempt, again.failures, again.deaths()), (2, 1, 0));
        });
    });
}
