//! MongoDB. The fixture is its documents, a line of JSON each; what JSON has no type for is an object
//! with one field that begins with `$`.

use std::sync::Arc;

use mongodb::{
    Client, Database,
    bson::{Binary, Bson, Document, doc, oid::ObjectId, spec::BinarySubtype},
};
use serde_json::{Value, json};
use thred_tests::stored::{self, Contents};
use thredcore::{
    format::StoreFormat,
    memory::MemoryEventQ,
    port::{PatternStore, PortErrorKind},
    state::ThredState,
};
use thredcore_mongo::{Mongo, MongoConfig, MongoStorage};

use crate::{YEARS, assert_holds, own_name, read, variable, write, write_expected};

fn config(database: &str) -> MongoConfig {
    MongoConfig::new(variable("MONGODB_URL")).database(database).receipts_time(YEARS)
}

async fn behind(database: &str) -> Database {
    let client = Client::with_uri_str(variable("MONGODB_URL")).await.expect("a client");
    client.database(database)
}

async fn open(config: MongoConfig) -> (Mongo, Arc<MongoStorage>) {
    let mongo = Mongo::connect(config).await.expect("a database");
    let storage = MongoStorage::open(&mongo).await.expect("a storage");
    (mongo, Arc::new(storage))
}

#[tokio::test]
#[ignore = "it writes the fixture"]
async fn make_fixture_of_mongo() {
    let name = own_name();
    let (mongo, storage) = open(config(&name).make_format(2)).await;
    stored::fill(storage.clone()).await;
    storage.flush().await;
    // One that the archive does not have yet.
    stored::add_last(&*storage).await;
    write_expected("mongo.contents.json", &Contents::of(&*storage).await);
    write("mongo.jsonl", &dump(&name).await);
    mongo.drop_database().await.expect("dropped");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &Value) -> Vec<u8> {
    let digits = text.as_str().expect("digits");
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("a byte");
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn to_json(value: Bson) -> Value {
    match value {
        Bson::String(text) => text.into(),
        Bson::Boolean(yes) => yes.into(),
        Bson::Null => Value::Null,
        Bson::Int32(number) => json!({ "$int": number }),
        Bson::Int64(number) => json!({ "$long": number }),
        Bson::Double(number) => json!({ "$double": number }),
        Bson::Binary(binary) => json!({ "$bytes": hex(&binary.bytes) }),
        Bson::ObjectId(id) => json!({ "$oid": id.to_hex() }),
        Bson::DateTime(at) => json!({ "$date": at.timestamp_millis() }),
        Bson::Array(items) => items.into_iter().map(to_json).collect(),
        Bson::Document(fields) => {
            fields.into_iter().map(|(name, value)| (name, to_json(value))).collect()
        }
        other => panic!("unforeseen: {other:?}"),
    }
}

fn from_json(value: Value) -> Bson {
    let Value::Object(fields) = value else {
        return match value {
            Value::Array(items) => Bson::Array(items.into_iter().map(from_json).collect()),
            Value::String(text) => text.into(),
            Value::Bool(yes) => yes.into(),
            _ => Bson::Null,
        };
    };
    let number = |value: &Value| value.as_i64().expect("a number");
    match fields.iter().next().map(|(name, value)| (&**name, value)) {
        Some(("$int", value)) => Bson::Int32(i32::try_from(number(value)).expect("an int")),
        Some(("$long", value)) => Bson::Int64(number(value)),
        Some(("$double", value)) => Bson::Double(value.as_f64().expect("a number")),
        Some(("$bytes", value)) => {
            Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: unhex(value) })
        }
        Some(("$oid", value)) => {
            Bson::ObjectId(ObjectId::parse_str(value.as_str().expect("digits")).expect("an id"))
        }
        Some(("$date", value)) => {
            Bson::DateTime(mongodb::bson::DateTime::from_millis(number(value)))
        }
        _ => {
            let fields = fields.into_iter().map(|(name, value)| (name, from_json(value)));
            Bson::Document(fields.collect())
        }
    }
}

async fn documents(database: &Database, collection: &str) -> Vec<Document> {
    use futures::TryStreamExt;
    let collection = database.collection::<Document>(collection);
    let found = collection.find(doc! {}).sort(doc! { "_id": 1 }).await.expect("found");
    found.try_collect().await.expect("documents")
}

async fn dump(database: &str) -> String {
    let database = behind(database).await;
    let mut names = database.list_collection_names().await.expect("names");
    names.sort();
    let mut text = String::new();
    for name in names {
        for document in documents(&database, &name).await {
            let line = json!([name, to_json(Bson::Document(document))]);
            text += &format!("{line}\n");
        }
    }
    text
}

async fn restore(database: &str) {
    let database = behind(database).await;
    for line in read("mongo.jsonl").lines() {
        let (name, document): (String, Value) = serde_json::from_str(line).expect("a document");
        let Bson::Document(document) = from_json(document) else { panic!("no document: {line}") };
        database.collection::<Document>(&name).insert_one(document).await.expect("inserted");
    }
}

