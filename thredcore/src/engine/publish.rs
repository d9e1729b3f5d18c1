//! Publishing: emptying outboxes, in each thred's order.

use std::{pin::pin, sync::Arc};

use futures::future::try_join_all;
use thredlib::{Message, PatternId, ThredId, Topic};
use tokio::time::timeout;

use super::{
    Engine, Stopped,
    batch::Batch,
    commit::Published,
    topics::{TOPIC_FULL, TopicState},
};
use crate::port::{
    Cleared, Inbound, OutboxEntry, Outgoing, PendingOutbox, PortError, PortErrorKind, REJECTED,
    Routed, describe,
};

const LOST: &str = "the queue refuses its dead letter too";

/// How a message fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is in the queue, or among the dead letters.
    Done,
    /// Its topic is full; it stays in the outbox.
    Parked,
}

impl Engine {
    /// Publishes what the threds of a round have put out.
    pub(super) async fn publish_all(
        &self,
        batch: &mut Batch,
        mut published: Vec<Published>,
    ) -> Result<(), Stopped> {
        for thred in std::mem::take(&mut batch.unpublished) {
            if let Some(loaded) = batch.held.get_mut(&thred) {
                published.push(Published::of(thred, std::mem::take(&mut loaded.outbox)));
            }
        }
        published.retain(|it| it.entries().next().is_some());
        if !published.is_empty() {
            for (thred, parked) in self.publish_outboxes(published).await? {
                // What the thred sends next goes behind these.
                if let Some(loaded) = batch.held.get_mut(&thred) {
                    loaded.outbox = parked;
                }
            }
        }
        batch.outgoing = None;
        Ok(())
    }

    /// Publishes outboxes and clears them; insists until all of it is confirmed, or parked because its
    /// topic is full. Gives what is parked, by thred.
    pub(super) async fn publish_outboxes(
        &self,
        outboxes: Vec<Published>,
    ) -> Result<Vec<(ThredId, Vec<OutboxEntry>)>, Stopped> {
        let mut messages = Vec::with_capacity(outboxes.len());
        let mut owners = Vec::with_capacity(outboxes.len());
        let mut commands: Vec<Inbound> = Vec::new();
        let mut places: Vec<(PatternId, ThredId)> = Vec::new();
        let mut cleared: Vec<Cleared> = Vec::with_capacity(outboxes.len());
        for (number, outbox) in outboxes.iter().enumerate() {
            let mut published = Vec::with_capacity(outbox.entries().count());
            for (place, entry) in outbox.entries().enumerate() {
                match &entry.outgoing {
                    Outgoing::Message { topic, message } => {
                        messages.push((topic, message));
                        owners.push((number, entry, place < outbox.older.len()));
                        continue;
                    }
                    Outgoing::Command(command) => commands.push(Inbound::Command(command.clone())),
                    Outgoing::Release(pattern) => {
                        places.push((pattern.clone(), outbox.thred.clone()))
                    }
                }
                published.push(entry.id.clone());
            }
            let thred = outbox.thred.clone();
            cleared.push(Cleared { thred, published, parked: Vec::new() });
        }
        let threds: Vec<ThredId> = cleared.iter().map(|it| it.thred.clone()).collect();
        let mut publishing = pin!(async {
            let ends = self.publish_messages(&messages, |number| owners[number].2).await?;
            let mut parked: Vec<(ThredId, Vec<OutboxEntry>)> = Vec::new();
            for ((number, entry, _), end) in owners.into_iter().zip(ends) {
                let cleared = &mut cleared[number];
                match end {
                    Sent::Done => cleared.published.push(entry.id.clone()),
                    Sent::Parked => {
                        cleared.parked.push(entry.id.clone());
                        match parked.last_mut().filter(|(thred, _)| *thred == cleared.thred) {
                            Some((_, entries)) => entries.push(entry.clone()),
                            None => parked.push((cleared.thred.clone(), vec![entry.clone()])),
                        }
                    }
                }
            }
            self.publish_commands(commands).await?;
            if !places.is_empty() {
                self.insist(|| self.storage().release(&places)).await?;
            }
            self.insist(|| self.storage().clear_outbox(&cleared)).await?;
            Ok(parked)
        });
        // A queue that fails may hold this up for long, and the relay must not take it for
        // forgotten.
        match timeout(self.config().relay_age / 2, &mut publishing).await {
            Ok(published) => published,
            Err(_) => {
                let _publishing = self.publishing(threds);
                publishing.await
            }
        }
    }

