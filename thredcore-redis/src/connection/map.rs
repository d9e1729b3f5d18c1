//! What a node says of who has which slot, and whom to believe.

use std::collections::HashSet;

use redis::Value;

use super::cluster::Address;
use crate::{error::Error, keys::SLOTS};

/// Who has which slot, as one node says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Map {
    /// Ranges of slots and their masters, in order.
    ranges: Vec<(u16, u16, Address)>,
    /// The ids of all nodes in it: what makes it this cluster's.
    nodes: HashSet<String>,
    /// The latest change of a master that the node has heard of.
    epoch: u64,
    /// Who says so.
    source: Address,
}

impl Map {
    /// Reads the answers to `CLUSTER SLOTS` and `CLUSTER NODES`. A node without a name of its own is
    /// at the address that was asked.
    pub(super) fn parse(slots: &Value, nodes: &str, asked: &Address) -> Result<Self, Error> {
        let malformed = || Error::Malformed(format!("CLUSTER SLOTS answered {slots:?}"));
        let Value::Array(answer) = slots else { return Err(malformed()) };
        let mut map = Self { source: asked.clone(), epoch: epoch(nodes), ..Self::default() };
        for range in answer {
            let range = map.range(range, asked).ok_or_else(malformed)?;
            if range.0 > range.1 || range.1 >= SLOTS {
                return Err(malformed());
            }
            map.ranges.push(range);
        }
        map.ranges.sort_unstable();
        Ok(map)
    }

    fn range(&mut self, range: &Value, asked: &Address) -> Option<(u16, u16, Address)> {
        let Value::Array(range) = range else { return None };
        let [first, last, nodes @ ..] = &**range else { return None };
        let mut master = None;
        for node in nodes {
            let Value::Array(node) = node else { return None };
            let [host, port, rest @ ..] = &**node else { return None };
            if let Some(Value::BulkString(id)) = rest.first() {
                self.nodes.insert(String::from_utf8(id.clone()).ok()?);
            }
            let host = match host {
                Value::BulkString(host) if !host.is_empty() => {
                    String::from_utf8(host.clone()).ok()?
                }
                _ => asked.0.clone(),
            };
            master.get_or_insert((host, number(port)?));
        }
        Some((number(first)?, number(last)?, master?))
    }

    pub(super) fn master(&self, slot: u16) -> Option<&Address> {
        let place = self.ranges.partition_point(|(_, last, _)| *last < slot);
        let (first, _, address) = self.ranges.get(place)?;
        (*first <= slot).then_some(address)
    }

    /// Of each range.
    pub(super) fn masters(&self) -> impl Iterator<Item = Address> + '_ {
        self.ranges.iter().map(|(_, _, address)| address.clone())
    }

    /// How many slots somebody has.
    fn covered(&self) -> usize {
        let mut next = 0;
        let mut covered = 0;
        for (first, last, _) in &self.ranges {
            let first = usize::from(*first).max(next);
            covered += (usize::from(*last) + 1).saturating_sub(first);
            next = next.max(usize::from(*last) + 1);
        }
        covered
    }

    /// Whether it is of the same cluster.
    fn is_akin(&self, other: &Self) -> bool {
        // Nodes have had ids for long; a server without is believed.
        self.nodes.is_empty() || other.nodes.is_empty() || !self.nodes.is_disjoint(&other.nodes)
    }

    fn source(&self) -> String {
        format!("{}:{}", self.source.0, self.source.1)
    }
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

/// The highest epoch of a master with slots. The current epoch of the cluster would not do: a node
/// that is cut off raises its own with each election that it loses.
fn epoch(nodes: &str) -> u64 {
    let epochs = nodes.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(2);
        let flags = fields.next()?;
        let epoch = fields.nth(3)?.parse().ok()?;
        let has_slots = fields.nth(1).is_some();
        (has_slots && flags.split(',').any(|flag| flag == "master")).then_some(epoch)
    });
    epochs.max().unwrap_or_default()
}

