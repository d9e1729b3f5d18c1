//! What goes wrong with a Redis server, and what follows for the ports.

use redis::{ErrorKind, RedisError, ServerErrorKind};
use thredcore::{
    format::FormatError,
    port::{PortError, PortErrorKind},
};

/// A failure of a Redis server, of the way to it, or of what it was started with.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(String),
    /// The server is not what threds can be trusted to.
    #[error("redis at {address} is not fit for use: {why}; {remedy}")]
    Unfit {
        /// Which server.
        address: String,
        /// What is wrong.
        why: String,
        /// What mends it.
        remedy: String,
    },
    /// Another version of this crate has made what is stored.
    #[error("the namespace `{namespace}` on redis cannot be used: {problem}")]
    Format {
        /// The namespace.
        namespace: String,
        /// What it has, and what can be read.
        problem: FormatError,
    },
    /// The namespace was upgraded while this process was away: nothing more is sent.
    #[error("the namespace `{namespace}` on redis cannot be used any more: {problem}")]
    Outdated {
        /// The namespace.
        namespace: String,
        /// What it has, and what can be read.
        problem: FormatError,
    },
    /// There is no connection, so nothing was sent.
    #[error("cannot reach redis at {address}: {why}")]
    Unreachable {
        /// Which server.
        address: String,
        /// The cause.
        why: String,
    },
    /// The time limit ran out, or the connection broke on the way: it may have been done.
    #[error("no answer from redis at {address}: {why}")]
    Unanswered {
        /// Which server.
        address: String,
        /// The cause.
        why: String,
    },
    /// It was done, but fewer replicas than asked for have it so far.
    #[error("{confirmed} of {wanted} replicas have confirmed a write in time")]
    Unreplicated {
        /// Replicas that have it.
        confirmed: usize,
        /// Replicas that were to have it.
        wanted: usize,
    },
    /// The server did not do it, but may later: it loads, fails over, moves slots or is full.
    #[error("redis does not do that now: {0}")]
    NotNow(String),
    /// The server will not do it.
    #[error("redis refuses: {0}")]
    Refused(String),
    /// It is larger than what is taken; nothing was sent.
    #[error("{what} of {bytes} bytes is too large; at most {limit} are taken")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// What is stored or was answered is not what this version writes.
    #[error("unexpected data from redis: {0}")]
    Malformed(String),
}

impl Error {
    /// What follows from it.
    pub fn kind(&self) -> PortErrorKind {
        match self {
            Self::Unreachable { .. } | Self::NotNow(_) => PortErrorKind::Unavailable,
            Self::Unanswered { .. } | Self::Unreplicated { .. } => PortErrorKind::Unknown,
            Self::Outdated { .. } => PortErrorKind::Closed,
            Self::Config(_)
            | Self::Unfit { .. }
            | Self::Format { .. }
            | Self::Refused(_)
            | Self::TooLarge { .. }
            | Self::Malformed(_) => PortErrorKind::Rejected,
        }
    }

    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), PortErrorKind::Unavailable | PortErrorKind::Unknown)
    }

    /// As the failure of a port's operation.
    pub fn of(self, operation: &'static str) -> PortError {
        PortError::new(operation, self.kind(), self)
    }

    /// What a server answered in place of a result.
    pub(crate) fn from_server(error: &RedisError) -> Self {
        let text = text(error);
        let later = match error.kind() {
            ErrorKind::Server(kind) => matches!(
                kind,
                ServerErrorKind::BusyLoading
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::Moved
                    | ServerErrorKind::Ask
                    | ServerErrorKind::NoScript
            ),
            _ => matches!(
                error.code(),
                Some("OOM" | "MISCONF" | "NOREPLICAS" | "BUSY" | "NOMASTERLINK")
            ),
        };
        match (later, error.code()) {
            (true, Some("OOM")) => Self::NotNow(format!(
                "{text}; raise `maxmemory`, or keep fewer ended threds and steps of history"
            )),
            (true, Some("MISCONF")) => {
                Self::NotNow(format!("{text}; look at the server's disk and its log"))
            }
            (true, _) => Self::NotNow(text),
            (false, _) => Self::Refused(text),
        }
    }

    /// A connection that could not be made.
    pub(crate) fn unreachable(address: &str, error: &RedisError) -> Self {
        let address = address.to_owned();
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::Refused(format!(
                "{} ({address}); check user and password in the URL",
                text(error)
            )),
            ErrorKind::InvalidClientConfig => Self::Config(text(error)),
            ErrorKind::Server(_) => Self::from_server(error),
            _ => Self::Unreachable { address, why: text(error) },
        }
    }

    /// A call that ended without an answer: it may have been done.
    pub(crate) fn lost() -> Self {
        Self::Unanswered { address: "the server".into(), why: "the call was given up".into() }
    }

    /// An answer that a script of ours does not give: what it has done is unknown.
    pub(crate) fn unexpected(script: &str, answer: &redis::Value) -> Self {
        let why = format!("{script} answered {answer:?}");
        Self::Unanswered { address: "the server".into(), why }
    }

    /// A connection that broke or was silent.
    pub(crate) fn unanswered(address: &str, error: &RedisError) -> Self {
        Self::Unanswered { address: address.to_owned(), why: text(error) }
    }
}

fn text(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn server(line: &str) -> Error {
        let bytes = format!("-{line}\r\n");
        let value = redis::parse_redis_value(bytes.as_bytes()).expect("a reply");
        Error::from_server(&Value::extract_error(value).expect_err("an error"))
    }

    #[test]
    fn what_a_server_may_do_later_is_unavailable() {
        for line in [
            "READONLY You can't write against a read only replica.",
            "LOADING Redis is loading the dataset in memory",
            "CLUSTERDOWN The cluster is down",
            "MASTERDOWN Link with MASTER is down",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "NOREPLICAS Not enough good replicas to write.",
            "MISCONF Redis is configured to save RDB snapshots",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "BUSY Redis is busy running a script.",
        ] {
            let error = server(line);
            assert_eq!(error.kind(), PortErrorKind::Unavailable, "{line}");
            assert!(error.to_string().contains(line), "{error}");
        }
        assert!(server("OOM full").to_string().contains("raise `maxmemory`"));
    }

    #[test]
    fn what_a_server_will_not_do_is_rejected() {
        for line in [
            "NOPERM this user has no permissions to run the 'evalsha' command",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "ERR wrong number of arguments",
            "CROSSSLOT Keys in request don't hash to the same slot",
            "NOAUTH Authentication required.",
        ] {
            assert_eq!(server(line).kind(), PortErrorKind::Rejected, "{line}");
        }
    }

    #[test]
    fn a_broken_connection_leaves_the_outcome_unknown() {
        let broken = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(Error::unanswered("a:1", &broken).kind(), PortErrorKind::Unknown);
        assert_eq!(Error::unreachable("a:1", &broken).kind(), PortErrorKind::Unavailable);
        assert_eq!(Error::Unreplicated { confirmed: 0, wanted: 1 }.kind(), PortErrorKind::Unknown);
    }
}