/// How many states a program of format 2 reads, and how many it does not.
async fn as_before(database: &str) -> (usize, usize) {
    let database = behind(database).await;
    let (mut old, mut new) = (0, 0);
    for document in documents(&database, "threds").await {
        let text = document.get_str("state").expect("a text");
        match serde_json::from_str::<ThredState>(text) {
            Ok(_) => old += 1,
            Err(_) => new += 1,
        }
    }
    (old, new)
}

async fn go_on(storage: &Arc<MongoStorage>, round: &str) {
    stored::go_on(storage.clone(), Arc::new(MemoryEventQ::with_partitions(2)), round).await;
}

#[tokio::test]
async fn a_database_of_the_format_before_is_read_and_upgraded() {
    let name = own_name();
    restore(&name).await;
    let (first, storage) = open(config(&name)).await;
    assert_eq!(first.format(), 2);
    assert_holds(&Contents::of(&*storage).await, "mongo.contents.json");
    go_on(&storage, "before").await;
    storage.flush().await;
    let before = Contents::of(&*storage).await;
    let count = before.threds();
    assert_eq!(as_before(&name).await, (count, 0));

    let found = first.store_format().await.expect("a format");
    assert_eq!(found, StoreFormat { format: 2, newest: 3, processes: vec![3] });
    // Somebody who only looks may upgrade, twice.
    for _ in 0..2 {
        let looking = Mongo::connect(config(&name).create(false)).await.expect("a database");
        let found = looking.upgrade().await.expect("upgraded");
        assert_eq!(found, StoreFormat { format: 3, newest: 3, processes: vec![3] });
    }
    assert_eq!(Contents::of(&*storage).await, before);
    // Whoever had it open goes on in the format that it was opened with.
    go_on(&storage, "still before").await;
    assert_eq!(as_before(&name).await, (count + 1, 0));
    let (second, other) = open(config(&name)).await;
    assert_eq!(second.format(), 3);
    go_on(&other, "after").await;
    let (old, new) = as_before(&name).await;
    assert!(old > 0 && new > 0, "{old} of the old form, {new} of the new one");
    storage.flush().await;
    other.flush().await;
    assert_eq!(Contents::of(&*other).await, Contents::of(&*storage).await);
    first.drop_database().await.expect("dropped");
}

#[tokio::test]
async fn a_new_database_has_the_newest_format_or_the_one_before() {
    for format in [3, 2] {
        let name = own_name();
        let (mongo, storage) = open(config(&name).make_format(format)).await;
        assert_eq!(mongo.format(), format);
        stored::fill(storage.clone()).await;
        stored::add_last(&*storage).await;
        let contents = Contents::of(&*storage).await;
        assert_holds(&contents, "mongo.contents.json");
        let count = contents.threds();
        let found = as_before(&name).await;
        assert_eq!(found, if format == 2 { (count, 0) } else { (0, count) });
        storage.flush().await;
        // The choice is for new ones.
        let again = Mongo::connect(config(&name).make_format(5 - format)).await;
        assert_eq!(again.expect("a database").format(), format);
        mongo.drop_database().await.expect("dropped");
    }
}

#[tokio::test]
async fn a_database_is_not_upgraded_under_an_older_program() {
    let name = own_name();
    restore(&name).await;
    let meta = behind(&name).await.collection::<Document>("meta");
    let note = async |seconds_ago: i64| {
        let seen = doc! { "$subtract": ["$$NOW", 1000 * seconds_ago] };
        let older = doc! { "id": "older", "newest": 2_i64, "seen": seen };
        let gone = doc! { "id": "gone", "newest": 2_i64,
        "seen": { "$subtract": ["$$NOW", 100_000] } };
        let set = vec![doc! { "$set": { "processes": [older, gone] } }];
        meta.update_one(doc! { "_id": "format" }, set).await.expect("noted");
    };
    note(30).await;
    let mine = Mongo::connect(config(&name)).await.expect("a database");
    let found = mine.upgrade().await.expect("asked");
    assert_eq!((found.format, found.older_processes(), found.processes.len()), (2, 1, 2));
    // It has been silent for long enough.
    note(61).await;
    let found = mine.upgrade().await.expect("upgraded");
    assert_eq!((found.format, found.older_processes()), (3, 0));
    mine.drop_database().await.expect("dropped");
}

#[tokio::test]
async fn a_process_that_was_left_behind_does_nothing_more() {
    let name = own_name();
    restore(&name).await;
    let (mongo, storage) = open(config(&name)).await;
    let contents = Contents::of(&*storage).await;
    let meta = behind(&name).await.collection::<Document>("meta");
    let set = async |version: i64| {
        let set = doc! { "$set": { "version": version } };
        meta.update_one(doc! { "_id": "format" }, set).await.expect("set");
    };
    set(4).await;
    // It finds that out by itself every 10 s.
    mongo.store_format().await.expect("a format");
    let error = storage.patterns().await.expect_err("newer");
    assert_eq!(error.kind(), PortErrorKind::Closed);
    let text = mongo.check_format().expect_err("newer").to_string();
    assert!(text.contains("the store has format 4"), "{text}");
    // Nothing was changed.
    set(3).await;
    let (again, storage) = open(config(&name)).await;
    assert_eq!(Contents::of(&*storage).await, contents);
    again.drop_database().await.expect("dropped");
}
