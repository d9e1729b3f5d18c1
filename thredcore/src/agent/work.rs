//! What an agent has at hand.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use thredlib::ThredId;
use tokio::{sync::watch, task::JoinSet};

use super::runner::AgentRunner;
use crate::port::{Delivery, PortError, Returned, Routed};

/// The messages of an agent: those that are handled, and those that wait for a slot or for an earlier
/// message of their thred.
#[derive(Default)]
pub(super) struct Work {
    running: JoinSet<(Option<ThredId>, Result<(), PortError>)>,
    /// The threds of the running ones.
    busy: HashSet<ThredId>,
    waiting: VecDeque<Delivery<Routed>>,
}

impl Work {
    pub(super) fn count(&self) -> usize {
        self.running.len() + self.waiting.len()
    }

    pub(super) fn add(&mut self, delivery: Delivery<Routed>) {
        self.waiting.push_back(delivery);
    }

    /// Has as much handled as there are slots.
    pub(super) fn start(&mut self, agent: &Arc<AgentRunner>, stop: &watch::Receiver<bool>) {
        let mut later = VecDeque::new();
        // The threds of those that are passed over: their later messages are, too.
        let mut passed: HashSet<ThredId> = HashSet::new();
        while self.running.len() < agent.config.concurrency
            && let Some(delivery) = self.waiting.pop_front()
        {
            let thred = delivery.payload.message.event.thred_id.clone();
            if let Some(id) = &thred
                && (passed.contains(id) || !self.busy.insert(id.clone()))
            {
                passed.insert(id.clone());
                later.push_back(delivery);
                continue;
            }
            let (agent, stop) = (agent.clone(), stop.clone());
            self.running.spawn(async move {
                let result = agent.handle(delivery, &stop).await;
                (thred, result)
            });
        }
        later.append(&mut self.waiting);
        self.waiting = later;
    }

    /// Waits until one is done, and starts what waits for it; for ever if none runs.
    ///
    /// # Errors
    /// The queue is closed or the agent stops.
    ///
    /// # Panics
    /// When the runner itself panics, so that this is not passed over.
    pub(super) async fn next(
        &mut self,
        agent: &Arc<AgentRunner>,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), PortError> {
        let Some(done) = self.running.join_next().await else {
            return std::future::pending().await;
        };
        let result = self.note(done);
        self.start(agent, stop);
        result
    }

    fn note(
        &mut self,
        done: Result<(Option<ThredId>, Result<(), PortError>), tokio::task::JoinError>,
    ) -> Result<(), PortError> {
        match done {
            Ok((thred, result)) => {
                if let Some(thred) = thred {
                    self.busy.remove(&thred);
                }
                result
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Ok(()),
            },
        }
    }

    /// Gives back what nobody has tried, and waits for what is being handled.
    pub(super) async fn give_back(&mut self, agent: &AgentRunner) {
        for delivery in self.waiting.drain(..) {
            let given = agent.message_q.nack(delivery.tag, 0, Returned::Untried).await;
            if let Err(error) = given {
                // It comes again when this consumer is gone.
                tracing::debug!(%error, "could not give a message back");
            }
        }
        while let Some(done) = self.running.join_next().await {
            let _ = self.note(done);
        }
    }
}
