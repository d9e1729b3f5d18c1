//! Field paths.

use std::{fmt, sync::Arc};

/// The way to a field of a record: names joined by dots, none of them empty or starting with `$`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FieldPath(Arc<str>);

impl FieldPath {
    /// The caller has checked the text.
    pub(super) fn new_unchecked(text: &str) -> Self {
        Self(text.into())
    }

    /// The path as text, with dots.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names, from the record inwards.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

impl fmt::Debug for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The first name of a path and what is left of it.
pub(super) fn split(path: &str) -> (&str, Option<&str>) {
    match path.split_once('.') {
        Some((head, rest)) => (head, Some(rest)),
        None => (path, None),
    }
}

/// The position in a list that a name stands for: decimal digits without a leading zero.
pub(super) fn index(name: &str) -> Option<usize> {
    let canonical = name == "0" || !name.starts_with('0');
    (canonical && name.bytes().all(|b| b.is_ascii_digit())).then(|| name.parse().ok())?
}
