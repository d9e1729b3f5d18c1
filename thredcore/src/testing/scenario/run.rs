//! Runs a scenario on a test bed.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    path::Path,
};

use serde_json::{Map, Value, json};
use thredlib::{Event, Message, ThredId};

use super::{
    check::{self, Mismatch},
    load::load_patterns,
    model::{
        Action, MessageExpectation, Scenario, ScenarioError, Step, ThredExpectation, ThredName,
    },
    reference::References,
    report::{Failure, ScenarioOutcome, Transcript},
};
use crate::{
    engine::EngineConfig,
    port::Inbound,
    state::ThredState,
    testing::{Bed, BedError},
};

/// Reads a scenario file and runs it.
///
/// # Errors
/// When the file, or a pattern file that it names, cannot be read or does not load. A scenario
/// that runs and fails is no error, but an [outcome](ScenarioOutcome).
pub async fn run_scenario(path: impl AsRef<Path>) -> Result<ScenarioOutcome, ScenarioError> {
    let path = path.as_ref();
    Scenario::load(path)?.run(path).await
}

impl Scenario {
    /// Runs the scenario. `path` names it in errors and in the outcome.
    ///
    /// # Errors
    /// When a pattern cannot be read or does not load.
    pub async fn run(&self, path: &Path) -> Result<ScenarioOutcome, ScenarioError> {
        let patterns = load_patterns(&self.patterns, path)?;
        let order = patterns.iter().map(|p| (p.id().to_string(), p.name.clone())).collect();
        let config = EngineConfig { seed: self.seed, ..EngineConfig::default() };
        let mut bed = Bed::builder()
            .directory(self.directory.clone())
            .start_time(self.start_time)
            .config(config);
        for pattern in patterns {
            bed = bed.pattern(pattern);
        }
        let bed = bed
            .build()
            .await
            .map_err(|error| ScenarioError::new(path, "$.patterns", error.to_string()))?;
        let mut run = Run {
            bed,
            patterns: order,
            references: References::default(),
            threds: BTreeMap::new(),
            unclaimed: VecDeque::new(),
            transcript: Transcript::new(self.start_time),
            recorded: 0,
        };
        let failure = run.all(self).await;
        Ok(ScenarioOutcome {
            name: self.name.clone(),
            path: path.to_owned(),
            steps: self.steps.len(),
            failure: failure.map(|(step, mismatch)| Failure {
                step,
                written: step
                    .and_then(|step| self.steps.get(step))
                    .map(|step| step.written.clone()),
                mismatch: mismatch.lines(),
                transcript: run.transcript.lines(),
            }),
        })
    }
}

/// A run under way.
struct Run {
    bed: Bed,
    /// The ids and names of the patterns, in the scenario's order.
    patterns: Vec<(String, String)>,
    references: References,
    threds: BTreeMap<String, ThredId>,
    unclaimed: VecDeque<Message>,
    transcript: Transcript,
    /// How many log records the transcript has.
    recorded: usize,
}

type Stepped = Result<(), Mismatch>;

impl Run {
    /// Takes all steps; gives the first failure, with the index of its step.
    async fn all(&mut self, scenario: &Scenario) -> Option<(Option<usize>, Mismatch)> {
        for (index, step) in scenario.steps.iter().enumerate() {
            if let Err(mismatch) = self.step(index, step).await {
                return Some((Some(index), mismatch));
            }
        }
        if self.unclaimed.is_empty() || scenario.allow_unclaimed_messages {
            None
        } else {
            Some((None, check::unclaimed(&self.unclaimed, "at the end of the scenario")))
        }
    }

    async fn step(&mut self, index: usize, step: &Step) -> Stepped {
        self.refresh_threds().await?;
        match &step.action {
            Action::Send { event, starts } => {
                self.send(index, event, step.label.as_deref(), starts.as_deref()).await
            }
            Action::Advance(ms) => {
                self.transcript.advanced(*ms);
                self.bed.advance(*ms).await?;
                self.observe().await
            }
            Action::Restart => {
                self.transcript.restarted();
                self.bed.restart().await?;
                self.observe().await
            }
            Action::ExpectMessage(expected) => self.claim(expected, step.label.as_deref()),
            Action::ExpectMessages(expected) => self.claim_several(expected),
            Action::ExpectNoMessage => {
                if self.unclaimed.is_empty() {
                    Ok(())
                } else {
                    Err(check::unclaimed(&self.unclaimed, "here"))
                }
            }
            Action::ExpectThred(expected) => self.expect_thred(expected).await,
            Action::ExpectThreds { pattern, count } => {
                self.expect_threds(pattern.as_deref(), *count).await
            }
            Action::ExpectLog(expected) => {
                let expected = check::event_by_id(self.references.resolve(expected)?);
                let records = self.bed.log().await?;
                check::some_matches("log record", &expected, records.iter().map(|r| json!(r)))
            }
            Action::ExpectDeadLetter(expected) => {
                let expected = check::event_as_object(self.references.resolve(expected)?);
                let letters = self.bed.dead_letters().await?;
                let letters = letters.iter().map(|letter| {
                    let what = match &letter.payload {
                        Inbound::Event(accepted) => ("event", json!(accepted.event)),
                        Inbound::Command(command) => ("command", json!(command)),
                    };
                    json!({ what.0: what.1, "reason": letter.reason, "at": letter.at,
                            "attempts": letter.attempts })
                });
                check::some_matches("dead letter", &expected, letters)
            }
        }
    }

