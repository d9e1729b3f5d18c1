//! An engine whose threds, users and past are in MongoDB.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;
use thredcore::{
    Engine,
    conformance::run,
    port::{Directory, FixedDirectory, ThredQuery},
    state::Status,
};
use thredcore_mongo::{MongoDirectory, MongoStorage, User};
use thredlib::{ConditionBuilder, Event, PatternBuilder, PatternModel, ReactionBuilder};

use crate::server::{Dropped, config, connect};

fn greeting() -> PatternModel {
    let condition = ConditionBuilder::filter("$event.type = 'org.example.hello'")
        .transform(json!({ "title": "$xpr('Hello, ' & $event.source.id)" }))
        .publish(json!(["@greeters"]))
        .transition("$terminate");
    PatternBuilder::new("greeting")
        .id("greeting")
        .reaction(ReactionBuilder::new("first").condition(condition))
        .build()
}

#[test]
fn an_engine_runs_on_mongodb() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let mongo = connect(&config).await;
        let storage = Arc::new(MongoStorage::open(&mongo).await.expect("a storage"));
        let directory =
            MongoDirectory::open(&mongo, Arc::new(FixedDirectory::default())).await.expect("users");
        directory.put_user(&User::new("ann").group("greeters")).await.expect("a user");
        let engine = Engine::builder().storage(storage.clone()).resolver(Arc::new(directory));
        let engine = engine.pattern(greeting()).build().await.expect("an engine");
        let running = engine.start();

        const EVENTS: usize = 40;
        let events = (0..EVENTS)
            .map(|number| Event::builder("org.example.hello", format!("guest {number}")).build());
        engine.accept(events.collect()).await.expect("accepted");
        let mut titles = BTreeSet::new();
        while titles.len() < EVENTS {
            let topics = [Directory::DEFAULT_NODE.into()];
            let received = engine.message_q().receive(&topics, 64).await.expect("messages");
            for delivery in received {
                let message = &delivery.payload.message;
                assert_eq!(message.to, ["ann"]);
                titles.insert(message.event.title().unwrap_or_default().to_owned());
            }
        }
        running.shutdown().await;
        assert!(titles.contains("Hello, guest 7"));

        storage.flush().await;
        let page = storage.archive().ended(&ThredQuery::default()).await.expect("the archive");
        assert_eq!(page.threds.len(), EVENTS);
        assert!(page.threds.iter().all(|thred| thred.status == Status::Terminated));
        let log = storage.archive().log(999).await.expect("the archive");
        assert!(log.len() >= EVENTS);
        let id = &page.threds[0].id;
        let past = storage.archive().history(id, None, 9).await.expect("the archive");
        assert_eq!((past.len(), past[0].messages.len()), (1, 1));
    });
}
