//! Who may move a thred.

use regex::{Regex, RegexBuilder};
use thredlib::ParticipantId;

use super::Reaction;
use crate::port::Directory;

/// One entry of `allowedSources`.
#[derive(Debug)]
pub enum SourceRule {
    /// This participant.
    Exact(ParticipantId),
    /// `$group` or `@group`: its members, or the holders of a role of that name.
    Group(Box<str>),
    /// `/regex/`: ids in which it occurs, in any case.
    Pattern(Regex),
}

impl SourceRule {
    /// Most memory for a compiled `/regex/`, in bytes.
    pub const REGEX_BYTES: usize = 1024 * 1024;

    /// Reads an entry.
    ///
    /// # Errors
    /// The regex does not compile.
    pub fn parse(text: &str) -> Result<Self, regex::Error> {
        if let Some(regex) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            let regex = RegexBuilder::new(regex)
                .case_insensitive(true)
                .size_limit(Self::REGEX_BYTES)
                .build()?;
            return Ok(Self::Pattern(regex));
        }
        Ok(match text.strip_prefix(['$', '@']) {
            Some(group) if !group.is_empty() => Self::Group(group.into()),
            _ => Self::Exact(text.into()),
        })
    }

    fn allows(&self, source: &ParticipantId, directory: &Directory) -> bool {
        match self {
            Self::Exact(id) => id == source,
            Self::Group(name) => {
                directory.is_member(source, name) || directory.has_role(source, name)
            }
            Self::Pattern(regex) => regex.is_match(source.as_str()),
        }
    }
}

impl Reaction {
    /// The groups and roles that decide about a source, each as both.
    pub(crate) fn names_asked(&self) -> impl Iterator<Item = &str> {
        let groups = self.allowed_sources.iter().filter_map(|rule| match rule {
            SourceRule::Group(name) => Some(&**name),
            _ => None,
        });
        groups.chain(self.allowed_roles.iter().map(|role| &**role))
    }

    /// Whether a source may move a thred here.
    pub fn allows(&self, source: &ParticipantId, directory: &Directory) -> bool {
        let sources = &self.allowed_sources;
        let roles = &self.allowed_roles;
        (sources.is_empty() || sources.iter().any(|rule| rule.allows(source, directory)))
            && (roles.is_empty() || roles.iter().any(|role| directory.has_role(source, role)))
    }
}
