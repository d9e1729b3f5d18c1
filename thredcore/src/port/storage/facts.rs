//! What a decision has asked of the world around it.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use thredlib::{EventKey, ParticipantId, PatternId, Topic};

use crate::port::address::Directory;

/// What a step has asked of the world beyond its thred, pattern and input, as far as the answer
/// was not the usual one. With it the step can be computed again when the world is another.
///
/// The directory holds what was asked and no more: the members of a group that was written to, but
/// of a group that merely had to hold the source, the source alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// What seeded `$random()`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seed: u64,
    /// Groups, roles, services and sessions.
    #[serde(default, skip_serializing_if = "Directory::is_empty")]
    pub directory: Directory,
    /// The patterns that names in a spawn stood for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub patterns: BTreeMap<Arc<str>, PatternId>,
    /// What had a receipt or was too old to come again, and left the inbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settled: Vec<EventKey>,
    /// Who wanted to hear of the change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watchers: Vec<ParticipantId>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Facts {
    /// All members of a group were asked for.
    pub(crate) fn group(&mut self, name: &str, members: &[ParticipantId]) {
        self.directory.set_group(name, members);
    }

    /// All holders of a role were asked for.
    pub(crate) fn role(&mut self, name: &str, holders: &[ParticipantId]) {
        self.directory.set_role(name, holders);
    }

    /// Everyone was asked for.
    pub(crate) fn everyone(&mut self, directory: &Directory) {
        self.directory.set_sessions(directory);
    }

    /// Somebody's session nodes were asked for.
    pub(crate) fn nodes(&mut self, id: &ParticipantId, nodes: &[Topic]) {
        for node in nodes {
            self.directory.add_session(id.clone(), node.clone());
        }
    }
}
