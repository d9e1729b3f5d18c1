//! A cluster: which node has which slot.
//!
//! Nodes may be wrong about that: one was wiped, one was given to another cluster, one has been cut
//! off for a while. So several are asked, and a [map](Map) is taken only if it is whole.

use std::{collections::HashMap, sync::Arc};

use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::{Mutex, RwLock};
use redis::{ConnectionInfo, Value};
use tokio::time::{Duration, Instant};

use super::{
    map::{Choice, Map},
    node::Node,
    target,
};
use crate::{check::Watchful, config::RedisConfig, error::Error};

/// Least time between two looks at the cluster's slots.
const REFRESH_PAUSE: Duration = Duration::from_millis(50);

/// How many nodes are asked at the same time.
const ASKED: usize = 5;

/// The nodes of a cluster and their slots, as last seen.
#[derive(Debug)]
pub(super) struct Cluster {
    seeds: Vec<ConnectionInfo>,
    config: RedisConfig,
    watchful: Arc<Watchful>,
    nodes: Mutex<HashMap<Address, Arc<Node>>>,
    map: RwLock<Option<Arc<Map>>>,
    refreshed: tokio::sync::Mutex<Option<Instant>>,
}

/// Host and port.
pub(super) type Address = (String, u16);

impl Cluster {
    pub(super) fn new(
        config: &RedisConfig,
        watchful: &Arc<Watchful>,
        seeds: Vec<ConnectionInfo>,
    ) -> Self {
        Self {
            seeds,
            config: config.clone(),
            watchful: watchful.clone(),
            nodes: Mutex::default(),
            map: RwLock::default(),
            refreshed: tokio::sync::Mutex::default(),
        }
    }

    /// The node that has a slot, as far as is known.
    pub(super) async fn node(&self, slot: u16) -> Result<Arc<Node>, Error> {
        if let Some(address) = self.known(slot) {
            return self.at(&address);
        }
        self.refresh().await?;
        match self.known(slot) {
            Some(address) => self.at(&address),
            None => Err(nobody_has(&format!("slot {slot}"))),
        }
    }

    fn known(&self, slot: u16) -> Option<Address> {
        self.map()?.master(slot).cloned()
    }

    fn map(&self) -> Option<Arc<Map>> {
        self.map.read().clone()
    }

    /// The node at an address.
    pub(super) fn at(&self, address: &Address) -> Result<Arc<Node>, Error> {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.get(address) {
            return Ok(node.clone());
        }
        let info = target::at(&self.seeds[0], &address.0, address.1);
        let node = Arc::new(Node::fixed(&self.config, &self.watchful, info)?);
        nodes.insert(address.clone(), node.clone());
        Ok(node)
    }

    /// Asks the nodes who has which slots, unless somebody has just done so.
    pub(super) async fn refresh(&self) -> Result<(), Error> {
        let asked = Instant::now();
        let mut refreshed = self.refreshed.lock().await;
        if refreshed.is_some_and(|at| at + REFRESH_PAUSE > asked) {
            return Ok(());
        }
        let known = self.map();
        let masters = known.iter().flat_map(|map| map.masters());
        let seeds = self.seeds.iter().map(target::address);
        let mut candidates: Vec<Address> = vec![];
        for address in masters.chain(seeds) {
            if !candidates.contains(&address) {
                candidates.push(address);
            }
        }
        let mut last = Error::Config("the cluster URL names no node".into());
        for candidates in candidates.chunks(ASKED) {
            match self.ask(candidates, known.as_deref()).await {
                Ok(map) => {
                    self.learn(map);
                    *refreshed = Some(Instant::now());
                    return Ok(());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks some nodes, and takes the best of what they say.
    async fn ask(&self, addresses: &[Address], known: Option<&Map>) -> Result<Map, Error> {
        let mut asked: FuturesUnordered<_> =
            addresses.iter().map(|address| self.ask_one(address)).collect();
        let mut choice = Choice::new(known);
        let mut last = None;
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(map) => choice.add(map),
                Err(error) => last = Some(error),
            }
            // Those who hang need not be waited for, once it is known who belongs to the cluster.
            if known.is_some() && choice.usable() > addresses.len() / 2 {
                break;
            }
        }
        match (choice.is_empty(), last) {
            (true, Some(error)) => Err(error),
            _ => choice.best().map_err(Error::NotNow),
        }
    }

    async fn ask_one(&self, address: &Address) -> Result<Map, Error> {
        let mut commands = redis::pipe();
        commands.cmd("CLUSTER").arg("SLOTS");
        commands.cmd("CLUSTER").arg("NODES");
        let node = self.at(address)?;
        // A node that hangs must not keep us from hearing the others.
        let limit = self.config.connect_limit.saturating_mul(2);
        let answer = tokio::time::timeout(limit, node.send(0, false, &commands)).await;
        let answers = answer.map_err(|_| Error::Unreachable {
            address: format!("{}:{}", address.0, address.1),
            why: "it does not answer".into(),
        })??;
        let mut answers = answers.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil).extract_error();
        let slots = next().map_err(|error| Error::from_server(&error))?;
        // Who may not ask for the nodes has no epochs to compare.
        let nodes = next().ok().and_then(|nodes| redis::from_redis_value::<String>(nodes).ok());
        Map::parse(&slots, &nodes.unwrap_or_default(), address)
    }

    fn learn(&self, map: Map) {
        let mut nodes = self.nodes.lock();
        let masters: Vec<_> = map.masters().collect();
        // What was sent to a node that is gone keeps its connection until it is answered.
        nodes.retain(|address, _| masters.contains(address));
        *self.map.write() = Some(Arc::new(map));
    }

    /// The addresses of all masters that have slots.
    pub(super) async fn masters(&self) -> Result<Vec<Address>, Error> {
        self.refresh().await?;
        let mut masters: Vec<_> = self.map().iter().flat_map(|map| map.masters()).collect();
        masters.sort_unstable();
        masters.dedup();
        if masters.is_empty() { Err(nobody_has("any slot")) } else { Ok(masters) }
    }
}

fn nobody_has(what: &str) -> Error {
    Error::NotNow(format!(
        "no node of the cluster has {what}; `redis-cli --cluster check` tells more"
    ))
}
