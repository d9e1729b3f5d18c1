//! Rights and broken connections.

use std::time::Duration;

use futures::future::select_all;
use thredcore::port::{AddressResolver, DeadLetterFilter, EventQ, MessageQ, PortError};
use thredcore_redis::{Connection, RedisConfig, RedisDirectory};
use thredlib::Topic;

use crate::{process::*, servers};

/// A user of the server who has what is the namespace's, and can be cut off.
struct User {
    admin: Process,
    config: RedisConfig,
}

impl User {
    fn new() -> Self {
        let config = servers::own_namespace(servers::one());
        let name = &config.namespace;
        let admin = Process::new(&config);
        let host = config.urls[0].rsplit_once(['/', '@']).expect("a URL").1;
        let url = format!("redis://{name}:secret@{host}");
        let user = Self { admin, config: RedisConfig::new(url).namespace(name) };
        let rights = format!("SETUSER {name} on >secret +@all ~{{{name}:* &{name}:*");
        user.admin.run(server(&user.admin.connection, "ACL", &rights));
        user
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let command = format!("DELUSER {}", self.config.namespace);
        self.admin.run(server(&self.admin.connection, "ACL", &command));
    }
}

#[test]
fn the_keys_and_channels_of_the_namespace_are_enough() {
    let user = User::new();
    let process = Process::new(&user.config);
    let (events_q, messages_q) = (process.event_q(LONG), process.message_q());
    let directory = RedisDirectory::new(process.connection.clone());
    process.run(async {
        let waiting = tokio::time::timeout(Duration::from_millis(50), receive(&events_q, 1)).await;
        assert!(waiting.is_err());
        events_q.publish(events("erp", 0..1)).await.expect("publish");
        events_q.ack(&tags(&take(&events_q, 1).await)).await.expect("ack");
        send(&messages_q, "a", 0..1).await;
        let letter = draw(&messages_q, "a", 1).await[0].tag;
        messages_q.dead_letter(letter, "bad").await.expect("dead letter");
        assert_eq!(messages_q.redrive(&DeadLetterFilter::all()).await.expect("redrive"), 1);
        directory.put_group("ops", ["ann"]).await.expect("put");
        assert!(directory.directory().await.expect("one").is_member(&"ann".into(), "ops"));
    });
}

/// Tries until it succeeds, as the engine does.
async fn insist<T, F: Future<Output = Result<T, PortError>>>(mut call: impl FnMut() -> F) -> T {
    loop {
        match call().await {
            Ok(value) => return value,
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[test]
fn broken_connections_lose_nothing() {
    const COUNT: usize = 300;
    let user = User::new();
    let process = Process::new(&user.config);
    let (events_q, messages_q) = (process.event_q(LONG), process.message_q());
    let topic = [Topic::from("a")];
    let breaking = async {
        let name = &user.config.namespace;
        let admin = Connection::open(servers::one()).await.expect("a connection");
        loop {
            tokio::time::sleep(Duration::from_millis(15)).await;
            server(&admin, "CLIENT", &format!("KILL USER {name}")).await;
        }
    };
    let publishing = async {
        for number in 0..COUNT {
            insist(|| events_q.publish(events("erp", number..number + 1))).await;
            insist(|| async { messages_q.publish(vec![routed("a", number)]).await.remove(0) })
                .await;
        }
    };
    let receiving = async {
        let queue = &events_q;
        let mut next = 0;
        while next < COUNT {
            let calls = (0..events_q.partitions())
                .map(|partition| Box::pin(insist(move || queue.receive(partition, 7))));
            let batch = select_all(calls).await.0;
            for id in ids(&batch) {
                let number: usize = id.rsplit_once('/').expect("a number").1.parse().expect("one");
                assert!(number <= next, "{number} came before {next}");
                next = next.max(number + 1);
            }
            let done = tags(&batch);
            insist(|| events_q.ack(&done)).await;
        }
    };
    let drawing = async {
        let mut left: std::collections::BTreeSet<_> = (0..COUNT).collect();
        while !left.is_empty() {
            for delivery in insist(|| messages_q.receive(&topic, 7)).await {
                let id = delivery.payload.message.id.to_string();
                left.remove(&id.rsplit_once('/').expect("a number").1.parse().expect("one"));
                let done = [delivery.tag];
                insist(|| messages_q.ack(&done)).await;
            }
        }
    };
    process.run(async {
        let work = async { futures::join!(publishing, receiving, drawing) };
        tokio::select! {
            _ = breaking => {}
            _ = work => {}
        }
        // What was published twice, since an answer was lost, is all that is left.
        while insist(|| events_q.depth()).await > 0 {
            events_q.ack(&tags(&take(&events_q, 1).await)).await.expect("ack");
        }
    });
}
