//! The directory, on one server and on a cluster.

mod servers;

use std::{sync::Arc, time::Duration};

use serde_json::json;
use thredcore::port::{AddressResolver, Directory};
use thredcore_redis::{Connection, RedisConfig, RedisDirectory, Request, Tag};
use thredlib::ParticipantId;

async fn open(config: &RedisConfig) -> RedisDirectory {
    let connection = Connection::open(config.clone()).await;
    RedisDirectory::new(connection.unwrap_or_else(|error| panic!("{error}")))
}

/// Waits until a directory is so.
async fn until(resolver: &RedisDirectory, is_so: impl Fn(&Directory) -> bool) -> Arc<Directory> {
    let limit = Duration::from_secs(10);
    let waiting = async {
        loop {
            let directory = resolver.directory().await.expect("a directory");
            if is_so(&directory) {
                return directory;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(limit, waiting).await.expect("it never is")
}

fn ids<const N: usize>(names: [&str; N]) -> [ParticipantId; N] {
    names.map(ParticipantId::from)
}

async fn changes_are_seen(config: RedisConfig) {
    let (writer, reader) = (open(&config).await, open(&config).await.refresh(FAR));
    assert_eq!(*reader.directory().await.expect("a directory"), Directory::new());
    writer.put_group("ops", ["bob", "ann"]).await.expect("put");
    writer.put_role("admin", ["ann"]).await.expect("put");
    writer.add_service(&"org.wt.persistence".into()).await.expect("add");
    for (participant, node) in [("zoe", "node1"), ("ann", "node2"), ("ann", "node1")] {
        writer.open_session(participant, node, None).await.expect("open");
    }
    let directory = until(&reader, |it| it.session_nodes(&"ann".into()).len() == 2).await;
    assert_eq!(directory.group("ops"), Some(&ids(["bob", "ann"])[..]), "in order");
    assert!(directory.has_role(&"ann".into(), "admin"));
    assert!(directory.is_service(&"org.wt.persistence".into()));
    assert_eq!(directory.everyone(), ids(["zoe", "ann"]), "in the order of opening");
    assert_eq!(directory.session_nodes(&"ann".into()), ["node2", "node1"]);

    writer.remove_group("ops").await.expect("remove");
    writer.remove_role("admin").await.expect("remove");
    writer.remove_service(&"org.wt.persistence".into()).await.expect("remove");
    writer.close_session("zoe", "node1").await.expect("close");
    writer.close_session("zoe", "node1").await.expect("close twice");
    let directory = until(&reader, |it| it.everyone() == ids(["ann"])).await;
    assert_eq!((directory.group("ops"), directory.role("admin")), (None, None));
    assert!(directory.services().is_empty());
}

/// Later than any test.
const FAR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn changes_are_seen_on_one_server() {
    changes_are_seen(servers::own_namespace(servers::one())).await;
}

#[tokio::test]
async fn changes_are_seen_on_a_cluster() {
    changes_are_seen(servers::own_namespace(servers::cluster())).await;
}

#[tokio::test]
async fn sessions_end_unless_they_are_opened_again() {
    let config = servers::own_namespace(servers::one());
    let (writer, reader) = (open(&config).await, open(&config).await.refresh(FAR));
    let short = Some(Duration::from_millis(300));
    writer.open_session("ann", "node", short).await.expect("open");
    writer.open_session("bob", "node", short).await.expect("open");
    until(&reader, |it| it.everyone().len() == 2).await;
    let renewing = async {
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            writer.open_session("bob", "node", short).await.expect("open");
        }
    };
    let ends = async {
        let directory = until(&reader, |it| it.everyone().len() < 2).await;
        assert_eq!(directory.everyone(), ids(["bob"]));
    };
    futures::join!(renewing, ends);
    assert_eq!(reader.directory().await.expect("one").everyone(), ids(["bob"]));
    until(&reader, |it| it.everyone().is_empty()).await;
}

#[tokio::test]
async fn a_change_without_notice_is_seen() {
    let config = servers::own_namespace(servers::one());
    let reader = open(&config).await.refresh(Duration::from_millis(20));
    until(&reader, |it| it.everyone().is_empty()).await;
    let connection = Connection::open(config.clone()).await.expect("a connection");
    let tag = thredcore_redis::Tag::new(&config.namespace, "directory");
    for args in [
        vec!["HSET".into(), tag.key("groups"), "ops".into(), r#"["ann"]"#.into()],
        vec!["INCR".into(), tag.key("version")],
    ] {
        let mut command = redis::cmd(&args[0]);
        command.arg(&args[1..]);
        let request = thredcore_redis::Request::write(&tag, command);
        connection.ask::<redis::Value>(request).await.expect("done");
    }
    until(&reader, |it| it.is_member(&"ann".into(), "ops")).await;
}

#[tokio::test]
async fn a_whole_directory_is_put_in_place() {
    let config = servers::own_namespace(servers::one());
    let (writer, reader) = (open(&config).await, open(&config).await.refresh(FAR));
    writer.put_group("old", ["zoe"]).await.expect("put");
    let model = json!({
        "groups": {"a": ["ann", "bob"], "b": []}, "roles": {"r": ["bob"]},
        "services": ["org.wt.x", "org.wt.y"],
        "sessions": [{"participant": "bob", "node": "n2"}, {"participant": "ann", "node": "n1"}],
    });
    let whole: Directory = serde_json::from_value(model).expect("a directory");
    writer.replace(&whole).await.expect("replace");
    assert_eq!(*until(&reader, |it| it.everyone().len() == 2).await, whole);
    writer.open_session("zoe", "n3", None).await.expect("open");
    writer.replace(&Directory::new()).await.expect("replace");
    let empty = until(&reader, |it| it.group("a").is_none()).await;
    assert_eq!((empty.role("r"), empty.services().len()), (None, 0));
    assert_eq!(empty.everyone(), ids(["zoe"]), "the sessions of others stay");
}

#[tokio::test]
async fn without_a_server_nothing_is_known() {
    let config = RedisConfig::new("redis://127.0.0.1:1");
    let directory = RedisDirectory::new(Connection::unchecked(config).expect("a connection"));
    let error = directory.directory().await.expect_err("an error");
    assert!(error.is_retryable(), "{error:?}");
}

/// What a directory brought and the next one does not have is gone, whichever process gave it.
async fn what_a_file_has_no_more_is_gone(config: RedisConfig) {
    let given = |json| serde_json::from_value::<Directory>(json).expect("a directory");
    let first = open(&config).await;
    let before = json!({ "groups": { "ops": ["ann"] }, "roles": { "admin": ["ann"] },
        "sessions": ["ann", { "participant": "bob", "node": "node1" }] });
    first.replace(&given(before)).await.expect("replace");
    first.open_session("agent", "node2", None).await.expect("open");
    // Bob's node looks after his session itself from now on.
    first.open_session("bob", "node1", Some(Duration::from_secs(600))).await.expect("open");
    // Another process, as after a restart.
    let second = open(&config).await;
    second.replace(&given(json!({ "sessions": ["carol"] }))).await.expect("replace");
    let directory = second.directory().await.expect("a directory");
    assert_eq!((directory.group("ops"), directory.role("admin")), (None, None));
    assert_eq!(directory.everyone(), ids(["bob", "agent", "carol"]));
}

#[tokio::test]
async fn what_a_file_has_no_more_is_gone_on_one_server() {
    what_a_file_has_no_more_is_gone(servers::own_namespace(servers::one())).await;
}

#[tokio::test]
async fn what_a_file_has_no_more_is_gone_on_a_cluster() {
    what_a_file_has_no_more_is_gone(servers::own_namespace(servers::cluster())).await;
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_keeps_no_other_from_being_known() {
    let config = servers::own_namespace(servers::one());
    let directory = open(&config).await;
    directory.put_group("ops", ["ann"]).await.expect("put");
    directory.put_role("admin", ["ann"]).await.expect("put");
    directory.add_service(&"agent".into()).await.expect("add");
    directory.open_session("ann", "node", None).await.expect("open");
    let tag = Tag::new(&config.namespace, "directory");
    let mut bad = vec![];
    for (key, name, value) in [
        ("groups", &b"broken"[..], &b"{ no list"[..]),
        ("groups", b"\xff", b"[]"),
        ("roles", b"broken", b"[1, {}]"),
        ("services", b"\xfe", b""),
    ] {
        let mut command = redis::cmd("HSET");
        command.arg(tag.key(key)).arg(name).arg(value);
        bad.push(Request::write(&tag, command));
    }
    let mut command = redis::cmd("ZADD");
    command.arg(tag.key("sessions")).arg("+inf").arg("no session");
    bad.push(Request::write(&tag, command));
    let connection = Connection::open(config.clone()).await.expect("a connection");
    for answer in connection.send(&bad).await {
        answer.expect("written");
    }
    let read = open(&config).await.directory().await.expect("a directory");
    assert_eq!(read.group("ops"), Some(&ids(["ann"])[..]));
    assert_eq!(read.group("broken"), None);
    assert!(read.has_role(&"ann".into(), "admin") && read.is_service(&"agent".into()));
    assert_eq!(read.everyone(), ids(["ann"]));
}
