//! Looking after the ingress queues of a deployment, which processes with `--ingress` have listed at
//! the broker.

use thredcore::port::{DeadLetter, DeadLetterFilter};
use thredcore_amqp::{AmqpIngress, AmqpQueues, Incoming};

use super::{IngressBacklog, Letter, Unanswered};

/// All ingress queues; none without RabbitMQ.
#[derive(Default)]
pub(super) struct Ingresses(Option<AmqpQueues>);

impl Ingresses {
    pub(super) fn of(queues: Option<AmqpQueues>) -> Self {
        Self(queues)
    }

    /// Those that are there, to look at.
    async fn all(&self) -> Result<Vec<AmqpIngress>, Unanswered> {
        let Some(queues) = &self.0 else { return Ok(Vec::new()) };
        let listed = queues.ingresses().await.map_err(|error| Unanswered::because(&error))?;
        let mut found = Vec::with_capacity(listed.len());
        for config in listed {
            match queues.ingress(config).await {
                Ok(ingress) => found.push(ingress),
                Err(error) if error.is_retryable() => return Err(Unanswered::because(&error)),
                // It was deleted, with all that was in it.
                Err(error) => tracing::debug!(%error, "an ingress queue is gone"),
            }
        }
        Ok(found)
    }

    pub(super) async fn backlogs(&self) -> Result<Vec<IngressBacklog>, Unanswered> {
        let mut backlogs = Vec::new();
        for ingress in self.all().await? {
            let backlog = ingress.backlog().await.map_err(|error| Unanswered::because(&error))?;
            let queue = ingress.queue().to_owned();
            backlogs.extend(backlog.map(|backlog| IngressBacklog { queue, backlog }));
        }
        Ok(backlogs)
    }

    /// Dead letters, oldest first.
    pub(super) async fn letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<Letter>, Unanswered> {
        let mut letters: Vec<DeadLetter<Incoming>> = Vec::new();
        for ingress in self.all().await? {
            let found = ingress.dead_letters(filter).await;
            letters.extend(found.map_err(|error| Unanswered::because(&error))?);
        }
        letters.sort_by_key(|letter| letter.at);
        letters.truncate(filter.limit.unwrap_or(usize::MAX));
        Ok(letters.into_iter().map(Letter::from).collect())
    }

    /// Submits letters again; says how many.
    pub(super) async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, Unanswered> {
        self.change(filter, async |ingress, filter| ingress.redrive(filter).await).await
    }

    /// Removes letters for good; says how many.
    pub(super) async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, Unanswered> {
        self.change(filter, async |ingress, filter| ingress.discard(filter).await).await
    }

    /// Does something with letters of each in turn, until the limit is reached.
    async fn change(
        &self,
        filter: &DeadLetterFilter,
        change: impl AsyncFn(
            &AmqpIngress,
            &DeadLetterFilter,
        ) -> Result<usize, thredcore_amqp::AmqpError>,
    ) -> Result<usize, Unanswered> {
        let mut count = 0;
        for ingress in self.all().await? {
            let limit = filter.limit.map(|limit| limit.saturating_sub(count));
            if limit == Some(0) {
                break;
            }
            let filter = DeadLetterFilter { limit, ..filter.clone() };
            let changed = change(&ingress, &filter).await;
            count += changed.map_err(|error| Unanswered::because(&error))?;
        }
        Ok(count)
    }
}
