//! What commands ask about threds and dead letters, wherever the answers come from: a store that is
//! opened here, or the process that owns it.

mod direct;
mod ingresses;
mod letter;
#[cfg(unix)]
mod remote;
#[cfg(unix)]
mod serve;

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thredcore::{
    port::{
        Backlog, DeadLetterFilter, History, Loaded, LogRecord, ParkedTopic, StoredPattern,
        ThredCount, ThredPage, ThredQuery, TopicBacklog, UnmovedPage, Unreadable,
    },
    state::PatternKey,
};
use thredlib::{ThredId, Topic};

use crate::backend::PartFormat;

pub(crate) use direct::Direct;
pub(crate) use letter::{Item, Letter, Queue, Submission};
#[cfg(unix)]
pub(crate) use remote::Remote;
#[cfg(unix)]
pub(crate) use serve::Served;

/// Answers questions.
#[async_trait]
pub(crate) trait Queries: Send + Sync {
    /// Answers one.
    async fn ask(&self, question: Question) -> Result<Answer, Unanswered>;
}

/// A question, as it also goes over the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Question {
    Threds(ThredQuery),
    Load(ThredId),
    History { thred: ThredId, before: Option<u64>, limit: usize },
    Unmoved { before: Option<String>, limit: usize },
    Log { limit: usize },
    Pattern(PatternKey),
    Letters { queue: Queue, filter: DeadLetterFilter },
    Redrive { queue: Queue, filter: DeadLetterFilter },
    Discard { queue: Queue, filter: DeadLetterFilter },
    Backlogs,
    Purge(Topic),
    Delete(Topic),
    Counts,
    Unreadable { limit: usize },
    MoveOut { limit: usize },
    Formats,
}

/// The answer to the question of the same name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    Threds(ThredPage),
    Load(Option<Loaded>),
    History(Vec<History>),
    Unmoved(UnmovedPage),
    Log(Vec<LogRecord>),
    Pattern(Option<StoredPattern>),
    Letters(Vec<Letter>),
    /// How many letters a redrive or a discard concerned.
    Count(usize),
    Backlogs(Backlogs),
    /// How many messages were removed.
    Removed(u64),
    Counts(Vec<ThredCount>),
    Unreadable(Vec<Found>),
    Formats(Vec<PartFormat>),
    Failed(Unanswered),
}

/// What waits in the queues.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Backlogs {
    /// What comes in, by partition.
    pub(crate) partitions: Vec<Backlog>,
    /// What goes out, by topic.
    pub(crate) topics: Vec<TopicBacklog>,
    /// What waits in outboxes for full topics.
    pub(crate) parked: Vec<ParkedTopic>,
    /// What other programs publish, by ingress queue.
    #[serde(default)]
    pub(crate) ingresses: Vec<IngressBacklog>,
    /// Events that were given up; counted up to 10,000.
    pub(crate) dead_events: usize,
}

/// What waits in an ingress queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IngressBacklog {
    pub(crate) queue: String,
    #[serde(flatten)]
    pub(crate) backlog: Backlog,
}

/// Something that cannot be read, and which part of the store it is in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Found {
    /// `storage`, `events`, `commands` (those that the queue has refused) or `messages`.
    pub(crate) part: String,
    #[serde(flatten)]
    pub(crate) unreadable: Unreadable,
}

/// The part of a store with the commands that were refused.
pub(crate) const COMMANDS: &str = "commands";

/// Why there is no answer, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unanswered(pub(crate) String);

impl Unanswered {
    /// With the causes below.
    pub(crate) fn because(error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source());
        Self(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
    }

    fn confused() -> Self {
        Self("the answer is to another question".to_owned())
    }
}

impl From<thredcore::port::PortError> for Unanswered {
    fn from(error: thredcore::port::PortError) -> Self {
        Self::because(&error)
    }
}

macro_rules! expect {
    ($answer:expr, $kind:ident) => {
        match $answer? {
            Answer::$kind(found) => Ok(found),
            Answer::Failed(why) => Err(why),
            _ => Err(Unanswered::confused()),
        }
    };
}

/// The questions as functions.
impl dyn Queries + '_ {
    pub(crate) async fn threds(&self, query: ThredQuery) -> Result<ThredPage, Unanswered> {
        expect!(self.ask(Question::Threds(query)).await, Threds)
    }

    pub(crate) async fn load(&self, id: &ThredId) -> Result<Option<Loaded>, Unanswered> {
        expect!(self.ask(Question::Load(id.clone())).await, Load)
    }

    pub(crate) async fn history(
        &self,
        thred: &ThredId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<History>, Unanswered> {
        expect!(self.ask(Question::History { thred: thred.clone(), before, limit }).await, History)
    }

    pub(crate) async fn backlogs(&self) -> Result<Backlogs, Unanswered> {
        expect!(self.ask(Question::Backlogs).await, Backlogs)
    }

    pub(crate) async fn purge(&self, topic: &Topic) -> Result<u64, Unanswered> {
        expect!(self.ask(Question::Purge(topic.clone())).await, Removed)
    }

    pub(crate) async fn delete(&self, topic: &Topic) -> Result<u64, Unanswered> {
        expect!(self.ask(Question::Delete(topic.clone())).await, Removed)
    }

    pub(crate) async fn counts(&self) -> Result<Vec<ThredCount>, Unanswered> {
        expect!(self.ask(Question::Counts).await, Counts)
    }

    pub(crate) async fn unreadable(&self, limit: usize) -> Result<Vec<Found>, Unanswered> {
        expect!(self.ask(Question::Unreadable { limit }).await, Unreadable)
    }

    pub(crate) async fn move_out(&self, limit: usize) -> Result<Vec<Found>, Unanswered> {
        expect!(self.ask(Question::MoveOut { limit }).await, Unreadable)
    }

    pub(crate) async fn formats(&self) -> Result<Vec<PartFormat>, Unanswered> {
        expect!(self.ask(Question::Formats).await, Formats)
    }

    pub(crate) async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, Unanswered> {
        expect!(self.ask(Question::Log { limit }).await, Log)
    }

    pub(crate) async fn pattern(
        &self,
        key: &Arc<PatternKey>,
    ) -> Result<Option<StoredPattern>, Unanswered> {
        expect!(self.ask(Question::Pattern((**key).clone())).await, Pattern)
    }

    pub(crate) async fn letters(
        &self,
        queue: Queue,
        filter: DeadLetterFilter,
    ) -> Result<Vec<Letter>, Unanswered> {
        expect!(self.ask(Question::Letters { queue, filter }).await, Letters)
    }

    pub(crate) async fn redrive(
        &self,
        queue: Queue,
        filter: DeadLetterFilter,
    ) -> Result<usize, Unanswered> {
        expect!(self.ask(Question::Redrive { queue, filter }).await, Count)
    }

    pub(crate) async fn discard(
        &self,
        queue: Queue,
        filter: DeadLetterFilter,
    ) -> Result<usize, Unanswered> {
        expect!(self.ask(Question::Discard { queue, filter }).await, Count)
    }
}
