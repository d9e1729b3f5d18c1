//! Lists at the broker of what AMQP does not tell.

use std::{collections::BTreeSet, sync::Arc};

use lapin::types::ShortString;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    AmqpError,
    browse::{Browsing, Purpose},
    cargo::json,
    declare::Declaring,
    publisher::{Parcel, Publisher},
    topology::Topology,
};

/// A queue with a message for each entry of a list. Entries that are there twice are harmless, and
/// put right by who reads.
pub(crate) struct List {
    queue: ShortString,
    /// What its lock is called.
    what: &'static str,
    topology: Arc<Topology>,
    publisher: Arc<Publisher>,
}

impl List {
    pub(crate) fn new(
        queue: ShortString,
        what: &'static str,
        topology: Arc<Topology>,
        publisher: Arc<Publisher>,
    ) -> Self {
        Self { queue, what, topology, publisher }
    }

    /// Adds entries, each with its name for people.
    pub(crate) async fn append<E: Serialize>(
        &self,
        entries: impl IntoIterator<Item = (String, E)>,
    ) -> Result<(), AmqpError> {
        let parcel = |(id, entry): (String, E)| {
            let body = json(&entry)?;
            Ok(Parcel { exchange: "".into(), key: self.queue.clone(), id, headers: None, body })
        };
        let parcels = entries.into_iter().map(parcel).collect::<Result<Vec<_>, AmqpError>>()?;
        self.publisher.publish(&parcels).await.into_iter().collect()
    }

    /// Reads the list; removes doubles, what cannot be read, and what does not stay.
    pub(crate) async fn read<E: DeserializeOwned + Ord>(
        &self,
        stays: impl Fn(&E) -> bool,
    ) -> Result<BTreeSet<E>, AmqpError> {
        let mut declaring = Declaring::on(&self.topology.link);
        let is_there = declaring.has_queue(&self.queue).await?;
        declaring.end().await;
        if !is_there {
            return Ok(BTreeSet::new());
        }
        let lock = self.topology.names().lock(&format!("look.{}", self.what))?;
        let link = &self.topology.link;
        let browsing = Browsing::start(link, &self.queue, lock, Purpose::Removing).await?;
        let Some(mut browsing) = browsing else { return Ok(BTreeSet::new()) };
        let (mut entries, mut surplus) = (BTreeSet::new(), Vec::new());
        let read = async {
            while let Some(delivery) = browsing.next().await? {
                let is_kept = match serde_json::from_slice::<E>(&delivery.data) {
                    Ok(entry) if stays(&entry) => entries.insert(entry),
                    _ => false,
                };
                if !is_kept {
                    surplus.push(delivery.delivery_tag);
                }
            }
            browsing.remove(surplus).await
        };
        let read = read.await;
        browsing.end().await;
        read.map(|()| entries)
    }
}
