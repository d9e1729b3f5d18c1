//! UAV detection: a sensor, a database and people, each behind messages.
//!
//! A persistence agent looks up who is responsible for a site; an agent of our own (`phones.rs`)
//! stands for the phones of the people, and answers for them.
//!
//! Run it with `cargo run -p thred-examples --example 03-uav`. It prints:
//!
//! ```text
//! carol, ann, bob: UAV detected at north
//!   carol answers {"confirmed":true}
//! carol: Video of sensor-7
//!   ann answers {"closed":true}
//! sensor-7, carol, ann, bob: Closed by ann
//! ```

mod phones;

use std::{error::Error, sync::Arc};

use serde_json::json;
use thredcore::{
    Engine,
    agent::AgentRunner,
    persistence::{MemoryPersistence, PersistenceAgent, TaskContext, execute_list},
    port::{Directory, FixedDirectory, SystemClock},
};
use thredlib::{Event, task::TaskList};

use phones::Phones;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Agents are reached under their type, and answer under their node's name: both are services.
    let mut directory = Directory::new();
    directory.add_group("uav-operators", ["ann", "bob"]);
    directory.add_service("org.wt.persistence").add_service("org.wt.persistence1");
    let uav = serde_json::from_str(include_str!("patterns/uav.pattern.json"))?;
    let resolver = Arc::new(FixedDirectory::new(directory));
    let engine = Engine::builder().pattern(uav).resolver(resolver).build().await?;

    // What the lookup is to find.
    let store = Arc::new(MemoryPersistence::new());
    let contact = json!({ "id": "north", "contactId": "carol", "phone": "+1 555 0100" });
    let put = json!([{ "op": "put", "params": { "type": "Contact", "values": contact } }]);
    let context = TaskContext { key: "contacts", now: engine.now() };
    execute_list(&*store, &TaskList::from_value(&put)?, &context).await?;

    let (message_q, event_q) = (engine.message_q(), engine.event_q());
    let persistence = Arc::new(PersistenceAgent::new(store, Arc::new(SystemClock)));
    let persistence =
        AgentRunner::new("org.wt.persistence", persistence, message_q.clone(), event_q.clone());
    let phones = Arc::new(Phones::default());
    let sessions =
        AgentRunner::new("org.wt.session", phones.clone(), message_q.clone(), event_q.clone());

    let (persistence, sessions) = (persistence.start().await?, sessions.start().await?);
    let running = engine.start();
    let detection = Event::builder("org.wt.sensor.detectionEvent", "sensor-7")
        .title("UAV over the north fence")
        .values(json!({ "classification": "uav", "site": "north", "bearing": 12 }))
        .build();
    engine.accept(vec![detection]).await?;
    phones.closed().await;

    running.shutdown().await;
    sessions.shutdown().await;
    persistence.shutdown().await;
    Ok(())
}