    /// Publishes messages, in order. Those that fail are tried again, with all later ones of their
    /// topics, before anything else; those whose topic is full are left where they are; those that
    /// the queue refuses are dead-lettered. Beyond the quota of a topic, too, those are that have not
    /// `waited` in an outbox before. The answers stand in the order of the messages.
    async fn publish_messages(
        &self,
        messages: &[(&Topic, &Arc<Message>)],
        waited: impl Fn(usize) -> bool,
    ) -> Result<Vec<Sent>, Stopped> {
        // Clones count references that all workers share: there are no more than must be.
        let routed = |number: &usize| {
            let (topic, message) = messages[*number];
            Routed { topic: topic.clone(), message: message.clone() }
        };
        let mut ends = vec![Sent::Done; messages.len()];
        let mut open: Vec<usize> = Vec::with_capacity(messages.len());
        let mut buried = Vec::new();
        for (number, (topic, _)) in messages.iter().enumerate() {
            match self.0.full.state(topic) {
                TopicState::Open => open.push(number),
                TopicState::Full => ends[number] = Sent::Parked,
                TopicState::OverQuota if waited(number) => ends[number] = Sent::Parked,
                TopicState::OverQuota => buried.push((routed(&number), TOPIC_FULL.to_owned())),
            }
        }
        let mut pauses = self.pauses();
        while !open.is_empty() {
            let call = open.iter().map(routed).collect();
            let answers = self.message_q().publish(call).await;
            let mut failure = None;
            let mut failed = Vec::new();
            for (number, answer) in open.into_iter().zip(answers) {
                let (topic, _) = messages[number];
                match answer.as_ref().map_err(PortError::kind) {
                    Ok(()) => self.0.full.took(topic),
                    Err(PortErrorKind::Full) => {
                        self.0.full.mark(topic);
                        ends[number] = Sent::Parked;
                    }
                    Err(PortErrorKind::Rejected) => {
                        let reason = answer.err().map(|error| describe(&error)).unwrap_or_default();
                        let reason = format!("{REJECTED}{reason}");
                        tracing::warn!(%topic, reason, "a message is refused");
                        buried.push((routed(&number), reason));
                    }
                    Err(_) => {
                        failure = answer.err();
                        failed.push(number);
                    }
                }
            }
            open = failed;
            if let Some(error) = failure {
                self.pause(&error, &mut pauses).await?;
            }
        }
        self.bury_messages(buried).await?;
        Ok(ends)
    }

    /// Keeps messages that no topic takes where people find them.
    async fn bury_messages(&self, letters: Vec<(Routed, String)>) -> Result<(), Stopped> {
        if letters.is_empty()
            || self.until_refused(|| self.message_q().bury(letters.clone())).await?.is_ok()
        {
            return Ok(());
        }
        // One of the letters is not taken; the others are.
        for letter in letters {
            let one = [letter];
            let buried = self.until_refused(|| self.message_q().bury(one.to_vec())).await?;
            if let Err(error) = buried {
                let [(Routed { topic, message }, reason)] = &one;
                let id = &message.id;
                tracing::error!(%error, %id, %topic, reason, "a message is lost: {LOST}");
            }
        }
        Ok(())
    }

    /// Publishes messages that belong to no outbox: what finds its topic full is dead-lettered.
    async fn publish_notices(&self, messages: Vec<Routed>) -> Result<(), Stopped> {
        let borrowed: Vec<_> = messages.iter().map(|it| (&it.topic, &it.message)).collect();
        let ends = self.publish_messages(&borrowed, |_| false).await?;
        let parked = messages.into_iter().zip(ends).filter(|(_, end)| *end == Sent::Parked);
        self.bury_messages(parked.map(|(it, _)| (it, TOPIC_FULL.to_owned())).collect()).await
    }

    pub(super) async fn publish_commands(&self, commands: Vec<Inbound>) -> Result<(), Stopped> {
        if commands.is_empty() {
            return Ok(());
        }
        if self.until_refused(|| self.event_q().publish(commands.clone())).await?.is_ok() {
            return Ok(());
        }
        // One of them will never be taken; the others are.
        for command in commands {
            let one = [command];
            let published = self.until_refused(|| self.event_q().publish(one.to_vec())).await?;
            if let Err(error) = published {
                let [command] = one;
                let reason = format!("{REJECTED}{}", describe(&error));
                self.bury_command(command, reason).await?;
            }
        }
        Ok(())
    }

    /// Keeps a command that the queue refuses where people find it.
    async fn bury_command(&self, command: Inbound, reason: String) -> Result<(), Stopped> {
        let (id, thred) = (command.id(), command.partition_key().to_owned());
        tracing::error!(%id, thred, reason, "a command is refused; it goes to the dead letters");
        let letter = [(command, reason)];
        let buried = self.until_refused(|| self.event_q().bury(letter.to_vec())).await?;
        if let Err(error) = buried {
            tracing::error!(%error, %id, thred, "a command is lost: {LOST}");
        }
        Ok(())
    }

