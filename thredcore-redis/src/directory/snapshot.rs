//! The directory as it is kept on the server.

use std::{collections::BTreeMap, time::Duration};

use redis::{FromRedisValue, Value};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thredcore::port::Directory;
use thredlib::{ParticipantId, Topic};

use crate::Error;

/// What the server has answered.
pub(super) struct Snapshot {
    pub(super) directory: Directory,
    pub(super) version: String,
    /// After how long the first session ends.
    pub(super) first_end: Option<Duration>,
}

/// A directory in the texts that the server keeps.
pub(super) struct Texts {
    /// Names and members.
    pub(super) groups: Vec<(String, String)>,
    /// Names and holders.
    pub(super) roles: Vec<(String, String)>,
    pub(super) services: Vec<String>,
    pub(super) sessions: Vec<String>,
}

impl Snapshot {
    /// From the answer of `read.lua`.
    pub(super) fn parse(answer: Value) -> Result<Self, Error> {
        type Lists = Vec<(String, String)>;
        type Answer = (String, Lists, Lists, Vec<String>, Vec<String>, i64);
        let answer = Answer::from_redis_value(answer);
        let (version, groups, roles, services, sessions, first_end) =
            answer.map_err(|error| Error::Malformed(error.to_string()))?;
        let mut directory = Directory::new();
        for (name, members) in groups {
            directory.add_group(&*name, read::<Vec<ParticipantId>>(&members)?);
        }
        for (name, holders) in roles {
            directory.add_role(&*name, read::<Vec<ParticipantId>>(&holders)?);
        }
        for service in services {
            directory.add_service(&*service);
        }
        for session in sessions {
            let (participant, node): (ParticipantId, Topic) = read(&session)?;
            directory.add_session(participant, node);
        }
        let first_end = u64::try_from(first_end).ok().map(Duration::from_millis);
        Ok(Self { directory, version, first_end })
    }
}

impl Texts {
    pub(super) fn of(directory: &Directory) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Model {
            groups: BTreeMap<String, Vec<ParticipantId>>,
            roles: BTreeMap<String, Vec<ParticipantId>>,
            services: Vec<String>,
            sessions: Vec<SessionModel>,
        }
        #[derive(Deserialize)]
        struct SessionModel {
            participant: ParticipantId,
            node: Topic,
        }
        let model: Model = read(&json(directory)?)?;
        let lists = |lists: BTreeMap<String, Vec<ParticipantId>>| {
            let texts = lists.into_iter().map(|(name, ids)| Ok((name, json(&ids)?)));
            texts.collect::<Result<_, Error>>()
        };
        let sessions = model.sessions.iter().map(|it| session(&it.participant, &it.node));
        Ok(Self {
            groups: lists(model.groups)?,
            roles: lists(model.roles)?,
            services: model.services,
            sessions: sessions.collect::<Result<_, Error>>()?,
        })
    }
}

/// The name of a session.
pub(super) fn session(participant: &ParticipantId, node: &Topic) -> Result<String, Error> {
    json(&(participant, node))
}

pub(super) fn json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Malformed(error.to_string()))
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::Malformed(format!("`{text}` in the directory: {error}")))
}
