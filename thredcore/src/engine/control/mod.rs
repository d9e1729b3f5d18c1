//! Control events: bound to the thred `SYSTEM`, they address the engine itself and are answered to
//! their source.
//!
//! The answer has the request's type, `re` the request's id, and the operation's name and result in
//! its values; a refusal is an error event.

mod data;
mod system;
mod user;

use std::sync::Arc;

use serde_json::{Map, Value};
use thredlib::{ErrorCode, Event, EventData, EventError, SYSTEM, ThredId, event_type};

use super::{Engine, Stopped, batch::Batch};
use crate::port::{Delivery, Inbound, LogType, PortError};

/// The role that may control the engine.
const ADMIN: &str = "admin";

/// Why an operation was not done.
enum Refusal {
    /// The request is at fault; its source is told.
    Told(Box<EventError>),
    /// The engine is stopping.
    Stopped,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Told(Box::new(EventError::new(code, message)))
    }

    fn missing(name: &str) -> Self {
        Self::new(ErrorCode::MissingValue, format!("the value `{name}` is missing"))
    }

    fn no_thred(id: &ThredId) -> Self {
        let text = format!("there is no thred {id}, or it has ended");
        Self::new(ErrorCode::ThredDoesNotExist, text)
    }

    fn unknown_operation(op: &str) -> Self {
        Self::new(ErrorCode::UnknownOperation, format!("there is no operation `{op}`"))
    }
}

impl From<Stopped> for Refusal {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<PortError> for Refusal {
    fn from(error: PortError) -> Self {
        Self::new(ErrorCode::ServerError, error.to_string())
    }
}

/// What an operation gives: the fields of the answer's values.
type Answer = Result<Map<String, Value>, Refusal>;

impl Engine {
    /// Sends control events to their own line, if the engine runs; gives back all else. When the line
    /// is full they stay.
    pub(super) async fn divert_control(
        &self,
        deliveries: Vec<Delivery<Inbound>>,
    ) -> Vec<Delivery<Inbound>> {
        if !deliveries.iter().any(is_control) {
            return deliveries;
        }
        let line = self.0.control_line.read().clone();
        let Some(line) = line else { return deliveries };
        let mut rest = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            if is_control(&delivery) {
                if let Err(error) = line.try_send(delivery) {
                    rest.push(error.into_inner());
                }
            } else {
                rest.push(delivery)
            }
        }
        rest
    }

    /// Does what a control event asks for, and answers.
    pub(super) async fn control(
        &self,
        batch: &mut Batch,
        case: usize,
        event: &Arc<Event>,
    ) -> Result<(), Stopped> {
        batch.cases[case].taken = true;
        batch.note(
            case,
            LogType::Control,
            event,
            None,
            event.value_named("op").and_then(Value::as_str),
        );
        let source = event.source.id.clone();
        let is_admin = batch.directory().has_role(&source, ADMIN);
        let answer = match &*event.event_type {
            event_type::USER_CONTROL => self.user_control(batch, event).await,
            event_type::SYS_CONTROL if is_admin => self.system_control(batch, event).await,
            event_type::DATA_CONTROL if is_admin => self.data_control(event).await,
            event_type::SYS_CONTROL | event_type::DATA_CONTROL => {
                let text = format!("`{}` needs the role `{ADMIN}`", event.event_type);
                Err(Refusal::new(ErrorCode::NotAuthorized, text))
            }
            other => {
                let text = format!("the engine itself takes no event of the type `{other}`");
                Err(Refusal::new(ErrorCode::UnknownOperation, text))
            }
        };
        let (kind, data) = match answer {
            Ok(mut fields) => {
                if let Some(op) = event.value_named("op") {
                    fields.shift_insert(0, "op".into(), op.clone());
                }
                (&*event.event_type, EventData::with_values(fields))
            }
            Err(Refusal::Told(error)) => {
                let fields = Map::from_iter([("error".to_owned(), error.to_value())]);
                (event_type::ERROR, fields.into())
            }
            Err(Refusal::Stopped) => return Err(Stopped),
        };
        batch.tell(event, kind, "answer", data, source);
        Ok(())
    }
}

fn is_control(delivery: &Delivery<Inbound>) -> bool {
    matches!(&delivery.payload, Inbound::Event(accepted)
        if accepted.event.thred_id.as_ref().is_some_and(|id| *id == SYSTEM))
}

/// The name of the operation.
fn operation(event: &Event) -> Result<&str, Refusal> {
    event.value_named("op").and_then(Value::as_str).ok_or_else(|| Refusal::missing("op"))
}

/// The thred that the operation is about.
fn thred_id(event: &Event) -> Result<ThredId, Refusal> {
    let id = event.value_named("thredId").and_then(Value::as_str);
    id.map(ThredId::from).ok_or_else(|| Refusal::missing("thredId"))
}
