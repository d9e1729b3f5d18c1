//! Events of other programs. The test starts a broker of its own, by `scripts/services`, for it
//! needs users.

mod support;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use support::{Namespace, broker::Broker};
use thredcore::port::DeadLetterFilter;
use thredcore_amqp::{
    Admission, AmqpError, AmqpIngress, AmqpQueues, Declare, Door, IngressConfig, Principals,
    Submission,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

const LIMIT: Duration = Duration::from_secs(30);

/// A door that keeps what it has let in: `bad` is refused, `slow` only let in at the third time.
#[derive(Default)]
struct Recorder {
    accepted: Mutex<Vec<(String, String)>>,
    slow: Mutex<u32>,
}

#[async_trait]
impl Door for Recorder {
    async fn admit(&self, submissions: &[Submission]) -> Vec<Admission> {
        let mut answers = Vec::new();
        for submission in submissions {
            let body = String::from_utf8_lossy(&submission.body).into_owned();
            let mut slow = self.slow.lock().unwrap();
            answers.push(match &*body {
                "bad" => Admission::Refused("it is no event".to_owned()),
                "slow" if *slow < 2 => {
                    *slow += 1;
                    Admission::Later("not now".to_owned())
                }
                _ => {
                    let principal = submission.principal.to_string();
                    self.accepted.lock().unwrap().push((body, principal));
                    Admission::Accepted
                }
            });
            if matches!(answers.last(), Some(Admission::Later(_))) {
                break;
            }
        }
        answers
    }
}

impl Recorder {
    fn seen(&self) -> Vec<(String, String)> {
        self.accepted.lock().unwrap().clone()
    }

    async fn has(&self, expected: &[(&str, &str)]) {
        let expected: Vec<_> =
            expected.iter().map(|(body, who)| ((*body).to_owned(), (*who).to_owned())).collect();
        let waiting = async {
            while self.seen().len() < expected.len() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = timeout(LIMIT, waiting).await;
        assert_eq!(self.seen(), expected, "{in_time:?}");
    }
}

async fn publish(channel: &Channel, queue: &str, body: &str, user: Option<&str>) {
    let properties = BasicProperties::default().with_message_id(body.into());
    send(channel, "", queue, body, signed(properties, user)).await;
}

fn signed(properties: BasicProperties, user: Option<&str>) -> BasicProperties {
    match user {
        Some(user) => properties.with_user_id(user.into()),
        None => properties,
    }
}

async fn send(channel: &Channel, exchange: &str, key: &str, body: &str, with: BasicProperties) {
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), with);
    sent.await.unwrap().await.unwrap();
}

/// Makes users whose permissions to write are a regular expression over exchanges.
fn users(broker: &Broker, users: &[(&str, &str)]) {
    for (user, write) in users {
        broker.control(&["add_user", user, "secret"]);
        broker.control(&["set_permissions", user, "^$", write, "^$"]);
    }
}

