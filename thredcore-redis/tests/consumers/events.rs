//! Consumers of events.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use thredcore::port::{DeadLetterFilter, EventQ, MessageQ, Quarantine};
use thredcore_redis::{RedisEventQ, RedisEventQConfig};
use thredlib::Topic;

use crate::{process::*, servers};

#[test]
fn consumers_share_the_partitions_evenly() {
    each_kind_of_server(|config| {
        let process = Process::new(&config);
        let queues = [process.event_q(LONG), process.event_q(LONG), process.event_q(LONG)];
        let owned = || queues.each_ref().map(|queue| queue.owned().len());
        process.run(async {
            consume(&queues[0]).await;
            until(|| owned()[0] == 8).await;
            consume(&queues[1]).await;
            until(|| owned()[..2] == [4, 4]).await;
            consume(&queues[2]).await;
            until(|| {
                let mut counts = owned();
                counts.sort_unstable();
                counts == [2, 3, 3]
            })
            .await;
            let mut all: Vec<_> = queues.iter().flat_map(RedisEventQ::owned).collect();
            all.sort_unstable();
            assert_eq!(all, Vec::from_iter(0..8), "each partition is one consumer's");
            let since = Instant::now();
            queues[1].close().await;
            until(|| owned()[0] + owned()[2] == 8).await;
            assert!(
                since.elapsed() < LONG / 3,
                "who leaves gives up at once: {:?}",
                since.elapsed()
            );
        });
    });
}

#[test]
fn an_owner_keeps_what_is_at_hand_when_another_joins() {
    let config = servers::own_namespace(servers::one());
    let process = Process::new(&config);
    let (first, second) = (process.event_q(LONG), process.event_q(LONG));
    process.run(async {
        let all: Vec<_> = (0..40).map(|key| event(&format!("key {key}"), 0)).collect();
        first.publish(all).await.expect("publish");
        let batch = take(&first, 40).await;
        consume(&second).await;
        // Until then, what is at hand would come again elsewhere.
        let early = tokio::time::timeout(LEASE, receive(&second, 1)).await;
        assert!(early.is_err(), "a partition was given up with items at hand");
        first.ack(&tags(&batch)).await.expect("ack");
        until(|| second.owned().len() == 4).await;
        assert_eq!(first.depth().await.expect("depth"), 0);
    });
}

#[test]
fn what_a_dead_consumer_had_comes_first_and_in_order() {
    each_kind_of_server(|config| {
        let (dying, heir) = (Process::new(&config), Process::new(&config));
        let (first, second) = (dying.event_q(LEASE), heir.event_q(LEASE));
        dying.run(async {
            first.publish(events("erp", 0..5)).await.expect("publish");
            let batch = take(&first, 4).await;
            first.ack(&tags(&batch[..1])).await.expect("ack");
        });
        drop((first, dying));
        let since = Instant::now();
        heir.run(async {
            second.publish(events("erp", 5..7)).await.expect("publish");
            let batch = take(&second, 6).await;
            assert!(since.elapsed() < LEASE * 3, "too late: {:?}", since.elapsed());
            assert_eq!(ids(&batch), names("erp", 1..7));
            assert_eq!(attempts(&batch), [2, 2, 2, 1, 1, 1]);
            second.ack(&tags(&batch)).await.expect("ack");
            assert_eq!(second.depth().await.expect("depth"), 0);
        });
    });
}

#[test]
fn only_what_kills_its_consumers_has_many_attempts() {
    let config = servers::own_namespace(servers::one());
    let mut seen = vec![];
    for death in 0..5 {
        let process = Process::new(&config);
        let queue = process.event_q(LEASE);
        process.run(async {
            if death == 0 {
                queue.publish(events("erp", 0..3)).await.expect("publish");
            }
            seen.push(attempts(&receive(&queue, 3).await));
        });
    }
    assert_eq!(seen, [vec![1, 1, 1], vec![2, 2, 2], vec![3], vec![4], vec![5]]);
    let process = Process::new(&config);
    let queue = process.event_q(LEASE);
    process.run(async {
        let poison = take(&queue, 1).await;
        assert_eq!((ids(&poison), attempts(&poison)), (names("erp", 0..1), vec![6]));
        queue.dead_letter(poison[0].tag, &death("it kills")).await.expect("dead letter");
        assert_eq!(attempts(&take(&queue, 1).await), [3], "the innocent");
        let letters = queue.dead_letters(&DeadLetterFilter::all()).await.expect("letters");
        assert_eq!(letters[0].attempts, 6);
    });
}

