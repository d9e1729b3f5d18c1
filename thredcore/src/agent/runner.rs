//! Runs an agent: receives its messages, has them handled, publishes the answers.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::FutureExt;
use thredlib::{ErrorCode, Event, EventError, EventId, Topic, derive_id};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::work::Work;
use crate::port::{
    Accepted, AgentContext, Clock, Delivery, EventQ, HandlerError, Inbound, MessageHandler,
    MessageQ, PortError, PortErrorKind, Returned, Routed, SystemClock, describe,
};

/// Bounds and pauses of an agent, each with a default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AgentConfig {
    /// Messages that are handled at one time; those of one thred one after the other. Default 16.
    pub concurrency: usize,
    /// How often a message is tried before it is dead-lettered. Default 5.
    pub max_attempts: u32,
    /// How often an agent may end while it has a message, before that is dead-lettered without being
    /// tried again. From the third time on it is tried with nothing beside it. Default 5.
    pub max_deaths: u32,
    /// The first pause before a message is tried again; it doubles. Default 100 ms.
    pub first_pause: Duration,
    /// The longest pause. Default 30 s.
    pub longest_pause: Duration,
    /// How long one message may be handled; longer is a retryable failure. Default 30 s.
    pub time_limit: Duration,
    /// How long a shutdown waits for the messages at hand. Default 10 s.
    pub drain: Duration,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            concurrency: 16,
            max_attempts: 5,
            max_deaths: 5,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            time_limit: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}

/// A message over which agents have ended so often is tried alone.
const SUSPECT: u32 = 2;

/// The longest pause after a failed call of a queue, as an engine's.
const QUEUE_PAUSE: Duration = Duration::from_secs(2);

/// An agent: a [`MessageHandler`] with a name.
///
/// It receives the messages sent to its node id and those sent to its node type, which it shares
/// with the other agents of the type. A message that fails is redelivered after a growing pause,
/// up to a limit; then it is dead-lettered, and an error event goes to its thred.
#[derive(Clone)]
pub struct AgentRunner {
    handler: Arc<dyn MessageHandler>,
    context: AgentContext,
    pub(super) message_q: Arc<dyn MessageQ>,
    event_q: Arc<dyn EventQ>,
    pub(super) config: AgentConfig,
}

impl std::fmt::Debug for AgentRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentRunner").field("context", &self.context).finish_non_exhaustive()
    }
}

impl AgentRunner {
    /// An agent of a type, with `{type}1` as its node id.
    pub fn new(
        node_type: impl Into<Topic>,
        handler: Arc<dyn MessageHandler>,
        message_q: Arc<dyn MessageQ>,
        event_q: Arc<dyn EventQ>,
    ) -> Self {
        let node_type = node_type.into();
        let node_id = Topic::new(format!("{node_type}1"));
        let context = AgentContext { node_type, node_id };
        Self { handler, context, message_q, event_q, config: AgentConfig::default() }
    }

    /// Names this agent among those of its type.
    #[must_use]
    pub fn node_id(mut self, node_id: impl Into<Topic>) -> Self {
        self.context.node_id = node_id.into();
        self
    }

    /// Bounds and pauses.
    #[must_use]
    pub fn config(mut self, config: AgentConfig) -> Self {
        self.config = config;
        self
    }

    /// Initializes the handler and starts to receive. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What the handler's `initialize` fails with.
    pub async fn start(self) -> Result<RunningAgent, HandlerError> {
        self.handler.initialize(&self.context).await?;
        let stop = watch::Sender::new(false);
        let drain = self.config.drain;
        let task = tokio::spawn(self.run(stop.subscribe()));
        Ok(RunningAgent { stop, task, drain })
    }

