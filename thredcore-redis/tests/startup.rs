//! Servers that are not fit are refused, and the refusal says what mends it.

mod servers;

use std::{process::Command, time::Duration};

use servers::Server;
use thredcore::port::ThredStore;
use thredcore_redis::{Connection, Error, RedisConfig, RedisStorage};

async fn refusal(config: RedisConfig) -> String {
    match Connection::open(config).await {
        Ok(_) => panic!("the server was not refused"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_server_that_evicts_is_refused_until_it_is_mended() {
    let server = Server::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let text = refusal(server.config()).await;
    assert!(text.contains("`maxmemory-policy` is allkeys-lru"), "{text}");
    let (_, remedy) = text.split_once("set it with: ").expect("a remedy");
    let command: Vec<_> = remedy.split(" (").next().unwrap_or_default().split(' ').collect();
    assert_eq!(server.cli(&command), "OK");
    Connection::open(server.config()).await.expect("mended");
}

#[tokio::test]
async fn a_durable_profile_needs_an_append_only_file() {
    let server = Server::start(&["--appendonly", "no"]);
    let text = refusal(server.config()).await;
    assert!(text.contains("CONFIG SET appendonly yes"), "{text}");
    Connection::open(server.config().durable(false)).await.expect("asked for less");
    assert_eq!(server.cli(&["CONFIG", "SET", "appendonly", "yes"]), "OK");
    Connection::open(server.config()).await.expect("mended");
}

#[tokio::test]
async fn a_durable_profile_needs_the_file_to_be_synced() {
    let server = Server::start(&["--appendfsync", "no"]);
    let text = refusal(server.config()).await;
    assert!(text.contains("`appendfsync` is no"), "{text}");
    Connection::open(server.config().durable(false)).await.expect("asked for less");
    assert_eq!(server.cli(&["CONFIG", "SET", "appendfsync", "everysec"]), "OK");
    Connection::open(server.config()).await.expect("mended");
}

#[tokio::test]
async fn a_server_is_looked_at_again_after_each_reconnection() {
    let server = Server::start(&[]);
    let config = server.config().reconnect_pause(Duration::from_millis(20));
    let storage = RedisStorage::open(config).await.expect("a storage");
    let load = async || storage.load(&["a".into()]).await;
    load().await.expect("it is fit");
    for (setting, bad, good) in [
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("appendonly", "no", "yes"),
        ("appendfsync", "no", "everysec"),
    ] {
        assert_eq!(server.cli(&["CONFIG", "SET", setting, bad]), "OK");
        server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        servers::eventually("a refusal", async || match load().await {
            Err(error) => {
                assert!(error.is_retryable(), "nothing is given up: {error:?}");
                let why = std::error::Error::source(&error).map(ToString::to_string);
                why.is_some_and(|why| why.contains(setting))
            }
            Ok(_) => false,
        })
        .await;
        assert_eq!(server.cli(&["CONFIG", "SET", setting, good]), "OK");
        servers::eventually("it is fit again", async || load().await.is_ok()).await;
    }
}

#[tokio::test]
async fn a_newer_store_is_refused_and_stays_as_it_is() {
    let server = Server::start(&[]);
    let key = "{thredcore:meta}:format";
    let connection = Connection::open(server.config()).await.expect("a new namespace");
    let current = server.cli(&["GET", key]);
    assert_eq!(connection.format().to_string(), current);
    server.cli(&["SET", key, "1000"]);
    let text = refusal(server.config()).await;
    for part in ["`thredcore`", "has format 1000", &current, "as new as the store"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(server.cli(&["GET", key]), "1000");
    // Before there was a number.
    RedisStorage::on(connection).await.expect("a storage");
    server.cli(&["DEL", key]);
    let text = refusal(server.config()).await;
    assert!(text.contains("has format 1,"), "{text}");
    assert!(text.contains("nothing was changed"), "{text}");
}

#[tokio::test]
async fn who_only_looks_makes_nothing() {
    let server = Server::start(&[]);
    let text = refusal(server.config().create(false)).await;
    assert!(text.contains("nothing is stored in the namespace `thredcore`"), "{text}");
    assert_eq!(server.cli(&["DBSIZE"]), "0");
    RedisStorage::open(server.config()).await.expect("a namespace");
    Connection::open(server.config().create(false)).await.expect("it is there");
}

#[test]
fn passwords_are_shown_nowhere() {
    for url in [
        "redis://ann:secret@host:1",
        "rediss://ann:secret@host:1/2",
        "redis+sentinel://ann:secret@a:1,b:2/main?sentinelUser=eve&sentinelPassword=secret",
        "redis+cluster://ann:secret@a:1,b:2",
    ] {
        let config = RedisConfig::new(url);
        let connection = Connection::unchecked(config.clone()).expect(url);
        for shown in [format!("{config:?}"), format!("{connection:?}"), format!("{connection:#?}")]
        {
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
    let wrong = [
        "http://ann:secret@host",
        "redis://ann:secret@host:port",
        "redis://ann:secret@host/x",
        "redis://ann:sec ret@host",
        "redis+cluster://ann:secret@a:x",
        "redis+sentinel://ann:secret@a:1",
        "redis+sentinel://ann:secret@a:1/main?sentinelPassword=secret&x=%",
        "ann:secret@host",
        "redis://ann:secret",
    ];
    for url in wrong {
        let Err(error) = Connection::unchecked(RedisConfig::new(url)) else { continue };
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("secret") && !shown.contains("ret@"), "{url}: {shown}");
    }
}

#[tokio::test]
async fn a_cluster_is_not_taken_for_a_server_nor_a_server_for_a_cluster() {
    let node = Server::start(&["--cluster-enabled", "yes"]);
    let text = refusal(node.config()).await;
    assert!(text.contains("redis+cluster://"), "{text}");
    let text = refusal(RedisConfig::new(format!("redis+cluster://127.0.0.1:{}", node.port))).await;
    assert!(text.contains("no node of the cluster has any slot"), "{text}");
    let server = Server::start(&[]);
    let url = format!("redis+cluster://127.0.0.1:{}", server.port);
    let text = refusal(RedisConfig::new(url)).await;
    assert!(text.contains("cluster support disabled"), "{text}");
}

#[tokio::test]
async fn a_replica_is_refused() {
    let master = Server::start(&[]);
    let port = master.port.to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]);
    let text = refusal(replica.config()).await;
    assert!(text.contains("its role is slave"), "{text}");
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address() {
    let port = servers::free_port();
    let text = refusal(RedisConfig::new(format!("redis://ann:secret@127.0.0.1:{port}"))).await;
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_user_needs_few_rights() {
    let server = Server::start(&[]);
    server.cli(&["ACL", "SETUSER", "blind", "on", ">pw", "~*", "&*", "+@all", "-info"]);
    let url = |user: &str| format!("redis://{user}@127.0.0.1:{}", server.port);
    let text = refusal(RedisConfig::new(url("blind:pw"))).await;
    assert!(text.contains("ACL SETUSER"), "{text}");
    let text = refusal(RedisConfig::new(url("blind:wrong"))).await;
    assert!(text.contains("user and password"), "{text}");

    // No CONFIG, no keys of others.
    let rights = ["+@read", "+@write", "+@scripting", "+@connection", "+info", "+publish"];
    let mut command = vec!["ACL", "SETUSER", "engine", "on", ">s%cret", "~{mine:*", "&mine:*"];
    command.extend(rights);
    assert_eq!(server.cli(&command), "OK");
    let config = RedisConfig::new(url("engine:s%25cret"));
    RedisStorage::open(config.clone().namespace("mine")).await.expect("enough rights");
    let error = RedisStorage::open(config.namespace("other")).await.expect_err("no rights");
    assert!(matches!(error, Error::Refused(_)), "{error}");
}

#[tokio::test]
async fn the_number_of_partitions_stays() {
    let server = Server::start(&[]);
    let config = server.config().partitions(8);
    RedisStorage::open(config.clone()).await.expect("the first");
    RedisStorage::open(config.clone()).await.expect("the same again");
    let error = RedisStorage::open(config.partitions(9)).await.expect_err("another number");
    assert!(error.to_string().contains("has 8 partitions, not 9; ask for 8"), "{error}");
}

#[tokio::test]
async fn tls_checks_the_certificate_and_shows_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let openssl = |args: &str| {
        let status = Command::new("openssl").args(args.split(' ')).current_dir(dir.path()).output();
        let output = status.expect("openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca");
    for name in ["server", "client"] {
        openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 2 \
             -subj /CN={name} -addext subjectAltName=DNS:localhost -CA ca.pem -CAkey ca.key \
             -addext basicConstraints=critical,CA:FALSE"
        ));
    }
    let path = |name: &str| dir.path().join(name).display().to_string();
    let read = |name: &str| std::fs::read(path(name)).expect(name);
    let port = servers::free_port();
    let server = Server::on(
        0,
        &[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &path("server.pem"),
            "--tls-key-file",
            &path("server.key"),
            "--tls-ca-cert-file",
            &path("ca.pem"),
        ],
    );
    let config = RedisConfig::new(format!("rediss://localhost:{port}"));
    let text = refusal(config.clone()).await;
    assert!(text.to_lowercase().contains("certificate"), "an unknown authority: {text}");
    let trusting = config.root_certificates(read("ca.pem"));
    refusal(trusting.clone()).await;
    let known = trusting.client_certificate(read("client.pem"), read("client.key"));
    RedisStorage::open(known).await.expect("both sides know each other");
    drop(server);
}
