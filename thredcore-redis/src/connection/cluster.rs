//! A cluster: which node has which slot.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use redis::{ConnectionInfo, Value};
use tokio::time::{Duration, Instant};

use super::{node::Node, target};
use crate::{config::RedisConfig, error::Error, keys::SLOTS};

/// Least time between two looks at the cluster's slots.
const REFRESH_PAUSE: Duration = Duration::from_millis(50);

/// The nodes of a cluster and their slots, as last seen.
#[derive(Debug)]
pub(super) struct Cluster {
    seeds: Vec<ConnectionInfo>,
    config: RedisConfig,
    nodes: Mutex<HashMap<Address, Arc<Node>>>,
    slots: RwLock<Arc<Slots>>,
    refreshed: tokio::sync::Mutex<Option<Instant>>,
}

/// Host and port.
pub(super) type Address = (String, u16);

/// The master of each range of slots, by the last slot of the range.
#[derive(Debug, Default)]
struct Slots(Vec<(u16, u16, Address)>);

impl Slots {
    fn master(&self, slot: u16) -> Option<&Address> {
        let place = self.0.partition_point(|(_, last, _)| *last < slot);
        let (first, _, address) = self.0.get(place)?;
        (*first <= slot).then_some(address)
    }
}

impl Cluster {
    pub(super) fn new(config: &RedisConfig, seeds: Vec<ConnectionInfo>) -> Self {
        Self {
            seeds,
            config: config.clone(),
            nodes: Mutex::default(),
            slots: RwLock::default(),
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
        self.slots.read().unwrap_or_else(PoisonError::into_inner).master(slot).cloned()
    }

    /// The node at an address.
    pub(super) fn at(&self, address: &Address) -> Result<Arc<Node>, Error> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(address) {
            return Ok(node.clone());
        }
        let info = target::at(&self.seeds[0], &address.0, address.1);
        let node = Arc::new(Node::fixed(&self.config, info)?);
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
        let known = {
            let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner).clone();
            slots.0.iter().map(|(_, _, address)| address.clone()).collect::<Vec<_>>()
        };
        let seeds = self.seeds.iter().map(target::address);
        let mut candidates: Vec<Address> = vec![];
        for address in known.into_iter().chain(seeds) {
            if !candidates.contains(&address) {
                candidates.push(address);
            }
        }
        let mut last = Error::Config("the cluster URL names no node".into());
        for address in candidates {
            match self.ask(&address).await {
                Ok(slots) => {
                    self.learn(slots);
                    *refreshed = Some(Instant::now());
                    return Ok(());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask(&self, address: &Address) -> Result<Slots, Error> {
        let mut commands = redis::pipe();
        commands.cmd("CLUSTER").arg("SLOTS");
        let node = self.at(address)?;
        // A node that hangs must not keep us from asking the next one.
        let limit = self.config.connect_limit.saturating_mul(2);
        let answer = tokio::time::timeout(limit, node.send(0, false, &commands)).await;
        let answer = answer.map_err(|_| Error::Unreachable {
            address: format!("{}:{}", address.0, address.1),
            why: "it does not answer".into(),
        })??;
        let answer = answer.into_iter().next().unwrap_or(Value::Nil).extract_error();
        parse(&answer.map_err(|error| Error::from_server(&error))?, address)
    }

    fn learn(&self, slots: Slots) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let masters: Vec<_> = slots.0.iter().map(|(_, _, address)| address).collect();
        // What was sent to a node that is gone keeps its connection until it is answered.
        nodes.retain(|address, _| masters.contains(&address));
        *self.slots.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(slots);
    }

    /// The addresses of all masters that have slots.
    pub(super) async fn masters(&self) -> Result<Vec<Address>, Error> {
        self.refresh().await?;
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut masters: Vec<_> = slots.0.iter().map(|(_, _, address)| address.clone()).collect();
        masters.sort_unstable();
        masters.dedup();
        match masters.is_empty() {
            true => Err(nobody_has("any slot")),
            false => Ok(masters),
        }
    }
}

fn nobody_has(what: &str) -> Error {
    Error::NotNow(format!(
        "no node of the cluster has {what}; `redis-cli --cluster check` tells more"
    ))
}

/// Reads the answer to `CLUSTER SLOTS`. A node without a name of its own is at the address that was
/// asked.
fn parse(value: &Value, asked: &Address) -> Result<Slots, Error> {
    let malformed = || Error::Malformed(format!("CLUSTER SLOTS answered {value:?}"));
    let number = |value: &Value| match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    };
    let range = |value: &Value| {
        let Value::Array(range) = value else { return None };
        let [first, last, Value::Array(master), ..] = &**range else { return None };
        let [host, port, ..] = &**master else { return None };
        let host = match host {
            Value::BulkString(host) if !host.is_empty() => String::from_utf8(host.clone()).ok()?,
            _ => asked.0.clone(),
        };
        Some((number(first)?, number(last)?, (host, number(port)?)))
    };
    let Value::Array(ranges) = value else { return Err(malformed()) };
    let ranges: Option<Vec<_>> = ranges.iter().map(range).collect();
    let mut ranges = ranges.ok_or_else(malformed)?;
    if ranges.iter().any(|(first, last, _)| first > last || *last >= SLOTS) {
        return Err(malformed());
    }
    ranges.sort_unstable();
    Ok(Slots(ranges))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: &str, port: i64) -> Value {
        let bulk = |text: &str| Value::BulkString(text.into());
        let node = |host, port| Value::Array(vec![bulk(host), Value::Int(port), bulk("id")]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node(host, port), node("r", 9)])
    }

    #[test]
    fn slots_are_found_in_their_ranges() {
        let asked = ("asked".to_owned(), 1);
        let answer = Value::Array(vec![range(100, 200, "b", 2), range(0, 50, "", 3)]);
        let slots = parse(&answer, &asked).unwrap();
        let master = |slot| slots.master(slot).map(|(host, port)| (host.as_str(), *port));
        assert_eq!(master(0), Some(("asked", 3)));
        assert_eq!(master(50), Some(("asked", 3)));
        assert_eq!(master(51), None);
        assert_eq!(master(200), Some(("b", 2)));
        assert_eq!(master(201), None);
        assert!(parse(&Value::Array(vec![range(0, 16384, "a", 1)]), &asked).is_err());
        assert!(parse(&Value::Nil, &asked).is_err());
    }
}
