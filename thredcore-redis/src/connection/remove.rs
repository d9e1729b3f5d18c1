//! Removing what a deployment has stored.

use redis::{FromRedisValue, Value};

use super::{Connection, Node};
use crate::error::Error;

impl Connection {
    /// Removes all keys of the [namespace](crate::RedisConfig::namespace): threds, queues, sessions
    /// and patterns. For tests and benchmarks; whoever else uses the namespace loses everything.
    ///
    /// # Errors
    /// Some keys may be left.
    pub async fn remove_namespace(&self) -> Result<(), Error> {
        const AT_ONCE: usize = 1_000;
        let pattern = format!("{{{}:*", self.config().namespace);
        for (_, node) in self.masters().await? {
            let mut cursor = 0_u64;
            loop {
                let mut scan = redis::pipe();
                scan.cmd("SCAN").arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(AT_ONCE);
                let found = one(&node, &scan).await?;
                let (next, keys): (u64, Vec<Vec<u8>>) = FromRedisValue::from_redis_value(found)
                    .map_err(|error| Error::Malformed(error.to_string()))?;
                // One command each: the keys of a master are of many slots.
                let mut unlink = redis::pipe();
                for key in &keys {
                    unlink.cmd("UNLINK").arg(key);
                }
                if !keys.is_empty() {
                    node.send(0, false, &unlink).await?;
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}

async fn one(node: &Node, commands: &redis::Pipeline) -> Result<Value, Error> {
    let value = node.send(0, false, commands).await?.pop().unwrap_or(Value::Nil);
    value.extract_error().map_err(|error| Error::from_server(&error))
}
