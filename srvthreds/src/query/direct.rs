//! Answers from a store that this process has open.

use std::sync::Arc;

use async_trait::async_trait;
use thredcore::port::{EventQ, MessageQ, Storage};

use super::{Answer, Letter, Queries, Question, Queue, Unanswered};

/// Asks the ports.
pub(crate) struct Direct {
    storage: Arc<dyn Storage>,
    event_q: Arc<dyn EventQ>,
    message_q: Arc<dyn MessageQ>,
}

impl Direct {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        event_q: Arc<dyn EventQ>,
        message_q: Arc<dyn MessageQ>,
    ) -> Self {
        Self { storage, event_q, message_q }
    }
}

#[async_trait]
impl Queries for Direct {
    async fn ask(&self, question: Question) -> Result<Answer, Unanswered> {
        let Self { storage, event_q, message_q } = self;
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
            Question::Redrive { queue, filter } => Answer::Count(match queue {
                Queue::Events => event_q.redrive(&filter).await?,
                Queue::Messages => message_q.redrive(&filter).await?,
            }),
            Question::Discard { queue, filter } => Answer::Count(match queue {
                Queue::Events => event_q.discard(&filter).await?,
                Queue::Messages => message_q.discard(&filter).await?,
            }),
        })
    }
}
