//! What can go wrong, and what the ports say of it.

use std::{io, path::PathBuf};

use thredcore::{
    format::FormatError,
    port::{PortError, PortErrorKind},
};

/// A directory that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedbError {
    /// Another process, or another part of this one, has it open.
    #[error("{} is in use by another process{}; stop that one or choose another directory",
        dir.display(), pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process, as far as it has left its number.
        pid: Option<u32>,
    },
    /// Another version of this crate has made it.
    #[error("{} cannot be used: {problem}", dir.display())]
    Format {
        /// The directory.
        dir: PathBuf,
        /// What it has, and what can be read.
        problem: FormatError,
    },
    /// Something stored cannot be read. It is passed over; `store check` lists it.
    #[error("{table} {key} cannot be read")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The key in it.
        key: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file system refuses.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The database refuses.
    #[error("the database failed")]
    Database(#[source] redb::Error),
}

impl RedbError {
    pub(crate) fn damaged(
        table: &'static str,
        key: impl ToString,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Damaged { table, key: key.to_string(), source: source.into() }
    }

    /// What the port says of a failed read.
    pub(crate) fn port(self, operation: &'static str) -> PortError {
        PortError::new(operation, PortErrorKind::Unavailable, self)
    }
}

macro_rules! database_errors {
    ($($error:ident)*) => {
        $(impl From<redb::$error> for RedbError {
            fn from(error: redb::$error) -> Self {
                Self::Database(error.into())
            }
        })*
    };
}

database_errors!(StorageError TableError TransactionError CommitError DatabaseError);

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Why an operation was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// There is no room to write it.
    #[error("the disk is full; nothing is written until there is room again")]
    Full,
    /// The directory is closed.
    #[error("the directory has been closed")]
    Closed,
}

impl Refusal {
    pub(crate) fn port(self, operation: &'static str) -> PortError {
        match self {
            Self::Full => PortError::new(operation, PortErrorKind::Unavailable, self),
            Self::Closed => PortError::closed(operation),
        }
    }
}
