//! Events that other programs publish.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex as StdMutex, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use lapin::{
    BasicProperties,
    types::{FieldTable, ShortString},
};
use thredcore::port::{DeadLetter, DeadLetterFilter, Delivery, DeliveryTag, Returned};
use thredlib::{ParticipantId, derive_id};
use tokio::{
    sync::{Mutex, mpsc},
    time::sleep,
};

use crate::{
    AmqpError,
    cargo::Cargo,
    counts::{header, short_text, words},
    dead_letters::DeadLetters,
    inflow::{Ask, Inflow, Taken},
    letter::{Obituary, USER},
    names::short,
    publisher::Parcel,
    pump::{Pump, Source, Works},
    queues::Wires,
    topology::Topology,
};

/// A queue that other programs publish events to, and who they are taken for.
///
/// ```
/// use thredcore_amqp::{IngressConfig, Principals};
///
/// let config = IngressConfig::new("orders.incoming")
///     .principals(Principals::Table([("shop".to_owned(), "erp".into())].into()));
/// assert_eq!(config.queue(), "orders.incoming");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IngressConfig {
    queue: String,
    dead_queue: String,
    tries_queue: String,
    principals: Principals,
    batch: u16,
    max_deaths: u32,
}

/// Who a user of the broker is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Principals {
    /// The user's name is the participant's id.
    #[default]
    UserIsParticipant,
    /// The participants of users; others are refused.
    Table(HashMap<String, ParticipantId>),
}

impl Principals {
    fn of(&self, user: &str) -> Option<ParticipantId> {
        match self {
            Self::UserIsParticipant => Some(ParticipantId::from(user)),
            Self::Table(table) => table.get(user).cloned(),
        }
    }
}

impl IngressConfig {
    /// A queue by its name. The adapter makes it, or with [`Declare::No`](crate::Declare::No) takes
    /// the one that is there. What is refused goes to the queue `{queue}.dead`.
    pub fn new(queue: impl Into<String>) -> Self {
        let queue = queue.into();
        Self {
            dead_queue: format!("{queue}.dead"),
            tries_queue: format!("{queue}.tries"),
            queue,
            principals: Principals::default(),
            batch: 64,
            max_deaths: 20,
        }
    }

    /// The name of the queue.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Who the users of the broker are. Default: they are called as the participants.
    #[must_use]
    pub fn principals(mut self, principals: Principals) -> Self {
        self.principals = principals;
        self
    }

    /// The queue of what was refused, a queue of its own. Default `{queue}.dead`.
    #[must_use]
    pub fn dead_queue(mut self, name: impl Into<String>) -> Self {
        self.dead_queue = name.into();
        self
    }

    /// The queue in which it is noted what is just about to be tried once more. Default
    /// `{queue}.tries`.
    #[must_use]
    pub fn tries_queue(mut self, name: impl Into<String>) -> Self {
        self.tries_queue = name.into();
        self
    }

    /// How many are handed to the [`Door`] at a time; at least 1. Default 64.
    #[must_use]
    pub fn batch(mut self, submissions: u16) -> Self {
        self.batch = submissions.max(1);
        self
    }

    /// How many processes may end with something in hand until it goes to the dead letters; at least
    /// 3. Default 20.
    #[must_use]
    pub fn max_deaths(mut self, deaths: u32) -> Self {
        self.max_deaths = deaths.max(3);
        self
    }
}

/// What somebody has published: not read yet, but known by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Submission {
    /// The bytes as they came: an event as JSON, if all is well.
    pub body: Arc<[u8]>,
    /// Who has published it, as the broker vouches for.
    pub principal: ParticipantId,
    /// The id that it was published with.
    pub message_id: Option<String>,
}

/// What becomes of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is durable elsewhere.
    Accepted,
    /// It never will be: it goes to the dead letters with this reason.
    Refused(String),
    /// Not now, for this reason: it is submitted again, with what came after it.
    Later(String),
}

/// Takes in what is submitted: an engine's door.
#[async_trait]
pub trait Door: Send + Sync {
    /// Takes submissions in, in their order; the answers stand in the same order. What has no answer
    /// is submitted again.
    async fn admit(&self, submissions: &[Submission]) -> Vec<Admission>;
}

/// What was published to an ingress queue, as it is kept among the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incoming {
    /// The queue.
    pub queue: String,
    /// The bytes as they came.
    pub body: Arc<[u8]>,
    /// The user of the broker who has published it, if it was said.
    pub user: Option<String>,
    /// The id that it was published with.
    pub message_id: Option<String>,
    /// Who has published it at first, as an engine says that has redriven it.
    first_user: Option<String>,
}

pub(crate) const KIND: &str = "submission";

impl Cargo for Incoming {
    const KIND: &'static str = KIND;
    const COUNTS_HAND_OUTS: bool = false;

    fn id(&self) -> String {
        self.message_id.clone().unwrap_or_default()
    }

    fn key(&self) -> String {
        let user = self.user.as_deref().unwrap_or_default();
        derive_id("submission", &[user, &self.id(), &String::from_utf8_lossy(&self.body)])
            .to_string()
    }

    fn origin(&self) -> &str {
        &self.queue
    }

    /// Back to its queue. The broker vouches for this process alone, which says whose it was.
    fn parcel(&self, _topology: &Topology) -> Result<Parcel, AmqpError> {
        let user = self.first_user.as_ref().or(self.user.as_ref());
        let headers = user.map(|user| {
            let mut headers = FieldTable::default();
            headers.insert(USER.into(), short_text(user));
            headers
        });
        Ok(Parcel {
            exchange: "".into(),
            key: short(&self.queue)?,
            id: self.id(),
            headers,
            body: self.body.to_vec(),
        })
    }

    fn read(origin: &str, properties: &BasicProperties, body: &[u8]) -> Result<Self, String> {
        let text = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string);
        Ok(Self {
            queue: origin.to_owned(),
            body: body.into(),
            user: text(properties.user_id()),
            message_id: text(properties.message_id()).filter(|id| !id.is_empty()),
            first_user: header(properties, USER).and_then(words),
        })
    }
}

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
    asks: StdMutex<Option<mpsc::UnboundedReceiver<Ask>>>,
    pump: OnceLock<Pump>,
    running: Mutex<()>,
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
        wires.topology.ingress(&queue, &dead).await?;
        let dead = Arc::new(wires.dead_letters(dead));
        let (inflow, asks) = Inflow::new(0, queue);
        let (asks, pump) = (StdMutex::new(Some(asks)), OnceLock::new());
        let running = Mutex::new(());
        Ok(Self { wires, config, notes, dead, inflow, asks, pump, running })
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
            let asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner).take();
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
        let Incoming { queue, body, user, message_id, first_user } = &delivery.payload;
        tracing::warn!(reason, queue, ?user, ?message_id, "what was submitted is refused");
        let first = match self.wires.config.vouches(user.as_deref()) {
            true => first_user.as_ref().or(user.as_ref()),
            false => user.as_ref(),
        };
        let attempts = delivery.attempt;
        let obituary = Obituary { reason, attempts, origin: queue.clone(), ..Obituary::default() };
        let buried = self.dead.bury_bytes(body.to_vec(), obituary, first.map(String::as_str));
        buried.await.map_err(|error| error.to_string())?;
        open.retain(|tag| *tag != delivery.tag);
        self.inflow.ack(&[delivery.tag]).await.map_err(|error| error.to_string())
    }
}
