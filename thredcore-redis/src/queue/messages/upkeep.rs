//! What operators ask of topics, and what goes in time: dead letters, messages and topics.

use std::{sync::atomic::Ordering, time::Duration};

use redis::Value;
use thredcore::port::{DeadLetterFilter, Routed, TopicBacklog, Unreadable};
use thredlib::Topic;

use super::{Shared, topic::TopicLane};
use crate::{
    Error, Request,
    queue::{
        items::{self, Items, millis},
        letters::{self, LetterLimits, Letters, all_unreadable},
        scripts::{DELETE, EXPIRE, PURGE},
    },
};

impl Shared {
    /// All topics there are, whoever published to them.
    pub(super) async fn all_topics(&self) -> Result<Vec<TopicLane>, Error> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(&self.names);
        let mut names: Vec<String> = self.connection.ask(Request::read(&self.tag, command)).await?;
        names.sort();
        let namespace = &self.connection.config().namespace;
        let limits = self.letter_limits();
        let lane = |name: String| TopicLane::new(namespace, 0, &Topic::from(&*name), limits);
        Ok(names.into_iter().map(lane).collect())
    }

    pub(super) fn letter_limits(&self) -> LetterLimits {
        let (bytes, time) = (self.config.dead_letters_bytes, self.config.dead_letters_time);
        LetterLimits { bytes, time }
    }

    pub(super) fn count_dropped(&self, letters: u64) {
        self.dropped_letters.fetch_add(letters, Ordering::Relaxed);
    }

    /// Drops dead letters that are too old or too many.
    pub(super) async fn trim(&self, topics: &[TopicLane]) -> Result<(), Error> {
        let letters: Vec<Letters<'_>> = topics.iter().map(|topic| topic.items.letters()).collect();
        self.count_dropped(letters::trim(&self.connection, &letters).await?);
        Ok(())
    }

    /// The same, but not time and again.
    pub(super) async fn trim_now_and_then(&self) {
        if !self.trimmed.is_due() {
            return;
        }
        let trimmed = async { self.trim(&self.all_topics().await?).await };
        if let Err(error) = trimmed.await {
            tracing::debug!(%error, "cannot look at the dead letters of messages");
        }
    }

    pub(super) async fn remove(
        &self,
        filter: &DeadLetterFilter,
        redrive: bool,
    ) -> Result<usize, Error> {
        let topics = self.all_topics().await?;
        self.trim(&topics).await?;
        let letters: Vec<Letters<'_>> = topics.iter().map(|topic| topic.items.letters()).collect();
        let revive: letters::Revive<Routed> = |letter| {
            serde_json::to_vec(&letter.payload).map_err(|error| Error::Malformed(error.to_string()))
        };
        letters::remove(&self.connection, &letters, filter, redrive.then_some(revive)).await
    }

    pub(super) async fn unreadable(
        &self,
        limit: usize,
        take: bool,
    ) -> Result<Vec<Unreadable>, Error> {
        let topics = self.all_topics().await?;
        let letters: Vec<Letters<'_>> = topics.iter().map(|topic| topic.items.letters()).collect();
        all_unreadable::<Routed>(&self.connection, &letters, "message", limit, take).await
    }

    pub(super) async fn backlog(&self) -> Result<Vec<TopicBacklog>, Error> {
        let topics = self.all_topics().await?;
        let request = |topic: &TopicLane| topic.items.backlog(&topic.alive, self.config.visibility);
        let requests: Vec<_> = topics.iter().map(request).collect();
        let answers = self.connection.send(&requests).await.into_iter().zip(topics);
        let backlog = |(answer, topic): (Result<Value, Error>, TopicLane)| {
            Ok(TopicBacklog { topic: topic.name, backlog: items::backlog(answer?)? })
        };
        answers.map(backlog).collect()
    }

    pub(super) async fn purge(&self, topic: &TopicLane) -> Result<u64, Error> {
        let Items { tag, items, order, attempts, delayed, .. } = &*topic.items;
        let mut count = 0;
        loop {
            let request = Request::script(tag, &PURGE, &[items, order, attempts, delayed]);
            let (some, more): (u64, u8) = self.connection.ask(request).await?;
            count += some;
            if more == 0 {
                return Ok(count);
            }
        }
    }

    /// Removes a topic; with a time, only if it has been idle and empty for so long. Says how many
    /// messages it had, or, below zero, why it stays.
    pub(super) async fn delete(
        &self,
        topic: &TopicLane,
        idle: Option<Duration>,
    ) -> Result<i64, Error> {
        let Items { tag, items, order, held, attempts, delayed, waiting, last, dead, .. } =
            &*topic.items;
        let keys = [&**items, order, held, attempts, delayed, waiting, last, &topic.alive, dead];
        let request = Request::script(tag, &DELETE, &keys)
            .arg(millis(self.config.visibility))
            .arg(idle.map_or(-1, millis));
        let (count, letters): (i64, u64) = self.connection.ask(request).await?;
        // Whoever publishes to it again lists it again, within a minute.
        if count >= 0 && letters == 0 {
            let mut command = redis::cmd("SREM");
            command.arg(&self.names).arg(topic.name.as_str());
            self.connection.ask::<i64>(Request::write(&self.tag, command)).await?;
            self.listed.lock().remove(&topic.name);
        }
        Ok(count)
    }

    /// Moves messages to the dead letters that have waited for too long, and removes idle topics.
    pub(super) async fn expire(&self) -> Result<(), Error> {
        for topic in self.all_topics().await? {
            if let Some(ttl) = self.config.message_ttl {
                let items = &topic.items;
                let keys = [&*items.items, &items.order, &items.dead, &items.dead_bytes];
                let request = Request::script(&items.tag, &EXPIRE, &keys)
                    .arg(items.letter_limits.args())
                    .arg(millis(ttl));
                self.count_dropped(items.dropped(self.connection.ask(request).await?));
            }
            if let Some(time) = self.config.idle_expiry
                && self.delete(&topic, Some(time)).await? >= 0
            {
                tracing::debug!(topic = %topic.name, "removed an idle topic");
            }
        }
        Ok(())
    }
}
