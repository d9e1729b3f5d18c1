//! Whether servers are fit for what they are to keep.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use redis::{Pipeline, Value};

use crate::{connection::Connection, error::Error};

/// The oldest version that is fit.
const OLDEST: (u32, u32) = (7, 0);

/// Whether a server's promises are asked for with each new connection: from the moment that all were
/// found fit.
#[derive(Debug, Default)]
pub(crate) struct Watchful(AtomicBool);

impl Watchful {
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Looks at all masters.
pub(crate) async fn servers(connection: &Connection) -> Result<(), Error> {
    let expected =
        Expected { cluster: connection.is_cluster(), durable: connection.config().durable };
    for (address, answers) in connection.ask_masters(&questions()).await? {
        let told = Told::read(&address, answers?)?;
        let fit = expected.check(&told).and_then(|()| expected.check_role(&told));
        fit.map_err(|(why, remedy)| Error::Unfit { address: address.clone(), why, remedy })?;
        if expected.durable && told.appendfsync.is_none() {
            tracing::warn!(
                address,
                "the server does not tell its `appendfsync`; if it is `no`, what was accepted may \
                 be lost (to have it checked: ACL SETUSER <user> +config|get)"
            );
        }
    }
    Ok(())
}

/// Looks at a server again: it may have been restarted with another configuration, or be another
/// one. What is wrong may be mended, so the error is one that passes.
pub(crate) fn again(address: &str, durable: bool, answers: Vec<Value>) -> Result<(), Error> {
    // Whether it is the master, and of a cluster, shows by its answers to what is sent.
    let expected = Expected { cluster: false, durable };
    let told = Told::read(address, answers).map_err(|error| {
        if error.is_retryable() { error } else { Error::NotNow(error.to_string()) }
    })?;
    expected.check(&told).map_err(|(why, remedy)| {
        Error::NotNow(format!("redis at {address} is not fit for use any more: {why}; {remedy}"))
    })
}

/// What is asked of a server.
pub(crate) fn questions() -> Pipeline {
    let mut questions = redis::pipe();
    questions.cmd("INFO");
    questions.cmd("CONFIG").arg("GET").arg("appendfsync");
    questions
}

/// What a server has told of itself.
struct Told {
    info: HashMap<String, String>,
    /// `None`: it does not tell.
    appendfsync: Option<String>,
}

impl Told {
    fn read(address: &str, answers: Vec<Value>) -> Result<Self, Error> {
        let mut answers = answers.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil).extract_error();
        let info = next().map_err(|error| match Error::from_server(&error) {
            Error::Refused(why) if why.starts_with("NOPERM") => Error::Unfit {
                address: address.to_owned(),
                why: format!("it cannot be looked at: {why}"),
                remedy: "allow it with: ACL SETUSER <user> +info".into(),
            },
            error => error,
        })?;
        let info = redis::from_redis_value::<String>(info)
            .map_err(|error| Error::Malformed(error.to_string()))?;
        // Many a provider has no CONFIG, and many a user may not call it.
        let config = next().ok().and_then(|it| redis::from_redis_value::<Vec<String>>(it).ok());
        Ok(Self::new(&info, config.and_then(|config| config.into_iter().nth(1))))
    }

    fn new(info: &str, appendfsync: Option<String>) -> Self {
        let lines = info.lines().filter_map(|line| line.trim_end().split_once(':'));
        let info = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { info, appendfsync }
    }

    fn is(&self, name: &str) -> &str {
        self.info.get(name).map_or("unknown", String::as_str)
    }
}

/// What a server is to be like.
#[derive(Clone, Copy, Debug)]
struct Expected {
    cluster: bool,
    durable: bool,
}

