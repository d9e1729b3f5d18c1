//! MongoDB. The fixture is its documents, a line of JSON each; what JSON has no type for is an object
//! with one field that begins with `$`.

use std::sync::Arc;

use mongodb::{
    Client, Database,
    bson::{Binary, Bson, Document, doc, oid::ObjectId, spec::BinarySubtype},
};
use serde_json::{Value, json};
use thred_tests::stored::{self, Contents};
use thredcore::memory::MemoryEventQ;
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
    let (mongo, storage) = open(config(&name)).await;
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

#[tokio::test]
async fn a_database_of_the_format_before_is_read_and_upgraded() {
    let name = own_name();
    restore(&name).await;
    let (mongo, storage) = open(config(&name)).await;
    assert_holds(&Contents::of(&*storage).await, "mongo.contents.json");
    let event_q = Arc::new(MemoryEventQ::with_partitions(2));
    stored::go_on(storage.clone(), event_q, "before").await;
    storage.flush().await;
    mongo.drop_database().await.expect("dropped");
}
