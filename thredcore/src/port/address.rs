//! Who is behind an address.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thredlib::{ParticipantId, Topic};

use super::error::PortError;

/// Knows participants, groups, roles, services and sessions.
#[async_trait]
pub trait AddressResolver: Send + Sync {
    /// What is known now, as one consistent value. Asked for each batch of events: answer from
    /// memory, and fetch in the background.
    ///
    /// # Errors
    /// When nothing is known yet and the source cannot be reached.
    async fn directory(&self) -> Result<Arc<Directory>, PortError>;
}

/// Participants, groups, roles, services and sessions at one moment: data, so that `react` can
/// look things up without I/O.
///
/// In JSON: `{"groups": {"ops": ["ann"]}, "roles": {"admin": ["ann"]},
/// "services": ["org.wt.persistence"], "sessions": ["ann"]}`; a session may name its node:
/// `{"participant": "ann", "node": "org.wt.session2"}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "DirectoryModel", into = "DirectoryModel")]
pub struct Directory {
    groups: HashMap<Arc<str>, Members>,
    roles: HashMap<Arc<str>, Members>,
    services: HashSet<ParticipantId>,
    /// In the order of their opening.
    online: Vec<ParticipantId>,
    nodes: HashMap<ParticipantId, Vec<Topic>>,
    away: Away,
}

/// The node of whoever has no session.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Away([Topic; 1]);

