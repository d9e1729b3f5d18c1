//! `srvthreds store upgrade`, and programs that meet a store of another format.

use std::path::Path;

use mongodb::bson::{Document, doc};
use redb::{Database, TableDefinition};
use serde_json::Value;
use thredcore_mongo::{Mongo, MongoConfig};
use thredcore_redb::{RedbBackends, RedbConfig};
use thredcore_redis::{Connection, RedisConfig, Request, Script, Tag};

use crate::{
    program::{Program, TALK, answer, event, patterns, printed, srvthreds, text, thred, title},
    servers::{Store, url},
};

const UPGRADE: [&str; 4] = ["store", "upgrade", "--data", "data"];
const CHECK: [&str; 4] = ["store", "check", "--data", "data"];

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

/// Makes a directory as the version before did.
fn old_directory(directory: &Path) {
    let data = directory.join("data");
    let config = RedbConfig::default().make_format(2);
    drop(RedbBackends::open_with(data, config).unwrap());
}

fn set_format(directory: &Path, format: u64) {
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let file = Database::open(directory.join("data/threds.redb")).unwrap();
    let txn = file.begin_write().unwrap();
    txn.open_table(META).unwrap().insert("format", format).unwrap();
    txn.commit().unwrap();
}

#[test]
fn a_directory_is_upgraded_when_nobody_works_on_it() {
    let directory = patterns(&[("talk.json", &TALK.replace("1500", "3600000"))]);
    let directory = directory.path();
    old_directory(directory);
    let mut program = Program::live(directory, &[]);
    program.send(&event("1", "ask"));
    let first = program.message();
    let open = "directory: format 2; `srvthreds store upgrade` raises it to 3";
    assert!(printed(directory, &CHECK).starts_with(open));
    assert!(printed(directory, &[&UPGRADE[..], &["--dry-run"]].concat()).contains("would be"));
    let refused = srvthreds(directory, &UPGRADE);
    assert_eq!(refused.status.code(), Some(2));
    let why = text(&refused.stderr);
    assert!(
        why.contains(&format!("pid {}", program.pid())) && why.contains("end it first"),
        "{why}"
    );
    program.stop();

    assert!(printed(directory, &[&UPGRADE[..], &["--dry-run"]].concat()).contains("would be"));
    assert!(printed(directory, &CHECK).starts_with(open), "a dry run changes nothing");
    assert_eq!(printed(directory, &UPGRADE), "directory: upgraded from format 2 to 3\n");
    assert_eq!(printed(directory, &UPGRADE), "directory: format 3\n");
    assert_eq!(printed(directory, &CHECK), "directory: format 3\neverything can be read\n");
    let report = printed(directory, &[&CHECK[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["formats"][0]["format"], 3);

    let mut program = Program::live(directory, &[]);
    program.send(&answer("2", &thred(&first)));
    assert_eq!(title(&program.message()), "Second 1");
    program.stop();
}

#[test]
fn a_directory_of_a_newer_program_is_refused() {
    let directory = patterns(&[("talk.json", TALK)]);
    let directory = directory.path();
    old_directory(directory);
    set_format(directory, 4);
    let commands: [&[&str]; 4] =
        [&["run", "--data", "data"], &["threds", "list", "--data", "data"], &UPGRADE, &CHECK];
    for command in commands {
        let refused = srvthreds(directory, command);
        assert_eq!(refused.status.code(), Some(2), "{command:?}");
        let why = text(&refused.stderr);
        assert!(why.contains("has format 4, and this program reads formats 2 to 3"), "{why}");
        assert!(why.contains("use a program that is as new as the store"), "{why}");
    }
    set_format(directory, 2);
    assert!(printed(directory, &UPGRADE).contains("upgraded"), "nothing was changed");
}

fn redis(store: &Store) -> RedisConfig {
    RedisConfig::new(url("REDIS_URL")).namespace(store.namespace())
}

fn mongo(store: &Store) -> MongoConfig {
    MongoConfig::new(url("MONGODB_URL")).default_database(store.namespace())
}

/// Runs a script with the keys of the format and of the processes.
async fn behind(store: &Store, script: &'static str) {
    let connection = Connection::unchecked(redis(store)).unwrap();
    let meta = Tag::new(store.namespace(), "meta");
    let keys = [meta.key("format"), meta.key("processes")];
    let keys = [&*keys[0], &keys[1]];
    let request = Request::script(&meta, &Script::new(script), &keys);
    connection.ask::<Option<String>>(request).await.unwrap();
}

#[test]
fn threds_and_archive_are_upgraded_while_new_programs_work_on_them() {
    let directory = patterns(&[("talk.json", &TALK.replace("1500", "3600000"))]);
    let directory = directory.path();
    let store = Store::full();
    block_on(async {
        Connection::open(redis(&store).make_format(2)).await.unwrap();
        let mongo = Mongo::connect(mongo(&store).make_format(2)).await.unwrap();
        mongo.close().await;
        // What made them counts as a process, for a while.
        behind(&store, "return redis.call('DEL', KEYS[2]) and ''").await;
    });
    let mut program = store.live(directory, &["--patterns", "patterns"]);
    program.send(&event("1", "ask"));
    let first = program.message();
    let ask = |more: &[&str]| srvthreds(directory, &store.args(&["store", "upgrade"], more));

    block_on(behind(
        &store,
        "local now = redis.call('TIME')[1] \
         redis.call('HSET', KEYS[2], 'older', '2 ' .. now .. '000') return ''",
    ));
    for more in [&["--dry-run"][..], &[]] {
        let refused = ask(more);
        let said = text(&refused.stdout);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(
            said.contains("redis: format 2; 1 of 2 processes at work are of an older"),
            "{said}"
        );
        assert!(said.contains("mongodb: format 2"), "{said}");
        assert!(said.contains("replace the older programs first"), "{said}");
    }
    block_on(behind(&store, "return redis.call('HDEL', KEYS[2], 'older') and ''"));
    let upgraded = ask(&[]);
    let said = text(&upgraded.stdout);
    assert_eq!(upgraded.status.code(), Some(0), "{said} {}", text(&upgraded.stderr));
    for part in ["redis: upgraded from format 2 to 3; 1 process at work", "mongodb: upgraded"] {
        assert!(said.contains(part), "{said}");
    }
    let again = text(&ask(&[]).stdout);
    assert_eq!(again, "mongodb: format 3\nredis: format 3\n");
    // Those that run and those that come understand each other.
    let mut other = store.live(directory, &["--print", "none"]);
    program.send(&answer("2", &thred(&first)));
    assert_eq!(title(&program.message()), "Second 1");
    program.stop();
    other.send(&answer("3", &thred(&first)));
    other.stop();
}

#[test]
fn servers_of_a_newer_program_are_refused_and_a_run_that_is_left_behind_ends() {
    let directory = patterns(&[("talk.json", TALK)]);
    let directory = directory.path();
    let store = Store::redis();
    let program = store.live(directory, &["--patterns", "patterns"]);
    // Whoever did this has seen no older process: this one was away for long.
    block_on(behind(&store, "return redis.call('SET', KEYS[1], '4') and ''"));
    let (status, _, stderr) = program.left_alone();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cannot be used any more: the store has format 4"), "{stderr}");
    for command in [&["run"][..], &["threds", "list"], &["store", "upgrade"]] {
        let refused = srvthreds(directory, &store.args(command, &[]));
        assert_eq!(refused.status.code(), Some(2), "{command:?}");
        let why = text(&refused.stderr);
        assert!(why.contains("has format 4, and this program reads formats 2 to 3"), "{why}");
    }

    let store = Store::full();
    block_on(async {
        let made = Mongo::connect(mongo(&store)).await.unwrap();
        let client = mongodb::Client::with_uri_str(url("MONGODB_URL")).await.unwrap();
        let database = client.default_database().map(|it| it.name().to_owned());
        let database = client.database(&database.unwrap_or(store.namespace().to_owned()));
        let meta = database.collection::<Document>("meta");
        let set = doc! { "$set": { "version": 4_i64 } };
        meta.update_one(doc! { "_id": "format" }, set).await.unwrap();
        made.close().await;
    });
    let refused = srvthreds(directory, &store.args(&["run"], &["--patterns", "patterns"]));
    assert_eq!(refused.status.code(), Some(2));
    let why = text(&refused.stderr);
    assert!(why.contains("has format 4, and this program reads formats 2 to 3"), "{why}");
}
