//! Redis. The fixture is the commands that write its keys, a line of JSON each; bytes are written as
//! the characters of the same numbers.

use redis::{Client, aio::MultiplexedConnection};
use thred_tests::stored::{self, Contents, Queued};
use thredcore_redis::{
    Connection, RedisConfig, RedisEventQ, RedisEventQConfig, RedisMessageQ, RedisMessageQConfig,
    RedisStorage,
};

use crate::{YEARS, assert_holds, own_name, read, variable, write, write_expected};

/// The namespace in the fixture.
const NAMESPACE: &str = "fixture";

fn config(namespace: &str) -> RedisConfig {
    let config = RedisConfig::new(variable("REDIS_URL")).namespace(namespace).partitions(4);
    config.receipts_time(YEARS)
}

struct Opened {
    connection: Connection,
    storage: RedisStorage,
    event_q: RedisEventQ,
    message_q: RedisMessageQ,
}

impl Opened {
    async fn open(config: RedisConfig) -> Self {
        let connection = Connection::open(config).await.expect("a namespace");
        let storage = RedisStorage::on(connection.clone()).await.expect("a storage");
        let events = RedisEventQConfig::default().partitions(2).dead_letters_time(YEARS);
        let event_q = RedisEventQ::open(connection.clone(), events).await.expect("a queue");
        let messages = RedisMessageQConfig::default().dead_letters_time(YEARS);
        let message_q = RedisMessageQ::new(connection.clone(), messages);
        Self { connection, storage, event_q, message_q }
    }

    async fn close(&self) {
        self.event_q.close().await;
        self.message_q.close().await;
    }
}

async fn client() -> MultiplexedConnection {
    let client = Client::open(variable("REDIS_URL")).expect("a URL");
    client.get_multiplexed_async_connection().await.expect("a server")
}

#[tokio::test]
#[ignore = "it writes the fixture"]
async fn make_fixture_of_redis() {
    let namespace = own_name();
    let made = Opened::open(config(&namespace)).await;
    stored::fill(std::sync::Arc::new(made.storage.clone())).await;
    stored::fill_queues(&made.event_q, &made.message_q).await;
    write_expected("redis.contents.json", &Contents::of(&made.storage).await);
    write_expected("redis.queued.json", &Queued::of(&made.event_q, &made.message_q).await);
    made.close().await;
    write("redis.jsonl", &dump(&namespace).await);
    made.connection.remove_namespace().await.expect("removed");
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|one| u8::try_from(u32::from(one)).expect("a byte")).collect()
}

/// The commands that write all keys of a namespace.
async fn dump(namespace: &str) -> String {
    let mut client = client().await;
    let mut keys: Vec<String> =
        redis::cmd("KEYS").arg(format!("{{{namespace}:*")).query_async(&mut client).await.unwrap();
    keys.sort();
    let mut text = String::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut client).await.unwrap();
        let name = key.replacen(namespace, NAMESPACE, 1);
        if kind == "stream" {
            type Entry = (String, Vec<Vec<u8>>);
            let mut all = redis::cmd("XRANGE");
            let all = all.arg(&key).arg("-").arg("+").query_async::<Vec<Entry>>(&mut client).await;
            for (id, fields) in all.unwrap() {
                let fields = fields.iter().map(|field| latin(field));
                text += &line(["XADD".to_owned(), name.clone(), id].into_iter().chain(fields));
            }
            continue;
        }
        let (write, read, range): (_, _, &[&str]) = match &*kind {
            "string" => ("SET", "GET", &[]),
            "hash" => ("HSET", "HGETALL", &[]),
            "list" => ("RPUSH", "LRANGE", &["0", "-1"]),
            "set" => ("SADD", "SMEMBERS", &[]),
            "zset" => ("ZADD", "ZRANGE", &["0", "-1", "WITHSCORES"]),
            other => panic!("{key} is a {other}"),
        };
        let mut command = redis::cmd(read);
        command.arg(&key).arg(range);
        let mut values: Vec<Vec<u8>> = match write {
            "SET" => vec![command.query_async(&mut client).await.unwrap()],
            _ => command.query_async(&mut client).await.unwrap(),
        };
        if write == "ZADD" {
            values.chunks_mut(2).for_each(|pair| pair.reverse());
        }
        let values = values.iter().map(|value| latin(value));
        text += &line([write.to_owned(), name].into_iter().chain(values));
    }
    text
}

fn line(command: impl Iterator<Item = String>) -> String {
    serde_json::to_string(&command.collect::<Vec<_>>()).unwrap() + "\n"
}

/// Writes the fixture under a namespace.
async fn restore(namespace: &str) {
    let mut client = client().await;
    for line in read("redis.jsonl").lines() {
        let line: Vec<String> = serde_json::from_str(line).expect("a command");
        let mut command = redis::cmd(&line[0]);
        command.arg(line[1].replacen(NAMESPACE, namespace, 1));
        line[2..].iter().for_each(|value| _ = command.arg(bytes(value)));
        command.query_async::<redis::Value>(&mut client).await.expect("done");
    }
}

#[tokio::test]
async fn a_namespace_of_the_format_before_is_read_and_upgraded() {
    let namespace = own_name();
    restore(&namespace).await;
    let store = Opened::open(config(&namespace)).await;
    assert_holds(&Contents::of(&store.storage).await, "redis.contents.json");
    let queued = Queued::of(&store.event_q, &store.message_q).await;
    assert_holds(&queued, "redis.queued.json");
    let Opened { connection, storage, event_q, message_q } = store;
    let event_q = std::sync::Arc::new(event_q);
    stored::go_on(std::sync::Arc::new(storage), event_q.clone(), "before").await;
    event_q.close().await;
    message_q.close().await;
    connection.remove_namespace().await.expect("removed");
}
