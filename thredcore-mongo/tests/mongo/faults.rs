//! What MongoDB's failures become, and that nothing is lost or done twice through them.

use std::{fs::File, sync::Arc, time::Duration};

use mongodb::{
    Client,
    bson::{Document, doc},
};
use serde_json::{Value, json};
use thredcore::{
    conformance::run,
    persistence::{Persistence, TaskContext, execute_list},
    port::{
        Committed, History, LimitStore, PortError, PortErrorKind, RecordStore, Reservation,
        Reserved, ThredStore,
    },
};
use thredcore_mongo::{MongoConfig, MongoPersistence, MongoStorage};
use thredlib::{ThredId, task::TaskList};

use crate::samples::{commit, next, thred};
use crate::{
    private::Server,
    server::{self, Dropped, config, connect},
};

/// A configuration whose connections go by a name of their own, so that calls can be made to fail;
/// by one test at a time, since the server remembers one way to fail.
fn named() -> (MongoConfig, String, File) {
    let one_at_a_time = File::create(std::env::temp_dir().join("thredcore-mongo-faults.lock"));
    let one_at_a_time = one_at_a_time.expect("a file can be made");
    one_at_a_time.lock().expect("a file can be locked");
    let mut config = config();
    let name = config.database.clone().expect("a test has a database");
    config.url = format!("{}&appName={name}", config.url);
    (config, name, one_at_a_time)
}

/// Makes the next calls of a command fail, on the connections of a name.
async fn fail(name: &str, times: i32, command: &str, how: Document) {
    let client = Client::with_uri_str(server::url()).await.expect("a client");
    let mut data = doc! { "appName": name, "failCommands": [command] };
    data.extend(how);
    let mode = doc! { "times": times };
    let fail = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
    client.database("admin").run_command(fail).await.expect("a server with test commands");
}

async fn kind(storage: &MongoStorage, number: u64) -> Result<Committed, PortErrorKind> {
    let commit = commit(thred(&format!("thred {number}")));
    let mut answers = storage.commit(&[commit]).await;
    answers.remove(0).map_err(|error| error.kind())
}

#[test]
fn failures_of_a_commit_tell_what_is_known() {
    run(async {
        let (config, name, _lock) = named();
        let _guard = Dropped(config.clone());
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        let cases = [
            // Not primary: not done.
            (doc! { "errorCode": 10107 }, PortErrorKind::Unavailable, Committed::Applied),
            // Stepping down, perhaps in the middle.
            (doc! { "errorCode": 11602 }, PortErrorKind::Unknown, Committed::Applied),
            (doc! { "closeConnection": true }, PortErrorKind::Unknown, Committed::Applied),
            (doc! { "errorCode": 13 }, PortErrorKind::Rejected, Committed::Applied),
            // Done, but not on a majority in time.
            (
                doc! { "writeConcernError": { "code": 64, "errmsg": "waiting timed out" } },
                PortErrorKind::Unknown,
                Committed::Duplicate,
            ),
        ];
        for (number, (how, expected, then)) in cases.into_iter().enumerate() {
            fail(&name, 1, "insert", how.clone()).await;
            assert_eq!(kind(&storage, number as u64).await, Err(expected), "{how}");
            assert_eq!(kind(&storage, number as u64).await, Ok(then), "{how}, sent again");
        }
        storage.flush().await;
        assert_eq!(storage.log(99).await.expect("the log").len(), 5, "each step once");
    });
}

#[test]
fn a_call_without_an_answer_ends_as_unknown() {
    run(async {
        let (config, name, _lock) = named();
        let _guard = Dropped(config.clone());
        let hasty = config.time_limit(Duration::from_millis(300));
        let storage = MongoStorage::open(&connect(&hasty).await).await.expect("a storage");
        let late = doc! { "blockConnection": true, "blockTimeMS": 2_000 };
        fail(&name, 1, "insert", late).await;
        assert_eq!(kind(&storage, 1).await, Err(PortErrorKind::Unknown));
        let again = kind(&storage, 1).await;
        assert!(matches!(again, Ok(Committed::Applied | Committed::Duplicate)), "{again:?}");
    });
}

