//! Whether servers are fit for what they are to keep.

use std::collections::HashMap;

use crate::{connection::Connection, error::Error};

/// The oldest version that is fit.
const OLDEST: (u32, u32) = (7, 0);

/// Looks at all masters.
pub(crate) async fn servers(connection: &Connection) -> Result<(), Error> {
    let asked = connection.ask_masters(&redis::cmd("INFO")).await?;
    for (address, answer) in asked {
        let text = match answer {
            Ok(value) => redis::from_redis_value::<String>(value)
                .map_err(|error| Error::Malformed(error.to_string()))?,
            Err(Error::Refused(why)) if why.starts_with("NOPERM") => {
                return Err(Error::Unfit {
                    address,
                    why: format!("it cannot be looked at: {why}"),
                    remedy: "allow it with: ACL SETUSER <user> +info".into(),
                });
            }
            Err(error) => return Err(error),
        };
        let expected =
            Expected { cluster: connection.is_cluster(), durable: connection.config().durable };
        expected.check(&text).map_err(|(why, remedy)| Error::Unfit { address, why, remedy })?;
    }
    Ok(())
}

/// What a server is to be like.
#[derive(Clone, Copy, Debug)]
struct Expected {
    cluster: bool,
    durable: bool,
}

impl Expected {
    /// Reads what `INFO` tells; the error says what is wrong and what mends it.
    fn check(self, info: &str) -> Result<(), (String, String)> {
        let lines = info.lines().filter_map(|line| line.trim_end().split_once(':'));
        let info: HashMap<&str, &str> = lines.collect();
        let is = |name: &str| info.get(name).copied().unwrap_or("unknown");

        let version = is("redis_version");
        if !is_recent(version) {
            let (major, minor) = OLDEST;
            return Err((
                format!("its version is {version}"),
                format!("it must be {major}.{minor} or newer: install a newer redis-server"),
            ));
        }
        match (self.cluster, is("cluster_enabled")) {
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
        if is("role") != "master" {
            return Err((
                format!("its role is {}", is("role")),
                "name the master in the URL, or sentinels that know it".into(),
            ));
        }
        if is("arch_bits") == "32" {
            return Err((
                "it is a build for 32 bits, whose scripts cannot write long numbers".into(),
                "use a build for 64 bits".into(),
            ));
        }
        let policy = is("maxmemory_policy");
        if policy != "noeviction" {
            return Err((
                format!("`maxmemory-policy` is {policy}: it would throw threds away when full"),
                "set it with: CONFIG SET maxmemory-policy noeviction (and in redis.conf)".into(),
            ));
        }
        if self.durable && is("aof_enabled") != "1" {
            return Err((
                "`appendonly` is no: a restart would lose what was accepted".into(),
                "set it with: CONFIG SET appendonly yes (and in redis.conf); \
                 or do without: RedisConfig::durable(false)"
                    .into(),
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

    #[test]
    fn a_fit_server_passes() {
        assert_eq!(DURABLE.check(FIT), Ok(()));
        assert_eq!(DURABLE.check(&FIT.replace("7.0.15", "8.2.0")), Ok(()));
        let volatile = Expected { durable: false, ..DURABLE };
        assert_eq!(volatile.check(&FIT.replace("aof_enabled:1", "aof_enabled:0")), Ok(()));
        let cluster = Expected { cluster: true, ..DURABLE };
        assert_eq!(cluster.check(&FIT.replace("cluster_enabled:0", "cluster_enabled:1")), Ok(()));
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
            let (found, mends) = expected.check(&FIT.replace(from, to)).expect_err(why);
            assert!(found.contains(why), "{found}");
            assert!(mends.contains(remedy), "{mends}");
        }
    }
}