async fn connect(url: &str, user: &str) -> (Connection, Channel) {
    let url = url.replace("guest:guest", &format!("{user}:secret"));
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

fn run(ingress: &Arc<AmqpIngress>, door: &Arc<Recorder>) -> JoinHandle<Result<(), AmqpError>> {
    let (ingress, door) = (ingress.clone(), door.clone());
    tokio::spawn(async move { ingress.run(&*door).await })
}

fn table(queue: &str, users: &[(&str, &str)]) -> IngressConfig {
    let pairs = users.iter().map(|(user, who)| ((*user).to_owned(), (*who).into()));
    IngressConfig::new(queue).principals(Principals::Table(pairs.collect()))
}

fn headers(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut headers = FieldTable::default();
    for (key, value) in pairs {
        headers.insert((*key).into(), value.clone());
    }
    headers
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

async fn letters(ingress: &AmqpIngress, count: usize) -> Vec<(String, String)> {
    let listing = async {
        loop {
            let letters = ingress.dead_letters(&DeadLetterFilter::all()).await.unwrap();
            if letters.len() >= count {
                return letters;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let letters = timeout(LIMIT, listing).await.expect("dead letters in time");
    let shown = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
    letters.into_iter().map(|it| (shown(&it.payload.body), it.reason)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_publish_goes_through_a_door_as_who_they_are() {
    let broker = Broker::start();
    users(&broker, &[("shop", "amq\\.default"), ("stranger", "amq\\.default")]);
    let namespace = Namespace::at(broker.url());
    let queues = namespace.connect().await;
    let queue = format!("{}.in", namespace.name);
    let ingress = Arc::new(queues.ingress(table(&queue, &[("shop", "erp")])).await.unwrap());
    let door = Arc::new(Recorder::default());
    let running = run(&ingress, &door);
    let (_shop, shop) = connect(&namespace.url, "shop").await;
    let (_stranger, stranger) = connect(&namespace.url, "stranger").await;
    for body in ["one", "bad", "slow", "two"] {
        publish(&shop, &queue, body, Some("shop")).await;
    }
    publish(&shop, &queue, "unsigned", None).await;
    publish(&stranger, &queue, "foreign", Some("stranger")).await;
    door.has(&[("one", "erp"), ("slow", "erp"), ("two", "erp")]).await;
    let mut found = letters(&ingress, 3).await;
    found.sort();
    assert_eq!(found[0], ("bad".to_owned(), "it is no event".to_owned()));
    assert!(found[1].0 == "foreign" && found[1].1.contains("`stranger`"), "{found:?}");
    assert!(found[2].0 == "unsigned" && found[2].1.contains("user-id"), "{found:?}");
    assert_eq!(queues.event_q.depths().await.unwrap()[0].waiting, 0);

    // Another process waits until this one is gone; who was a stranger is known to it.
    let second = namespace.connect().await;
    let known = table(&queue, &[("shop", "erp"), ("stranger", "bob")]);
    let late = Arc::new(second.ingress(known).await.unwrap());
    let late_door = Arc::new(Recorder::default());
    let late_running = run(&late, &late_door);
    publish(&shop, &queue, "three", Some("shop")).await;
    door.has(&[("one", "erp"), ("slow", "erp"), ("two", "erp"), ("three", "erp")]).await;
    queues.close().await;
    let end = timeout(LIMIT, running).await.expect("it ends").unwrap();
    assert!(matches!(end, Err(AmqpError::Closed)), "{end:?}");
    publish(&shop, &queue, "four", Some("shop")).await;
    late_door.has(&[("four", "erp")]).await;
    let foreign = DeadLetterFilter { reason: Some("stranger".into()), ..Default::default() };
    assert_eq!(late.redrive(&foreign).await.unwrap(), 1);
    late_door.has(&[("four", "erp"), ("foreign", "bob")]).await;
    // Nobody can say that he speaks for another.
    let lie = BasicProperties::default().with_user_id("stranger".into());
    let lie = lie.with_headers(headers(&[("thredcore-user", text("shop"))]));
    send(&stranger, "", &queue, "lie", lie).await;
    late_door.has(&[("four", "erp"), ("foreign", "bob"), ("lie", "bob")]).await;
    assert_eq!(late.discard(&DeadLetterFilter::all()).await.unwrap(), 2);
    second.close().await;
    let end = timeout(LIMIT, late_running).await.expect("it ends").unwrap();
    assert!(matches!(end, Err(AmqpError::Closed)), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sender_writes_into_headers_gives_it_nothing() {
    let broker = Broker::start();
    let namespace = Namespace::at(broker.url());
    let queues = namespace.connect().await;
    let queue = format!("{}.in", namespace.name);
    // They may write to the exchange of the ingress alone.
    users(&broker, &[("shop", &queue), ("stranger", &queue)]);
    // `guest` is who the engine is connected as.
    let known = table(&queue, &[("shop", "erp"), ("guest", "root")]);
    let ingress = Arc::new(queues.ingress(known).await.unwrap());
    let (_shop, shop) = connect(&namespace.url, "shop").await;
    let (_stranger, stranger) = connect(&namespace.url, "stranger").await;
    let partition = format!("{}.events.0", namespace.name);
    let forged = |pairs: &[(&str, AMQPValue)], user: Option<&str>| {
        let properties = BasicProperties::default().with_headers(headers(pairs));
        signed(properties, user)
    };

    // It expires, and the broker moves it to the dead letters with all that its sender has written.
    let pairs = [
        ("thredcore-letter", text("raw")),
        ("thredcore-user", text("shop")),
        ("thredcore-origin", text(&partition)),
    ];
    let dying = forged(&pairs, Some("stranger")).with_expiration("1".into());
    send(&stranger, &queue, &queue, "forged", dying).await;
    let unsigned = forged(&[], None).with_expiration("1".into());
    send(&stranger, &queue, &queue, "unsigned", unsigned).await;
    letters(&ingress, 2).await;

    let door = Arc::new(Recorder::default());
    let running = run(&ingress, &door);
    assert_eq!(ingress.redrive(&DeadLetterFilter::all()).await.unwrap(), 2);
    let mut found = letters(&ingress, 2).await;
    found.sort();
    assert!(found[0].0 == "forged" && found[0].1.contains("`stranger`"), "{found:?}");
    assert!(found[1].0 == "unsigned" && found[1].1.contains("user-id"), "{found:?}");
    // Once more: what the engine itself has sent again is still not the engine's.
    assert_eq!(ingress.redrive(&DeadLetterFilter::all()).await.unwrap(), 2);
    let mut found = letters(&ingress, 2).await;
    found.sort();
    assert!(found[0].0 == "forged" && found[0].1.contains("`stranger`"), "{found:?}");
    assert!(found[1].0 == "unsigned" && found[1].1.contains("user-id"), "{found:?}");
    let letters = ingress.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    let users: BTreeSet<_> = letters.iter().map(|it| it.payload.user.as_deref()).collect();
    assert_eq!(users, [None, Some("stranger")].into());
    assert!(letters.iter().all(|it| it.payload.queue == queue && it.payload.message_id.is_none()));
    assert_eq!(queues.event_q.depths().await.unwrap()[0].waiting, 0);

    // Nothing that a header says holds up what comes behind.
    let never = AMQPValue::LongLongInt(i64::MAX);
    for pairs in [
        [("thredcore-due", never.clone())],
        [("thredcore-deaths", never.clone())],
        [("x-delivery-count", never.clone())],
    ] {
        send(&shop, &queue, &queue, pairs[0].0, forged(&pairs, Some("shop"))).await;
    }
    send(&shop, &queue, &queue, "last", forged(&[], Some("shop"))).await;
    let names = ["thredcore-due", "thredcore-deaths", "x-delivery-count", "last"];
    door.has(&names.map(|name| (name, "erp"))).await;
    queues.close().await;
    assert!(matches!(timeout(LIMIT, running).await, Ok(Ok(Err(AmqpError::Closed)))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_there_is_taken_as_it_is_and_listed() {
    let namespace = Namespace::new();
    let queues = namespace.connect().await;
    let queue = format!("{}.event-queue", namespace.name);
    let (_connection, channel) = namespace.admin().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    // Classic, as another program makes it.
    let durable = QueueDeclareOptions::durable();
    let made = channel.queue_declare(queue.as_str().into(), durable, FieldTable::default());
    made.await.unwrap();
    for own in ["events.0", "dead.events", "messages.a", "ingresses", "engines"] {
        let own = format!("{}.{own}", namespace.name);
        let error = queues.ingress(IngressConfig::new(&own)).await.unwrap_err();
        assert!(error.to_string().contains("the engine's own"), "{error}");
    }
    let config = table(&queue, &[("guest", "erp")]);
    let ingress = Arc::new(queues.ingress(config.clone()).await.unwrap());
    publish(&channel, &queue, "one", Some("guest")).await;
    publish(&channel, &queue, "bad", Some("guest")).await;
    let waiting = ingress.backlog().await.unwrap().unwrap();
    assert_eq!((waiting.depth, waiting.consumers, waiting.dead_letters), (2, Some(0), 0));
    let door = Arc::new(Recorder::default());
    let running = run(&ingress, &door);
    door.has(&[("one", "erp")]).await;
    letters(&ingress, 1).await;

    // Others see which there are, and what is in them, and change nothing.
    let looking = AmqpQueues::connect(namespace.config().declare(Declare::No)).await.unwrap();
    let listed = looking.ingresses().await.unwrap();
    assert_eq!(listed.iter().map(IngressConfig::queue).collect::<Vec<_>>(), [queue.as_str()]);
    let looked = looking.ingress(listed[0].clone()).await.unwrap();
    let backlog = looked.backlog().await.unwrap().unwrap();
    assert_eq!((backlog.depth, backlog.consumers, backlog.dead_letters), (0, Some(1), 1));
    let read = looked.dead_letters(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!(read[0].payload.user.as_deref(), Some("guest"));
    // Who opens it once more lists it once.
    let second = namespace.connect().await;
    second.ingress(config).await.unwrap();
    assert_eq!(looking.ingresses().await.unwrap().len(), 1);

    queues.close().await;
    assert!(matches!(timeout(LIMIT, running).await, Ok(Ok(Err(AmqpError::Closed)))));
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    assert_eq!(looked.backlog().await.unwrap(), None);
    looking.close().await;
    second.close().await;
}
