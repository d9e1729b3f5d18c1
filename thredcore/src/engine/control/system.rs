//! What an administrator may ask of the engine.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use thredlib::{ErrorCode, Event, EventKey, PatternId, ThredId, transition_name};

use super::{Answer, Refusal, operation, thred_id};
use crate::{
    engine::{Engine, batch::Batch, patterns::WATCH},
    port::{Command, Lease, ThredQuery},
    state::{Status, ThredState},
    thred::summary,
};

/// How long a watch lasts unless the request says otherwise (`lease`, milliseconds).
const WATCH_MS: i64 = 60_000;

impl Engine {
    pub(super) async fn system_control(&self, batch: &mut Batch, event: &Event) -> Answer {
        let mut fields = Map::new();
        match operation(event)? {
            "getThreds" => return self.get_threds(event).await,
            "transitionThred" => {
                let thred = self.known(&thred_id(event)?).await?;
                let (thred_id, cause) = (thred.id.clone(), key_of(event));
                let to = self.transition_of(batch, event, &thred).await?;
                fields.insert("thredId".into(), json!(thred_id));
                fields.insert("transition".into(), json!(to));
                let command = Command::Transition { thred_id, to, cause };
                check_live(&thred, &command)?;
                batch.commands.push(command);
            }
            "terminateThred" => {
                let thred = self.known(&thred_id(event)?).await?;
                let (thred_id, cause) = (thred.id.clone(), key_of(event));
                let command = Command::Terminate { thred_id, cause };
                check_live(&thred, &command)?;
                fields.insert("thredId".into(), json!(thred.id));
                batch.commands.push(command);
            }
            "terminateAllThreds" => {
                let threds = self.all(ThredQuery::default()).await?;
                fields.insert("count".into(), threds.len().into());
                batch.commands.extend(threds.into_iter().map(|thred| Command::Terminate {
                    thred_id: thred.id.clone(),
                    cause: key_of(event),
                }));
            }
            "watchThreds" => return self.watch(event).await,
            "reloadPattern" => {
                let id = event.value_named("patternId").and_then(Value::as_str);
                let id = PatternId::from(id.ok_or_else(|| Refusal::missing("patternId"))?);
                self.reload_all().await?;
                let Some(pattern) = self.library().current(&id).cloned() else {
                    let text = format!("there is no pattern `{id}`");
                    return Err(Refusal::new(ErrorCode::InvalidParameters, text));
                };
                fields.insert("patternId".into(), json!(id));
                fields.insert("revision".into(), pattern.key.revision.to_string().into());
            }
            "reloadAllPatterns" => {
                self.reload_all().await?;
                fields.insert("count".into(), self.library().all().count().into());
            }
            "shutdown" => {
                self.stop();
                fields.insert("stopping".into(), true.into());
            }
            other => return Err(Refusal::unknown_operation(other)),
        }
        Ok(fields)
    }

    async fn get_threds(&self, event: &Event) -> Answer {
        let status = match event.value_named("status").and_then(Value::as_str) {
            None | Some("active") => vec![Status::Active, Status::Finished],
            Some("terminated") => vec![Status::Terminated],
            Some("all") => vec![Status::Active, Status::Finished, Status::Terminated],
            Some(other) => {
                let text = format!("`status` is `{other}`; use active, terminated or all");
                return Err(Refusal::new(ErrorCode::InvalidParameters, text));
            }
        };
        let matcher = match event.value_named("matcher") {
            Some(matcher) => Some(super::data::matcher(matcher)?),
            None => None,
        };
        let threds = self.all(ThredQuery { status, ..ThredQuery::default() }).await?;
        let found: Vec<_> = threds
            .iter()
            .map(|thred| summary(thred))
            .filter(|thred| match (&matcher, thred) {
                (Some(matcher), Value::Object(fields)) => matcher.matches(fields),
                _ => true,
            })
            .collect();
        Ok(Map::from_iter([("threds".to_owned(), found.into())]))
    }

    /// All threds that a query means, page after page.
    pub(super) async fn all(&self, mut query: ThredQuery) -> Result<Vec<Arc<ThredState>>, Refusal> {
        let mut found = Vec::new();
        loop {
            let page = self.insist(|| self.storage().threds(&query)).await?;
            found.extend(page.threds);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(found),
            }
        }
    }

    /// A thred that has not ended.
    pub(super) async fn live(&self, id: &ThredId) -> Result<Arc<ThredState>, Refusal> {
        let thred = self.known(id).await?;
        if thred.status.is_live() { Ok(thred) } else { Err(Refusal::no_thred(id)) }
    }

    /// A thred, ended or not.
    async fn known(&self, id: &ThredId) -> Result<Arc<ThredState>, Refusal> {
        let ids = [id.clone()];
        let mut loaded = self.insist(|| self.storage().load(&ids)).await?;
        loaded.pop().flatten().map(|loaded| loaded.state).ok_or_else(|| Refusal::no_thred(id))
    }

    async fn transition_of(
        &self,
        batch: &mut Batch,
        event: &Event,
        thred: &ThredState,
    ) -> Result<String, Refusal> {
        let value = event.value_named("transition").or_else(|| event.value_named("to"));
        let name = match value {
            Some(Value::String(name)) => Some(name.as_str()),
            Some(Value::Object(transition)) => transition.get("name").and_then(Value::as_str),
            _ => None,
        };
        let name = name.ok_or_else(|| Refusal::missing("transition"))?;
        let reserved = [transition_name::NEXT, transition_name::TERMINATE].contains(&name);
        let known = match self.revision(batch, &thred.pattern).await? {
            Some(pattern) => pattern.position(name).is_some(),
            None => false,
        };
        if !reserved && !known {
            let text = format!("the pattern `{}` has no reaction `{name}`", thred.pattern.id);
            return Err(Refusal::new(ErrorCode::InvalidParameters, text));
        }
        Ok(name.to_owned())
    }

    async fn watch(&self, event: &Event) -> Answer {
        let owner = event.source.id.to_string();
        let name = format!("{WATCH}{owner}");
        let action = ["action", "directive"].into_iter().find_map(|key| event.value_named(key));
        let mut fields = Map::new();
        match action.and_then(Value::as_str) {
            None | Some("start" | "renew") => {
                let length = event.value_named("lease").and_then(Value::as_i64).unwrap_or(WATCH_MS);
                let until = self.now().saturating_add(length.max(0));
                self.storage().acquire(&Lease { name, owner, until }, self.now()).await?;
                fields.insert("until".into(), until.into());
            }
            Some("stop") => self.storage().give_back(&name, &owner).await?,
            Some(other) => {
                let text = format!("`action` is `{other}`; use start, renew or stop");
                return Err(Refusal::new(ErrorCode::InvalidParameters, text));
            }
        }
        self.find_watchers().await?;
        Ok(fields)
    }
}

/// Whether a thred can be told something: it has not ended, or by this very command. A request
/// that is delivered again has the answer that it had.
fn check_live(thred: &ThredState, command: &Command) -> Result<(), Refusal> {
    if thred.status.is_live() || thred.has_consumed(&command.key()) {
        Ok(())
    } else {
        Err(Refusal::no_thred(&thred.id))
    }
}

/// What a control event is known by.
fn key_of(event: &Event) -> EventKey {
    EventKey::of(event.source.id.as_str(), event.id.as_str())
}