impl Default for Away {
    fn default() -> Self {
        Self([Directory::DEFAULT_NODE.into()])
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Members {
    list: Vec<ParticipantId>,
    set: HashSet<ParticipantId>,
}

impl Members {
    fn add(&mut self, id: ParticipantId) {
        if self.set.insert(id.clone()) {
            self.list.push(id);
        }
    }
}

impl Directory {
    /// The session node of participants that have no session of their own: messages to somebody
    /// who is away wait there.
    pub const DEFAULT_NODE: &'static str = "org.wt.session";

    /// Nobody and nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds members to a group.
    pub fn add_group<P: Into<ParticipantId>>(
        &mut self,
        name: impl Into<Arc<str>>,
        members: impl IntoIterator<Item = P>,
    ) -> &mut Self {
        let group = self.groups.entry(name.into()).or_default();
        members.into_iter().for_each(|member| group.add(member.into()));
        self
    }

    /// Gives a role to participants.
    pub fn add_role<P: Into<ParticipantId>>(
        &mut self,
        name: impl Into<Arc<str>>,
        holders: impl IntoIterator<Item = P>,
    ) -> &mut Self {
        let role = self.roles.entry(name.into()).or_default();
        holders.into_iter().for_each(|holder| role.add(holder.into()));
        self
    }

    /// Adds a service: an agent's node type or node id.
    pub fn add_service(&mut self, address: impl Into<ParticipantId>) -> &mut Self {
        self.services.insert(address.into());
        self
    }

    /// Opens a session of a participant on a node.
    pub fn add_session(
        &mut self,
        participant: impl Into<ParticipantId>,
        node: impl Into<Topic>,
    ) -> &mut Self {
        let (participant, node) = (participant.into(), node.into());
        let nodes = self.nodes.entry(participant.clone()).or_default();
        if nodes.is_empty() {
            self.online.push(participant);
        }
        if !nodes.contains(&node) {
            nodes.push(node);
        }
        self
    }

    /// Whether nobody and nothing is in it.
    pub fn is_empty(&self) -> bool {
        let Self { groups, roles, services, online, .. } = self;
        groups.is_empty() && roles.is_empty() && services.is_empty() && online.is_empty()
    }

    /// Replaces a group.
    pub(super) fn set_group(&mut self, name: &str, members: &[ParticipantId]) {
        self.groups.insert(name.into(), Members::default());
        self.add_group(name, members.iter().cloned());
    }

    /// Replaces a role.
    pub(super) fn set_role(&mut self, name: &str, holders: &[ParticipantId]) {
        self.roles.insert(name.into(), Members::default());
        self.add_role(name, holders.iter().cloned());
    }

    /// Takes over the sessions of another directory.
    pub(super) fn set_sessions(&mut self, other: &Self) {
        self.online.clone_from(&other.online);
        self.nodes.clone_from(&other.nodes);
    }

    /// The members of a group, in order; `None` when there is no such group.
    pub fn group(&self, name: &str) -> Option<&[ParticipantId]> {
        self.groups.get(name).map(|group| &*group.list)
    }

    /// The holders of a role, in order; `None` when nobody holds it.
    pub fn role(&self, name: &str) -> Option<&[ParticipantId]> {
        self.roles.get(name).map(|role| &*role.list)
    }

    /// Whether a participant belongs to a group of that name.
    pub fn is_member(&self, participant: &ParticipantId, group: &str) -> bool {
        self.groups.get(group).is_some_and(|group| group.set.contains(participant))
    }

    /// Whether a participant holds a role.
    pub fn has_role(&self, participant: &ParticipantId, role: &str) -> bool {
        self.roles.get(role).is_some_and(|role| role.set.contains(participant))
    }

    /// Whether an address is a service.
    pub fn is_service(&self, address: &ParticipantId) -> bool {
        self.services.contains(address)
    }

    /// The addresses of all services, sorted.
    pub fn services(&self) -> Vec<&ParticipantId> {
        let mut services: Vec<_> = self.services.iter().collect();
        services.sort();
        services
    }

    /// Everyone with a live session.
    pub fn everyone(&self) -> &[ParticipantId] {
        &self.online
    }

    /// All session nodes, sorted; the [default node](Self::DEFAULT_NODE) included.
    pub fn all_nodes(&self) -> Vec<&Topic> {
        let mut nodes: Vec<_> = self.nodes.values().flatten().chain(&self.away.0).collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }

    /// The session nodes that hold a participant's sessions; the
    /// [default node](Self::DEFAULT_NODE) when there are none.
    pub fn session_nodes(&self, participant: &ParticipantId) -> &[Topic] {
        self.nodes.get(participant).map_or(&self.away.0, |nodes| &**nodes)
    }
}

/// A directory that does not change: for tests and single programs.
#[derive(Clone, Debug, Default)]
pub struct FixedDirectory(Arc<Directory>);

impl FixedDirectory {
    /// Always answers with this directory.
    pub fn new(directory: Directory) -> Self {
        Self(Arc::new(directory))
    }
}

#[async_trait]
impl AddressResolver for FixedDirectory {
    async fn directory(&self) -> Result<Arc<Directory>, PortError> {
        Ok(self.0.clone())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DirectoryModel {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    groups: BTreeMap<Arc<str>, Vec<ParticipantId>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    roles: BTreeMap<Arc<str>, Vec<ParticipantId>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    services: Vec<ParticipantId>,
    #[serde(default)]
    sessions: Option<Vec<SessionModel>>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum SessionModel {
    Participant(ParticipantId),
    OnNode { participant: ParticipantId, node: Topic },
}

impl From<DirectoryModel> for Directory {
    fn from(model: DirectoryModel) -> Self {
        let mut directory = Self::new();
        // Left out, the sessions are those of everyone who is named in a group or role.
        let sessions = model.sessions.unwrap_or_else(|| {
            let mut seen = HashSet::new();
            let named = model.groups.values().chain(model.roles.values()).flatten();
            named.filter(|id| seen.insert(*id)).cloned().map(SessionModel::Participant).collect()
        });
        for (name, members) in model.groups {
            directory.add_group(name, members);
        }
        for (name, holders) in model.roles {
            directory.add_role(name, holders);
        }
        for service in model.services {
            directory.add_service(service);
        }
        for session in sessions {
            match session {
                SessionModel::Participant(id) => directory.add_session(id, Self::DEFAULT_NODE),
                SessionModel::OnNode { participant, node } => {
                    directory.add_session(participant, node)
                }
            };
        }
        directory
    }
}

impl From<Directory> for DirectoryModel {
    fn from(directory: Directory) -> Self {
        let lists = |map: HashMap<Arc<str>, Members>| {
            map.into_iter().map(|(name, members)| (name, members.list)).collect()
        };
        let sessions = directory.online.iter().flat_map(|participant| {
            directory.session_nodes(participant).iter().map(|node| SessionModel::OnNode {
                participant: participant.clone(),
                node: node.clone(),
            })
        });
        Self {
            sessions: Some(sessions.collect()),
            services: directory.services().into_iter().cloned().collect(),
            groups: lists(directory.groups),
            roles: lists(directory.roles),
        }
    }
}
