//! Events that other programs publish.

mod config;
mod door;
mod incoming;

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lapin::types::ShortString;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use thredcore::port::{Backlog, DeadLetter, DeadLetterFilter, Delivery, DeliveryTag, Returned};
use thredlib::ParticipantId;
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc},
    time::sleep,
};

use crate::{
    AmqpError,
    dead_letters::DeadLetters,
    declare::Declaring,
    depth::Sounding,
    inflow::{Ask, Inflow, Taken},
    letter::{Obituary, Published},
    list::List,
    names::short,
    pump::{Pump, Source, Works},
    queues::Wires,
};

pub use config::{IngressConfig, Principals};
pub use door::{Admission, Door, Submission};
pub use incoming::Incoming;
pub(crate) use incoming::KIND;

/// A queue that other programs publish events to, consumed by one process at a time.
///
/// They do not write where the engines' commands travel: what they send goes through a [`Door`]. Each
/// message must have the property `user-id`, which the broker compares with who is connected;
/// [`Principals`] say which participant that is. Without it, or with one that is nobody, a message is
/// refused. What is refused goes to the dead letters of this queue, with the reason and a warning; it
/// can be [redriven](Self::redrive), and then is still that of its first sender. A message is
/// acknowledged when the door has accepted it, or when it is among the dead letters.
pub struct AmqpIngress {
    wires: Wires,
    config: IngressConfig,
    notes: ShortString,
    dead: Arc<DeadLetters<Incoming>>,
    inflow: Arc<Inflow<Incoming>>,
    asks: Mutex<Option<mpsc::UnboundedReceiver<Ask>>>,
    pump: OnceLock<Pump>,
    sounding: Sounding,
    running: AsyncMutex<()>,
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// What an ingress has done in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IngressCounts {
    /// Submissions that the door has accepted; one that came again counts again.
    pub accepted: u64,
    /// Submissions that went to the dead letters.
    pub refused: u64,
}

impl std::fmt::Debug for AmqpIngress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmqpIngress").field("config", &self.config).finish_non_exhaustive()
    }
}

impl AmqpIngress {
    pub(crate) async fn open(wires: Wires, config: IngressConfig) -> Result<Self, AmqpError> {
        let (queue, dead) = (short(&config.queue)?, short(&config.dead_queue)?);
        let notes = short(&config.tries_queue)?;
        for name in [&config.queue, &config.dead_queue, &config.tries_queue] {
            if wires.config.names.is_own(name, wires.config.partitions)? {
                return Err(AmqpError::NotAnIngress(name.clone()));
            }
        }
        wires.topology.ingress(&queue, &dead).await?;
        Known::of(&config).note(&wires).await;
        let dead = Arc::new(wires.dead_letters(dead).of_queue(queue.clone()));
        let (inflow, asks) = Inflow::new(0, queue);
        let (asks, pump) = (Mutex::new(Some(asks)), OnceLock::new());
        Ok(Self {
            sounding: Sounding::new(wires.consuming.clone()),
            wires,
            config,
            notes,
            dead,
            inflow,
            asks,
            pump,
            running: AsyncMutex::default(),
            accepted: AtomicU64::default(),
            refused: AtomicU64::default(),
        })
    }

    /// Hands all that comes to a door, until the queues are closed. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`AmqpError::Closed`].
    pub async fn run(&self, door: &dyn Door) -> Result<(), AmqpError> {
        let _alone = self.running.lock().await;
        self.consume();
        // What was in hand when a former call was given up.
        self.inflow.give_back_all();
        let mut failures = 0;
        loop {
            let batch = tokio::select! {
                biased;
                () = self.wires.consuming.closing() => return Err(AmqpError::Closed),
                batch = self.next() => batch,
            };
            let done = match batch {
                Ok(batch) => self.submit(door, batch).await,
                Err(AmqpError::Closed) => return Err(AmqpError::Closed),
                Err(error) => Err(error.to_string()),
            };
            match done {
                Ok(()) => failures = 0,
                Err(reason) => {
                    tracing::warn!(reason, queue = self.config.queue, "submissions wait");
                    sleep(self.wires.consuming.pause(failures)).await;
                    failures += 1;
                }
            }
        }
    }

    /// The name of the queue.
    pub fn queue(&self) -> &str {
        &self.config.queue
    }

