//! What is asked of a server.

use std::sync::LazyLock;

use redis::{Arg, Cmd, ToRedisArgs};

use crate::keys::Tag;

/// A Lua script that lives in the program.
///
/// It is called by its hash; a server that does not know it, because it was restarted or its
/// scripts were flushed, is given the text with the same call.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    hash: LazyLock<String, Box<dyn FnOnce() -> String + Send>>,
}

impl Script {
    /// A script of a text.
    pub fn new(text: &'static str) -> Self {
        let hash = move || redis::Script::new(text).get_hash().to_owned();
        Self { text, hash: LazyLock::new(Box::new(hash)) }
    }
}

/// One command or script call, for the server that has a tag's keys.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) slot: u16,
    pub(super) command: Cmd,
    pub(super) script: Option<&'static str>,
    pub(super) writes: bool,
}

impl Request {
    /// A command that changes nothing.
    pub fn read(tag: &Tag, command: Cmd) -> Self {
        Self { slot: tag.slot(), command, script: None, writes: false }
    }

    /// A command that changes something. With [`wait`](crate::RedisConfig::wait) its answer waits
    /// for replicas.
    pub fn write(tag: &Tag, command: Cmd) -> Self {
        Self { writes: true, ..Self::read(tag, command) }
    }

    /// A call of a script that changes something. All its keys must be under the tag and named
    /// here: while a cluster moves a slot, a script would not see keys that it did not announce.
    pub fn script(tag: &Tag, script: &Script, keys: &[&str]) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&**script.hash).arg(keys.len()).arg(keys);
        Self { script: Some(script.text), ..Self::write(tag, command) }
    }

    /// A call of a script that changes nothing.
    pub fn asking_script(tag: &Tag, script: &Script, keys: &[&str]) -> Self {
        Self { writes: false, ..Self::script(tag, script, keys) }
    }

    /// Adds an argument, or several.
    #[must_use]
    pub fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds an argument in place.
    pub fn push(&mut self, arg: impl ToRedisArgs) {
        self.command.arg(arg);
    }

    /// The same call with the script's text in place of its hash.
    pub(super) fn with_text(&self) -> Option<Cmd> {
        let mut command = redis::cmd("EVAL");
        command.arg(self.script?);
        for arg in self.command.args_iter().skip(2) {
            if let Arg::Simple(bytes) = arg {
                command.arg(bytes);
            }
        }
        Some(command)
    }
}