#[test]
fn a_paused_owner_ends_nothing_and_gets_nothing() {
    each_kind_of_server(|config| {
        let (paused, awake) = (Process::new(&config), Process::new(&config));
        let (first, second) = (paused.event_q(LEASE), awake.event_q(LEASE));
        let held = paused.run(async {
            first.publish(events("erp", 0..3)).await.expect("publish");
            take(&first, 2).await
        });
        let taken = awake.run(async { take(&second, 3).await });
        assert_eq!(ids(&taken), names("erp", 0..3));
        paused.run(async {
            let is_dead = first.dead_letter(held[1].tag, &death("stale")).await;
            assert!(!is_dead.expect("no error"));
            first.nack(&tags(&held)).await.expect("no error");
            let more = tokio::time::timeout(LEASE / 2, receive(&first, 9)).await;
            assert!(more.is_err(), "a stale owner got {:?}", ids(&more.unwrap_or_default()));
            assert_eq!(first.depth().await.expect("depth"), 3);
        });
        awake.run(async {
            let letters = second.dead_letters(&DeadLetterFilter::all()).await.expect("letters");
            assert!(letters.is_empty());
            second.ack(&tags(&taken)).await.expect("ack");
            assert_eq!(second.depth().await.expect("depth"), 0);
        });
    });
}

#[test]
fn the_order_of_a_key_survives_deaths_under_load() {
    each_kind_of_server(|config| {
        const EACH: usize = 60;
        let publisher = Process::new(&config);
        let out = publisher.event_q(LEASE);
        let mut applied: BTreeMap<String, usize> = BTreeMap::new();
        for round in 0..3 {
            publisher.run(async {
                for number in round * EACH / 3..(round + 1) * EACH / 3 {
                    let items = (0..5).map(|key| event(&format!("key {key}"), number)).collect();
                    out.publish(items).await.expect("publish");
                }
            });
            let process = Process::new(&config);
            let queue = process.event_q(LEASE);
            process.run(async {
                let mut left = 5 * EACH / 3;
                while left > 0 {
                    // It dies with a batch at hand, some of which it has done.
                    for delivery in receive(&queue, 7).await {
                        let key = delivery.payload.partition_key().to_owned();
                        let id = delivery.payload.id().to_string();
                        let number: usize =
                            id.rsplit_once('/').expect("a number").1.parse().expect("one");
                        let next = applied.entry(key.clone()).or_default();
                        assert!(number <= *next, "{key}: {number} came before {next}");
                        left -= usize::from(number == *next).min(left);
                        *next = (*next).max(number + 1);
                        if !number.is_multiple_of(3) || round == 2 {
                            queue.ack(&[delivery.tag]).await.expect("ack");
                        }
                    }
                }
            });
        }
        assert!(applied.values().all(|next| *next == EACH), "{applied:?}");
    });
}

#[test]
fn scripts_may_be_flushed() {
    let config = servers::own_namespace(servers::one());
    let process = Process::new(&config);
    let (events_q, messages_q) = (process.event_q(LONG), process.message_q());
    for round in 0..3 {
        process.run(server(&process.connection, "SCRIPT", "FLUSH SYNC"));
        process.run(async {
            events_q.publish(events("erp", round..round + 1)).await.expect("publish");
            let batch = take(&events_q, 1).await;
            events_q.nack(&tags(&batch)).await.expect("nack");
            let again = take(&events_q, 1).await;
            assert_eq!(ids(&again), names("erp", round..round + 1));
            events_q.ack(&tags(&again)).await.expect("ack");
            send(&messages_q, "a", round..round + 1).await;
            messages_q.ack(&tags(&draw(&messages_q, "a", 1).await)).await.expect("ack");
        });
    }
}

#[test]
fn a_queue_with_other_partitions_is_refused() {
    let process = Process::new(&servers::own_namespace(servers::one()));
    let _queue = process.event_q(LONG);
    let other = RedisEventQConfig::default().partitions(9);
    let refused = process.run(RedisEventQ::open(process.connection.clone(), other));
    let text = refused.expect_err("an error").to_string();
    assert!(text.contains("has 8 partitions and is opened with 9"), "{text}");
}

/// Puts an item into a queue, with a number of the past.
fn put(process: &Process, tag: &str, payload: &str) {
    process.ask(tag, "HSET", "i", &["5", payload]);
    process.ask(tag, "RPUSH", "o", &["5 1"]);
}

