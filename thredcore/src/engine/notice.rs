//! What the engine itself has to say: records and messages that belong to no thred's commit.

use std::sync::Arc;

use serde_json::{Map, Value};
use thredlib::{
    Event, EventData, EventError, EventId, EventKey, Message, MessageId, ParticipantId, PatternId,
    SYSTEM, Source, derive_id, event_type,
};

use super::batch::{Batch, Task};
use crate::{
    port::{Accepted, Command, Inbound, LogRecord, LogType, Routed, Unmoved},
    state::Consumed,
};

impl Batch {
    /// Records a decision about an event that moved no thred.
    pub(super) fn note(
        &mut self,
        case: usize,
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
        self.put_on_record(case, record, event.clone());
    }

    /// Records what was decided about an event that is bound to a thred and changed nothing of it.
    pub(super) fn unmoved(&mut self, task: &Task, log: Vec<LogRecord>) {
        self.cases[task.case].taken = true;
        let Inbound::Event(Accepted { event, .. }) = self.cases[task.case].inbound.clone() else {
            return;
        };
        for record in log {
            self.put_on_record(task.case, record, event.clone());
        }
    }

    fn put_on_record(&mut self, case: usize, record: LogRecord, event: Arc<Event>) {
        let Consumed { key, partition, .. } = self.cases[case].consumed;
        let partition = if partition == Consumed::NO_RECEIPT { 0 } else { partition };
        self.records.push((partition, Unmoved { key, record, event }));
    }

    /// Whether threds of a pattern may wait for unbound events.
    fn listens(&self, pattern: &PatternId) -> bool {
        self.library.current(pattern).is_some_and(|pattern| pattern.listens())
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
        let id = {
            let key = EventKey::of(event.source.id.as_str(), event.id.as_str());
            derive_id("notice", &[key.encode(&mut [0; 32]), answer_type, part])
        };
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
        let topics = if self.directory().is_service(&to) {
            vec![to.as_str().into()]
        } else {
            self.directory().session_nodes(&to).to_vec()
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
            if case.settled || case.deferred {
                continue;
            }
            let no_place = std::mem::take(&mut case.no_place);
            let is_taken = case.moved.iter().any(|thred| case.offered.contains(thred));
            let Some(event) = cause_of(&case.inbound).cloned() else { continue };
            for (pattern, why) in no_place {
                // Taken by a thred that it was offered to in place of a new one, it is not refused.
                if !is_taken || !self.listens(&pattern) {
                    self.note(index, LogType::Constrained, &event, Some(&pattern), Some(why));
                }
            }
            let case = &mut self.cases[index];
            if let Some(error) = case.error.take() {
                self.tell_source(&event, &error);
            } else if !case.taken
                && event.thred_id.is_none()
                && matches!(case.inbound, Inbound::Event(_))
            {
                self.note(index, LogType::NoPatternMatch, &event, None, None);
            }
        }
    }
}

/// The event behind a case: itself, or the one that a thred was spawned on.
fn cause_of(inbound: &Inbound) -> Option<&Arc<Event>> {
    match inbound {
        Inbound::Event(accepted) => Some(&accepted.event),
        Inbound::Command(command) => match &**command {
            Command::Start(start) => Some(&start.cause),
            Command::Offer { accepted, .. } => Some(&accepted.event),
            _ => None,
        },
    }
}
