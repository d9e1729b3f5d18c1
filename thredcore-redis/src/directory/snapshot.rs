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
        type Bytes = Vec<u8>;
        type Lists = Vec<(Bytes, Bytes)>;
        type Answer = (String, Lists, Lists, Vec<Bytes>, Vec<Bytes>, i64);
        let answer = Answer::from_redis_value(answer);
        let (version, groups, roles, services, sessions, first_end) =
            answer.map_err(|error| Error::Malformed(error.to_string()))?;
        let mut directory = Directory::new();
        for (name, members) in groups {
            if let Some((name, members)) = named::<Vec<ParticipantId>>("group", &name, &members) {
                directory.add_group(name, members);
            }
        }
        for (name, holders) in roles {
            if let Some((name, holders)) = named::<Vec<ParticipantId>>("role", &name, &holders) {
                directory.add_role(name, holders);
            }
        }
        for service in services {
            if let Some(service) = readable("service", &service, text(&service)) {
                directory.add_service(service);
            }
        }
        for session in sessions {
            let read = text(&session).and_then(read::<(ParticipantId, Topic)>);
            if let Some((participant, node)) = readable("session", &session, read) {
                directory.add_session(participant, node);
            }
        }
        let first_end = u64::try_from(first_end).ok().map(Duration::from_millis);
        Ok(Self { directory, version, first_end })
    }
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

/// What was read. What cannot be read is passed over, and hides nothing else.
fn readable<T>(kind: &str, name: &[u8], read: Result<T, Error>) -> Option<T> {
    let warn = |error: &Error| {
        let name = String::from_utf8_lossy(name);
        tracing::warn!(%error, %name, "a {kind} cannot be read, and is passed over");
    };
    read.inspect_err(warn).ok()
}

fn named<'n, T: DeserializeOwned>(
    kind: &str,
    name: &'n [u8],
    value: &[u8],
) -> Option<(&'n str, T)> {
    let both = text(name).and_then(|name| Ok((name, read(text(value)?)?)));
    readable(kind, name, both)
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    str::from_utf8(bytes).map_err(|error| Error::Malformed(error.to_string()))
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
