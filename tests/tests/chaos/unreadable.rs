//! Records that cannot be read, which somebody has spoilt or put there between two runs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use mongodb::{
    Client,
    bson::{Document, doc},
};
use thred_tests::{
    chaos::{
        archive::check_archive,
        backend::{BackendKind, BackendSpec},
        broker::Broker,
        fleet::{Fleet, FleetSpec},
        load::{Load, PATIENCE},
        mongod::Mongod,
        patterns::{AGENT, byways, call_event, listener_event, recorder},
        redis_server::RedisServer,
        scale, spoil,
        verdict::{Circumstances, verdict},
    },
    seed::Dice,
};
use thredcore::{
    Ports,
    port::{Accepted, EventQ, Inbound, MessageQ, Quarantine, Routed, Unreadable},
};
use thredlib::{Event, Message, ThredId};

use crate::{
    deployment::{self, DRAINED, Deployment, ENGINES, Threds, all},
    support::{RECOVERY, dice, embedded, limit, redis, run, spec},
};

/// Threds whose states cannot be read.
fn victims() -> usize {
    scale(5, 50)
}

/// Items of each queue that cannot be read.
fn items() -> usize {
    scale(3, 20)
}

/// What cannot be read, by what it should be.
type Found = BTreeMap<String, usize>;

/// Runs, is spoilt while nobody works, runs again, and is judged; then what cannot be read is all that
/// was spoilt, and is moved out.
async fn runs_on(
    fleet: Arc<Fleet>,
    drained: Duration,
    redelivered: bool,
    inject: impl AsyncFnOnce(&[ThredId]),
) {
    let mut dice = dice("unreadable");
    let load = scale(Load::new(30, 10), Load::new(300, 40));
    let (events, threds): (Vec<_>, Vec<_>) =
        (0..victims()).map(|number| listener_event(&number.to_string())).unzip();
    // They are on no account: nobody can say what has become of them.
    fleet.insist(&events).await;
    load.run(fleet.clone(), &mut dice).await;
    fleet.drain(drained).await;
    fleet.rest().await;
    inject(&threds).await;
    for slot in 0..fleet.processes().len() {
        fleet.kill(slot).await;
    }
    let again = load.from(load.threds);
    let begin = fleet.ledger.answered();
    let mut of_load = Dice::new(dice.below(u64::MAX));
    let disturbed = async {
        // What cannot be read waits for this.
        fleet.accept(vec![call_event("once")]).await;
        for kill in 0..scale(2, 10) {
            let moment = begin + (kill + 1) * again.total() / scale(3, 11);
            fleet.ledger.reach(moment, PATIENCE).await;
            fleet.kill(dice.pick(fleet.engines())).await;
        }
    };
    tokio::join!(again.run(fleet.clone(), &mut of_load), disturbed);
    fleet.drain(drained).await;
    let ports = Box::pin(fleet.close()).await;
    let circumstances = Circumstances { redelivered, ..Circumstances::default() };
    let safe = Box::pin(verdict(&ports, &fleet.ledger, circumstances)).await;
    let evidence = safe.unwrap_or_else(|wrong| panic!("not safe:\n{wrong}"));
    if fleet.spec.backend.is_distributed() {
        let archived = check_archive(&fleet.spec.backend, &ports, &evidence).await;
        archived.unwrap_or_else(|wrong| panic!("the archive is not whole:\n{wrong}"));
    }
    let expected = [("event", items()), ("message", items()), ("thred", victims())];
    let expected: Found = expected.map(|(kind, count)| (kind.to_owned(), count)).into();
    // What `srvthreds store check` lists, and what it takes out.
    assert_eq!(kinds(&all_unreadable(&ports, false).await), expected);
    assert_eq!(kinds(&all_unreadable(&ports, true).await), expected);
    assert_eq!(kinds(&all_unreadable(&ports, false).await), Found::new());
}

async fn all_unreadable(ports: &Ports, take: bool) -> Vec<Unreadable> {
    let parts: [&dyn Quarantine; 3] = [&*ports.storage, &*ports.event_q, &*ports.message_q];
    let mut all = Vec::new();
    for part in parts {
        let found = if take { part.move_out(1_000).await } else { part.unreadable(1_000).await };
        all.extend(found.expect("the store answers"));
    }
    all
}

fn kinds(found: &[Unreadable]) -> Found {
    let mut kinds = Found::new();
    for unreadable in found {
        *kinds.entry(unreadable.kind.clone()).or_default() += 1;
    }
    kinds
}

