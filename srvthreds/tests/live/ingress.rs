//! Other programs publish events to a broker that knows its users.

use std::{fmt::Write, path::Path};

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    broker::Broker,
    program::{COUNTING, HELLO, Program, event, patterns, srvthreds, text, title, until},
    servers::Store,
};

/// A user of the broker, connected.
struct User {
    runtime: Runtime,
    name: &'static str,
    channel: Channel,
    _connection: Connection,
}

impl User {
    fn connect(url: &str, name: &'static str) -> Self {
        let runtime = Runtime::new().unwrap();
        let password = if name == "guest" { "guest" } else { "secret" };
        let url = url.replace("guest:guest", &format!("{name}:{password}"));
        let (channel, connection) = runtime.block_on(async {
            let properties = ConnectionProperties::default();
            let connection = Connection::connect(&url, properties).await.unwrap();
            let channel = connection.create_channel().await.unwrap();
            channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
            (channel, connection)
        });
        Self { runtime, name, channel, _connection: connection }
    }

    /// Publishes as itself.
    fn publish(&self, exchange: &str, key: &str, body: &[u8]) {
        let properties = BasicProperties::default().with_user_id(self.name.into());
        self.send(exchange, key, body, properties);
    }

    fn send(&self, exchange: &str, key: &str, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let sent = async {
            let (exchange, key) = (exchange.into(), key.into());
            let sent = self.channel.basic_publish(exchange, key, options, body, properties);
            sent.await.unwrap().await.unwrap()
        };
        let confirmed = self.runtime.block_on(sent);
        assert!(confirmed.take_message().is_none(), "no queue took it");
    }

    /// Publishes many bodies at once.
    fn publish_all(&self, queue: &str, bodies: &[String]) {
        let options = BasicPublishOptions::default();
        self.runtime.block_on(async {
            let mut sent = Vec::new();
            for body in bodies {
                let properties = BasicProperties::default().with_user_id(self.name.into());
                let (exchange, key) = ("".into(), queue.into());
                let body = body.as_bytes();
                let published =
                    self.channel.basic_publish(exchange, key, options, body, properties);
                sent.push(published.await.unwrap());
            }
            for confirm in sent {
                confirm.await.unwrap();
            }
        });
    }

    /// How much waits in a queue, and how many consume it.
    fn look(&self, queue: &str) -> (u32, u32) {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let looked = self.channel.queue_declare(queue.into(), passive, FieldTable::default());
        let looked = self.runtime.block_on(looked).unwrap();
        (looked.message_count(), looked.consumer_count())
    }

    /// Makes a classic queue and its exchange, as the programs that were there before did.
    fn make_event_queue(&self) {
        self.runtime.block_on(async {
            let (exchange, queue) = ("event-exchange", "event-queue");
            let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
            let (kind, arguments) = (ExchangeKind::Topic, FieldTable::default);
            let made = self.channel.exchange_declare(exchange.into(), kind, durable, arguments());
            made.await.unwrap();
            let durable = QueueDeclareOptions::durable();
            self.channel.queue_declare(queue.into(), durable, arguments()).await.unwrap();
            let key = "#".into();
            let options = Default::default();
            let bound =
                self.channel.queue_bind(queue.into(), exchange.into(), key, options, arguments());
            bound.await.unwrap();
        });
    }
}

/// A broker whose users may write to these exchanges.
fn broker(users: &[(&str, &str)]) -> Broker {
    let broker = Broker::start();
    for (user, write) in users {
        broker.control(&["add_user", user, "secret"]);
        broker.control(&["set_permissions", user, "^$", write, "^$"]);
    }
    broker
}

fn hello(id: &str, source: &str) -> Vec<u8> {
    event(id, "hello").replace("erp", source).into_bytes()
}

