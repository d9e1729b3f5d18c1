//! What an ingress queue carries.

use std::sync::Arc;

use lapin::{
    BasicProperties,
    types::{FieldTable, ShortString},
};
use thredlib::derive_id;

use crate::{
    AmqpError,
    cargo::Cargo,
    counts::{header, short_text, words},
    letter::{ID, USER},
    names::short,
    publisher::Parcel,
    topology::Topology,
};

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
    /// Who has published it at first, as an engine says that has redriven it; empty: nobody knows.
    pub(super) first_user: Option<String>,
    /// The id that it was published with at first, as its letter says.
    first_id: Option<String>,
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

    /// Back to its queue. The broker vouches for this process alone, which says whose it was, also
    /// that nobody knows: else it would be this process's.
    fn parcel(&self, _topology: &Topology) -> Result<Parcel, AmqpError> {
        let user = self.first_user.as_ref().or(self.user.as_ref());
        let mut headers = FieldTable::default();
        headers.insert(USER.into(), short_text(user.map_or("", String::as_str)));
        Ok(Parcel {
            exchange: "".into(),
            key: short(&self.queue)?,
            id: self.id(),
            headers: Some(headers),
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
            first_id: header(properties, ID).and_then(words),
        })
    }

    /// It goes back to its own queue, and is of who is known to have sent it: what the broker itself
    /// has put to the dead letters has the headers that its sender chose.
    fn of_letter(self, home: &str, is_ours: bool) -> Self {
        let (user, message_id) =
            if is_ours { (self.first_user, self.first_id) } else { (self.user, self.message_id) };
        let user = user.filter(|user| !user.is_empty());
        let queue = home.to_owned();
        Self { queue, body: self.body, user, message_id, first_user: None, first_id: None }
    }
}
