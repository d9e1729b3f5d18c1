//! Addresses as patterns write them.

use crate::ParticipantId;

/// A parsed address of `publish.to`.
///
/// ```
/// use thredlib::Address;
/// assert_eq!(Address::parse("@ops"), Address::Group("ops".into()));
/// assert_eq!(Address::parse("$thred"), Address::Thred);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `user123` or `org.wt.persistence`: a participant, or a service if the resolver knows one of
    /// that name.
    Direct(ParticipantId),
    /// `@ops`: the members of a group.
    Group(Box<str>),
    /// `$ops`: the holders of a role, or the members of a group of that name.
    RoleOrGroup(Box<str>),
    /// `$thred`: the participants of the thred, services excepted.
    Thred,
    /// `*` or `$all`: everyone with a live session.
    Everyone,
}

impl Address {
    /// Reads an address; every text is one.
    pub fn parse(text: &str) -> Self {
        match text {
            "*" | "$all" => Self::Everyone,
            "$thred" => Self::Thred,
            _ => match (text.strip_prefix('@'), text.strip_prefix('$')) {
                (Some(group), _) if !group.is_empty() => Self::Group(group.into()),
                (_, Some(role)) if !role.is_empty() => Self::RoleOrGroup(role.into()),
                _ => Self::Direct(text.into()),
            },
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Direct(id) => f.write_str(id.as_str()),
            Self::Group(name) => write!(f, "@{name}"),
            Self::RoleOrGroup(name) => write!(f, "${name}"),
            Self::Thred => f.write_str("$thred"),
            Self::Everyone => f.write_str("*"),
        }
    }
}
