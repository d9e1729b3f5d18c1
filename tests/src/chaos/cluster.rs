//! A Redis cluster of a test's own: three masters, three replicas.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use futures::future::join_all;

use super::redis_server::{RedisServer, free_port};
use crate::seed::Dice;

/// Three pairs of servers, each a master and its replica, in whichever roles.
#[derive(Debug)]
pub struct Cluster {
    /// The servers of pair `n` are `n` and `n + 3`.
    nodes: Vec<RedisServer>,
    /// Slots that have been moved, and where to.
    moved: HashMap<u16, usize>,
}

const PAIRS: usize = 3;
const SLOTS: u16 = 16_384;

/// After this time a replica is asked again to take over.
const AGAIN: Duration = Duration::from_secs(3);

/// How long a change of the cluster may take until all of it agrees.
const AGREEMENT: Duration = Duration::from_secs(30);

impl Cluster {
    /// Starts a cluster whose nodes notice within a second that another is dead, and which lose
    /// nothing that they have confirmed, as long as it is on one of a pair.
    ///
    /// # Panics
    /// When there is no `redis-server`, or the cluster does not come together.
    pub async fn start() -> Self {
        let options = [
            ["--cluster-enabled", "yes"],
            ["--cluster-node-timeout", "1000"],
            ["--cluster-replica-validity-factor", "0"],
            ["--repl-diskless-sync-delay", "0"],
            ["--appendonly", "yes"],
            ["--appendfsync", "always"],
        ];
        let options = options.as_flattened();
        let nodes = (0..2 * PAIRS).map(|_| RedisServer::with(free_port(), options));
        let cluster = Self { nodes: join_all(nodes).await, moved: HashMap::new() };
        cluster.assemble().await;
        cluster
    }

    async fn assemble(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let epoch = (number + 1).to_string();
            self.order(node, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
            if number < PAIRS {
                let (first, last) = slots_of(number);
                let slots = [first.to_string(), last.to_string()];
                self.order(node, &["CLUSTER", "ADDSLOTSRANGE", &slots[0], &slots[1]]).await;
            }
            let first = self.nodes[0].port().to_string();
            self.order(node, &["CLUSTER", "MEET", "127.0.0.1", &first]).await;
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let known = async || {
                let nodes: String = node.ask(&["CLUSTER", "NODES"]).await.unwrap_or_default();
                nodes.lines().count() == 2 * PAIRS && !nodes.contains("handshake")
            };
            agree("the nodes know each other", known).await;
            if number >= PAIRS {
                let master = id_of(&self.nodes[number - PAIRS]).await;
                self.order(node, &["CLUSTER", "REPLICATE", &master]).await;
            }
        }
        for pair in 0..PAIRS {
            self.whole(pair).await;
        }
    }

