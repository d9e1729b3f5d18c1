//! What the engine itself has to say: records and messages that belong to no thred's commit.

use std::sync::Arc;

use serde_json::{Map, Value};
use thredlib::{
    Event, EventData, EventError, EventId, Message, MessageId, ParticipantId, PatternId, SYSTEM,
    Source, derive_id, event_type,
};

use super::batch::Batch;
use crate::port::{Command, Inbound, LogRecord, LogType, Routed};

impl Batch {
    /// Records a decision about an event that moved no thred.
    pub(super) fn note(
        &mut self,
        log_type: LogType,
        event: &Arc<Event>,
        pattern: Option<&PatternId>,
        detail: Option<&str>,
    ) {
        let record = LogRecord {
            log_type,
            event: event.id.clone(),
            thred_id: event.thred_id.clone(),
            pattern_id: pattern.cloned(),
            from: None,
            to: None,
            timestamp: self.now,
            detail: detail.map(Into::into),
        };
        self.records.push((record, event.clone()));
    }

    /// Reports an error to the source of an event, unless that is a service or the engine.
    pub(super) fn tell_source(&mut self, event: &Event, error: &EventError) {
        let source = event.source.id.clone();
        if source == SYSTEM || self.directory().is_service(&source) {
            return;
        }
        let data = Map::from_iter([("error".to_owned(), error.to_value())]);
        let code = error.code.as_ref().and_then(Value::as_str).unwrap_or_default();
        self.tell(event, event_type::ERROR, code, data.into(), source);
    }

    /// Answers an event with an event of the engine's. `part` tells several answers apart.
    pub(super) fn tell(
        &mut self,
        event: &Event,
        answer_type: &str,
        part: &str,
        data: EventData,
        to: ParticipantId,
    ) {
        let id = derive_id("notice", &[event.id.as_str(), answer_type, part]);
        let answer = Arc::new(Event {
            id: EventId::new(id.clone()),
            event_type: answer_type.into(),
            thred_id: event.thred_id.clone(),
            re: Some(event.id.clone()),
            source: Source::new(SYSTEM),
            timestamp: Some(self.now),
            data: Some(data),
            trace: event.trace.clone(),
            extra: Default::default(),
        });
        let topics = match self.directory().is_service(&to) {
            true => vec![to.as_str().into()],
            false => self.directory().session_nodes(&to).to_vec(),
        };
        for (number, topic) in topics.into_iter().enumerate() {
            let message = Message {
                id: MessageId::new(format!("{id}.{number}")),
                event: answer.clone(),
                to: vec![to.clone()],
                timestamp: self.now,
            };
            self.notices.push(Routed { topic, message: Arc::new(message) });
        }
    }

    /// Settles each case: failed ones are told to their source, untouched ones recorded.
    pub(super) fn close(&mut self) {
        for index in 0..self.cases.len() {
            let case = &mut self.cases[index];
            let Some(event) = cause_of(&case.inbound).cloned() else { continue };
            if let Some(error) = case.error.take() {
                self.tell_source(&event, &error);
            } else if !case.taken
                && event.thred_id.is_none()
                && matches!(case.inbound, Inbound::Event(_))
            {
                self.note(LogType::NoPatternMatch, &event, None, None);
            }
        }
    }
}

/// The event behind a case: itself, or the one that a thred was spawned on.
fn cause_of(inbound: &Inbound) -> Option<&Arc<Event>> {
    match inbound {
        Inbound::Event(event) => Some(event),
        Inbound::Command(command) => match &**command {
            Command::Start(start) => Some(&start.cause),
            _ => None,
        },
    }
}
