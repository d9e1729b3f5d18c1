//! What the engine relays between the participants of a thred: broadcasts, echoes, errors.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use thredlib::{
    Address, ErrorCode, Event, EventData, EventError, EventId, ParticipantId, event_type,
};

use super::{StepError, step::Step};
use crate::port::LogType;

impl Step<'_> {
    /// Sends a participant's message to the others, or an error back.
    pub(super) fn broadcast(&mut self, event: &Arc<Event>) -> Result<(), StepError> {
        let message = event.value_named("message").cloned();
        let refusal = if !self.pattern.broadcast_allowed {
            Some((ErrorCode::BroadcastNotAllowed, "the pattern does not allow broadcasts"))
        } else if !self.state.participants.contains(&event.source.id) {
            Some((ErrorCode::NotAParticipant, "only participants of the thred may broadcast"))
        } else if message.is_none() {
            Some((ErrorCode::MissingValue, "a broadcast needs the value `message`"))
        } else {
            None
        };
        if let Some((code, text)) = refusal {
            self.record(LogType::Unauthorized, None, Some(text));
            return self.tell_error(event, EventError::new(code, text), [event.source.id.clone()]);
        }
        let values = json!({ "message": message, "messageSource": event.source });
        self.record(LogType::Broadcast, None, None);
        self.relay(event, "broadcastMessage", values, Some(event.id.clone()))
    }

    /// Shows a participant's answer to the others.
    pub(super) fn echo(&mut self, event: &Arc<Event>) -> Result<(), StepError> {
        let is_answer = *event.event_type == *event_type::CLIENT_TELL && event.thred_id.is_some();
        if !is_answer || !self.state.participants.contains(&event.source.id) {
            return Ok(());
        }
        let mut values = match event.values() {
            Some(Value::Object(map)) => map.clone(),
            Some(other) => Map::from_iter([("values".to_owned(), other.clone())]),
            None => Map::new(),
        };
        values.insert("messageSource".into(), json!(event.source));
        let re = event.re.clone().unwrap_or_else(|| event.id.clone());
        self.relay(event, "broadcastValues", Value::Object(values), Some(re))
    }

    /// Reports an event that carries an error to the participants; says whether anybody hears of
    /// it. What a stranger sends is refused, and of many between two transitions only the first are
    /// reported: an error that is answered with an error would never end.
    pub(super) fn report_error(&mut self, event: &Arc<Event>) -> Result<bool, StepError> {
        if !self.takes_part(&event.source.id) {
            let source = event.source.id.clone();
            self.record(LogType::Unauthorized, None, Some(source.as_str()));
            return Ok(false);
        }
        let error = event.error().cloned().unwrap_or_default();
        self.record(LogType::ErrorEvent, None, Some(&error.to_string()));
        if self.state.errors >= self.world.limits.errors {
            return Ok(false);
        }
        let mut recipients = self.resolve(&[Address::Thred])?;
        recipients.retain(|id| *id != event.source.id);
        if recipients.is_empty() {
            return Ok(false);
        }
        self.state.errors += 1;
        let data = EventData::from(Map::from_iter([("error".to_owned(), error)]));
        let kind = event_type::ERROR.into();
        let report = self.make_event(kind, Some(data), Some(event.id.clone()), event.trace.clone());
        self.send(report, recipients);
        Ok(true)
    }

    /// Whether a source is a participant of the thred, or an instance of a service that is one.
    fn takes_part(&mut self, source: &ParticipantId) -> bool {
        if self.state.participants.contains(source) {
            return true;
        }
        let directory = self.world.directory;
        let mut types = self.state.participants.iter().filter(|id| is_instance(source, id));
        let service = types.find(|id| directory.is_service(id)).cloned();
        service.is_some_and(|id| self.is_service(&id))
    }

    fn relay(
        &mut self,
        event: &Event,
        values_type: &str,
        values: Value,
        re: Option<EventId>,
    ) -> Result<(), StepError> {
        let mut others = self.resolve(&[Address::Thred])?;
        others.retain(|id| *id != event.source.id);
        let mut data = EventData::default();
        if let Some(title) = event.title() {
            data.as_map_mut().insert("title".into(), title.into());
        }
        let content = json!({ "valuesType": values_type, "values": values });
        data.as_map_mut().insert("content".into(), content);
        let kind = event_type::BROADCAST.into();
        let relayed = self.make_event(kind, Some(data), re, event.trace.clone());
        self.send(relayed, others);
        Ok(())
    }

    fn tell_error(
        &mut self,
        event: &Event,
        error: EventError,
        to: impl IntoIterator<Item = ParticipantId>,
    ) -> Result<(), StepError> {
        let data = EventData::from(Map::from_iter([("error".to_owned(), error.to_value())]));
        let kind = event_type::ERROR.into();
        let told = self.make_event(kind, Some(data), Some(event.id.clone()), event.trace.clone());
        let to = to.into_iter().filter(|id| !self.is_service(id)).collect();
        self.send(told, to);
        Ok(())
    }

    /// Tells those who watch that the thred has changed.
    pub(super) fn tell_watchers(&mut self) {
        if self.world.watchers.is_empty() {
            return;
        }
        let thred = super::view::summary(&self.state);
        let values = json!({ "op": "watchThreds", "thred": thred });
        let data = EventData::with_values(values);
        let told = self.make_event(event_type::SYS_CONTROL.into(), Some(data), None, None);
        self.facts().watchers = self.world.watchers.to_vec();
        self.send(told, self.world.watchers.to_vec());
    }
}

/// Whether an id is that of an instance of a service: the service's with a number behind it, or
/// more after a dot, hyphen, colon or slash.
fn is_instance(id: &ParticipantId, service: &ParticipantId) -> bool {
    let Some(rest) = id.as_str().strip_prefix(service.as_str()) else { return false };
    let is_number = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    is_number || rest.starts_with(['.', '-', ':', '/'])
}