/// What several nodes say.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    known: Option<&'a Map>,
    said: Vec<Map>,
}

impl<'a> Choice<'a> {
    /// Of the cluster that is known, if one is.
    pub(super) fn new(known: Option<&'a Map>) -> Self {
        Self { known, said: vec![] }
    }

    pub(super) fn add(&mut self, map: Map) {
        self.said.push(map);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// How many maps are whole and of the cluster.
    pub(super) fn usable(&self) -> usize {
        self.whole().filter(|map| self.known.is_none_or(|known| known.is_akin(map))).count()
    }

    fn whole(&self) -> impl Iterator<Item = &Map> {
        self.said.iter().filter(|map| map.covered() == usize::from(SLOTS))
    }

    /// The map of the most recent epoch among those that are whole and of the cluster; of the one
    /// that most nodes belong to, if none is known yet. The error says why there is none.
    pub(super) fn best(self) -> Result<Map, String> {
        let whole: Vec<_> = self.whole().collect();
        if whole.is_empty() {
            let covered = self.said.iter().map(Map::covered).max().unwrap_or_default();
            return Err(match covered {
                0 => "no node of the cluster has any slot; `redis-cli --cluster check` tells more"
                    .to_owned(),
                _ => format!(
                    "nodes of the cluster have {covered} of its {SLOTS} slots; \
                     `redis-cli --cluster check` tells more"
                ),
            });
        }
        let akin: Vec<&Map> = match self.known {
            Some(known) => whole.iter().copied().filter(|map| known.is_akin(map)).collect(),
            None => Self::majority(&whole)?,
        };
        // Of equals the first.
        let best = akin.into_iter().rev().max_by_key(|map| map.epoch);
        best.cloned().ok_or_else(|| {
            let source = whole[0].source();
            format!(
                "the node at {source} belongs to another cluster now, and no other one answers; \
                 if that is meant, start this process again"
            )
        })
    }

    /// Those who belong together, if they are more than any others.
    fn majority<'m>(whole: &[&'m Map]) -> Result<Vec<&'m Map>, String> {
        let akin = |map: &Map| -> Vec<&'m Map> {
            whole.iter().copied().filter(|other| other.is_akin(map)).collect()
        };
        let mut largest: Vec<&Map> = vec![];
        for map in whole {
            let group = akin(map);
            if group.len() > largest.len() {
                largest = group;
            }
        }
        let rival = whole.iter().find(|map| {
            !largest.iter().any(|one| one.is_akin(map)) && akin(map).len() == largest.len()
        });
        match (rival, largest.first()) {
            (Some(rival), Some(one)) => Err(format!(
                "the nodes at {} and {} belong to different clusters; name those of one",
                one.source(),
                rival.source()
            )),
            _ => Ok(largest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: &str, port: i64, id: &str) -> Value {
        let bulk = |text: &str| Value::BulkString(text.into());
        let node =
            |host, port, id: &str| Value::Array(vec![bulk(host), Value::Int(port), bulk(id)]);
        let replica = node("r", 9, &format!("replica of {id}"));
        Value::Array(vec![Value::Int(first), Value::Int(last), node(host, port, id), replica])
    }

    fn said(source: &str, ranges: &[(i64, i64, &str)], epoch: u64) -> Map {
        let asked = (source.to_owned(), 1);
        let answer = ranges.iter().map(|(first, last, id)| range(*first, *last, id, 1, id));
        let nodes = format!("a x:1@1 myself,master - 0 0 {epoch} connected 0-1\n");
        Map::parse(&Value::Array(answer.collect()), &nodes, &asked).unwrap()
    }

    #[test]
    fn slots_are_found_in_their_ranges() {
        let asked = ("asked".to_owned(), 1);
        let answer = Value::Array(vec![range(100, 200, "b", 2, "b"), range(0, 50, "", 3, "a")]);
        let map = Map::parse(&answer, "", &asked).unwrap();
        let master = |slot| map.master(slot).map(|(host, port)| (host.as_str(), *port));
        assert_eq!(master(0), Some(("asked", 3)));
        assert_eq!(master(50), Some(("asked", 3)));
        assert_eq!(master(51), None);
        assert_eq!(master(200), Some(("b", 2)));
        assert_eq!(master(201), None);
        assert_eq!(map.covered(), 51 + 101);
        let parse = |answer: &Value| Map::parse(answer, "", &asked);
        assert!(parse(&Value::Array(vec![range(0, 16384, "a", 1, "a")])).is_err());
        assert!(parse(&Value::Array(vec![range(9, 8, "a", 1, "a")])).is_err());
        assert!(parse(&Value::Nil).is_err());
    }

    #[test]
    fn the_epoch_is_that_of_a_master_with_slots() {
        let nodes = "07c3 127.0.0.1:30004@31004,host slave e7d1 0 1426238317239 9 connected\n\
            67ed 127.0.0.1:30002@31002 master - 0 1426238316232 2 connected 5461-10922\n\
            292f 127.0.0.1:30003@31003 master - 0 1426238318243 8 connected\n\
            e7d1 127.0.0.1:30001@31001 myself,master - 0 0 4 connected 0-5460 [93-<-292f]\n";
        assert_eq!(epoch(nodes), 4);
        assert_eq!(epoch("nonsense"), 0);
    }

    #[test]
    fn a_map_is_taken_only_if_it_is_whole() {
        let mut choice = Choice::new(None);
        choice.add(said("wiped", &[], 9));
        choice.add(said("partial", &[(0, 8000, "a")], 9));
        choice.add(said("whole", &[(0, 8000, "a"), (8001, 16383, "b")], 3));
        assert_eq!(choice.best().unwrap().source(), "whole:1");
        let mut choice = Choice::new(None);
        choice.add(said("partial", &[(0, 8000, "a"), (7000, 9000, "b")], 9));
        let error = choice.best().unwrap_err();
        assert!(error.contains("have 9001 of its 16384 slots"), "{error}");
    }

    #[test]
    fn the_most_recent_epoch_is_taken() {
        let mut choice = Choice::new(None);
        for (source, epoch, master) in [("cut off", 3, "a"), ("new", 7, "b"), ("old", 5, "a")] {
            choice.add(said(source, &[(0, 9, master), (10, 16383, "c")], epoch));
        }
        assert_eq!(choice.best().unwrap().source(), "new:1");
    }

    #[test]
    fn a_node_of_another_cluster_is_passed_over() {
        let ours = |source, epoch| said(source, &[(0, 9, "a"), (10, 16383, "b")], epoch);
        let foreign = || said("foreign", &[(0, 16383, "x")], 100);
        // At the start most nodes decide.
        let mut choice = Choice::new(None);
        for map in [foreign(), ours("one", 3), ours("two", 4)] {
            choice.add(map);
        }
        let known = choice.best().unwrap();
        assert_eq!(known.source(), "two:1");
        let mut choice = Choice::new(None);
        choice.add(foreign());
        choice.add(ours("one", 3));
        let error = choice.best().unwrap_err();
        assert!(error.contains("foreign:1 and one:1 belong to different clusters"), "{error}");
        // Later it is known which cluster is meant.
        let mut choice = Choice::new(Some(&known));
        choice.add(foreign());
        assert_eq!(choice.usable(), 0);
        choice.add(ours("one", 3));
        assert_eq!(choice.usable(), 1);
        assert_eq!(choice.best().unwrap().source(), "one:1");
        let mut choice = Choice::new(Some(&known));
        choice.add(foreign());
        let error = choice.best().unwrap_err();
        assert!(error.contains("foreign:1 belongs to another cluster now"), "{error}");
    }
}
