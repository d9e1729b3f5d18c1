//! The servers that tests use.

use std::sync::atomic::{AtomicU32, Ordering};

use thredcore_redis::RedisConfig;

/// The single server.
pub(crate) fn one() -> RedisConfig {
    RedisConfig::new(url("REDIS_URL"))
}

/// The cluster.
pub(crate) fn cluster() -> RedisConfig {
    RedisConfig::new(url("REDIS_CLUSTER_URL"))
}

/// With a namespace that nobody else uses.
pub(crate) fn own_namespace(config: RedisConfig) -> RedisConfig {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since.expect("a clock after 1970").as_nanos();
    config.namespace(format!("test-{}-{nanos}-{count}", std::process::id()))
}

fn url(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(r#"{name} is not set; run: scripts/services up && eval "$(scripts/services env)""#)
    })
}