    /// How it is reached.
    pub fn url(&self) -> String {
        let nodes = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port()));
        format!("redis+cluster://{}", nodes.collect::<Vec<_>>().join(","))
    }

    /// Has a replica take over from its master, at the master's word or after its death; the dead
    /// one comes back as the replica.
    ///
    /// # Panics
    /// When nobody takes over.
    pub async fn fail_over(&mut self, dice: &mut Dice) {
        let pair = dice.pick(PAIRS);
        let (master, replica) = self.roles(pair).await;
        let killed = dice.below(2) == 1;
        println!("pair {pair}: {}", if killed { "the master is killed" } else { "hands over" });
        if killed {
            self.nodes[master].kill();
        }
        let begin = Instant::now();
        let mut asked: Option<Instant> = None;
        agree("the replica takes over", async || {
            // The others may refuse at first: they vote for a pair once in a while only.
            if !killed && asked.is_none_or(|at| at.elapsed() > AGAIN) {
                asked = Some(Instant::now());
                let node = &self.nodes[replica];
                let _ = node.ask::<redis::Value>(&["CLUSTER", "FAILOVER"]).await;
            }
            is(&self.nodes[replica], "role", "master").await
        })
        .await;
        println!("pair {pair}: taken over after {:?}", begin.elapsed());
        if killed {
            self.nodes[master].restart().await;
        }
    }

    /// Wipes a node: it comes back on its port as a stranger, with no keys and no slots. Where it was
    /// the master, its replica has taken over before.
    ///
    /// # Panics
    /// When nobody takes over.
    pub async fn wipe(&mut self, node: usize) {
        let (master, _) = self.roles(node % PAIRS).await;
        let partner = (node + PAIRS) % (2 * PAIRS);
        println!("node {node} is wiped, the {}", if master == node { "master" } else { "replica" });
        self.nodes[node].kill();
        let mut asked = Instant::now();
        agree("the partner is the master", async || {
            let partner = &self.nodes[partner];
            // It is given up after a try that the others have refused.
            if asked.elapsed() > AGAIN {
                asked = Instant::now();
                let _ = partner.ask::<redis::Value>(&["CLUSTER", "FAILOVER", "FORCE"]).await;
            }
            is(partner, "role", "master").await
        })
        .await;
        self.nodes[node].wipe().await;
    }

    /// How many keys a node has.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn keys_of(&self, node: usize) -> u64 {
        self.nodes[node].ask(&["DBSIZE"]).await.expect("a count")
    }

    /// Takes a node that was wiped in again, as the replica of its pair.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn take_in(&self, node: usize) {
        let (new, partner) = (&self.nodes[node], &self.nodes[(node + PAIRS) % (2 * PAIRS)]);
        let port = partner.port().to_string();
        self.order(new, &["CLUSTER", "MEET", "127.0.0.1", &port]).await;
        let master = id_of(partner).await;
        agree("the node is the replica", async || {
            // It is refused until the two know each other.
            new.ask::<redis::Value>(&["CLUSTER", "REPLICATE", &master]).await.is_ok()
        })
        .await;
        self.whole(node % PAIRS).await;
        let id = id_of(new).await;
        for node in &self.nodes {
            agree("all know the replica", async || {
                let nodes: String = node.ask(&["CLUSTER", "NODES"]).await.unwrap_or_default();
                let mut lines = nodes.lines();
                lines.any(|line| {
                    line.starts_with(&id) && line.contains("slave") && !line.contains("fail")
                })
            })
            .await;
        }
    }

    /// Waits until a pair is a master and a replica that has caught up, in the eyes of all.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn whole(&self, pair: usize) {
        agree("a pair is whole", async || {
            let [one, other] = [&self.nodes[pair], &self.nodes[pair + PAIRS]];
            let linked = async |node| is(node, "master_link_status", "up").await;
            let one_leads = is(one, "role", "master").await && linked(other).await;
            one_leads || is(other, "role", "master").await && linked(one).await
        })
        .await;
        for node in &self.nodes {
            agree("the cluster is well", async || {
                let info: String = node.ask(&["CLUSTER", "INFO"]).await.unwrap_or_default();
                info.contains("cluster_state:ok")
            })
            .await;
        }
    }

    /// A key of each hash tag that is in use, sorted.
    ///
    /// # Panics
    /// When a master does not answer.
    pub async fn tags(&self) -> Vec<String> {
        let mut tags = BTreeSet::new();
        for pair in 0..PAIRS {
            let (master, _) = self.roles(pair).await;
            let keys: Vec<String> = self.nodes[master].ask(&["KEYS", "*"]).await.expect("keys");
            let tag = |key: &String| Some(format!("{}}}", key.split_once('}')?.0));
            tags.extend(keys.iter().filter_map(tag));
        }
        tags.into_iter().collect()
    }

    /// Waits until all pairs are whole.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn all_whole(&self) {
        for pair in 0..PAIRS {
            self.whole(pair).await;
        }
    }

    /// Sets a key where it belongs.
    ///
    /// # Panics
    /// When that fails.
    pub async fn set(&self, key: &str, value: &str) {
        let (_, pair) = self.place(key).await;
        let (master, _) = self.roles(pair).await;
        self.order(&self.nodes[master], &["SET", key, value]).await;
    }

    /// The slot of a key, and the pair that has it.
    async fn place(&self, key: &str) -> (u16, usize) {
        let slot: u16 = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]).await.expect("a slot");
        (slot, *self.moved.get(&slot).unwrap_or(&pair_of(slot)))
    }

    /// Moves the slot of a key to another pair, key by key, while it is in use; says how many keys
    /// there were.
    ///
    /// # Panics
    /// When a step fails.
    pub async fn migrate(&mut self, key: &str) -> usize {
        let (slot, from) = self.place(key).await;
        let to = (from + 1) % PAIRS;
        let (source, _) = self.roles(from).await;
        let (target, _) = self.roles(to).await;
        let (source, target) = (&self.nodes[source], &self.nodes[target]);
        let (source_id, target_id) = (id_of(source).await, id_of(target).await);
        let slot_text = slot.to_string();
        self.order(target, &["CLUSTER", "SETSLOT", &slot_text, "IMPORTING", &source_id]).await;
        self.order(source, &["CLUSTER", "SETSLOT", &slot_text, "MIGRATING", &target_id]).await;
        let port = target.port().to_string();
        let mut count = 0;
        loop {
            let keys: Vec<String> =
                source.ask(&["CLUSTER", "GETKEYSINSLOT", &slot_text, "1"]).await.expect("keys");
            let Some(key) = keys.first() else { break };
            count += 1;
            self.order(source, &["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
            // The slot is in two places for a while.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("slot {slot} moved from pair {from} to {to}, {count} keys");
        let masters = [target, source];
        for node in masters {
            self.order(node, &["CLUSTER", "SETSLOT", &slot_text, "NODE", &target_id]).await;
        }
        self.moved.insert(slot, to);
        count
    }

    /// The master and the replica of a pair.
    async fn roles(&self, pair: usize) -> (usize, usize) {
        self.whole(pair).await;
        if is(&self.nodes[pair], "role", "master").await {
            (pair, pair + PAIRS)
        } else {
            (pair + PAIRS, pair)
        }
    }

    async fn order(&self, node: &RedisServer, words: &[&str]) {
        let answer = node.ask::<redis::Value>(words).await;
        answer.unwrap_or_else(|error| panic!("{words:?} on port {}: {error}", node.port()));
    }
}

fn slots_of(pair: usize) -> (u16, u16) {
    let edge = |pair: usize| u16::try_from(usize::from(SLOTS) * pair / PAIRS).unwrap_or(SLOTS);
    (edge(pair), edge(pair + 1) - 1)
}

fn pair_of(slot: u16) -> usize {
    (0..PAIRS).find(|pair| slot <= slots_of(*pair).1).unwrap_or(0)
}

async fn id_of(node: &RedisServer) -> String {
    node.ask(&["CLUSTER", "MYID"]).await.expect("an id")
}

async fn is(node: &RedisServer, name: &str, value: &str) -> bool {
    node.info_text("replication", name).await.as_deref() == Some(value)
}

async fn agree(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !done().await {
        assert!(begin.elapsed() < AGREEMENT, "waited {AGREEMENT:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_of_one_pair() {
        assert_eq!(slots_of(0).0, 0);
        assert_eq!(slots_of(2).1, SLOTS - 1);
        for pair in 0..PAIRS {
            let (first, last) = slots_of(pair);
            assert_eq!((pair_of(first), pair_of(last)), (pair, pair));
        }
    }
}
