//! What any participant may ask of the engine: about its own threds.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use thredlib::{ErrorCode, Event, ParticipantId};

use super::{Answer, Refusal, operation, thred_id};
use crate::{
    engine::{Engine, batch::Batch},
    port::{History, ThredQuery},
    thred::summary,
};

/// Steps of a thred's past that are looked through.
const STEPS: usize = 10_000;

impl Engine {
    pub(super) async fn user_control(&self, batch: &Batch, event: &Event) -> Answer {
        let me = &event.source.id;
        let mut fields = Map::new();
        match operation(event)? {
            "getThreds" => {
                let query = ThredQuery { participant: Some(me.clone()), ..ThredQuery::default() };
                let mut own = Vec::new();
                for thred in self.all(query).await? {
                    let past =
                        self.insist(|| self.storage().history(&thred.id, None, STEPS)).await?;
                    let last = own_events(&past, me).pop();
                    own.push(json!({ "thred": summary(&thred), "lastEvent": last }));
                }
                fields.insert("threds".into(), own.into());
            }
            "getEvents" => {
                let thred = self.live(&thred_id(event)?).await?;
                if !thred.participants.contains(me) {
                    let text = format!("`{me}` does not take part in thred {}", thred.id);
                    return Err(Refusal::new(ErrorCode::NotAParticipant, text));
                }
                let past = self.insist(|| self.storage().history(&thred.id, None, STEPS)).await?;
                fields.insert("thredId".into(), json!(thred.id));
                fields.insert("events".into(), json!(own_events(&past, me)));
            }
            "getSystemSpec" | "getServices" => {
                let services: Vec<_> = (batch.directory().services().into_iter())
                    .map(|id| json!({ "name": id, "address": id }))
                    .collect();
                let patterns: Vec<_> = (batch.library.entries().iter())
                    .map(|pattern| {
                        let description = &pattern.model.description;
                        json!({ "id": pattern.key.id, "name": pattern.name,
                                "description": description })
                    })
                    .collect();
                fields.insert("services".into(), services.into());
                fields.insert("patterns".into(), patterns.into());
            }
            other => return Err(Refusal::unknown_operation(other)),
        }
        Ok(fields)
    }
}

/// The events of a thred that somebody sent or was sent, oldest first.
fn own_events(past: &[History], me: &ParticipantId) -> Vec<Value> {
    let mut events: Vec<&Arc<Event>> = Vec::new();
    for step in past {
        events.extend(step.event.as_ref().filter(|event| event.source.id == *me));
        let told = step.messages.iter().filter(|message| message.to.contains(me));
        events.extend(told.map(|message| &message.event));
    }
    events.into_iter().map(|event| json!(event)).collect()
}
