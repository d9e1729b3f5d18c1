//! The list of the topics, which AMQP does not tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use thredlib::Topic;
use tokio::{sync::Mutex, time::Instant};

use crate::{AmqpError, list::List, publisher::Publisher, topology::Topology};

/// Topics, each with the times (minutes) that it has a queue of delayed messages for.
pub(crate) type Listed = BTreeMap<Topic, BTreeSet<u32>>;

/// A queue with a message for each topic, and for each of its delays. Who uses a topic that he does
/// not find there adds it; twice is harmless, and put right by who reads.
pub(crate) struct TopicList {
    topology: Arc<Topology>,
    publisher: Arc<Publisher>,
    /// What was read, and what this process has added since.
    view: Mutex<Option<View>>,
}

struct View {
    since: Instant,
    /// How often queues were gone then.
    forgotten: u64,
    listed: Listed,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Entry {
    topic: Topic,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    minutes: Option<u32>,
}

impl TopicList {
    pub(crate) fn new(topology: Arc<Topology>, publisher: Arc<Publisher>) -> Self {
        Self { topology, publisher, view: Mutex::new(None) }
    }

    /// Adds topics, if they are not there.
    pub(crate) async fn add(&self, topics: &[Topic]) -> Result<(), AmqpError> {
        self.enter(topics.iter().map(|topic| Entry { topic: topic.clone(), minutes: None })).await
    }

    /// Adds that a topic has messages that wait for a time, if it is not there.
    pub(crate) async fn add_delay(&self, topic: &Topic, minutes: u32) -> Result<(), AmqpError> {
        self.enter([Entry { topic: topic.clone(), minutes: Some(minutes) }]).await
    }

    async fn enter(&self, entries: impl IntoIterator<Item = Entry>) -> Result<(), AmqpError> {
        let mut view = self.view.lock().await;
        // When queues were gone, others may have taken topics off the list.
        let forgotten = *self.topology.forgotten().borrow();
        let View { listed, .. } = match &mut *view {
            Some(view) if view.forgotten == forgotten => view,
            old => {
                // Without a view there may be doubles.
                let read = self.read(None).await.unwrap_or_else(|error| {
                    tracing::debug!(%error, "the list of topics cannot be read");
                    Listed::new()
                });
                old.insert(self.view(read))
            }
        };
        let is_new = |entry: &Entry| match entry.minutes {
            None => !listed.contains_key(&entry.topic),
            Some(minutes) => !listed.get(&entry.topic).is_some_and(|it| it.contains(&minutes)),
        };
        let new: Vec<Entry> = entries.into_iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        let named = new.iter().map(|entry| (entry.topic.to_string(), entry));
        self.list()?.append(named).await?;
        for Entry { topic, minutes } in new {
            listed.entry(topic).or_default().extend(minutes);
        }
        Ok(())
    }

    /// All topics that there are, read just now.
    pub(crate) async fn all(&self) -> Result<Listed, AmqpError> {
        let mut view = self.view.lock().await;
        let read = self.read(None).await?;
        *view = Some(self.view(read.clone()));
        Ok(read)
    }

    /// The times that messages of a topic wait for, as of half a minute ago.
    pub(crate) async fn delays(&self, topic: &Topic) -> Result<BTreeSet<u32>, AmqpError> {
        const FRESH: Duration = Duration::from_secs(30);
        let mut view = self.view.lock().await;
        let view = match &mut *view {
            Some(view) if view.since.elapsed() < FRESH => view,
            old => {
                let read = self.read(None).await?;
                old.insert(self.view(read))
            }
        };
        Ok(view.listed.get(topic).cloned().unwrap_or_default())
    }

    /// Takes a topic off the list.
    pub(crate) async fn remove(&self, topic: &Topic) -> Result<(), AmqpError> {
        let mut view = self.view.lock().await;
        let read = self.read(Some(topic)).await?;
        *view = Some(self.view(read));
        Ok(())
    }

    fn view(&self, listed: Listed) -> View {
        let forgotten = *self.topology.forgotten().borrow();
        View { since: Instant::now(), forgotten, listed }
    }

    /// Reads the list, and takes one topic off it.
    async fn read(&self, without: Option<&Topic>) -> Result<Listed, AmqpError> {
        let entries = self.list()?.read(|entry: &Entry| without != Some(&entry.topic)).await?;
        let mut listed = Listed::new();
        for Entry { topic, minutes } in entries {
            listed.entry(topic).or_default().extend(minutes);
        }
        Ok(listed)
    }

    fn list(&self) -> Result<List, AmqpError> {
        let queue = self.topology.names().topics_queue()?;
        Ok(List::new(queue, "topics", self.topology.clone(), self.publisher.clone()))
    }
}
