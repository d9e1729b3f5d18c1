//! The door that submissions go through.

use std::sync::Arc;

use async_trait::async_trait;
use thredlib::ParticipantId;

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