    /// Publishes what the commits of dead engines have left in their outboxes; says how many
    /// outboxes there were. What this engine is just publishing is left to it.
    ///
    /// # Errors
    /// The engine is stopping.
    pub async fn relay(&self, made_before: i64) -> Result<usize, Stopped> {
        const AT_ONCE: usize = 256;
        let mut count = 0;
        let mut partitions: Vec<u16> = (0..self.storage().partitions()).collect();
        while !partitions.is_empty() {
            // Those that are not forgotten must not hide the others.
            let limit = AT_ONCE + self.0.outgoing.count();
            let found = self.pending(&partitions, made_before, limit).await?;
            let idle = self.0.outgoing.idle(found.iter().flatten().map(|it| &it.thred_id));
            let some: Vec<u16> = (partitions.iter().zip(&found))
                .filter_map(|(partition, found)| (!found.is_empty()).then_some(*partition))
                .collect();
            let mut found = found.iter().map(Vec::len);
            partitions.retain(|_| found.next().is_some_and(|found| found >= limit));
            // One that a worker of this engine had under way at the first look, and not
            // afterwards, has been cleared in between.
            let still = if idle.is_empty() {
                Vec::new()
            } else {
                self.pending(&some, made_before, limit).await?
            };
            let outboxes: Vec<_> = (still.into_iter().flatten())
                .filter(|it| idle.contains(&it.thred_id))
                .map(|it| Published::of(it.thred_id, it.entries))
                .collect();
            if outboxes.is_empty() {
                break;
            }
            count += outboxes.len();
            self.publish_outboxes(outboxes).await?;
        }
        Ok(count)
    }

    /// What each of these partitions has pending.
    async fn pending(
        &self,
        partitions: &[u16],
        made_before: i64,
        limit: usize,
    ) -> Result<Vec<Vec<PendingOutbox>>, Stopped> {
        let pending = partitions.iter().map(|partition| {
            self.insist(move || self.storage().pending_outboxes(*partition, made_before, limit))
        });
        try_join_all(pending).await
    }

    /// Looks how much waits for the topics that are full, so that no more does than may. Whoever
    /// [publishes](Self::relay_parked) what waits knows.
    ///
    /// # Errors
    /// The engine is stopping.
    pub async fn look_at_full_topics(&self) -> Result<(), Stopped> {
        if self.0.full.is_any() {
            let parked = self.insist(|| self.storage().parked_topics()).await?;
            self.0.full.note(parked, self.config().topic_quota);
        }
        Ok(())
    }

    /// Publishes what is parked for topics that were full, as far as they take it by now.
    ///
    /// # Errors
    /// The engine is stopping.
    pub async fn relay_parked(&self) -> Result<usize, Stopped> {
        const AT_ONCE: usize = 256;
        let parked = self.insist(|| self.storage().parked_topics()).await?;
        let mut count = 0;
        for it in &parked {
            if !self.0.full.turn(&it.topic) {
                continue;
            }
            'topic: for partition in 0..self.storage().partitions() {
                loop {
                    let outboxes = self
                        .insist(|| self.storage().parked_outboxes(partition, &it.topic, AT_ONCE))
                        .await?;
                    let is_last = outboxes.len() < AT_ONCE;
                    let idle = self.0.outgoing.idle(outboxes.iter().map(|it| &it.thred_id));
                    let outboxes = outboxes.into_iter().filter(|it| idle.contains(&it.thred_id));
                    let outboxes: Vec<_> =
                        outboxes.map(|it| Published::of(it.thred_id, it.entries)).collect();
                    let tried = outboxes.len();
                    self.publish_outboxes(outboxes).await?;
                    if self.0.full.state(&it.topic) != TopicState::Open {
                        break 'topic;
                    }
                    count += tried;
                    if is_last || tried == 0 {
                        break;
                    }
                }
            }
        }
        self.0.full.note(parked, self.config().topic_quota);
        Ok(count)
    }

    /// Writes down what moved no thred, tells those concerned, and gives the deliveries up.
    pub(super) async fn acknowledge(&self, mut batch: Batch) -> Result<(), Stopped> {
        batch.close();
        self.publish_notices(std::mem::take(&mut batch.notices)).await?;
        let commands = std::mem::take(&mut batch.commands).into_iter();
        let commands = commands.map(|command| Inbound::Command(Arc::new(command)));
        self.publish_commands(commands.collect()).await?;
        self.settle(&mut batch).await?;
        self.defer(batch.take_deferred()).await;
        Ok(())
    }
}
