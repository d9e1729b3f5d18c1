//! Servers that are not fit are refused, and the refusal says what mends it.

mod servers;

use std::process::Command;

use servers::Server;
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
