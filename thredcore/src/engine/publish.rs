//! Publishing: emptying outboxes, in each thred's order.

use std::{pin::pin, sync::Arc};

use futures::future::try_join_all;
use thredlib::{MessageId, PatternId, ThredId};
use tokio::time::timeout;

use super::{Engine, Stopped, batch::Batch, commit::Published};
use crate::port::{Inbound, Outgoing, PendingOutbox, Routed};

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
            self.publish_outboxes(published).await?;
        }
        self.0.outgoing.end(&std::mem::take(&mut batch.outgoing));
        Ok(())
    }

    /// Publishes outboxes and clears them; insists until all of it is confirmed.
    pub(super) async fn publish_outboxes(&self, outboxes: Vec<Published>) -> Result<(), Stopped> {
        let mut messages = Vec::with_capacity(outboxes.len());
        let mut commands: Vec<Inbound> = Vec::new();
        let mut places: Vec<(PatternId, ThredId)> = Vec::new();
        let mut done: Vec<(ThredId, Vec<MessageId>)> = Vec::with_capacity(outboxes.len());
        for outbox in outboxes {
            let mut ids = Vec::with_capacity(outbox.entries().count());
            for entry in outbox.entries() {
                ids.push(entry.id.clone());
                match &entry.outgoing {
                    Outgoing::Message { topic, message } => {
                        messages.push(Routed { topic: topic.clone(), message: message.clone() })
                    }
                    Outgoing::Command(command) => commands.push(Inbound::Command(command.clone())),
                    Outgoing::Release(pattern) => {
                        places.push((pattern.clone(), outbox.thred.clone()))
                    }
                }
            }
            done.push((outbox.thred, ids));
        }
        let mut publishing = pin!(async {
            self.publish_messages(messages).await?;
            self.publish_commands(commands).await?;
            if !places.is_empty() {
                self.insist(|| self.storage().release(&places)).await?;
            }
            self.insist(|| self.storage().clear_outbox(&done)).await
        });
        // A full topic may hold this up for long, and the relay must not take it for forgotten.
        match timeout(self.config().relay_age / 2, &mut publishing).await {
            Ok(published) => published,
            Err(_) => {
                let threds: Vec<ThredId> = done.iter().map(|(thred, _)| thred.clone()).collect();
                self.0.outgoing.begin(&threds);
                let published = publishing.await;
                self.0.outgoing.end(&threds);
                published
            }
        }
    }

    /// Publishes messages, in order; those that fail are tried again, with all later ones of
    /// their topics, before anything else.
    pub(super) async fn publish_messages(&self, messages: Vec<Routed>) -> Result<(), Stopped> {
        let mut open = messages;
        let mut pauses = self.pauses();
        while !open.is_empty() {
            let copy = open.clone();
            let answers = self.message_q().publish(open).await;
            let mut failure = None;
            open = copy
                .into_iter()
                .zip(answers)
                .filter_map(|(message, answer)| match answer {
                    Ok(()) => None,
                    Err(error) => {
                        failure = Some(error);
                        Some(message)
                    }
                })
                .collect();
            if let Some(error) = failure {
                self.pause(&error, &mut pauses).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn publish_commands(&self, commands: Vec<Inbound>) -> Result<(), Stopped> {
        match commands.is_empty() {
            true => Ok(()),
            false => self.insist(|| self.event_q().publish(commands.clone())).await,
        }
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
            let still = match idle.is_empty() {
                true => Vec::new(),
                false => self.pending(&some, made_before, limit).await?,
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

    /// Writes down what moved no thred, tells those concerned, and gives the deliveries up.
    pub(super) async fn acknowledge(&self, mut batch: Batch) -> Result<(), Stopped> {
        batch.close();
        self.publish_messages(std::mem::take(&mut batch.notices)).await?;
        let commands = std::mem::take(&mut batch.commands).into_iter();
        let commands = commands.map(|command| Inbound::Command(Arc::new(command)));
        self.publish_commands(commands.collect()).await?;
        if !batch.records.is_empty() {
            self.insist(|| self.storage().append_log(batch.records.clone())).await?;
        }
        let mut done = Vec::with_capacity(batch.cases.len());
        for case in &batch.cases {
            match &*case.failures {
                [] => done.push(case.tag),
                failures => {
                    let reason = failures.join("; ");
                    self.insist(|| self.event_q().dead_letter(case.tag, &reason)).await?;
                }
            }
        }
        self.insist(|| self.event_q().ack(&done)).await
    }
}
