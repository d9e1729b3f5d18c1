//! Which queue is an ingress, and who the users of the broker are.

use std::collections::HashMap;

use thredlib::ParticipantId;

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
    pub(super) queue: String,
    pub(super) dead_queue: String,
    pub(super) tries_queue: String,
    pub(super) principals: Principals,
    pub(super) batch: u16,
    pub(super) max_deaths: u32,
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
    pub(super) fn of(&self, user: &str) -> Option<ParticipantId> {
        match self {
            Self::UserIsParticipant => Some(ParticipantId::from(user)),
            Self::Table(table) => table.get(user).cloned(),
        }
    }
}

impl IngressConfig {
    /// A queue by its name. One that is there is used as it is, of whatever type; else the adapter
    /// makes it, and a direct exchange of the same name with the same routing key, so that its
    /// publishers need no permission for any other. With [`Declare::No`](crate::Declare::No) it must
    /// be there. What is refused goes to the queue `{queue}.dead`.
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

    /// How many are handed to the [`Door`](crate::Door) at a time; at least 1. Default 64.
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