impl Expected {
    /// What holds as long as it is used; the error says what is wrong and what mends it.
    fn check(self, told: &Told) -> Result<(), (String, String)> {
        let version = told.is("redis_version");
        if !is_recent(version) {
            let (major, minor) = OLDEST;
            return Err((
                format!("its version is {version}"),
                format!("it must be {major}.{minor} or newer: install a newer redis-server"),
            ));
        }
        if told.is("arch_bits") == "32" {
            return Err((
                "it is a build for 32 bits, whose scripts cannot write long numbers".into(),
                "use a build for 64 bits".into(),
            ));
        }
        let policy = told.is("maxmemory_policy");
        if policy != "noeviction" {
            return Err((
                format!("`maxmemory-policy` is {policy}: it would throw threds away when full"),
                "set it with: CONFIG SET maxmemory-policy noeviction (and in redis.conf)".into(),
            ));
        }
        if self.durable && told.is("aof_enabled") != "1" {
            return Err((
                "`appendonly` is no: a restart would lose what was accepted".into(),
                "set it with: CONFIG SET appendonly yes (and in redis.conf); \
                 or do without: RedisConfig::durable(false)"
                    .into(),
            ));
        }
        if self.durable && told.appendfsync.as_deref() == Some("no") {
            return Err((
                "`appendfsync` is no: a loss of power would lose what was accepted".into(),
                "set it with: CONFIG SET appendfsync everysec (or always; and in redis.conf); \
                 or do without: RedisConfig::durable(false)"
                    .into(),
            ));
        }
        Ok(())
    }

    /// What it is, at the start.
    fn check_role(self, told: &Told) -> Result<(), (String, String)> {
        match (self.cluster, told.is("cluster_enabled")) {
            (false, "1") => {
                return Err((
                    "it is a node of a cluster".into(),
                    "write redis+cluster://… in its URL".into(),
                ));
            }
            (true, "0") => {
                return Err((
                    "it is no node of a cluster".into(),
                    "write redis://… in its URL, or set `cluster-enabled yes`".into(),
                ));
            }
            _ => {}
        }
        if told.is("role") != "master" {
            return Err((
                format!("its role is {}", told.is("role")),
                "name the master in the URL, or sentinels that know it".into(),
            ));
        }
        Ok(())
    }
}

fn is_recent(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: &str = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\ncluster_enabled:0\r\n\
        maxmemory_policy:noeviction\r\naof_enabled:1\r\n";
    const DURABLE: Expected = Expected { cluster: false, durable: true };

    fn checked(
        expected: Expected,
        info: &str,
        fsync: Option<&str>,
    ) -> Result<(), (String, String)> {
        let told = Told::new(info, fsync.map(str::to_owned));
        expected.check(&told).and_then(|()| expected.check_role(&told))
    }

    #[test]
    fn a_fit_server_passes() {
        for fsync in [Some("everysec"), Some("always"), None] {
            assert_eq!(checked(DURABLE, FIT, fsync), Ok(()));
        }
        assert_eq!(checked(DURABLE, &FIT.replace("7.0.15", "8.2.0"), None), Ok(()));
        let volatile = Expected { durable: false, ..DURABLE };
        let off = FIT.replace("aof_enabled:1", "aof_enabled:0");
        assert_eq!(checked(volatile, &off, Some("no")), Ok(()));
        let cluster = Expected { cluster: true, ..DURABLE };
        let node = FIT.replace("cluster_enabled:0", "cluster_enabled:1");
        assert_eq!(checked(cluster, &node, None), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_remedy() {
        for (expected, from, to, why, remedy) in [
            (DURABLE, "7.0.15", "6.2.14", "6.2.14", "7.0 or newer"),
            (DURABLE, "7.0.15", "nonsense", "nonsense", "7.0 or newer"),
            (DURABLE, "noeviction", "allkeys-lru", "allkeys-lru", "CONFIG SET maxmemory-policy"),
            (DURABLE, "aof_enabled:1", "aof_enabled:0", "appendonly", "CONFIG SET appendonly yes"),
            (DURABLE, "role:master", "role:slave", "slave", "sentinels"),
            (DURABLE, "role:master", "arch_bits:32\r\nrole:master", "32 bits", "64 bits"),
            (DURABLE, "cluster_enabled:0", "cluster_enabled:1", "a cluster", "redis+cluster://"),
            (Expected { cluster: true, ..DURABLE }, "", "", "no node", "redis://"),
        ] {
            let (found, mends) = checked(expected, &FIT.replace(from, to), None).expect_err(why);
            assert!(found.contains(why), "{found}");
            assert!(mends.contains(remedy), "{mends}");
        }
        let (found, mends) = checked(DURABLE, FIT, Some("no")).expect_err("appendfsync");
        assert!(found.contains("`appendfsync` is no"), "{found}");
        assert!(mends.contains("CONFIG SET appendfsync everysec"), "{mends}");
    }
}