#[test]
fn records_in_files_cannot_be_read() {
    run(limit(), async {
        let (_dir, backend) = embedded();
        let BackendKind::Embedded(directory) = backend.kind.clone() else { unreachable!("it is") };
        let patterns = [vec![recorder()], byways()].concat();
        let fleet = Arc::new(Fleet::start(spec(backend.clone(), patterns)).await);
        runs_on(fleet, RECOVERY, true, async |threds| {
            queue_up(&backend).await;
            for thred in threds {
                let thred = thred.as_str();
                assert_eq!(spoil::state_in_files(&directory, thred), 1, "{thred}");
            }
            for (table, id) in [("events", "evil"), ("messages", "evil message")] {
                let spoilt = spoil::in_files(&directory, table, &format!("\"id\":\"{id}"));
                assert_eq!(spoilt, items(), "{table}");
            }
        })
        .await;
    });
}

/// Puts items into the queues that are to be spoilt.
async fn queue_up(backend: &BackendSpec) {
    let ports = backend.open().await.expect("nobody else has it open");
    let event = |number| Event::builder("chaos.never", "eve").id(format!("evil{number}")).build();
    let items = (0..items()).map(event);
    let events = items.clone().map(|event| Inbound::Event(Accepted::new(event, 0)));
    let event_q: &dyn EventQ = &*ports.event_q;
    event_q.publish(events.collect()).await.expect("it is published");
    let messages = items.map(|event| {
        let id = format!("evil message {}", event.id);
        let id = id.as_str().into();
        let message = Message { id, event: Arc::new(event), to: vec![], timestamp: 0 };
        Routed { topic: AGENT.into(), message: Arc::new(message) }
    });
    let message_q: &dyn MessageQ = &*ports.message_q;
    for published in message_q.publish(messages.collect()).await {
        published.expect("it is published");
    }
}

#[test]
fn records_in_redis_cannot_be_read() {
    run(limit(), async {
        let (server, backend) = redis().await;
        let patterns = [vec![recorder()], byways()].concat();
        let spec = FleetSpec { engines: 3, ..spec(backend, patterns) };
        let fleet = Arc::new(Fleet::start(spec).await);
        runs_on(fleet, RECOVERY, false, async |threds| {
            let keys: Vec<String> = server.ask(&["KEYS", "{chaos:p*}:t"]).await.expect("keys");
            for thred in threds.iter().map(ThredId::as_str) {
                spoil_state(&server, &keys, thred).await;
            }
            for number in 0..items() {
                let partition = number % 4;
                put(&server, &format!("e{partition}"), number, "{").await;
                put(&server, &format!("m:{AGENT}"), number, "[]").await;
            }
        })
        .await;
    });
}

async fn spoil_state(server: &RedisServer, keys: &[String], thred: &str) {
    for key in keys {
        if server.ask::<bool>(&["HEXISTS", key, thred]).await.expect("an answer") {
            let added: i64 =
                server.ask(&["HSET", key, thred, "nonsense"]).await.expect("it is set");
            return assert_eq!(added, 0, "it was there");
        }
    }
    panic!("{thred} is nowhere");
}

/// Puts an item into a queue, as the adapter does.
async fn put(server: &RedisServer, queue: &str, number: usize, payload: &str) {
    let number = (number + 1).to_string();
    let (items, order) = (format!("{{chaos:{queue}}}:i"), format!("{{chaos:{queue}}}:o"));
    server.ask::<i64>(&["HSET", &items, &number, payload]).await.expect("it is set");
    server.ask::<i64>(&["RPUSH", &order, &format!("{number} 1")]).await.expect("it is pushed");
}

#[test]
fn records_in_mongodb_and_rabbitmq_cannot_be_read() {
    run(deployment::limit(), async {
        let deployment = Deployment::new(Threds::Mongo, Broker::usual(), Mongod::usual()).await;
        let patterns = [vec![recorder()], byways()].concat();
        let fleet = Arc::new(Fleet::start(all(deployment.backend(), patterns)).await);
        assert_eq!(fleet.engines(), ENGINES);
        runs_on(fleet, DRAINED, true, async |threds| {
            let client = Client::with_uri_str(deployment.mongod.url()).await.expect("an address");
            let documents = client.database(deployment.name()).collection::<Document>("threds");
            for thred in threds.iter().map(ThredId::as_str) {
                let bad = doc! { "$set": { "state": "{" } };
                let spoilt = documents.update_one(doc! { "_id": thred }, bad).await;
                assert_eq!(spoilt.expect("an update").matched_count, 1, "{thred}");
            }
            let (_connection, channel) = deployment.broker.channel().await;
            channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
            for number in 0..items() {
                let partition = (number % 4).to_string();
                for (kind, key) in [("events", &*partition), ("messages", AGENT)] {
                    let exchange = format!("{}.{kind}", deployment.name());
                    let confirmed = channel.basic_publish(
                        exchange.into(),
                        key.into(),
                        BasicPublishOptions::default(),
                        b"{ nothing",
                        BasicProperties::default().with_delivery_mode(2),
                    );
                    confirmed.await.expect("it is sent").await.expect("it is confirmed");
                }
            }
        })
        .await;
        deployment.clear().await;
    });
}
