//! What an administrator may do with stored data: tasks on patterns, event records and thred logs.

use serde_json::{Map, Value, json};
use thredlib::{
    ErrorCode, Event, PatternId, PatternModel, ThredId,
    task::{Matcher, Op, Query, Record, Target, Task, TaskGroup, TaskList},
};

use super::{Answer, Refusal};
use crate::{
    engine::{Engine, EngineError},
    pattern::Pattern,
    port::{History, LogRecord, StoredPattern},
};

/// The record types that control tasks know.
const PATTERN: &str = "Pattern";
const EVENT_RECORD: &str = "EventRecord";
const THRED_LOG: &str = "ThredLog";

/// Records that are looked through.
const RECORDS: usize = 100_000;

/// Reads a matcher as it stands in a control event.
pub(super) fn matcher(value: &Value) -> Result<Matcher, Refusal> {
    let task = json!([{ "op": "count", "params": { "type": "thred", "matcher": value } }]);
    match read(&task)?.groups() {
        [TaskGroup::Single(task)] => match &task.op {
            Op::Count(target) => Ok(target.matcher.clone()),
            _ => Err(Refusal::missing("matcher")),
        },
        _ => Err(Refusal::missing("matcher")),
    }
}

fn read(tasks: &Value) -> Result<TaskList, Refusal> {
    TaskList::from_value(tasks).map_err(|error| invalid(error.to_string()))
}

fn invalid(text: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidParameters, text)
}

impl Engine {
    /// Executes the tasks one after the other; the results stand under `results`, by position. A
    /// list inside of the list is refused as a whole.
    pub(super) async fn data_control(&self, event: &Event) -> Answer {
        let tasks = event.content().and_then(|content| content.get("tasks"));
        let list = read(tasks.ok_or_else(|| invalid("`data.content.tasks` is missing"))?)?;
        let mut results = Vec::new();
        for group in list.groups() {
            let mut values = Vec::new();
            group.tasks().iter().try_for_each(|task| self.check(task))?;
            for task in group.tasks() {
                values.push(self.data_task(task).await?);
            }
            results.push(match group {
                TaskGroup::Single(_) => values.pop().unwrap_or_default(),
                TaskGroup::Transaction(_) => Value::Array(values),
            });
        }
        Ok(Map::from_iter([("results".to_owned(), Value::Array(results))]))
    }

    /// Whether a task can be done.
    fn check(&self, task: &Task) -> Result<(), Refusal> {
        match &task.op {
            Op::Get(Query { target, .. })
            | Op::GetOne(Query { target, .. })
            | Op::Count(target) => known(target),
            Op::Put(record_type, records) if record_type.as_str() == PATTERN => {
                let mut records = records.as_slice().iter();
                records.try_for_each(|record| self.pattern_of(record).map(drop))
            }
            Op::Delete(target) if target.record_type.as_str() == PATTERN => Ok(()),
            op => Err(impossible(op)),
        }
    }

    async fn data_task(&self, task: &Task) -> Result<Value, Refusal> {
        match &task.op {
            Op::Get(query) => {
                let records = self.records(&query.target).await?;
                Ok(arranged(query, &records).into_iter().map(Value::Object).collect())
            }
            Op::GetOne(query) => {
                let records = self.records(&query.target).await?;
                let first = arranged(query, &records).into_iter().next();
                Ok(first.map_or(Value::Null, Value::Object))
            }
            Op::Count(target) => {
                let records = self.records(target).await?;
                let matching = records.iter().filter(|record| target.matcher.matches(record));
                Ok(matching.count().into())
            }
            Op::Put(record_type, records) if record_type.as_str() == PATTERN => {
                let mut ids = Vec::new();
                for record in records.as_slice() {
                    ids.push(self.put_record(record).await?);
                }
                Ok(ids.into())
            }
            Op::Delete(target) if target.record_type.as_str() == PATTERN => {
                let records = self.records(target).await?;
                let mut count = 0;
                for record in records.iter().filter(|record| target.matcher.matches(record)) {
                    let id = record.get("id").and_then(Value::as_str).unwrap_or_default();
                    self.remove_pattern(&PatternId::from(id)).await.map_err(refused)?;
                    count += 1;
                }
                Ok(count.into())
            }
            op => Err(impossible(op)),
        }
    }

