//! What operators ask of the queue, and how dead letters go in time.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
};

use redis::Value;
use thredcore::port::{Backlog, DeadLetter, Inbound, Redriven};

use super::{Shared, partition::Partition};
use crate::{
    Error, Request,
    queue::{
        items,
        letters::{self, Letters},
    },
};

impl Shared {
    pub(super) fn letters(&self) -> Vec<Letters<'_>> {
        self.partitions.iter().map(|partition| partition.items.letters()).collect()
    }

    /// Drops dead letters that are too old or too many.
    pub(super) async fn trim(&self) -> Result<(), Error> {
        self.count_dropped(letters::trim(&self.connection, &self.letters()).await?);
        Ok(())
    }

    /// The same, but not time and again.
    pub(super) async fn trim_now_and_then(&self) {
        if self.trimmed.is_due()
            && let Err(error) = self.trim().await
        {
            tracing::debug!(%error, "cannot look at the dead letters of events");
        }
    }

    pub(super) fn count_dropped(&self, letters: u64) {
        self.dropped_letters.fetch_add(letters, Ordering::Relaxed);
    }

    pub(super) async fn backlog(&self) -> Result<Vec<Backlog>, Error> {
        let mut members = redis::cmd("ZRANGE");
        members.arg(&self.consumers).arg(0).arg(-1);
        let members: HashSet<String> =
            self.connection.ask(Request::read(&self.tag, members)).await?;
        let mut requests = vec![];
        for Partition { items, owner, .. } in &self.partitions {
            // Who is alive stands elsewhere.
            requests.push(items.backlog(&items.tag.key("c"), self.config.lease));
            let mut command = redis::cmd("GET");
            command.arg(owner);
            requests.push(Request::read(&items.tag, command));
        }
        let answers = self.connection.send(&requests).await;
        let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let backlog = |pair: &[Value]| {
            let owner = match &pair[1] {
                Value::BulkString(owner) => str::from_utf8(owner).unwrap_or_default(),
                _ => "",
            };
            let name = owner.rsplit_once(':').map_or("", |(name, _)| name);
            let consumers = Some(u32::from(members.contains(name)));
            Ok(Backlog { consumers, dead_letters: 0, ..items::backlog(pair[0].clone())? })
        };
        answers.chunks_exact(2).map(backlog).collect()
    }
}

/// An event as it leaves the dead letters.
pub(super) fn revived(letter: &DeadLetter<Inbound>) -> Result<Vec<u8>, Error> {
    let mut item = letter.payload.clone();
    if let Inbound::Event(accepted) = &mut item {
        let redriven = Redriven { times: letter.times, moved: letter.moved.clone() };
        accepted.redriven = Some(Arc::new(redriven));
    }
    serde_json::to_vec(&item).map_err(|error| Error::Malformed(error.to_string()))
}
