//! What a run is made from: patterns, sessions and records.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use thredcore::{
    Engine, EngineConfig, Ports,
    agent::{AgentRunner, RunningAgent},
    memory::{MemoryEventQ, MemoryStorage},
    persistence::{MemoryPersistence, PersistenceAgent, TaskContext, execute_list},
    port::{Clock, Directory, FixedDirectory, SystemClock},
};
use thredlib::{ParticipantId, PatternModel, Topic, task::TaskList};

use super::outlet::Outlet;
use crate::cli::{
    Outcome,
    args::RunArgs,
    diagnostics::Printer,
    files::{Unreadable, pattern_files, read_json},
    progress::Progress,
    validate,
};

/// The service that a run answers for itself.
const PERSISTENCE: &str = "org.wt.persistence";
const PERSISTENCE_NODE: &str = "org.wt.persistence1";

/// Records by type.
type Records = BTreeMap<String, Vec<Value>>;

/// All that the files say.
pub(super) struct Setup {
    patterns: Vec<PatternModel>,
    directory: Directory,
    /// `None`: nobody stores anything.
    records: Option<TaskList>,
}

impl Setup {
    /// Reads the files. What is wrong has been printed when this fails.
    pub(super) fn read(args: &RunArgs, colours: bool) -> Result<Self, Outcome> {
        let patterns = patterns(args, Printer { colours })?;
        let mut directory: Directory = optional(args.sessions.as_deref())?.unwrap_or_default();
        let records: Option<Records> = optional(args.records.as_deref())?;
        if records.is_some() {
            directory.add_service(PERSISTENCE);
        }
        let stores = directory.is_service(&ParticipantId::from(PERSISTENCE));
        if stores {
            // Its answers come from its node, which is no participant either.
            directory.add_service(PERSISTENCE_NODE);
        }
        let tasks = tasks(records.unwrap_or_default(), args)?;
        Ok(Self { patterns, directory, records: stores.then_some(tasks) })
    }

    /// The topics whose messages the run handles itself.
    pub(super) fn answered(&self) -> Vec<Topic> {
        match self.records {
            Some(_) => vec![PERSISTENCE.into(), PERSISTENCE_NODE.into()],
            None => vec![],
        }
    }

    /// Builds the engine and starts the agent.
    pub(super) async fn build(
        self,
        storage: Arc<MemoryStorage>,
        event_q: Arc<MemoryEventQ>,
        outlet: Arc<Outlet>,
    ) -> Result<(Engine, Option<RunningAgent>), Outcome> {
        let clock = Arc::new(SystemClock);
        let ports = Ports {
            event_q: event_q.clone(),
            message_q: outlet.clone(),
            storage,
            resolver: Arc::new(FixedDirectory::new(self.directory)),
            clock: clock.clone(),
        };
        let mut config = EngineConfig::default();
        // There is no other engine whose outbox could be forgotten; a reader of the messages that
        // pauses is no reason to print them again.
        config.relay_age = Duration::from_secs(365 * 24 * 3600);
        let mut engine = Engine::builder().ports(ports).config(config);
        for pattern in self.patterns {
            engine = engine.pattern(pattern);
        }
        let engine = engine.build().await.map_err(|error| refuse(Outcome::Bad, error))?;
        let Some(records) = self.records else { return Ok((engine, None)) };
        let store = Arc::new(MemoryPersistence::new());
        let context = TaskContext { key: "records", now: clock.now() };
        execute_list(&*store, &records, &context)
            .await
            .map_err(|error| refuse(Outcome::Unable, error))?;
        let agent = PersistenceAgent::new(store, clock);
        let agent = AgentRunner::new(PERSISTENCE, Arc::new(agent), outlet, event_q)
            .node_id(PERSISTENCE_NODE)
            .start()
            .await
            .map_err(|error| refuse(Outcome::Unable, error))?;
        Ok((engine, Some(agent)))
    }
}

/// Prints why the run does not start.
fn refuse(outcome: Outcome, error: impl std::fmt::Display) -> Outcome {
    eprintln!("error: {error}");
    outcome
}

fn patterns(args: &RunArgs, printer: Printer) -> Result<Vec<PatternModel>, Outcome> {
    let mut progress = Progress::new("files read");
    let (files, unreadable) = pattern_files(&args.patterns, || progress.tick());
    drop(progress);
    unreadable.iter().for_each(Printer::unreadable);
    let checked = validate::check(&files);
    let mut err = io::BufWriter::new(io::stderr().lock());
    // Standard error that cannot be written to has nobody who reads it.
    let _ = validate::print(&mut err, &checked, printer);
    let valid = checked.iter().all(|file| file.report.is_valid());
    if !valid {
        let _ = writeln!(err, "error: these patterns cannot run; nothing was started");
    }
    let _ = err.flush();
    match (unreadable.is_empty(), valid) {
        (false, _) => return Err(Outcome::Unable),
        (true, false) => return Err(Outcome::Bad),
        (true, true) => {}
    }
    let models = files.iter().map(|file| serde_json::from_str(&file.text));
    models.collect::<Result<_, _>>().map_err(|error| refuse(Outcome::Bad, error))
}

fn optional<T: serde::de::DeserializeOwned>(path: Option<&Path>) -> Result<Option<T>, Outcome> {
    path.map(read_json).transpose().map_err(|unreadable| unable(&unreadable))
}

fn unable(unreadable: &Unreadable) -> Outcome {
    Printer::unreadable(unreadable);
    Outcome::Unable
}

/// The tasks that store the records.
fn tasks(records: Records, args: &RunArgs) -> Result<TaskList, Outcome> {
    // Within the limits of a task.
    const AT_ONCE: usize = 1000;
    let mut tasks = Vec::new();
    for (record_type, records) in &records {
        for values in records.chunks(AT_ONCE) {
            tasks.push(json!({ "op": "put", "params": { "type": record_type, "values": values } }));
        }
    }
    TaskList::from_value(&tasks.into()).map_err(|error| {
        let name = args.records.as_deref().unwrap_or(Path::new("")).display().to_string();
        unable(&Unreadable { name, reason: error.to_string() })
    })
}