#[test]
fn steps_are_archived_although_the_archive_fails_at_first() {
    run(async {
        let (config, name, _lock) = named();
        let _guard = Dropped(config.clone());
        let config = config.linger(Duration::from_millis(300));
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        assert_eq!(kind(&storage, 1).await, Ok(Committed::Applied));
        fail(&name, 3, "insert", doc! { "errorCode": 11602 }).await;
        storage.flush().await;
        let id = "thred 1".into();
        let archived = storage.archive().history(&id, None, 9).await.expect("the archive");
        assert_eq!(archived.len(), 1);
    });
}

#[test]
fn commits_wait_while_too_many_steps_do() {
    run(async {
        let (config, name, _lock) = named();
        let _guard = Dropped(config.clone());
        let config = config.backlog(2).linger(Duration::from_secs(3_600));
        let config = config.time_limit(Duration::from_secs(1));
        let storage = MongoStorage::open(&connect(&config).await).await.expect("a storage");
        for number in 1..=2 {
            assert_eq!(kind(&storage, number).await, Ok(Committed::Applied));
        }
        // A new thred is inserted as a step is, so a known one is changed.
        let third = [commit(next(&thred("thred 1")))];
        fail(&name, 1_000, "insert", doc! { "errorCode": 11602 }).await;
        let error = storage.commit(&third).await.remove(0).expect_err("no room");
        assert_eq!(error.kind(), PortErrorKind::Unavailable);
        let why = std::error::Error::source(&error).map(ToString::to_string);
        assert!(why.is_some_and(|why| why.contains("2 steps wait")), "it says what is wrong");
        fail(&name, 1, "ping", doc! { "errorCode": 11602 }).await;
        storage.flush().await;
        assert_eq!(storage.commit(&third).await.remove(0).expect("room"), Committed::Applied);
    });
}

async fn execute(store: &dyn Persistence, key: &str, tasks: Value) -> Vec<Value> {
    let list = TaskList::from_value(&tasks).expect("tasks");
    let done = execute_list(store, &list, &TaskContext { key, now: 1 }).await;
    done.unwrap_or_else(|error| panic!("{error}: {:?}", error.source))
}

#[test]
fn transactions_are_tried_anew() {
    run(async {
        let (config, name, _lock) = named();
        let _guard = Dropped(config.clone());
        let store = MongoPersistence::open(&connect(&config).await).await.expect("records");
        let inc = json!({ "op": "upsert", "params": { "type": "t", "matcher": { "id": "a" },
                          "values": { "$inc": { "n": 1 } } } });
        let faults = [
            // Lost against another transaction.
            ("update", doc! { "errorCode": 112, "errorLabels": ["TransientTransactionError"] }),
            // The transaction was aborted by a stepdown.
            (
                "commitTransaction",
                doc! { "errorCode": 251, "errorLabels": ["TransientTransactionError"] },
            ),
            // Committed, but the answer was lost.
            ("commitTransaction", doc! { "closeConnection": true }),
            (
                "commitTransaction",
                doc! { "writeConcernError": { "code": 64, "errmsg": "waiting timed out" } },
            ),
        ];
        let mut expected = 0;
        execute(&store, "first", json!([inc])).await;
        for (number, (command, how)) in faults.into_iter().enumerate() {
            fail(&name, 3, command, how.clone()).await;
            let key = format!("key {number}");
            expected += 1;
            for _ in 0..2 {
                let done = execute(&store, &key, json!([[inc, inc]])).await;
                assert_eq!(done, [json!(["a", "a"])], "{how}");
            }
            let get = json!([{ "op": "getOne", "params": { "type": "t" } }]);
            let record = execute(&store, "read", get).await;
            assert_eq!(record[0]["n"], 1 + 2 * expected, "{how}");
        }
    });
}

