//! A scenario as data, and how it is read from a file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::parse::read_scenario;
use crate::port::Directory;

/// A test of patterns.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Scenario {
    /// What it shows, as a sentence.
    pub name: String,
    /// The patterns, in order.
    pub patterns: Vec<PatternSource>,
    /// Who there is.
    pub directory: Directory,
    /// When it begins, milliseconds since the Unix epoch. Default 2026-01-01T00:00:00Z.
    pub start_time: i64,
    /// For `$random()`. Default 0.
    pub seed: u64,
    /// Whether messages may be left unclaimed at the end.
    pub allow_unclaimed_messages: bool,
    /// What happens and what must follow, in order.
    pub steps: Vec<Step>,
}

/// Where a pattern is.
#[derive(Clone, Debug, PartialEq)]
pub enum PatternSource {
    /// In a file of its own; a path relative to the scenario's file has been resolved.
    File(PathBuf),
    /// In the scenario.
    Inline(Value),
}

/// One step of a scenario.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Step {
    /// What happens or must hold.
    pub action: Action,
    /// The name of what comes of it, for references.
    pub label: Option<String>,
    /// The step as written, for reports.
    pub written: Value,
}

/// What a step does. Values may hold references; they are resolved when the step's turn comes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Action {
    /// An event comes in.
    Send {
        /// The event, `id`, `timestamp` and `source` optional.
        event: Value,
        /// The names of the threds it starts; `None` says nothing about them.
        starts: Option<Vec<String>>,
    },
    /// Time passes: milliseconds.
    Advance(i64),
    /// The engine is dropped and built again on the same storage.
    Restart,
    /// The next message.
    ExpectMessage(MessageExpectation),
    /// The next messages, in any order.
    ExpectMessages(Vec<MessageExpectation>),
    /// No message is left unclaimed.
    ExpectNoMessage,
    /// How a thred stands.
    ExpectThred(Box<ThredExpectation>),
    /// How many threds are live, of one pattern (by id) or of all.
    ExpectThreds {
        /// The pattern's id.
        pattern: Option<String>,
        /// How many.
        count: u64,
    },
    /// Some log record so far is like this.
    ExpectLog(Value),
    /// Some dead letter so far is like this.
    ExpectDeadLetter(Value),
}

/// What a message must be like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MessageExpectation {
    /// The recipients, in any order; `None` says nothing about them.
    pub to: Option<Value>,
    /// The event, in part.
    pub event: Option<Value>,
}

/// How a thred must stand; what is `None` may be anything.
#[derive(Clone, Debug, PartialEq)]
pub struct ThredExpectation {
    /// Which thred.
    pub thred: ThredName,
    /// The id of its pattern.
    pub pattern: Option<Value>,
    /// The name of its reaction.
    pub reaction: Option<Value>,
    /// `active`, `finished` or `terminated`.
    pub status: Option<String>,
    /// Its locals, in part.
    pub locals: Option<Value>,
    /// Its participants, as a set.
    pub participants: Option<Value>,
    /// The id of its parent.
    pub parent: Option<Value>,
    /// The number of its children.
    pub children: Option<u64>,
}

/// Which thred is meant.
#[derive(Clone, Debug, PartialEq)]
pub enum ThredName {
    /// The one that a step named.
    Ref(String),
    /// The one with this id; may be a reference.
    Id(Value),
}

/// A scenario that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}{}", path.display(), place(at))]
#[non_exhaustive]
pub struct ScenarioError {
    /// The file.
    pub path: PathBuf,
    /// The JSON path in it; empty when the whole file is meant.
    pub at: String,
    /// What is wrong, with the remedy.
    pub message: String,
}

fn place(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(" (at {at})") }
}

impl ScenarioError {
    /// An error about a file.
    pub fn new(
        path: impl Into<PathBuf>,
        at: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { path: path.into(), at: at.into(), message: message.into() }
    }

    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let message = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            _ => format!("the file cannot be read: {error}"),
        };
        Self::new(path, "", message)
    }
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// When the file cannot be read or is no scenario; says where and what would be right.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ScenarioError> {
        let path = path.as_ref();
        let text =
            fs::read_to_string(path).map_err(|error| ScenarioError::unreadable(path, &error))?;
        Self::parse(&text, path)
    }

    /// Reads a scenario from text; `path` is where it stands or would stand, which relative paths
    /// of patterns start from.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(text: &str, path: &Path) -> Result<Self, ScenarioError> {
        let document: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .map_err(|error| ScenarioError::new(path, "", format!("this is no JSON: {error}")))?;
        let directory = path.parent().unwrap_or(Path::new(""));
        read_scenario(document, directory)
            .map_err(|wrong| ScenarioError::new(path, wrong.at, wrong.message))
    }
}
