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
    Engine, EngineConfig, EngineError, Ports,
    agent::{AgentRunner, RunningAgent},
    persistence::{MemoryPersistence, PersistenceAgent, TaskContext, execute_list},
    port::{Clock, SystemClock},
};
use thredlib::{PatternModel, Topic, task::TaskList, validate::Severity};

use super::{
    ingress::{Ingress, Wrong},
    outlet::Outlet,
    sessions::{PERSISTENCE, PERSISTENCE_NODE, Sessions},
};
use crate::{
    backend::Backends,
    cli::{
        Outcome,
        args::{Print, RunArgs},
        diagnostics::Printer,
        files::{SourceFile, Unreadable, pattern_files, read_json},
        progress::Progress,
        validate,
    },
    query::Unanswered,
};

/// Records by type.
type Records = BTreeMap<String, Vec<Value>>;

/// All that the files say.
pub(super) struct Setup {
    /// The pattern files, each with what it holds.
    pub(super) patterns: Vec<(SourceFile, PatternModel)>,
    pub(super) sessions: Arc<Sessions>,
    /// `None`: nobody stores anything.
    records: Option<TaskList>,
    /// What other programs publish to.
    pub(super) ingress: Ingress,
}

impl Setup {
    /// Reads the files. What is wrong has been printed when this fails.
    pub(super) fn read(args: &RunArgs, colours: bool) -> Result<Self, Outcome> {
        let patterns = match &*args.patterns {
            [] => Vec::new(),
            _ => patterns(args, Printer { colours })?,
        };
        let records: Option<Records> = args
            .records
            .as_deref()
            .map(read_json)
            .transpose()
            .map_err(|unreadable| unable(&unreadable))?;
        let sessions = Sessions::read(args.sessions.as_deref(), records.is_some())
            .map_err(|unreadable| unable(&unreadable))?;
        let tasks = tasks(records.unwrap_or_default(), args)?;
        let records = sessions.agent().then_some(tasks);
        let ingress = Ingress::read(&args.ingress).map_err(|wrong| match wrong {
            Wrong::File(unreadable) => unable(&unreadable),
            Wrong::Users(text) => refuse(Outcome::Unable, text),
        })?;
        Ok(Self { patterns, sessions: Arc::new(sessions), records, ingress })
    }

    /// Goes by the sessions of a store that knows them; gives the topics whose messages leave here.
    pub(super) async fn share(
        &self,
        backends: &Backends,
        print: Print,
    ) -> Result<Vec<Topic>, Outcome> {
        if let Some(directory) = backends.directory() {
            let shared = self.sessions.share(directory).await;
            shared.map_err(|error| refuse(Outcome::Unable, error))?;
        }
        let topics = self.sessions.topics(print).await;
        topics.map_err(|error| refuse(Outcome::Unable, Unanswered::because(&error)))
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
        &mut self,
        backends: &Backends,
        outlet: Arc<Outlet>,
    ) -> Result<(Engine, Option<RunningAgent>), Outcome> {
        let clock = Arc::new(SystemClock);
        let unable = |error| refuse(Outcome::Unable, error);
        let resolver = backends.with_users(self.sessions.clone()).await.map_err(unable)?;
        let ports = Ports {
            event_q: backends.event_q(),
            message_q: outlet.clone(),
            storage: backends.storage(),
            resolver,
            clock: clock.clone(),
        };
        let mut config = EngineConfig::default();
        if !backends.is_durable() {
            // There is no other engine whose outbox could be forgotten; a reader of the messages
            // that pauses is no reason to print them again.
            config.relay_age = Duration::from_secs(365 * 24 * 3600);
        }
        let mut engine = Engine::builder().ports(ports).config(config);
        for (_, pattern) in &self.patterns {
            engine = engine.pattern(pattern.clone());
        }
        let engine = engine.build().await.map_err(|error| match error {
            EngineError::Load(error) => refuse(Outcome::Bad, error),
            error => refuse(Outcome::Unable, Unanswered::because(&error)),
        })?;
        let Some(records) = self.records.take() else { return Ok((engine, None)) };
        let stored = backends.records().await.map_err(unable)?;
        let store = stored.unwrap_or_else(|| {
            if backends.is_durable() {
                eprintln!(
                    "note: the records of {PERSISTENCE} are in memory, and gone with the program"
                );
            }
            Arc::new(MemoryPersistence::new())
        });
        let context = TaskContext { key: "records", now: clock.now() };
        execute_list(&*store, &records, &context)
            .await
            .map_err(|error| refuse(Outcome::Unable, error))?;
        let agent = PersistenceAgent::new(store, clock);
        let agent = AgentRunner::new(PERSISTENCE, Arc::new(agent), outlet, backends.event_q())
            .node_id(PERSISTENCE_NODE)
            .start()
            .await
            .map_err(|error| refuse(Outcome::Unable, error))?;
        Ok((engine, Some(agent)))
    }
}

/// Prints why the run does not start.
pub(super) fn refuse(outcome: Outcome, error: impl std::fmt::Display) -> Outcome {
    eprintln!("error: {error}");
    outcome
}

fn patterns(args: &RunArgs, printer: Printer) -> Result<Vec<(SourceFile, PatternModel)>, Outcome> {
    let mut progress = Progress::new("files read");
    let (files, unreadable) = pattern_files(&args.patterns, || progress.tick());
    drop(progress);
    unreadable.iter().for_each(Printer::unreadable);
    let checked = validate::check(&files);
    let mut err = io::BufWriter::new(io::stderr().lock());
    // Standard error that cannot be written to has nobody who reads it.
    let _ = validate::print(&mut err, &checked, printer, Severity::Warning);
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
    let models = files.into_iter().map(|file| {
        let model = serde_json::from_str(&file.text)?;
        Ok((file, model))
    });
    models.collect::<Result<_, serde_json::Error>>().map_err(|error| refuse(Outcome::Bad, error))
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
