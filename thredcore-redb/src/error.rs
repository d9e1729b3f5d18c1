//! What can go wrong, and what the ports say of it.

use std::{
    io::{
        self,
        ErrorKind::{InvalidData, UnexpectedEof},
    },
    path::{Path, PathBuf},
};

use thredcore::{
    format::FormatError,
    port::{PortError, PortErrorKind},
};

use crate::directory::FILE;

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
    /// Nothing is stored there, and nothing was to be [made](crate::RedbConfig::create).
    #[error("there is no store in {}", dir.display())]
    Nothing {
        /// The directory.
        dir: PathBuf,
    },
    /// A file stands where the directory is to be.
    #[error("{} is not a directory; give the directory that holds `{FILE}`", path.display())]
    NotADirectory {
        /// The file.
        path: PathBuf,
    },
    /// The file of the directory is damaged, or something else has made it.
    #[error("{} is damaged, or no store of threds; put back a copy of it, or choose another directory",
        path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
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

    pub(crate) fn unusable(
        path: &Path,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unusable { path: path.to_owned(), source: source.into() }
    }

    /// What a failure to open this file comes to.
    pub(crate) fn of_file(self, path: &Path) -> Self {
        use redb::Error::{
            Corrupted, Io, RepairAborted, TableDoesNotExist, TableIsMultimap, TableIsNotMultimap,
            TableTypeMismatch, TypeDefinitionChanged, UpgradeRequired,
        };
        let Self::Database(error) = self else { return self };
        match error {
            // Not the database's beginning, or not its end.
            Io(source) if matches!(source.kind(), InvalidData | UnexpectedEof) => {
                Self::unusable(path, source)
            }
            Io(source) => Self::Io { operation: "open", path: path.to_owned(), source },
            Corrupted(_)
            | UpgradeRequired(_)
            | RepairAborted
            | TableDoesNotExist(_)
            | TableIsMultimap(_)
            | TableIsNotMultimap(_)
            | TableTypeMismatch { .. }
            | TypeDefinitionChanged { .. } => Self::unusable(path, error),
            error => Self::Database(error),
        }
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