    /// What this process has let in and refused.
    pub fn counts(&self) -> IngressCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        IngressCounts { accepted: count(&self.accepted), refused: count(&self.refused) }
    }

    /// How much waits in the queue. What other processes have received and not acknowledged yet is
    /// not seen.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn depth(&self) -> Result<usize, AmqpError> {
        if let Some((waiting, held)) = self.inflow.depth(&self.wires.consuming).await {
            return Ok(waiting + held);
        }
        let queue = std::slice::from_ref(&self.inflow.queue);
        let waiting: usize = self.sounding.waiting(queue).await?.iter().sum();
        Ok(waiting + self.inflow.held())
    }

    /// How much waits in the queue, who consumes it, and how many dead letters it has; `None` when
    /// there is no such queue any more. What other processes have received and not acknowledged yet
    /// is not seen.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn backlog(&self) -> Result<Option<Backlog>, AmqpError> {
        let mut declaring = Declaring::on(&self.wires.consuming);
        let looked = declaring.look(&self.inflow.queue).await?;
        declaring.end().await;
        let Some((_, consumers)) = looked else { return Ok(None) };
        let depth = self.depth().await? as u64;
        let dead_letters = self.dead.count().await? as u64;
        Ok(Some(Backlog { depth, oldest: None, consumers: Some(consumers), dead_letters }))
    }

    /// What was refused, oldest first.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Incoming>>, AmqpError> {
        self.dead.list(filter).await
    }

    /// Submits again what was refused, as that of its first sender; says how many.
    ///
    /// # Errors
    /// Some may be in both places.
    pub async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, AmqpError> {
        self.dead.redrive(filter).await
    }

    /// Removes for good what was refused; says how many.
    ///
    /// # Errors
    /// Some may still be there.
    pub async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, AmqpError> {
        self.dead.discard(filter).await
    }

    fn consume(&self) {
        self.wires.count_dropped();
        self.pump.get_or_init(|| {
            let asks = self.asks.lock().take();
            let works = Works {
                inflow: self.inflow.clone(),
                source: Source::Ingress(self.dead.queue.clone()),
                prefetch: self.config.batch.saturating_mul(2),
                topology: self.wires.topology.clone(),
                link: self.wires.consuming.clone(),
                dead: self.dead.clone(),
            };
            Pump::start(works, asks.unwrap_or_else(|| mpsc::unbounded_channel().1))
        });
    }

    async fn next(&self) -> Result<Vec<Delivery<Incoming>>, AmqpError> {
        loop {
            let mut told = pin!(self.inflow.told());
            told.as_mut().enable();
            match self.inflow.take(usize::from(self.config.batch), true)? {
                Taken::Batch(batch) => return Ok(batch),
                Taken::Suspect { tag, generation, key } => {
                    let others = self.wires.tries.note(&self.notes, &key).await?;
                    self.inflow.judge(tag, generation, others);
                }
                Taken::Nothing(until) => Inflow::<Incoming>::wait(told, until).await,
            }
        }
    }

    /// Submits a batch.
    ///
    /// # Errors
    /// Why the rest of it waits.
    async fn submit(&self, door: &dyn Door, batch: Vec<Delivery<Incoming>>) -> Result<(), String> {
        let mut open: Vec<DeliveryTag> = batch.iter().map(|delivery| delivery.tag).collect();
        let submitted = self.try_submit(door, batch, &mut open).await;
        // Behind what waits nothing of it is taken.
        let noted = self.inflow.noted(&open);
        self.inflow.give_back(&open, Duration::ZERO, Returned::Untried);
        self.wires.unnote(Ok(self.notes.clone()), noted).await;
        submitted
    }

    async fn try_submit(
        &self,
        door: &dyn Door,
        batch: Vec<Delivery<Incoming>>,
        open: &mut Vec<DeliveryTag>,
    ) -> Result<(), String> {
        let (mut submissions, mut tags) = (Vec::new(), Vec::new());
        for delivery in &batch {
            match self.principal(delivery) {
                Ok(principal) => {
                    let Incoming { body, message_id, .. } = &delivery.payload;
                    let (body, message_id) = (body.clone(), message_id.clone());
                    submissions.push(Submission { body, principal, message_id });
                    tags.push(delivery);
                }
                Err(reason) => self.refuse(delivery, reason, open).await?,
            }
        }
        if submissions.is_empty() {
            return Ok(());
        }
        let answers = door.admit(&submissions).await;
        let missing = tags.len().saturating_sub(answers.len());
        let mut accepted = Vec::new();
        let mut waits = (missing > 0).then(|| "the door gave no answer".to_owned());
        for (delivery, answer) in tags.into_iter().zip(answers) {
            match answer {
                Admission::Accepted => accepted.push(delivery.tag),
                Admission::Refused(reason) => self.refuse(delivery, reason, open).await?,
                Admission::Later(reason) => waits = waits.or(Some(reason)),
            }
        }
        open.retain(|tag| !accepted.contains(tag));
        self.accepted.fetch_add(accepted.len() as u64, Ordering::Relaxed);
        self.inflow.ack(&accepted).await.map_err(|error| error.to_string())?;
        waits.map_or(Ok(()), Err)
    }

    /// Who has sent something.
    fn principal(&self, delivery: &Delivery<Incoming>) -> Result<ParticipantId, String> {
        let deaths = delivery.deaths();
        if deaths >= self.config.max_deaths {
            return Err(format!("{deaths} processes ended with it in hand"));
        }
        let Incoming { user, first_user, .. } = &delivery.payload;
        let user = match first_user {
            Some(first) if self.wires.config.vouches(user.as_deref()) => Some(first),
            _ => user.as_ref(),
        };
        let Some(user) = user.filter(|user| !user.is_empty()) else {
            return Err("it has no `user-id`: nobody vouches for who has sent it".to_owned());
        };
        let principal = self.config.principals.of(user);
        principal.ok_or_else(|| format!("the user `{user}` is no participant"))
    }

    /// Puts something to the dead letters.
    async fn refuse(
        &self,
        delivery: &Delivery<Incoming>,
        reason: String,
        open: &mut Vec<DeliveryTag>,
    ) -> Result<(), String> {
        let Incoming { queue, body, user, message_id, first_user, .. } = &delivery.payload;
        tracing::warn!(reason, queue, ?user, ?message_id, "what was submitted is refused");
        let first = if self.wires.config.vouches(user.as_deref()) {
            first_user.as_ref().or(user.as_ref())
        } else {
            user.as_ref()
        };
        let attempts = delivery.attempt;
        let obituary = Obituary { reason, attempts, origin: queue.clone(), ..Obituary::default() };
        let published = Published { user: first.map(String::as_str), id: message_id.as_deref() };
        let buried = self.dead.bury_bytes(body.to_vec(), obituary, published);
        buried.await.map_err(|error| error.to_string())?;
        open.retain(|tag| *tag != delivery.tag);
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.inflow.ack(&[delivery.tag]).await.map_err(|error| error.to_string())
    }
}

