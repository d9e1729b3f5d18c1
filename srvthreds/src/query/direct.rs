//! Answers from a store that this process has open.

use std::sync::Arc;

use async_trait::async_trait;
use thredcore::port::{
    DeadLetter, DeadLetterFilter, EventQ, Inbound, MessageQ, PortError, REJECTED, Storage,
    Unreadable,
};
use thredcore_amqp::AmqpQueues;

use crate::backend::Backends;

use super::{
    Answer, Backlogs, COMMANDS, Found, Letter, Queries, Question, Queue, Unanswered,
    ingresses::Ingresses,
};

/// Asks the ports.
pub(crate) struct Direct {
    storage: Arc<dyn Storage>,
    event_q: Arc<dyn EventQ>,
    message_q: Arc<dyn MessageQ>,
    /// Whose formats are asked for.
    backends: Option<Backends>,
    ingresses: Ingresses,
}

impl Direct {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        event_q: Arc<dyn EventQ>,
        message_q: Arc<dyn MessageQ>,
    ) -> Self {
        Self { storage, event_q, message_q, backends: None, ingresses: Ingresses::default() }
    }

    pub(crate) fn with_formats(self, backends: Backends) -> Self {
        Self { backends: Some(backends), ..self }
    }

    /// With the ingress queues of a broker, if there is one.
    pub(crate) fn with_ingresses(self, queues: Option<AmqpQueues>) -> Self {
        Self { ingresses: Ingresses::of(queues), ..self }
    }
}

impl Direct {
    async fn backlogs(&self) -> Result<Backlogs, Unanswered> {
        const MOST: usize = 10_000;
        let dead = DeadLetterFilter { limit: Some(MOST), ..DeadLetterFilter::all() };
        Ok(Backlogs {
            partitions: self.event_q.backlog().await?,
            topics: self.message_q.backlog().await?,
            parked: self.storage.parked_topics().await?,
            ingresses: self.ingresses.backlogs().await?,
            dead_events: self.event_q.dead_letters(&dead).await?.len(),
        })
    }

    /// Commands that the event queue has refused for good; they are among its dead letters.
    async fn refused_commands(
        &self,
        limit: usize,
        hunt: Hunt,
    ) -> Result<Vec<Unreadable>, PortError> {
        const PAGE: usize = 1_000;
        let mut page = DeadLetterFilter {
            reason: Some(REJECTED.to_owned()),
            limit: Some(PAGE),
            ..DeadLetterFilter::all()
        };
        let (mut found, mut ids) = (Vec::new(), Vec::new());
        while found.len() < limit {
            let letters = self.event_q.dead_letters(&page).await?;
            let Some(last) = letters.last() else { break };
            page.after = Some(last.id.clone());
            for DeadLetter { id, payload, reason, .. } in letters {
                let Inbound::Command(command) = &payload else { continue };
                if found.len() < limit && reason.starts_with(REJECTED) {
                    found.push(Unreadable {
                        kind: "command".to_owned(),
                        key: format!("{}/{id}", Queue::Events.name()),
                        reason: format!("for thred {}: {reason}", command.thred_id()),
                        content: shown(&payload),
                    });
                    ids.push(id);
                }
            }
        }
        if hunt == Hunt::MoveOut && !ids.is_empty() {
            let meant = DeadLetterFilter { ids: Some(ids), ..DeadLetterFilter::all() };
            self.event_q.discard(&meant).await?;
        }
        Ok(found)
    }

    /// Asks the storage and the queues in turn, until the limit is reached.
    async fn every_part(&self, limit: usize, hunt: Hunt) -> Result<Vec<Found>, PortError> {
        let Self { storage, event_q, message_q, .. } = self;
        let mut found = Vec::new();
        for part in ["storage", "events", COMMANDS, "messages"] {
            let rest = limit.saturating_sub(found.len());
            if rest == 0 {
                break;
            }
            let more = match (part, hunt) {
                ("storage", Hunt::Look) => storage.unreadable(rest).await?,
                ("storage", Hunt::MoveOut) => storage.move_out(rest).await?,
                ("events", Hunt::Look) => event_q.unreadable(rest).await?,
                ("events", Hunt::MoveOut) => event_q.move_out(rest).await?,
                (COMMANDS, hunt) => self.refused_commands(rest, hunt).await?,
                (_, Hunt::Look) => message_q.unreadable(rest).await?,
                (_, Hunt::MoveOut) => message_q.move_out(rest).await?,
            };
            let more = more.into_iter();
            found.extend(more.map(|unreadable| Found { part: part.to_owned(), unreadable }));
        }
        Ok(found)
    }
}

/// As JSON, cut as what cannot be read is.
fn shown(item: &Inbound) -> String {
    Unreadable::excerpt(&serde_json::to_vec(item).unwrap_or_default())
}

/// What is done with what cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hunt {
    Look,
    MoveOut,
}

#[async_trait]
impl Queries for Direct {
    async fn ask(&self, question: Question) -> Result<Answer, Unanswered> {
        let Self { storage, event_q, message_q, ingresses, .. } = self;
        Ok(match question {
            Question::Threds(query) => Answer::Threds(storage.threds(&query).await?),
            Question::Load(id) => Answer::Load(storage.load(&[id]).await?.pop().flatten()),
            Question::History { thred, before, limit } => {
                Answer::History(storage.history(&thred, before, limit).await?)
            }
            Question::Unmoved { before, limit } => {
                Answer::Unmoved(storage.unmoved(before.as_deref(), limit).await?)
            }
            Question::Log { limit } => Answer::Log(storage.log(limit).await?),
            Question::Pattern(key) => Answer::Pattern(storage.pattern(&key).await?),
            Question::Letters { queue: Queue::Events, filter } => {
                let letters = event_q.dead_letters(&filter).await?;
                Answer::Letters(letters.into_iter().map(Letter::from).collect())
            }
            Question::Letters { queue: Queue::Messages, filter } => {
                let letters = message_q.dead_letters(&filter).await?;
                Answer::Letters(letters.into_iter().map(Letter::from).collect())
            }
            Question::Letters { queue: Queue::Ingress, filter } => {
                Answer::Letters(ingresses.letters(&filter).await?)
            }
            Question::Redrive { queue, filter } => Answer::Count(match queue {
                Queue::Events => event_q.redrive(&filter).await?,
                Queue::Messages => message_q.redrive(&filter).await?,
                Queue::Ingress => ingresses.redrive(&filter).await?,
            }),
            Question::Backlogs => Answer::Backlogs(self.backlogs().await?),
            Question::Purge(topic) => Answer::Removed(message_q.purge(&topic).await?),
            Question::Delete(topic) => Answer::Removed(message_q.delete(&topic).await?),
            Question::Counts => Answer::Counts(storage.counts().await?),
            Question::Unreadable { limit } => {
                Answer::Unreadable(self.every_part(limit, Hunt::Look).await?)
            }
            Question::MoveOut { limit } => {
                Answer::Unreadable(self.every_part(limit, Hunt::MoveOut).await?)
            }
            Question::Formats => {
                let formats = match &self.backends {
                    Some(backends) => backends.formats().await,
                    None => Ok(vec![]),
                };
                Answer::Formats(formats.map_err(|error| Unanswered(error.to_string()))?)
            }
            Question::Discard { queue, filter } => Answer::Count(match queue {
                Queue::Events => event_q.discard(&filter).await?,
                Queue::Messages => message_q.discard(&filter).await?,
                Queue::Ingress => ingresses.discard(&filter).await?,
            }),
        })
    }
}