/// The reasons of what was refused, by the ids that it was published with.
fn refused(store: &Store, directory: &Path) -> Vec<(String, String)> {
    let listed = store.ask(directory, &["dead-letters", "list"], &["--queue", "ingress", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let letters = listed["deadLetters"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    letters.map(|it| (text(&it["submission"]["messageId"]), text(&it["reason"]))).collect()
}

#[test]
fn each_event_is_of_whom_the_broker_vouches_for() {
    let broker =
        broker(&[("shop", "^event-exchange$"), ("till", "^orders$"), ("stranger", "^orders$")]);
    let url = broker.url();
    User::connect(&url, "guest").make_event_queue();
    let store = Store::on_broker(&url);
    let directory = patterns(&[("hello.json", HELLO)]);
    let directory = directory.path();
    let queues = ["--ingress", "event-queue", "--ingress", "orders"];
    let users = ["--ingress-user", "shop=erp", "--ingress-user", "till=*"];
    let more = [&queues[..], &users, &["--patterns", "patterns", "--json"]].concat();
    let mut program = store.live(directory, &more);
    let [shop, till, stranger] = ["shop", "till", "stranger"].map(|it| User::connect(&url, it));

    // One's own, and as a gateway another's.
    shop.publish("event-exchange", "any.key", &hello("1", "erp"));
    assert_eq!(title(&program.message()), "Hello, erp");
    till.publish("orders", "orders", &hello("2", "bob"));
    assert_eq!(title(&program.message()), "Hello, bob");
    // The same once more is a duplicate.
    shop.publish("event-exchange", "any.key", &hello("1", "erp"));

    let deep = format!(
        r#"{{"id":"d","type":"hello","source":{{"id":"erp"}},"data":{{"content":{{"values":{}1{}}}}}}}"#,
        "[".repeat(3_000),
        "]".repeat(3_000)
    );
    let huge = String::from_utf8(hello("h", "erp")).unwrap();
    let huge = huge.replace("\"type\"", &format!("\"x\":\"{}\",\"type\"", "x".repeat(20 << 20)));
    let of_shop: [(&str, Vec<u8>, &str); 8] = [
        ("foreign", hello("f", "ann"), "`erp` may not send events of the source `ann`"),
        ("the engine's", hello("s", "SYSTEM"), "`SYSTEM`"),
        ("malformed", b"{\"id\":1".to_vec(), "not an event"),
        ("no event", b"[]".to_vec(), "not an event"),
        ("bytes", vec![0xff, 0, 0xfe], "not an event"),
        ("empty", vec![], "not an event"),
        ("deep", deep.into_bytes(), ""),
        ("huge", huge.into_bytes(), "`event` is"),
    ];
    for (name, body, _) in &of_shop {
        let properties = BasicProperties::default().with_user_id("shop".into());
        shop.send("event-exchange", "any.key", body, properties.with_message_id((*name).into()));
    }
    let unsigned = BasicProperties::default().with_message_id("unsigned".into());
    shop.send("event-exchange", "any.key", &hello("u", "erp"), unsigned);
    let properties = BasicProperties::default().with_user_id("stranger".into());
    let foreign = properties.with_message_id("stranger's".into());
    stranger.send("orders", "orders", &hello("3", "carl"), foreign);
    // What is behind all that comes through, and nothing before it but what was right.
    shop.publish("event-exchange", "any.key", &hello("4", "erp"));
    assert_eq!(title(&program.message()), "Hello, erp");

    let found = until_refused(&store, directory, of_shop.len() + 2);
    let reason = |name: &str| {
        let letter = found.iter().find(|(id, _)| id == name);
        &letter.unwrap_or_else(|| panic!("{name}: {found:?}")).1
    };
    for (name, _, said) in &of_shop {
        assert!(reason(name).contains(said), "{name}: {}", reason(name));
    }
    assert!(reason("unsigned").contains("`user-id`"), "{}", reason("unsigned"));
    assert!(reason("stranger's").contains("`stranger`"), "{}", reason("stranger's"));
    let listed = store.ask(directory, &["queues", "list"], &[]);
    let row = |name: &str| {
        let line = listed.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().skip(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("ingress event-queue"), ["0", "-", "1", "9", "0"], "{listed}");
    assert_eq!(row("ingress orders"), ["0", "-", "1", "1", "0"], "{listed}");
    let shown = store.ask(directory, &["dead-letters", "show"], &["--reason", "of the source"]);
    assert!(shown.contains("user      shop\n") && shown.contains("\"hello\""), "{shown}");
    let (status, _, stderr) = {
        program.signal("TERM");
        program.ended()
    };
    assert_eq!(status.code(), Some(0), "{stderr}");
    let summary: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    assert_eq!(summary["ingress"], serde_json::json!({ "accepted": 4, "refused": 10 }));

    // Whoever is known later gets what he has sent before, as his own.
    let known = ["--ingress-user", "shop=erp", "--ingress-user", "stranger=carl"];
    let mut program = store.live(directory, &[&queues[..], &known].concat());
    let act = |verb: &str, which: &[&str]| store.ask(directory, &["dead-letters", verb], which);
    let redriven = act("redrive", &["--reason", "`stranger`"]);
    assert_eq!(redriven, "redriven: 0 events, 0 messages, 1 submission\n");
    assert_eq!(title(&program.message()), "Hello, carl");
    // What nobody has signed nobody signs by that.
    act("redrive", &["--reason", "user-id"]);
    until_refused(&store, directory, of_shop.len() + 1);
    let dropped = act("drop", &["--queue", "ingress"]);
    assert_eq!(dropped, "dropped: 0 events, 0 messages, 9 submissions\n");
    assert_eq!(program.stop(), "");
}

fn until_refused(store: &Store, directory: &Path, count: usize) -> Vec<(String, String)> {
    let mut found = Vec::new();
    until(
        || {
            found = refused(store, directory);
            found.len().to_string()
        },
        |answer| answer == count.to_string(),
    );
    found
}

#[test]
fn whoever_is_killed_loses_and_doubles_nothing_and_one_reads_at_a_time() {
    const EVENTS: u32 = 1_500;
    let broker = broker(&[("shop", "^amq\\.default$|^orders$")]);
    let url = broker.url();
    let store = Store::on_broker(&url);
    let directory = patterns(&[("counting.json", COUNTING)]);
    let directory = directory.path();
    let users = ["--ingress", "orders", "--ingress-user", "shop=*", "--patterns", "patterns"];
    let start = || store.live(directory, &users);
    let mut first = start();
    let mut second = start();
    let (guest, shop) = (User::connect(&url, "guest"), User::connect(&url, "shop"));
    let sensor = |n: u32| {
        let mut line = String::new();
        let source = n % 20;
        let _ =
            write!(line, r#"{{"id":"c{n}","type":"count","source":{{"id":"sensor {source}"}}}}"#);
        line
    };
    shop.publish("orders", "orders", event("start", "start").as_bytes());
    until(
        || store.ask(directory, &["threds", "list"], &[]),
        |answer| answer.ends_with("1 thred\n"),
    );
    let bodies: Vec<_> = (0..EVENTS).map(sensor).collect();
    shop.publish_all("orders", &bodies);
    for left in [EVENTS * 3 / 4, EVENTS / 2, EVENTS / 4] {
        let mut most = 0;
        until(
            || {
                let (waiting, consumers) = guest.look("orders");
                most = most.max(consumers);
                waiting.to_string()
            },
            |waiting| waiting.parse::<u32>().unwrap() <= left,
        );
        assert!(most <= 1, "{most} consumers");
        // Both at once, and only one of them reads.
        first.kill();
        second.kill();
        (first, second) = (start(), start());
    }
    // All of it again: nothing of it counts twice.
    shop.publish_all("orders", &bodies);
    second.stop();
    first.stop();
    let mut last = Program::start(directory, &store.args(&["run", "--until-idle"], &users));
    last.end_input();
    let (status, _, stderr) = last.ended();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert_eq!(guest.look("orders").0, 0);
    let listed = store.ask(directory, &["threds", "list"], &["--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let id = listed["threds"][0]["id"].as_str().unwrap();
    let shown = store.ask(directory, &["threds", "show"], &[id, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["state"]["locals"]["n"], EVENTS);
    assert_eq!(refused(&store, directory), []);
}

#[test]
fn a_queue_where_commands_travel_is_no_ingress() {
    let store = Store::full();
    let directory = patterns(&[("hello.json", HELLO)]);
    let own = format!("{}.events.0", store.namespace());
    let with = ["--ingress-user", "shop", "--patterns", "patterns"];
    let run = |queue: &str, store: &[&str]| {
        let args = [&["run", "--ingress", queue][..], &with, store].concat();
        let output = srvthreds(directory.path(), &args);
        assert_eq!(output.status.code(), Some(2));
        text(&output.stderr)
    };
    let stderr = run(&own, &store.args(&[], &[]));
    assert!(stderr.contains("the engine's own") && stderr.contains(&own), "{stderr}");
    let stderr = run("orders", &["--data", "data"]);
    assert!(stderr.contains("--amqp"), "{stderr}");
}