    /// Takes in messages as slots come free. Those of one thred are handled one after the other; one
    /// that waits so holds no slot.
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let agent = Arc::new(self);
        let topics = [agent.context.node_id.clone(), agent.context.node_type.clone()];
        let mut work = Work::default();
        let mut pauses = agent.pauses();
        let stopped = stop.clone();
        loop {
            // A few more than there are slots, so that none is idle while the next ones come.
            let room = (2 * agent.config.concurrency).saturating_sub(work.count());
            let received = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                result = work.next(&agent, &stopped) => match result {
                    Ok(()) => continue,
                    Err(_) => break,
                },
                received = agent.message_q.receive(&topics, room), if room > 0 => received,
            };
            let result = match received {
                Ok(deliveries) => {
                    pauses = agent.pauses();
                    agent.take_in(deliveries, &mut work, &stopped).await
                }
                Err(error) => agent.pause(error, &mut pauses, &stopped).await,
            };
            if result.is_err() {
                break;
            }
        }
        // What is at hand is finished; what waits behind it is given back.
        work.give_back(&agent).await;
        agent.handler.shutdown().await;
    }

    /// Sorts what was received: a message over which agents have ended is tried with nothing beside
    /// it, and at last not tried any more.
    async fn take_in(
        self: &Arc<Self>,
        deliveries: Vec<Delivery<Routed>>,
        work: &mut Work,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), PortError> {
        for delivery in deliveries {
            let deaths = delivery.deaths();
            if deaths >= self.config.max_deaths {
                let reason = format!("the agent has ended {deaths} times while it had the message");
                tracing::error!(message = %delivery.payload.message.id, reason, "dead-lettered");
                self.give_up(&delivery, ErrorCode::AgentFailed, reason, stop).await?;
                continue;
            }
            if deaths < SUSPECT {
                work.add(delivery);
                continue;
            }
            work.start(self, stop);
            while work.count() > 0 {
                work.next(self, stop).await?;
            }
            self.handle(delivery, stop).await?;
        }
        work.start(self, stop);
        Ok(())
    }

    pub(super) async fn handle(
        &self,
        delivery: Delivery<Routed>,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), PortError> {
        let message = &delivery.payload.message;
        let work = self.handler.process_message(message, &self.context);
        let work = timeout(self.config.time_limit, AssertUnwindSafe(work).catch_unwind());
        let result = match work.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(HandlerError::retryable("the agent panicked")),
            Err(_) => Err(HandlerError::retryable("the agent took too long")),
        };
        let error = match result {
            Ok(answers) => {
                self.publish(&delivery.payload, answers, "answer", stop).await?;
                let tags = [delivery.tag];
                return self.insist(stop, || self.message_q.ack(&tags)).await;
            }
            Err(error) => error,
        };
        let attempt = delivery.failures.saturating_add(1);
        if error.is_retryable() && attempt < self.config.max_attempts {
            tracing::info!(%error, message = %message.id, attempt, "will retry");
            let pause = self.pauses().nth(delivery.failures as usize);
            let pause = pause.unwrap_or(self.config.longest_pause);
            let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            let nack = || self.message_q.nack(delivery.tag, pause, Returned::Failed);
            return self.insist(stop, nack).await;
        }
        let code = if error.is_retryable() { ErrorCode::AgentFailed } else { ErrorCode::TaskError };
        self.give_up(&delivery, code, describe(&error), stop).await
    }

    /// Dead-letters a message and tells its thred, unless the message itself tells of an error: errors
    /// are not answered with errors.
    async fn give_up(
        &self,
        delivery: &Delivery<Routed>,
        code: ErrorCode,
        reason: String,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), PortError> {
        let message = &delivery.payload.message;
        tracing::warn!(message = %message.id, agent = %self.context.node_id, reason, "gives up");
        if message.event.error().is_none() {
            let report = EventError::new(code, reason.clone());
            let event = self.context.answer(message).error(&report).build();
            self.publish(&delivery.payload, vec![event], "error", stop).await?;
        }
        self.insist(stop, || self.message_q.dead_letter(delivery.tag, &reason)).await
    }

    /// Publishes answers under ids derived from the message's.
    async fn publish(
        &self,
        to: &Routed,
        answers: Vec<Event>,
        what: &str,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), PortError> {
        let message = to.message.id.as_str();
        let node_type = self.context.node_type.as_str();
        let items = answers.into_iter().enumerate().map(|(number, mut event)| {
            let parts = [message, node_type, what, &number.to_string()];
            event.id = EventId::new(derive_id("answer", &parts));
            let agent = Some(self.context.node_type.clone());
            Inbound::Event(Accepted { agent, ..Accepted::new(event, SystemClock.now()) })
        });
        let items: Vec<_> = items.collect();
        if items.is_empty() {
            Ok(())
        } else {
            self.insist(stop, || self.event_q.publish(items.clone())).await
        }
    }

    /// Calls a queue until it does what it is asked: a message that is neither acknowledged nor
    /// given back stays with this agent for as long as it lives. Fails when the queue is closed or
    /// the agent stops; then what is at hand comes again elsewhere.
    async fn insist<T, F: Future<Output = Result<T, PortError>>>(
        &self,
        stop: &watch::Receiver<bool>,
        mut call: impl FnMut() -> F,
    ) -> Result<T, PortError> {
        let mut pauses = self.pauses();
        loop {
            match call().await {
                Ok(value) => return Ok(value),
                Err(error) => self.pause(error, &mut pauses, stop).await?,
            }
        }
    }

    /// Waits after a failed call; gives up when the queue is closed or the agent stops.
    async fn pause(
        &self,
        error: PortError,
        pauses: &mut (impl Iterator<Item = Duration> + Send),
        stop: &watch::Receiver<bool>,
    ) -> Result<(), PortError> {
        if error.kind() == PortErrorKind::Closed {
            return Err(error);
        }
        tracing::warn!(%error, agent = %self.context.node_id, "a queue failed; trying again");
        let pause = pauses.next().unwrap_or(self.config.longest_pause).min(QUEUE_PAUSE);
        let mut stop = stop.clone();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => Err(error),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    fn pauses(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        ExponentialBuilder::default()
            .with_min_delay(self.config.first_pause)
            .with_max_delay(self.config.longest_pause)
            .without_max_times()
            .build()
    }
}

/// An agent at work.
#[derive(Debug)]
#[must_use = "dropping it stops the agent after the messages at hand"]
pub struct RunningAgent {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    drain: Duration,
}

impl RunningAgent {
    /// Stops receiving, and waits for the messages at hand; says whether they were done in time.
    pub async fn shutdown(mut self) -> bool {
        self.stop.send_replace(true);
        timeout(self.drain, &mut self.task).await.is_ok()
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
