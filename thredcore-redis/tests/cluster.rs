//! Slots that move and masters that fail, on a cluster of the test's own.

mod servers;

use std::{process::Command, sync::Arc, time::Duration};

use servers::{Server, eventually};
use thredcore::{
    conformance::samples,
    port::{Commit, Committed, ThredStore},
};
use thredcore_redis::{RedisConfig, RedisStorage, Tag};

/// Masters, and a replica for each if there are six.
struct Cluster(Vec<Server>);

impl Cluster {
    async fn start(nodes: usize, replicas: usize) -> Self {
        let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
        let nodes: Vec<_> = (0..nodes).map(|_| Server::start(&args)).collect();
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let mut command = Command::new("redis-cli");
        command.args(["--cluster", "create"]).args(addresses);
        command.args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"]);
        let output = command.output().expect("redis-cli");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let cluster = Self(nodes);
        eventually("a cluster", async || {
            cluster.0.iter().all(|node| node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
        })
        .await;
        cluster
    }

    fn config(&self) -> RedisConfig {
        let nodes: Vec<_> = self.0.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let url = format!("redis+cluster://{}", nodes.join(","));
        RedisConfig::new(url).partitions(4).reconnect_pause(Duration::from_millis(100))
    }

    /// The place of the master that has a slot.
    fn master(&self, slot: u16) -> usize {
        let owns = |node: &Server| {
            let nodes = node.cli(&["CLUSTER", "NODES"]);
            let own = nodes.lines().find(|line| line.contains("myself,master"));
            own.is_some_and(|line| {
                line.split(' ').skip(8).any(|range| {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    let number = |text: &str| text.parse::<u16>().ok();
                    number(first) <= Some(slot) && Some(slot) <= number(last)
                })
            })
        };
        self.0.iter().position(owns).expect("a master")
    }
}

fn step(id: &str, version: u64) -> Arc<Commit> {
    let mut state = samples::thred(id);
    while state.version < version {
        state = samples::next(&state);
    }
    Arc::new(samples::commit(state))
}

/// As the engine does: until each outcome is known. A conflict would be a lost or a second write.
async fn insist(storage: &RedisStorage, commits: &[Arc<Commit>]) {
    let mut open = commits.to_vec();
    eventually("all commits", async || {
        let answers = storage.commit(&open).await;
        let answers = open.drain(..).zip(answers).collect::<Vec<_>>();
        for (commit, answer) in answers {
            match answer {
                Ok(Committed::Applied | Committed::Duplicate) => {}
                Ok(Committed::Conflict) => panic!("a conflict: {commit:?}"),
                Err(error) if error.is_retryable() => open.push(commit),
                Err(error) => panic!("{error:?}"),
            }
        }
        open.is_empty()
    })
    .await;
}

fn batch(version: u64) -> Vec<Arc<Commit>> {
    (0..20).map(|number| step(&number.to_string(), version)).collect()
}

async fn versions(storage: &RedisStorage) -> Vec<u64> {
    let ids: Vec<_> = (0..20).map(|number: u32| number.to_string().into()).collect();
    let mut versions = vec![];
    eventually("all threds", async || {
        let Ok(loaded) = storage.load(&ids).await else { return false };
        versions = loaded.iter().map(|it| it.as_ref().map_or(0, |it| it.state.version)).collect();
        true
    })
    .await;
    versions
}

#[tokio::test]
async fn a_slot_that_moves_is_followed_and_nothing_is_lost() {
    let cluster = Cluster::start(3, 0).await;
    let storage = RedisStorage::open(cluster.config()).await.expect("a storage");
    insist(&storage, &batch(1)).await;
    let tag = Tag::partition("thredcore", 0);
    let slot = tag.slot().to_string();
    let from = &cluster.0[cluster.master(tag.slot())];
    let to = &cluster.0[(cluster.master(tag.slot()) + 1) % 3];
    let (from_id, to_id) = (from.cli(&["CLUSTER", "MYID"]), to.cli(&["CLUSTER", "MYID"]));
    assert_eq!(to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]), "OK");
    assert_eq!(from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]), "OK");
    let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "99"]);
    let keys: Vec<_> = keys.lines().collect();
    assert!(keys.len() > 2, "{keys:?}");
    let port = to.port.to_string();
    let moving = async {
        for key in keys {
            assert_eq!(from.cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]), "OK");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for node in [to, from] {
            assert_eq!(node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]), "OK");
        }
    };
    let committing = async {
        for version in 2..=30 {
            insist(&storage, &batch(version)).await;
        }
    };
    tokio::join!(moving, committing);
    assert_eq!(versions(&storage).await, [30; 20]);
    assert_eq!(to.cli(&["EXISTS", &tag.key("t")]), "1");
}

#[tokio::test]
async fn a_failed_master_is_replaced_and_no_confirmed_commit_is_lost() {
    let mut cluster = Cluster::start(6, 1).await;
    let config = cluster.config().wait(1, Duration::from_millis(500));
    let mut storage = None;
    eventually("replicas that confirm", async || {
        storage = RedisStorage::open(config.clone()).await.ok();
        storage.is_some()
    })
    .await;
    let storage = storage.expect("a storage");
    insist(&storage, &batch(1)).await;
    let master = cluster.master(Tag::partition("thredcore", 0).slot());
    cluster.0[master].kill();
    // Its replica has none of its own now: a wait for one would last for ever.
    let alone = RedisStorage::on(
        thredcore_redis::Connection::unchecked(cluster.config()).expect("a connection"),
    );
    let started = std::time::Instant::now();
    let mut fresh = Some(alone.await);
    eventually("a new master", async || {
        if fresh.as_ref().is_none_or(Result::is_err) {
            let connection = thredcore_redis::Connection::unchecked(cluster.config());
            fresh = Some(RedisStorage::on(connection.expect("a connection")).await);
        }
        let Some(Ok(storage)) = &fresh else { return false };
        storage
            .load(&(0..20).map(|it: u32| it.to_string().into()).collect::<Vec<_>>())
            .await
            .is_ok()
    })
    .await;
    assert!(started.elapsed() < Duration::from_secs(10), "back after {:?}", started.elapsed());
    let fresh = fresh.expect("a try").expect("a storage");
    assert_eq!(versions(&fresh).await, [1; 20]);
    insist(&fresh, &batch(2)).await;
    cluster.0[master].restart();
    insist(&storage, &batch(3)).await;
    assert_eq!(versions(&storage).await, [3; 20]);
}

#[tokio::test]
async fn a_wiped_or_foreign_first_node_is_passed_over() {
    let cluster = Cluster::start(3, 0).await;
    let wiped = Server::start(&["--cluster-enabled", "yes"]);
    let foreign = Cluster::start(3, 0).await;
    let config = |first: &Server| {
        let mut nodes = vec![first.port];
        nodes.extend(cluster.0.iter().map(|node| node.port));
        let nodes: Vec<_> = nodes.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut config = cluster.config();
        config.urls = vec![format!("redis+cluster://{}", nodes.join(","))];
        config
    };
    for (version, first) in [(1, &wiped), (2, &foreign.0[0])] {
        let storage = RedisStorage::open(config(first)).await.expect("a storage");
        insist(&storage, &batch(version)).await;
        assert_eq!(versions(&storage).await, [version; 20]);
    }
    for node in &foreign.0 {
        assert_eq!(node.cli(&["DBSIZE"]), "0");
    }
}