/// An ingress queue, as it is listed for who looks at all of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Known {
    queue: String,
    dead: String,
}

impl Known {
    fn of(config: &IngressConfig) -> Self {
        Self { queue: config.queue.clone(), dead: config.dead_queue.clone() }
    }

    /// Puts it on the list, if this process makes what is missing. That this fails is no reason not
    /// to take events in.
    async fn note(self, wires: &Wires) {
        if let Err(error) = self.try_note(wires).await {
            let queue = self.queue;
            tracing::warn!(%error, queue, "an ingress queue is not listed: commands do not see it");
        }
    }

    async fn try_note(&self, wires: &Wires) -> Result<(), AmqpError> {
        if !wires.topology.is_declaring() || !wires.topology.ingresses().await? {
            return Ok(());
        }
        let listed = Self::all(wires).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the list of ingress queues cannot be read");
            // Doubles are harmless.
            BTreeSet::new()
        });
        if listed.contains(self) {
            Ok(())
        } else {
            list(wires)?.append([(self.queue.clone(), self)]).await
        }
    }

    /// All that are listed.
    pub(crate) async fn all(wires: &Wires) -> Result<BTreeSet<Self>, AmqpError> {
        list(wires)?.read(|_: &Self| true).await
    }

    pub(crate) fn config(self) -> IngressConfig {
        IngressConfig::new(self.queue).dead_queue(self.dead)
    }
}

fn list(wires: &Wires) -> Result<List, AmqpError> {
    let queue = wires.topology.names().ingresses_queue()?;
    Ok(List::new(queue, "ingresses", wires.topology.clone(), wires.publisher.clone()))
}
