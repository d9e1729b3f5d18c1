//! What is found when a database is opened, and what becomes of it.

use std::{sync::Arc, time::Duration};

use mongodb::{
    Client, Database,
    bson::{Bson, Document, doc},
};
use thredcore::{
    conformance::run,
    port::{AddressResolver, FixedDirectory},
};
use thredcore_mongo::{
    Mongo, MongoConfig, MongoDirectory, MongoError, MongoPersistence, MongoStorage,
};

use crate::server::{Dropped, config, connect, url};

async fn database(config: &MongoConfig) -> Database {
    let client = Client::with_uri_str(url()).await.expect("a client");
    client.database(config.database.as_ref().expect("a name"))
}

async fn format_of(database: &Database) -> Option<Bson> {
    let meta = database.collection::<Document>("meta");
    let found = meta.find_one(doc! { "_id": "format" }).await.expect("read");
    found.and_then(|found| found.get("version").cloned())
}

#[test]
fn a_newer_store_is_refused_and_stays_as_it_is() {
    run(async {
        let config = config();
        let database = database(&config).await;
        let mongo = connect(&config).await;
        let current = i64::from(mongo.format());
        assert_eq!(format_of(&database).await, Some(current.into()));
        let meta = database.collection::<Document>("meta");
        let set = async |version: i64| {
            let set = doc! { "$set": { "version": version } };
            meta.update_one(doc! { "_id": "format" }, set).await.expect("set");
        };
        set(1000).await;
        let error = Mongo::connect(config.clone()).await.expect_err("newer");
        assert!(matches!(error, MongoError::Format { .. }), "{error}");
        let text = error.to_string();
        for part in ["has format 1000", &current.to_string(), "as new as the store"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(format_of(&database).await, Some(1000_i64.into()));
        set(current).await;
        connect(&config).await;
        // Before there was a number.
        meta.drop().await.expect("drop");
        let thred = doc! { "_id": "a", "status": "active" };
        database.collection::<Document>("threds").insert_one(thred).await.expect("insert");
        let error = Mongo::connect(config.clone()).await.expect_err("too old");
        assert!(error.to_string().contains("has format 1,"), "{error}");
        database.drop().await.expect("drop");
    });
}

#[test]
fn who_only_looks_makes_nothing() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let looking = config.clone().create(false);
        let error = Mongo::connect(looking.clone()).await.expect_err("nothing is there");
        assert!(matches!(error, MongoError::Nothing { .. }), "{error}");
        let database = database(&config).await;
        assert_eq!(database.list_collection_names().await.expect("names"), [""; 0]);
        let mongo = connect(&config).await;
        let looking = connect(&looking).await;
        MongoStorage::open(&looking).await.expect("a storage");
        assert_eq!(database.list_collection_names().await.expect("names"), ["meta"]);
        drop(mongo);
    });
}

#[test]
fn the_options_of_an_index_may_change() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let database = database(&config).await;
        let executed = database.collection::<Document>("executed");
        let expiry = async || {
            let names = executed.list_indexes().await.expect("indexes");
            let indexes: Vec<_> = futures::TryStreamExt::try_collect(names).await.expect("indexes");
            let index =
                indexes.into_iter().find(|it: &mongodb::IndexModel| it.keys == doc! { "at": 1 });
            index.expect("the index").options.and_then(|options| options.expire_after)
        };
        for days in [7, 3, 9] {
            let window = Duration::from_secs(days * 24 * 60 * 60);
            let mongo = connect(&config.clone().redelivery_window(window)).await;
            MongoPersistence::open(&mongo).await.expect("records");
            assert_eq!(expiry().await, Some(window));
        }
        // Those that cannot be changed are made again.
        let threds = database.collection::<Document>("threds");
        let plain = mongodb::IndexModel::builder().keys(doc! { "listens": 1 }).build();
        threds.create_index(plain).await.expect("an index");
        MongoStorage::open(&connect(&config).await).await.expect("a storage");
        let indexes = threds.list_indexes().await.expect("indexes");
        let indexes: Vec<mongodb::IndexModel> =
            futures::TryStreamExt::try_collect(indexes).await.expect("indexes");
        let made: Vec<_> = indexes.iter().filter(|it| it.keys == doc! { "listens": 1 }).collect();
        assert_eq!(made.len(), 1);
        let options = made[0].options.as_ref().expect("options");
        assert!(options.partial_filter_expression.is_some(), "{options:?}");
    });
}

#[test]
fn a_document_that_is_no_user_keeps_no_other_from_being_known() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let database = database(&config).await;
        let users = database.collection::<Document>("users");
        let documents = [
            doc! { "_id": "ann", "groups": ["ops"], "roles": ["admin"] },
            doc! { "_id": "bob", "groups": "ops" },
            doc! { "_id": 7, "groups": ["ops"] },
            doc! { "_id": "carol", "groups": ["ops"], "roles": Bson::Null },
            doc! { "_id": "dave", "groups": ["ops"], "age": 40 },
        ];
        users.insert_many(documents).await.expect("insert");
        let base = Arc::new(FixedDirectory::default());
        let directory = MongoDirectory::open(&connect(&config).await, base).await.expect("users");
        let known = directory.directory().await.expect("a directory");
        assert_eq!(known.group("ops"), Some(&["ann".into(), "dave".into()][..]));
        // Mended, it is known.
        let mended = doc! { "$set": { "groups": ["ops"] } };
        users.update_one(doc! { "_id": "bob" }, mended).await.expect("update");
        directory.until(|it| it.is_member(&"bob".into(), "ops")).await.expect("a directory");
    });
}

#[test]
fn passwords_are_shown_nowhere() {
    run(async {
        let shown = |value: &dyn std::fmt::Debug| format!("{value:?} {value:#?}");
        let secret = "mongodb://ann:secret@host:1/?replicaSet=x";
        assert!(!shown(&MongoConfig::new(secret)).contains("secret"));
        let mongo = connect(&config()).await;
        assert!(!shown(&mongo).contains("mongodb://"), "the URL is in {mongo:?}");
        for url in [
            "http://ann:secret@host",
            "mongodb://ann:secret@host:port",
            "mongodb://ann:sec@ret:secret@host",
            "mongodb://ann:secret%@host",
            "mongodb://ann:secret/@host",
            "mongodb://ann:secret@host/?w=x&readConcernLevel=",
            "mongodb://ann:secret@host/?connectTimeoutMS=x",
            "mongodb://ann:secret@127.0.0.1:1/?authSource=$external&authMechanism=nonsense",
            "mongodb://ann:secret@127.0.0.1:1/?directConnection=true",
            "mongodb+srv://ann:secret@a",
            "ann:secret@host",
        ] {
            let limit = Duration::from_millis(50);
            let config = MongoConfig::new(url).selection_limit(limit);
            let error = Mongo::connect(config).await.expect_err(url);
            let mut text = shown(&error);
            let mut next: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = next {
                text += &format!(" {error}");
                next = error.source();
            }
            assert!(!text.contains("secret"), "{url}: {text}");
        }
        mongo.drop_database().await.expect("drop");
    });
}
