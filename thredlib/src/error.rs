//! Errors as events carry them, and their codes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Codes of the errors that the engine reports in events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ErrorCode {
    /// A bound event names a thred that does not exist or has ended.
    ThredDoesNotExist,
    /// An expression, a template or a limit failed in a step.
    StepFailed,
    /// A chain of `forward` or `local` inputs did not end.
    TransitionCycle,
    /// A broadcast that the pattern does not allow.
    BroadcastNotAllowed,
    /// The sender is no participant of the thred.
    NotAParticipant,
    /// A required value is missing.
    MissingValue,
    /// The sender lacks the role that the operation needs.
    NotAuthorized,
    /// A control event names an operation that there is not.
    UnknownOperation,
    /// An operation's parameters are wrong.
    InvalidParameters,
    /// A task for an agent failed.
    TaskError,
    /// A message could not be processed by its agent within its attempts.
    AgentFailed,
    /// The event is malformed.
    InvalidEvent,
    /// A fault of the engine or its backends.
    ServerError,
}

impl ErrorCode {
    /// The code as it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ThredDoesNotExist => "THRED_DOES_NOT_EXIST",
            Self::StepFailed => "STEP_FAILED",
            Self::TransitionCycle => "TRANSITION_CYCLE",
            Self::BroadcastNotAllowed => "BROADCAST_NOT_ALLOWED",
            Self::NotAParticipant => "NOT_A_PARTICIPANT",
            Self::MissingValue => "MISSING_VALUE",
            Self::NotAuthorized => "NOT_AUTHORIZED",
            Self::UnknownOperation => "UNKNOWN_OPERATION",
            Self::InvalidParameters => "INVALID_PARAMETERS",
            Self::TaskError => "TASK_ERROR",
            Self::AgentFailed => "AGENT_FAILED",
            Self::InvalidEvent => "INVALID_EVENT",
            Self::ServerError => "SERVER_ERROR",
        }
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error as it stands at `data.error` or `data.content.error` of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventError {
    /// What went wrong, for people.
    pub message: String,
    /// What went wrong, for programs. Foreign codes may be numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Value>,
    /// The error below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Value>,
}

impl EventError {
    /// An error with one of the engine's codes.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { message: message.into(), code: Some(code.as_str().into()), cause: None }
    }

    /// Adds the error below.
    pub fn with_cause(mut self, cause: impl Into<Value>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The error as JSON.
    pub fn to_value(&self) -> Value {
        let mut object = serde_json::Map::new();
        object.insert("message".into(), self.message.clone().into());
        object.extend(self.code.clone().map(|code| ("code".into(), code)));
        object.extend(self.cause.clone().map(|cause| ("cause".into(), cause)));
        Value::Object(object)
    }
}
