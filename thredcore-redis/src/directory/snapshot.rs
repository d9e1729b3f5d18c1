//! The directory as it is kept on the server.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

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
    /// What cannot be read, and why: it is left out.
    pub(super) skipped: BTreeSet<String>,
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
    /// From the answer of `read.lua`. An entry that cannot be read is left out: whoever wrote it
    /// must not keep the others from being known.
    pub(super) fn parse(answer: Value) -> Result<Self, Error> {
        type Lists = Vec<(Vec<u8>, Vec<u8>)>;
        type Answer = (String, Lists, Lists, Vec<Vec<u8>>, Vec<Vec<u8>>, i64);
        let answer = Answer::from_redis_value(answer);
        let (version, groups, roles, services, sessions, first_end) =
            answer.map_err(|error| Error::Malformed(error.to_string()))?;
        let mut directory = Directory::new();
        let mut skipped = BTreeSet::new();
        for (name, members) in groups {
            match list(&name, &members) {
                Ok((name, members)) => _ = directory.add_group(name, members),
                Err(why) => _ = skipped.insert(format!("the group {why}")),
            }
        }
        for (name, holders) in roles {
            match list(&name, &holders) {
                Ok((name, holders)) => _ = directory.add_role(name, holders),
                Err(why) => _ = skipped.insert(format!("the role {why}")),
            }
        }
        for service in services {
            match std::str::from_utf8(&service) {
                Ok(service) => _ = directory.add_service(service),
                Err(error) => {
                    skipped.insert(format!("the service `{}`: {error}", service.escape_ascii()));
                }
            }
        }
        for session in sessions {
            match serde_json::from_slice::<(ParticipantId, Topic)>(&session) {
                Ok((participant, node)) => _ = directory.add_session(participant, node),
                Err(error) => {
                    skipped.insert(format!("the session `{}`: {error}", session.escape_ascii()));
                }
            }
        }
        let first_end = u64::try_from(first_end).ok().map(Duration::from_millis);
        Ok(Self { directory, version, first_end, skipped })
    }
}

/// A name and what it stands for; else what cannot be read, and why.
fn list<'a>(name: &'a [u8], ids: &[u8]) -> Result<(&'a str, Vec<ParticipantId>), String> {
    let why = |error: &dyn std::fmt::Display| format!("`{}`: {error}", name.escape_ascii());
    let text = std::str::from_utf8(name).map_err(|error| why(&error))?;
    Ok((text, serde_json::from_slice(ids).map_err(|error| why(&error))?))
}

impl Texts {
    pub(super) fn of(directory: &Directory) -> Result<Self, Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
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
