//! The UAV detection of `03-uav` over real servers, with two engines.
//!
//! RabbitMQ carries events and messages, Redis keeps the threds, MongoDB the contacts and what has
//! happened. Either engine may take any event; each has connections of its own, as in a deployment
//! where each is a process on its own machine.
//!
//! Run it with `scripts/services run redis rabbitmq mongodb -- cargo run -p thred-examples --features
//! servers --example 07-servers`, which starts the servers for it. It prints:
//!
//! ```text
//! carol, ann, bob: UAV detected at north
//!   carol answers {"confirmed":true}
//! carol: Video of sensor-7
//!   ann answers {"closed":true}
//! sensor-7, carol, ann, bob: Closed by ann
//! in the archive: lookup_contact, notify_contact, send_video, watching
//! ```

mod phones;

use std::{env, error::Error, sync::Arc};

use serde_json::json;
use thredcore::{
    Engine,
    agent::AgentRunner,
    persistence::{PersistenceAgent, TaskContext, execute_list},
    port::{Directory, FixedDirectory, LogType, SystemClock},
    thred::started_id,
};
use thredcore_amqp::{AmqpConfig, AmqpQueues};
use thredcore_mongo::{Archived, Mongo, MongoArchive, MongoConfig, MongoPersistence};
use thredcore_redis::{Connection, RedisConfig, RedisStorage};
use thredlib::{Event, EventKey, PatternId, task::TaskList};

use phones::Phones;

/// What everything on the servers is called by.
const NAMESPACE: &str = "uav-example";

fn url(variable: &str) -> Result<String, String> {
    env::var(variable).map_err(|_| format!("{variable} is not set: which server?"))
}

/// An engine, with its connections.
struct Node {
    engine: Engine,
    queues: AmqpQueues,
    storage: Arc<Archived>,
    mongo: Mongo,
}

impl Node {
    async fn connect(directory: &Directory) -> Result<Self, Box<dyn Error>> {
        let redis = RedisConfig::new(url("REDIS_URL")?).namespace(NAMESPACE);
        let threds = RedisStorage::on(Connection::open(redis).await?).await?;
        let mongo = MongoConfig::new(url("MONGODB_URL")?).database(NAMESPACE);
        let mongo = Mongo::connect(mongo).await?;
        let archive = MongoArchive::open(&mongo).await?;
        let storage = Arc::new(Archived::new(Arc::new(threds), archive));
        let rabbitmq = AmqpConfig::new(url("AMQP_URL")?)?.namespace(NAMESPACE);
        let queues = AmqpQueues::connect(rabbitmq).await?;
        let engine = Engine::builder()
            .event_q(queues.event_q.clone())
            .message_q(queues.message_q.clone())
            .storage(storage.clone())
            .resolver(Arc::new(FixedDirectory::new(directory.clone())))
            .pattern(serde_json::from_str(include_str!("patterns/uav.pattern.json"))?)
            .build()
            .await?;
        Ok(Self { engine, queues, storage, mongo })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut directory = Directory::new();
    directory.add_group("uav-operators", ["ann", "bob"]);
    directory.add_service("org.wt.persistence").add_service("org.wt.persistence1");
    let nodes = [Node::connect(&directory).await?, Node::connect(&directory).await?];

    // What the lookup is to find.
    let store = Arc::new(MongoPersistence::open(&nodes[0].mongo).await?);
    let contact = json!({ "id": "north", "contactId": "carol", "phone": "+1 555 0100" });
    let put = json!([{ "op": "put", "params": { "type": "Contact", "values": contact } }]);
    let detection = Event::builder("org.wt.sensor.detectionEvent", "sensor-7")
        .title("UAV over the north fence")
        .values(json!({ "classification": "uav", "site": "north", "bearing": 12 }))
        .build();
    let context = TaskContext { key: detection.id.as_str(), now: nodes[0].engine.now() };
    execute_list(&*store, &TaskList::from_value(&put)?, &context).await?;

    // Agents receive from the queue of one node, and answer by it.
    let phones = Arc::new(Phones::default());
    let persistence = Arc::new(PersistenceAgent::new(store, Arc::new(SystemClock)));
    let queues = &nodes[0].queues;
    let (message_q, event_q) = (queues.message_q.clone(), queues.event_q.clone());
    let persistence =
        AgentRunner::new("org.wt.persistence", persistence, message_q.clone(), event_q.clone());
    let sessions = AgentRunner::new("org.wt.session", phones.clone(), message_q, event_q);
    let (persistence, sessions) = (persistence.start().await?, sessions.start().await?);
    let running = nodes.each_ref().map(|node| node.engine.start());

    // The second engine's door is as good as the first one's.
    let key = EventKey::of(detection.source.id.as_str(), detection.id.as_str());
    let thred = started_id(&key, &PatternId::from("uav_detection"));
    nodes[1].engine.accept(vec![detection]).await?;
    phones.closed().await;

    for running in running {
        running.shutdown().await;
    }
    sessions.shutdown().await;
    persistence.shutdown().await;
    for node in &nodes {
        node.storage.flush().await;
        node.queues.close().await;
    }
    let past = MongoArchive::open(&nodes[0].mongo).await?.history(&thred, None, 100).await?;
    for node in &nodes {
        node.mongo.close().await;
    }
    let reactions = past.iter().flat_map(|step| &step.log).filter_map(|record| {
        (record.log_type == LogType::Match).then(|| record.from.clone()).flatten()
    });
    println!("in the archive: {}", reactions.collect::<Vec<Arc<str>>>().join(", "));
    Ok(())
}
