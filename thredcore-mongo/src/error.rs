//! What can go wrong, and what follows from it.

use mongodb::error::{Error, ErrorKind, WriteFailure};
use thredcore::{
    format::FormatError,
    port::{PortError, PortErrorKind},
};

/// Why a connection could not be made ready for use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MongoError {
    /// The URL says what the driver does not understand, or options that do not go together.
    #[error("not a usable MongoDB URL; write mongodb://HOST:PORT/?replicaSet=NAME")]
    Url(#[source] Box<Error>),
    /// No server answered in time, or it refused.
    #[error("MongoDB at {hosts} cannot be used; is it running, and do user and password fit?")]
    Unreachable {
        /// Where it was looked for.
        hosts: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// The server is no member of a replica set, so nothing that it acknowledges is safe.
    #[error(
        "MongoDB at {hosts} is not a replica set; start it with --replSet, also if it is alone"
    )]
    NoReplicaSet {
        /// Where it is.
        hosts: String,
    },
    /// Another version of this crate has made what is stored.
    #[error("the database `{database}` cannot be used: {problem}")]
    Format {
        /// The database.
        database: String,
        /// What it has, and what can be read.
        problem: FormatError,
    },
    /// Nothing is stored there, and nothing was to be [made](crate::MongoConfig::create).
    #[error("nothing is stored in the database `{database}`; check its name, and the URL")]
    Nothing {
        /// The database.
        database: String,
    },
    /// An index or a collection could not be made.
    #[error("the collections of database `{database}` could not be prepared")]
    Prepare {
        /// The database.
        database: String,
        /// Why.
        #[source]
        source: PortError,
    },
}

/// The documents are larger than MongoDB takes (or have more index entries than its cache), or the
/// values unfit for it.
const REJECTED: &[i32] = &[
    2, 9, 13, 14, 15, 16, 18, 20, 22, 26, 28, 40, 48, 51, 52, 53, 54, 55, 56, 57, 59, 67, 72, 73,
    121, 168, 334, 388, 8000, 10334, 11000, 17280, 17419, 17420, 31250, 40353,
];

/// Not primary (any more, or not yet), or lost against another transaction: nothing was done.
const NOT_DONE: &[i32] = &[10058, 10107, 13435, 13436, 112, 251];

/// The one place where errors of the driver become errors of a port.
pub(crate) fn port_error(operation: &'static str, error: Error) -> PortError {
    PortError::new(operation, kind(&error), error)
}

/// What an error code of the server means for a write.
pub(crate) fn kind_of_code(code: i32) -> PortErrorKind {
    match code {
        code if REJECTED.contains(&code) => PortErrorKind::Rejected,
        code if NOT_DONE.contains(&code) => PortErrorKind::Unavailable,
        // Interrupted, stepped down in the middle, out of time or disk.
        _ => PortErrorKind::Unknown,
    }
}

fn kind(error: &Error) -> PortErrorKind {
    match &*error.kind {
        ErrorKind::ServerSelection { .. }
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::SessionsNotSupported => PortErrorKind::Unavailable,
        ErrorKind::Shutdown => PortErrorKind::Closed,
        ErrorKind::InvalidArgument { .. }
        | ErrorKind::Authentication { .. }
        | ErrorKind::InvalidTlsConfig { .. }
        | ErrorKind::IncompatibleServer { .. }
        | ErrorKind::Bson(_) => PortErrorKind::Rejected,
        ErrorKind::Command(command) => kind_of_code(command.code),
        ErrorKind::Write(WriteFailure::WriteError(write)) => kind_of_code(write.code),
        // The connection broke after sending, or the write is not on a majority yet.
        _ => PortErrorKind::Unknown,
    }
}

/// The server's codes for a document, new or changed, that is larger than it takes.
pub(crate) const TOO_LARGE: &[i32] = &[10334, 17419, 17420];

/// The server's code for a key that is there already.
pub(crate) const DUPLICATE_KEY: i32 = 11000;

/// Whether a key is there already.
pub(crate) fn is_duplicate_key(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::Command(command) => command.code == DUPLICATE_KEY,
        ErrorKind::Write(WriteFailure::WriteError(write)) => write.code == DUPLICATE_KEY,
        _ => false,
    }
}
