//! Redis. The fixture is the commands that write its keys, a line of JSON each; bytes are written as
//! the characters of the same numbers.

use std::sync::Arc;

use redis::{Client, aio::MultiplexedConnection};
use serde::Deserialize;
use serde_json::Value;
use thred_tests::stored::{self, Contents, Queued};
use thredcore::{
    format::StoreFormat,
    port::{EventQ, PatternStore, PortErrorKind},
};
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
    event_q: Arc<RedisEventQ>,
    message_q: RedisMessageQ,
}

impl Opened {
    async fn open(config: RedisConfig) -> Self {
        let connection = Connection::open(config).await.expect("a namespace");
        let storage = RedisStorage::on(connection.clone()).await.expect("a storage");
        let events = RedisEventQConfig::default().partitions(2).dead_letters_time(YEARS);
        let event_q = RedisEventQ::open(connection.clone(), events).await;
        let event_q = Arc::new(event_q.expect("a queue"));
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
    let made = Opened::open(config(&namespace).make_format(2)).await;
    stored::fill(Arc::new(made.storage.clone())).await;
    stored::fill_queues(&*made.event_q, &made.message_q).await;
    write_expected("redis.contents.json", &Contents::of(&made.storage).await);
    write_expected("redis.queued.json", &Queued::of(&*made.event_q, &made.message_q).await);
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

/// The text of a state in format 2, as its reader knew it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only what is there counts")]
struct TextBefore {
    e: u64,
    t: i64,
    x: Option<i64>,
    m: i64,
    l: Option<Value>,
    r: Option<u8>,
    o: Option<Vec<u16>>,
    w: Option<Vec<String>>,
    b: Option<String>,
    d: Option<String>,
    i: Option<String>,
    u: Option<String>,
    c: Option<Vec<String>>,
}

/// How many states a program of format 2 reads, and how many it does not.
async fn as_before(namespace: &str) -> (usize, usize) {
    let mut client = client().await;
    let (mut old, mut new) = (0, 0);
    for partition in 0..4 {
        let key = format!("{{{namespace}:p{partition}}}:t");
        let records: Vec<String> =
            redis::cmd("HVALS").arg(key).query_async(&mut client).await.unwrap();
        for record in records {
            let (_, text) = record.rsplit_once('\n').expect("a head");
            match serde_json::from_str::<TextBefore>(text) {
                Ok(_) => old += 1,
                Err(_) => new += 1,
            }
        }
    }
    (old, new)
}

#[tokio::test]
async fn a_namespace_of_the_format_before_is_read_and_upgraded() {
    let namespace = own_name();
    restore(&namespace).await;
    let first = Opened::open(config(&namespace)).await;
    assert_eq!(first.connection.format(), 2);
    assert_holds(&Contents::of(&first.storage).await, "redis.contents.json");
    let queued = Queued::of(&*first.event_q, &first.message_q).await;
    assert_holds(&queued, "redis.queued.json");
    let go_on = async |opened: &Opened, round| {
        let storage = Arc::new(opened.storage.clone());
        stored::go_on(storage, opened.event_q.clone(), round).await;
    };
    go_on(&first, "before").await;
    let before = Contents::of(&first.storage).await;
    let count = before.threds();
    assert_eq!(as_before(&namespace).await, (count, 0));

    let found = first.connection.store_format().await.expect("a format");
    assert_eq!(found, StoreFormat { format: 2, newest: 3, processes: vec![3] });
    // Somebody who only looks may upgrade, twice.
    for _ in 0..2 {
        let looking =
            Connection::open(config(&namespace).create(false)).await.expect("a namespace");
        let found = looking.upgrade().await.expect("upgraded");
        assert_eq!(found, StoreFormat { format: 3, newest: 3, processes: vec![3] });
    }
    assert_eq!(Contents::of(&first.storage).await, before);
    // Whoever had it open goes on in the format that it was opened with.
    go_on(&first, "still before").await;
    assert_eq!(as_before(&namespace).await, (count + 1, 0));
    first.event_q.close().await;
    let second = Opened::open(config(&namespace)).await;
    assert_eq!(second.connection.format(), 3);
    go_on(&second, "after").await;
    let (old, new) = as_before(&namespace).await;
    assert!(old > 0 && new > 0, "{old} of the old form, {new} of the new one");
    assert_eq!(Contents::of(&second.storage).await, Contents::of(&first.storage).await);
    first.close().await;
    second.close().await;
    second.connection.remove_namespace().await.expect("removed");
}

#[tokio::test]
async fn a_new_namespace_has_the_newest_format_or_the_one_before() {
    for format in [3, 2] {
        let namespace = own_name();
        let made = Opened::open(config(&namespace).make_format(format)).await;
        assert_eq!(made.connection.format(), format);
        stored::fill(Arc::new(made.storage.clone())).await;
        let contents = Contents::of(&made.storage).await;
        assert_holds(&contents, "redis.contents.json");
        let count = contents.threds();
        let found = as_before(&namespace).await;
        assert_eq!(found, if format == 2 { (count, 0) } else { (0, count) });
        // The choice is for new ones.
        let again = Connection::open(config(&namespace).make_format(5 - format)).await;
        assert_eq!(again.expect("a namespace").format(), format);
        made.close().await;
        made.connection.remove_namespace().await.expect("removed");
    }
}

#[tokio::test]
async fn a_namespace_is_not_upgraded_under_an_older_program() {
    let namespace = own_name();
    restore(&namespace).await;
    let mut client = client().await;
    let key = format!("{{{namespace}:meta}}:processes");
    let (now, _): (u64, u64) = redis::cmd("TIME").query_async(&mut client).await.unwrap();
    let mut note = async |name: &str, newest: u32, seconds_ago: u64| {
        let seen = (now - seconds_ago) * 1000;
        let note = format!("{newest} {seen}");
        let mut set = redis::cmd("HSET");
        set.arg(&key).arg(name).arg(note);
        set.query_async::<()>(&mut client).await.expect("noted");
    };
    note("older", 2, 30).await;
    note("gone", 2, 100).await;
    let mine = Connection::open(config(&namespace)).await.expect("a namespace");
    let found = mine.upgrade().await.expect("asked");
    assert_eq!((found.format, found.older_processes(), found.processes.len()), (2, 1, 2));
    // It has been silent for long enough.
    note("older", 2, 61).await;
    let found = mine.upgrade().await.expect("upgraded");
    assert_eq!(found, StoreFormat { format: 3, newest: 3, processes: vec![3] });
    mine.remove_namespace().await.expect("removed");
}

#[tokio::test]
async fn a_process_that_was_left_behind_does_nothing_more() {
    let namespace = own_name();
    restore(&namespace).await;
    let store = Opened::open(config(&namespace)).await;
    let contents = Contents::of(&store.storage).await;
    assert_eq!(store.connection.check_format().map_err(|error| error.to_string()), Ok(()));
    let mut client = client().await;
    let mut set = redis::cmd("SET");
    set.arg(format!("{{{namespace}:meta}}:format")).arg(4);
    set.query_async::<()>(&mut client).await.expect("set");
    // It finds that out by itself every 10 s.
    store.connection.store_format().await.expect("a format");
    let error = store.storage.patterns().await.expect_err("newer");
    assert_eq!(error.kind(), PortErrorKind::Closed);
    let text = store.connection.check_format().expect_err("newer").to_string();
    assert!(text.contains("cannot be used any more: the store has format 4"), "{text}");
    assert!(store.event_q.publish(vec![]).await.is_ok() && store.event_q.depth().await.is_err());
    // Nothing was changed.
    let mut set = redis::cmd("SET");
    set.arg(format!("{{{namespace}:meta}}:format")).arg(3);
    set.query_async::<()>(&mut client).await.expect("set");
    let again = Opened::open(config(&namespace)).await;
    assert_eq!(Contents::of(&again.storage).await, contents);
    again.connection.remove_namespace().await.expect("removed");
}