#[test]
fn an_unreadable_entry_is_set_aside_until_it_is_moved_out() {
    let process = Process::new(&servers::own_namespace(servers::one()));
    let (events_q, messages_q) = (process.event_q(LONG), process.message_q());
    for partition in 0..8 {
        put(&process, &format!("e{partition}"), "{");
    }
    process.run(async {
        events_q.publish(events("erp", 0..1)).await.expect("publish");
        assert_eq!(ids(&take(&events_q, 1).await), names("erp", 0..1));
        send(&messages_q, "a", 0..1).await;
    });
    put(&process, "m:a", "[]");
    // Now, in microseconds.
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let id = format!("{}-0", since.expect("a clock after 1970").as_micros());
    process.ask("m:a", "XADD", "d", &[&id, "s", "9", "p", "nonsense", "reason", "bad"]);
    process.run(async {
        assert_eq!(draw(&messages_q, "a", 1).await[0].payload, routed("a", 0));
        send(&messages_q, "a", 1..2).await;
        assert_eq!(draw(&messages_q, "a", 1).await[0].payload, routed("a", 1));
        let letters = messages_q.dead_letters(&DeadLetterFilter::all()).await.expect("letters");
        assert!(letters.is_empty(), "it is passed over: {letters:?}");
    });
    let found = process.run(messages_q.unreadable(9)).expect("unreadable");
    assert_eq!(found.iter().map(|it| &*it.content).collect::<Vec<_>>(), ["[]", "nonsense"]);
    assert!(found.iter().all(|it| it.kind == "message" && it.key.contains('a')), "{found:?}");
    assert_eq!(process.run(messages_q.move_out(9)).expect("moved"), found);
    assert_eq!(process.run(messages_q.unreadable(9)).expect("unreadable"), []);
    let found = process.run(events_q.unreadable(9)).expect("unreadable");
    assert!(!found.is_empty() && found.iter().all(|it| it.content == "{"), "{found:?}");
    assert_eq!(process.run(events_q.move_out(1)).expect("moved"), found[..1]);
    assert_eq!(process.run(events_q.unreadable(9)).expect("unreadable"), found[1..]);
}

#[test]
fn entries_with_ids_of_the_past_are_found() {
    let process = Process::new(&servers::own_namespace(servers::one()));
    let queue = process.event_q(LEASE);
    let home = process.run(async {
        queue.publish(events("erp", 0..1)).await.expect("publish");
        let batch = take(&queue, 1).await;
        queue.ack(&tags(&batch)).await.expect("ack");
        format!("e{}", batch[0].tag.0)
    });
    // A replica whose clock is behind has become the master, and has lost the last entries.
    process.run(async {
        let waiting = tokio::time::timeout(Duration::from_millis(50), receive(&queue, 1)).await;
        assert!(waiting.is_err());
    });
    let text = serde_json::to_string(&event("erp", 1)).expect("JSON");
    put(&process, &home, &text);
    process.run(async { assert_eq!(ids(&take(&queue, 1).await), names("erp", 1..2)) });
}

#[test]
fn room_counts_what_all_processes_publish() {
    let config = servers::own_namespace(servers::one());
    let process = Process::new(&config);
    let limits = RedisEventQConfig::default().partitions(8).capacity(10);
    let open = || process.run(RedisEventQ::open(process.connection.clone(), limits.clone()));
    let (first, second) = (open().expect("a queue"), open().expect("a queue"));
    process.run(async {
        first.room().await.expect("room");
        second.publish(events("erp", 0..10)).await.expect("publish");
        // The depth that was read before is not gone by for longer than this.
        tokio::time::sleep(limits.room_refresh).await;
        let full = tokio::time::timeout(limits.room_refresh * 3, first.room()).await;
        assert!(full.is_err(), "there was room");
        let (room, ()) = futures::join!(first.room(), async {
            let batch = take(&second, 10).await;
            second.ack(&tags(&batch)).await.expect("ack");
        });
        room.expect("room");
    });
}

#[test]
fn any_number_of_events_may_be_asked_for() {
    const COUNT: usize = 9_000;
    let process = Process::new(&servers::own_namespace(servers::one()));
    let queue = process.event_q(LONG);
    process.run(async {
        queue.publish(events("erp", 0..COUNT)).await.expect("publish");
        let batch = take(&queue, COUNT).await;
        queue.nack(&tags(&batch)).await.expect("nack");
        let again = take(&queue, COUNT).await;
        assert_eq!(ids(&again), names("erp", 0..COUNT));
        assert_eq!(attempts(&again), vec![2; COUNT]);
        queue.ack(&tags(&again)).await.expect("ack");
        assert_eq!(queue.depth().await.expect("depth"), 0);
    });
}

#[test]
fn idle_consumers_ask_for_little() {
    // The server's own, so that nobody else's commands are counted.
    let server = servers::Server::start(&[]);
    let process = Process::new(&server.config());
    let limits = RedisEventQConfig::default();
    let queue = process.run(RedisEventQ::open(process.connection.clone(), limits));
    let (events_q, messages_q) = (queue.expect("an event queue"), process.default_message_q());
    let topics = [Topic::from("a"), Topic::from("b")];
    let counted = || -> u64 {
        let info = server.cli(&["INFO", "stats"]);
        let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.and_then(|count| count.trim().parse().ok()).expect("a count")
    };
    process.run(async {
        let idle = async {
            let events = receive(&events_q, 1);
            let messages = messages_q.receive(&topics, 1);
            let _ = futures::future::join(events, messages).await;
        };
        let measure = async {
            until(|| events_q.owned().len() == 16).await;
            // What waking up takes.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let before = counted();
            tokio::time::sleep(Duration::from_secs(8)).await;
            counted() - before
        };
        tokio::select! {
            () = idle => panic!("there is nothing"),
            // Those within scripts included.
            count = measure => assert!(count < 80, "{count} commands in 8 s"),
        }
    });
}