#[test]
fn a_transaction_that_never_succeeds_ends_as_not_done() {
    run(async {
        let (config, name, _lock) = named();
        let _guard = Dropped(config.clone());
        let config = config.transaction_limit(Duration::from_millis(300));
        let store = MongoPersistence::open(&connect(&config).await).await.expect("records");
        let lost = doc! { "errorCode": 112, "errorLabels": ["TransientTransactionError"] };
        fail(&name, 1_000, "update", lost).await;
        let put = json!([{ "op": "put", "params": { "type": "t", "values": { "id": "a" } } }]);
        let list = TaskList::from_value(&put).expect("tasks");
        let context = TaskContext { key: "key", now: 1 };
        let error = execute_list(&store, &list, &context).await.expect_err("it never succeeds");
        assert!(error.source.is_retryable(), "{error}");
        fail(&name, 1, "ping", doc! { "errorCode": 11602 }).await;
        assert_eq!(execute(&store, "key", put).await, [json!("a")]);
    });
}

#[test]
fn keys_are_forgotten_after_the_redelivery_window() {
    run(async {
        let config = config().redelivery_window(Duration::from_secs(90));
        let _guard = Dropped(config.clone());
        MongoPersistence::open(&connect(&config).await).await.expect("records");
        // The server forgets them, once a minute.
        let client = Client::with_uri_str(server::url()).await.expect("a client");
        let database = client.database(config.database.as_deref().expect("a database"));
        let indexes = database.run_command(doc! { "listIndexes": "executed" }).await;
        let indexes = indexes.expect("indexes").to_string();
        assert!(indexes.contains("\"expireAfterSeconds\": 90"), "{indexes}");
    });
}

/// Commits as an engine does: what failed is sent again, as it was.
async fn insist(storage: &MongoStorage, state: thredcore::state::ThredState) -> Committed {
    let commit = [commit(state)];
    loop {
        match storage.commit(&commit).await.remove(0) {
            Ok(answer) => return answer,
            Err(error) => assert!(error.is_retryable(), "{error}: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const WRITERS: usize = 4;
const STEPS: u64 = 60;

/// The versions that the writers' threds have gone through.
async fn histories<R>(read: impl Fn(ThredId) -> R) -> Vec<Vec<u64>>
where
    R: Future<Output = Result<Vec<History>, PortError>>,
{
    let mut all = Vec::new();
    for number in 0..WRITERS {
        let past = read(format!("thred {number}").as_str().into()).await.expect("a history");
        all.push(past.iter().map(|step| step.version).collect());
    }
    all
}

#[test]
fn nothing_is_lost_through_stepdowns_and_kills() {
    run(async {
        let server = Arc::new(Server::start());
        let config = MongoConfig::new(&server.url).selection_limit(Duration::from_secs(1));
        let config = config.left_behind(Duration::ZERO);
        let mongo = connect(&config).await;
        let storage = Arc::new(MongoStorage::open(&mongo).await.expect("a storage"));
        let writers = (0..WRITERS).map(|number| {
            let storage = storage.clone();
            tokio::spawn(async move {
                let mut state = thred(&format!("thred {number}"));
                insist(&storage, state.clone()).await;
                while state.version < STEPS {
                    state = next(&state);
                    let answer = insist(&storage, state.clone()).await;
                    assert_ne!(answer, Committed::Conflict, "nobody else writes");
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        let faults = async {
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_millis(300)).await;
                server.step_down().await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                let server = server.clone();
                let kill = tokio::task::spawn_blocking(move || server.kill_and_restart());
                kill.await.expect("the server starts again");
            }
        };
        faults.await;
        for writer in writers {
            writer.await.expect("a writer");
        }
        // What was committed without an answer is known to the documents alone.
        let store = &*storage;
        let told = histories(|id| async move { store.history(&id, None, 999).await }).await;
        storage.flush().await;
        storage.clean_up().await.expect("cleaning up");
        let archive = storage.archive();
        let archived = histories(|id| async move { archive.history(&id, None, 999).await }).await;
        let whole = vec![(1..=STEPS).collect::<Vec<_>>(); WRITERS];
        assert_eq!((told, archived), (whole.clone(), whole));
        let place = Reservation {
            pattern: "sample".into(),
            thred: "thred 1".into(),
            max_instances: 1,
            interval: 0,
            now: 1,
        };
        assert_eq!(storage.reserve(&place).await.expect("a place"), Reserved::Granted);
    });
}