    async fn put_record(&self, record: &Record) -> Result<Value, Refusal> {
        let model = self.pattern_of(record)?;
        let id = model.id();
        self.put_patterns(vec![model]).await.map_err(refused)?;
        Ok(json!(id))
    }

    /// The pattern that a record is, if it can run.
    fn pattern_of(&self, record: &Record) -> Result<PatternModel, Refusal> {
        let mut fields = record.fields.clone();
        fields.extend(record.id.clone().map(|id| ("id".to_owned(), id.into())));
        let fields = Value::Object(fields);
        let report = thredlib::validate::validate(&fields);
        if !report.is_valid() {
            let findings: Vec<_> = report.errors().map(ToString::to_string).collect();
            return Err(invalid(findings.join("; ")));
        }
        let model: PatternModel =
            serde_json::from_value(fields).map_err(|error| invalid(error.to_string()))?;
        let compiled =
            Pattern::compile(&StoredPattern::new(model.clone()), &self.config().expr_limits);
        compiled.map(|_| model).map_err(|error| invalid(error.to_string()))
    }

    async fn records(&self, target: &Target) -> Result<Vec<Map<String, Value>>, Refusal> {
        match target.record_type.as_str() {
            PATTERN => {
                let patterns = self.insist(|| self.storage().patterns()).await?;
                let records = patterns.into_iter().map(|pattern| {
                    let mut record = object(json!(*pattern.model));
                    record.insert("id".into(), json!(pattern.key.id));
                    record.insert("revision".into(), pattern.key.revision.to_string().into());
                    record
                });
                Ok(records.collect())
            }
            EVENT_RECORD => {
                let thred = thred_of(&target.matcher);
                let past = match &thred {
                    Some(id) => self.insist(|| self.storage().history(id, None, RECORDS)).await?,
                    None => {
                        let page = self.insist(|| self.storage().unmoved(None, RECORDS)).await?;
                        let unmoved = page.records.into_iter();
                        unmoved.map(|it| History::unmoved(it.record, it.event)).collect()
                    }
                };
                Ok(past.iter().flat_map(event_records).collect())
            }
            THRED_LOG => {
                let log = self.insist(|| self.storage().log(RECORDS)).await?;
                Ok(log.iter().enumerate().map(log_record).collect())
            }
            _ => known(target).map(|()| vec![]),
        }
    }
}

fn known(target: &Target) -> Result<(), Refusal> {
    match target.record_type.as_str() {
        PATTERN | EVENT_RECORD | THRED_LOG => Ok(()),
        other => Err(invalid(format!(
            "there are no records of the type `{other}`; use {PATTERN}, {EVENT_RECORD} or {THRED_LOG}"
        ))),
    }
}

fn impossible(op: &Op) -> Refusal {
    let text = "patterns take put and delete; event records and thred logs are read-only";
    invalid(format!("`{}` is not possible here: {text}", op.name()))
}

fn refused(error: EngineError) -> Refusal {
    match error {
        EngineError::Load(error) => invalid(error.to_string()),
        EngineError::Port(error) => error.into(),
    }
}

fn arranged(query: &Query, records: &[Map<String, Value>]) -> Vec<Map<String, Value>> {
    let matching = records.iter().filter(|record| query.target.matcher.matches(record));
    let arranged = query.collector.arrange(matching);
    arranged.into_iter().map(|record| query.selector.select(record)).collect()
}

/// The thred whose events are asked for; those of no thred when it is left out.
fn thred_of(matcher: &Matcher) -> Option<ThredId> {
    let mut equalities = matcher.equalities();
    let (_, id) = equalities.find(|(path, _)| path.as_str() == "thredId")?;
    id.as_str().map(ThredId::from)
}

fn event_records(step: &History) -> Vec<Map<String, Value>> {
    let thred = step.log.first().and_then(|record| record.thred_id.as_ref());
    let record = |event: &Event, to: Value| {
        let (id, at) = (&event.id, event.timestamp);
        object(json!({ "id": id, "thredId": thred, "event": event, "to": to, "timestamp": at }))
    };
    let inbound = step.event.iter().map(|event| record(event, Value::Null));
    let outbound = step.messages.iter().map(|message| record(&message.event, json!(message.to)));
    inbound.chain(outbound).collect()
}

fn log_record((number, record): (usize, &LogRecord)) -> Map<String, Value> {
    let mut fields = object(json!(record));
    fields.insert("id".into(), format!("{}/{number}", record.event).into());
    fields
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
