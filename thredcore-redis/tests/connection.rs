//! Connections come back, and lost answers are not taken for failures.

mod servers;

use std::{sync::Arc, time::Duration};

use servers::{Server, eventually};
use thredcore::{
    conformance::samples,
    port::{Commit, Committed, PortErrorKind, ThredStore},
    state::ThredState,
};
use thredcore_redis::{Connection, RedisConfig, RedisStorage, Request, Tag};

fn start(id: &str) -> Arc<Commit> {
    Arc::new(samples::commit(samples::thred(id)))
}

/// As the engine does: until it is known.
async fn insist(storage: &RedisStorage, commit: &Arc<Commit>) -> Committed {
    let mut answer = None;
    eventually("a commit", async || {
        answer = storage.commit(std::slice::from_ref(commit)).await.remove(0).ok();
        answer.is_some()
    })
    .await;
    answer.expect("an answer")
}

async fn open(config: RedisConfig) -> RedisStorage {
    RedisStorage::open(config).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Opens a storage whose writes wait, as soon as there is a replica that keeps up.
async fn open_waiting(config: RedisConfig) -> RedisStorage {
    let mut storage = None;
    eventually("a confirming replica", async || {
        storage = RedisStorage::open(config.clone()).await.ok();
        storage.is_some()
    })
    .await;
    storage.expect("a storage")
}

#[tokio::test]
async fn a_restarted_server_is_found_again_with_what_it_had() {
    let mut server = Server::start(&[]);
    let storage = open(server.config().reconnect_pause(Duration::from_millis(50))).await;
    assert_eq!(insist(&storage, &start("a")).await, Committed::Applied);
    server.kill();
    let error = storage.load(&["a".into()]).await.expect_err("the connection is gone");
    assert!(error.is_retryable());
    let error = storage.commit(&[start("b")]).await.remove(0).expect_err("nobody is there");
    assert_eq!(error.kind(), PortErrorKind::Unavailable, "it was not sent: {error:?}");
    server.restart();
    assert_eq!(insist(&storage, &start("a")).await, Committed::Duplicate);
    assert_eq!(insist(&storage, &start("b")).await, Committed::Applied);
}

#[tokio::test]
async fn a_commit_whose_answer_comes_too_late_was_made_once() {
    let server = Server::start(&[]);
    let storage = open(server.config().response_limit(Duration::from_millis(100))).await;
    // An unknown script would be refused, and sent again only to whoever waits for the answer.
    assert_eq!(insist(&storage, &start("other")).await, Committed::Applied);
    server.signal("STOP");
    let error = storage.commit(&[start("a")]).await.remove(0).expect_err("silence");
    assert_eq!(error.kind(), PortErrorKind::Unknown, "{error:?}");
    server.signal("CONT");
    // What was sent is still in the server's socket.
    assert_eq!(insist(&storage, &start("a")).await, Committed::Duplicate);
    let loaded = storage.load(&["a".into()]).await.expect("load").remove(0).expect("a thred");
    assert_eq!(loaded.state.version, 1);
}

#[tokio::test]
async fn flushed_scripts_are_sent_again() {
    let server = Server::start(&[]);
    let storage = open(server.config()).await;
    let flushing = async {
        for _ in 0..20 {
            assert_eq!(server.cli(&["SCRIPT", "FLUSH"]), "OK");
            tokio::task::yield_now().await;
        }
    };
    let committing = async {
        for number in 0..500 {
            let answer = storage.commit(&[start(&format!("{number}"))]).await.remove(0);
            assert_eq!(answer.expect("a commit"), Committed::Applied);
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(flushing, committing);
}

#[tokio::test]
async fn a_full_server_refuses_whole_commits_and_takes_them_later() {
    let server = Server::start(&["--maxmemory", "1"]);
    let storage = RedisStorage::on(Connection::unchecked(server.config()).expect("a connection"));
    let error = storage.await.expect_err("full");
    assert!(error.is_retryable() && error.to_string().contains("raise `maxmemory`"), "{error}");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    let storage = open(server.config()).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = storage.commit(&[start("a")]).await.remove(0).expect_err("full");
    assert_eq!(error.kind(), PortErrorKind::Unavailable);
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(insist(&storage, &start("a")).await, Committed::Applied);
}

#[tokio::test]
async fn a_write_that_waits_counts_when_a_replica_has_it() {
    let master = Server::start(&[]);
    let port = master.port.to_string();
    let config = master.config().wait(1, Duration::from_millis(200));
    let alone = RedisStorage::open(config.clone()).await.expect_err("there is no replica");
    assert!(alone.to_string().contains("0 of 1 replicas"), "{alone}");
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]);
    eventually("replication", async || {
        replica.cli(&["INFO", "replication"]).contains("master_link_status:up")
    })
    .await;
    let storage = open_waiting(config.clone()).await;
    for number in 0..50 {
        let id = format!("{number}");
        // A slow replica leaves the first answer unknown.
        assert_ne!(insist(&storage, &start(&id)).await, Committed::Conflict);
        let partition = ThredState::partition(&id.as_str().into(), storage.partitions());
        let key = Tag::partition("thredcore", partition).key("t");
        assert_eq!(replica.cli(&["HEXISTS", &key, &id]), "1", "confirmed before it was there");
    }
    let elsewhere = open_waiting(config).await;
    replica.signal("STOP");
    let first = storage.commit(&[start("late")]).await.remove(0).expect_err("no confirmation");
    assert_eq!(first.kind(), PortErrorKind::Unknown);
    // It is stored by now; that it is does not count either.
    let again = storage.commit(&[start("late")]).await.remove(0).expect_err("no confirmation");
    assert_eq!(again.kind(), PortErrorKind::Unknown);
    let again = elsewhere.commit(&[start("late")]).await.remove(0).expect_err("no confirmation");
    assert_eq!(again.kind(), PortErrorKind::Unknown, "on a connection that had not written it");
    replica.signal("CONT");
    assert_eq!(insist(&storage, &start("late")).await, Committed::Duplicate);
}

#[tokio::test]
async fn sentinels_lead_to_the_new_master() {
    let mut first = Server::start(&[]);
    let port = first.port.to_string();
    let second = Server::start(&["--replicaof", "127.0.0.1", &port]);
    eventually("replication", async || {
        second.cli(&["INFO", "replication"]).contains("master_link_status:up")
    })
    .await;
    let sentinel = servers::free_port();
    let conf = tempfile::tempdir().expect("a directory");
    let path = conf.path().join("sentinel.conf");
    let text = format!(
        "port {sentinel}\nsentinel monitor threds 127.0.0.1 {port} 1\n\
         sentinel down-after-milliseconds threds 300\nsentinel failover-timeout threds 2000\n"
    );
    std::fs::write(&path, text).expect("a configuration");
    let watcher = Server::on(sentinel, &[&path.display().to_string(), "--sentinel"]);
    eventually("the sentinel knows the replica", async || {
        watcher.cli(&["SENTINEL", "REPLICAS", "threds"]).contains(&second.port.to_string())
    })
    .await;

    let unknown = format!("redis+sentinel://127.0.0.1:{sentinel}/others");
    let error = Connection::open(RedisConfig::new(unknown)).await.expect_err("another name");
    assert!(error.to_string().contains("knows no master `others`"), "{error}");
    let url = format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel}/threds");
    let config = RedisConfig::new(url).reconnect_pause(Duration::from_millis(50));
    let storage = open_waiting(config.wait(1, Duration::from_millis(500))).await;
    assert_ne!(insist(&storage, &start("a")).await, Committed::Conflict);
    first.kill();
    eventually("a new master", async || second.cli(&["ROLE"]).starts_with("master")).await;
    eventually("the state, on the new master", async || {
        storage.load(&["a".into()]).await.is_ok_and(|loaded| loaded[0].is_some())
    })
    .await;
}

#[tokio::test]
async fn a_blocking_command_has_no_time_limit_and_holds_up_nobody() {
    let server = Server::start(&[]);
    let config = server.config().response_limit(Duration::from_millis(200));
    let connection = Connection::open(config).await.expect("a connection");
    let tag = Tag::new("ns", "list");
    let mut dedicated = connection.dedicated(&tag).await.expect("a connection of its own");
    let key = tag.key("x");
    let mut pop = redis::cmd("BLPOP");
    pop.arg(&key).arg(0);
    let popping = tokio::spawn(async move { dedicated.ask::<(String, String)>(&pop).await });
    eventually("a blocked client", async || {
        server.cli(&["INFO", "clients"]).contains("blocked_clients:1")
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut push = redis::cmd("RPUSH");
    push.arg(&key).arg("value");
    connection.ask::<i64>(Request::write(&tag, push)).await.expect("others go on");
    let popped = popping.await.expect("a task").expect("an answer");
    assert_eq!(popped, (key, "value".to_owned()));
}