    async fn send(
        &mut self,
        index: usize,
        event: &Value,
        label: Option<&str>,
        starts: Option<&[String]>,
    ) -> Stepped {
        let event = self.complete(index, self.references.resolve(event)?)?;
        let written = json!(event);
        if let Some(label) = label {
            self.references.insert(label, written.clone());
        }
        let before = self.thred_ids().await?;
        self.transcript.sent(self.bed.now(), &event);
        let sent = event.clone();
        self.bed.send(event).await?;
        self.observe().await?;
        let Some(names) = starts else { return Ok(()) };
        let all = self.bed.all_threds().await?;
        let mut new: Vec<_> = all.iter().filter(|thred| !before.contains(&thred.id)).collect();
        let own = self.bed.started_by(&sent).await?;
        // The threds that the event starts; or, where the names count them too, those that these
        // have spawned.
        if new.len() != names.len() {
            new.retain(|thred| own.contains(&thred.id));
        }
        new.sort_by_key(|thred| self.place(thred));
        if new.len() != names.len() {
            let started: Vec<_> = new.iter().map(|thred| thred.pattern.id.as_str()).collect();
            return Err(Mismatch::says(format!(
                "the event should have started {}, but it started {} ({})",
                threds(names.len()),
                threds(started.len()),
                if started.is_empty() { "none".into() } else { started.join(", ") },
            )));
        }
        for (name, thred) in names.iter().zip(new) {
            self.threds.insert(name.clone(), thred.id.clone());
        }
        Ok(())
    }

    /// Fills in what an event in a scenario may leave out.
    fn complete(&self, index: usize, event: Value) -> Result<Event, Mismatch> {
        let Value::Object(mut event) = event else {
            return Err(Mismatch::says("the event is no object"));
        };
        let defaults =
            [("id", json!(format!("event-{}", index + 1))), ("source", json!({ "id": "tester" }))];
        for (key, value) in defaults {
            event.entry(key).or_insert(value);
        }
        if let Some(Value::Object(source)) = event.get_mut("source") {
            source.entry("id").or_insert_with(|| "tester".into());
        }
        if !event.contains_key("timestamp") && !event.contains_key("time") {
            event.insert("timestamp".into(), self.bed.now().into());
        }
        serde_path_to_error::deserialize(Value::Object(event)).map_err(|error| {
            Mismatch::says(format!("this is no event: at `{}`: {}", error.path(), error.inner()))
        })
    }

    fn claim(&mut self, expected: &MessageExpectation, label: Option<&str>) -> Stepped {
        let expected = self.resolve(expected)?;
        let Some(message) = self.unclaimed.front() else {
            return Err(Mismatch::says("a message should be there, but there is none"));
        };
        let actual = json!(message);
        let differences = check::message(&expected, &actual);
        if !differences.is_empty() {
            return Err(Mismatch::differs("the next message is not as expected", differences));
        }
        self.unclaimed.pop_front();
        if let Some(label) = label {
            self.references.insert(label, actual);
        }
        Ok(())
    }

    fn claim_several(&mut self, expected: &[MessageExpectation]) -> Stepped {
        let expected: Vec<_> =
            expected.iter().map(|it| self.resolve(it)).collect::<Result<_, _>>()?;
        let next: Vec<_> =
            self.unclaimed.iter().take(expected.len()).map(|message| json!(message)).collect();
        check::messages(&expected, &next)?;
        self.unclaimed.drain(..expected.len());
        Ok(())
    }

    fn resolve(&self, expected: &MessageExpectation) -> Result<MessageExpectation, Mismatch> {
        let resolve = |part: &Option<Value>| {
            part.as_ref().map(|value| self.references.resolve(value)).transpose()
        };
        Ok(MessageExpectation { to: resolve(&expected.to)?, event: resolve(&expected.event)? })
    }

