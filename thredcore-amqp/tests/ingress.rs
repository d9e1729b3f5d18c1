//! Events of other programs. The test starts a broker of its own, by `scripts/services`, for it
//! needs users.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use support::{Namespace, broker::Broker};
use thredcore::port::DeadLetterFilter;
use thredcore_amqp::{
    Admission, AmqpError, AmqpIngress, Door, IngressConfig, Principals, Submission,
};
use tokio::time::{sleep, timeout};

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
    let mut properties = BasicProperties::default().with_message_id(body.into());
    if let Some(user) = user {
        properties = properties.with_user_id(user.into());
    }
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties);
    sent.await.unwrap().await.unwrap();
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
    for user in ["shop", "stranger"] {
        broker.control(&["add_user", user, "secret"]);
        broker.control(&["set_permissions", user, "^$", "amq\\.default", "^$"]);
    }
    let namespace = Namespace::at(broker.url());
    let queues = namespace.connect().await;
    let queue = format!("{}.in", namespace.name);
    let table = |users: &[(&str, &str)]| {
        let pairs = users.iter().map(|(user, who)| ((*user).to_owned(), (*who).into()));
        IngressConfig::new(&queue).principals(Principals::Table(pairs.collect()))
    };
    let ingress = Arc::new(queues.ingress(table(&[("shop", "erp")])).await.unwrap());
    let door = Arc::new(Recorder::default());
    let running = tokio::spawn({
        let (ingress, door) = (ingress.clone(), door.clone());
        async move { ingress.run(&*door).await }
    });
    let connect = async |user: &str| {
        let url = namespace.url.replace("guest:guest", &format!("{user}:secret"));
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        (connection, channel)
    };
    let (_shop, shop) = connect("shop").await;
    let (_stranger, stranger) = connect("stranger").await;
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
    let known = table(&[("shop", "erp"), ("stranger", "bob")]);
    let late = Arc::new(second.ingress(known).await.unwrap());
    let late_door = Arc::new(Recorder::default());
    let late_running = tokio::spawn({
        let (ingress, door) = (late.clone(), late_door.clone());
        async move { ingress.run(&*door).await }
    });
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
    let mut headers = lapin::types::FieldTable::default();
    let shop = lapin::types::AMQPValue::LongString("shop".into());
    headers.insert("thredcore-user".into(), shop);
    let lie = BasicProperties::default().with_user_id("stranger".into()).with_headers(headers);
    let options = BasicPublishOptions::default();
    let sent = stranger.basic_publish("".into(), queue.as_str().into(), options, b"lie", lie);
    sent.await.unwrap().await.unwrap();
    late_door.has(&[("four", "erp"), ("foreign", "bob"), ("lie", "bob")]).await;
    assert_eq!(late.discard(&DeadLetterFilter::all()).await.unwrap(), 2);
    second.close().await;
    let end = timeout(LIMIT, late_running).await.expect("it ends").unwrap();
    assert!(matches!(end, Err(AmqpError::Closed)), "{end:?}");
}