    async fn expect_thred(&mut self, expected: &ThredExpectation) -> Stepped {
        let id = match &expected.thred {
            ThredName::Ref(name) => {
                let id = json!({ "$ref": format!("{name}.id") });
                self.references.resolve(&id)?
            }
            ThredName::Id(id) => self.references.resolve(id)?,
        };
        let Some(id) = id.as_str().map(ThredId::from) else {
            return Err(Mismatch::says(format!("{id} is no thred's id")));
        };
        let Some(thred) = self.bed.thred(&id).await? else {
            return match expected.status.as_deref() {
                // Ended so long ago that it is forgotten.
                Some("terminated") if self.threds.values().any(|known| *known == id) => Ok(()),
                _ => Err(Mismatch::says(format!("there is no thred {id}"))),
            };
        };
        let mut resolved = expected.clone();
        for part in [
            &mut resolved.pattern,
            &mut resolved.reaction,
            &mut resolved.locals,
            &mut resolved.participants,
            &mut resolved.parent,
        ]
        .into_iter()
        .flatten()
        {
            *part = self.references.resolve(part)?;
        }
        if let Some(Value::String(pattern)) = &mut resolved.pattern {
            *pattern = self.pattern_id(pattern);
        }
        let differences = check::thred(&resolved, &thred_value(&thred));
        if differences.is_empty() {
            Ok(())
        } else {
            Err(Mismatch::differs(format!("thred {id} is not as expected"), differences))
        }
    }

    async fn expect_threds(&self, pattern: Option<&str>, count: u64) -> Stepped {
        let pattern = pattern.map(|pattern| self.pattern_id(pattern));
        let live = self.bed.live_threds().await?;
        let counted: Vec<_> = live
            .iter()
            .filter(|thred| pattern.as_ref().is_none_or(|id| thred.pattern.id == *id.as_str()))
            .map(|thred| format!("{} of {} in `{}`", thred.id, thred.pattern.id, thred.reaction))
            .collect();
        if u64::try_from(counted.len()).is_ok_and(|found| found == count) {
            return Ok(());
        }
        let mut lines = vec![format!(
            "there should be {count} live threds{}, but there are {}",
            pattern.map(|id| format!(" of `{id}`")).unwrap_or_default(),
            counted.len()
        )];
        lines.extend(counted);
        Err(Mismatch::of(lines))
    }

    /// Takes over what has happened since the last step.
    async fn observe(&mut self) -> Stepped {
        let log = self.bed.log().await?;
        for record in log.iter().skip(self.recorded) {
            self.transcript.decided(record);
        }
        self.recorded = log.len();
        for message in self.bed.take_messages() {
            self.transcript.told(&message);
            self.unclaimed.push_back(message);
        }
        self.refresh_threds().await
    }

    /// Lets references to threds see them as they are now.
    async fn refresh_threds(&mut self) -> Stepped {
        for (name, id) in &self.threds {
            let thred = self.bed.thred(id).await?;
            let value = match thred {
                Some(thred) => thred_value(&thred),
                None => json!({ "id": id, "status": "terminated" }),
            };
            self.references.insert(name.clone(), value);
        }
        Ok(())
    }

    async fn thred_ids(&self) -> Result<HashSet<ThredId>, BedError> {
        Ok(self.bed.all_threds().await?.iter().map(|thred| thred.id.clone()).collect())
    }

    /// The place of a thred's pattern in the scenario.
    fn place(&self, thred: &ThredState) -> usize {
        let id = thred.pattern.id.as_str();
        self.patterns.iter().position(|(known, _)| known == id).unwrap_or(usize::MAX)
    }

    /// The id of a pattern, which may be named instead.
    fn pattern_id(&self, id_or_name: &str) -> String {
        let is_id = self.patterns.iter().any(|(id, _)| id == id_or_name);
        let named = self.patterns.iter().find(|(_, name)| !is_id && name == id_or_name);
        named.map_or(id_or_name, |(id, _)| id).to_owned()
    }
}

impl From<BedError> for Mismatch {
    fn from(error: BedError) -> Self {
        Self::says(error.to_string())
    }
}

/// A thred as scenarios see it.
fn thred_value(thred: &ThredState) -> Value {
    let mut value = Map::new();
    value.insert("id".into(), json!(thred.id));
    value.insert("pattern".into(), json!(thred.pattern.id));
    value.insert("reaction".into(), json!(thred.reaction));
    value.insert("status".into(), thred.status.as_str().into());
    value.insert("locals".into(), Value::Object((*thred.locals).clone()));
    value.insert("participants".into(), json!(thred.participants));
    value.extend(thred.parent.as_ref().map(|parent| ("parent".to_owned(), json!(parent))));
    value.insert("children".into(), json!(thred.children));
    Value::Object(value)
}

fn threds(count: usize) -> String {
    match count {
        0 => "no thred".into(),
        1 => "one thred".into(),
        many => format!("{many} threds"),
    }
}

#[cfg(test)]
mod tests;
