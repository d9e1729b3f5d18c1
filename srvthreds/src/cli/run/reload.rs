//! Taking changed files into use while the engine runs.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use thredcore::{Engine, EngineError, port::StoredPattern, state::PatternKey};
use thredlib::{PatternModel, validate::Severity};

use super::{sessions::Sessions, watch::Changes};
use crate::{
    cli::{
        diagnostics::{Printer, printable},
        files::{SourceFile, Unreadable, pattern_files_left},
        validate,
    },
    query::Unanswered,
};

/// Keeps the patterns and sessions in use those of the files.
///
/// A file that is wrong is refused, and what it held before stays in use. A file that is gone takes
/// its pattern out of use; running threds keep the revision that they started with.
pub(super) struct Reload {
    engine: Engine,
    sessions: Arc<Sessions>,
    printer: Printer,
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    /// What each file holds that is in use.
    held: BTreeMap<String, PatternKey>,
    /// The text of each file as it was looked at last.
    known: HashMap<String, String>,
    /// What could not be read when it was last looked at, and why.
    unreadable: HashMap<String, String>,
    /// Why the sessions file could not be read when it was last looked at.
    sessions_refused: Option<String>,
}

/// What is to be done about the patterns.
#[derive(Debug, Default)]
struct Plan {
    put: Vec<(String, PatternModel)>,
    remove: Vec<(String, PatternKey)>,
    held: BTreeMap<String, PatternKey>,
}

impl Reload {
    /// A pause before a store that failed is told again.
    const PAUSE: Duration = Duration::from_secs(1);

    /// Starts from what is in use.
    pub(super) fn new(
        engine: Engine,
        sessions: Arc<Sessions>,
        printer: Printer,
        paths: &[PathBuf],
        patterns: Vec<(SourceFile, PatternModel)>,
    ) -> Self {
        let (directories, files) = paths.iter().cloned().partition(|path| path.is_dir());
        let held = patterns
            .iter()
            .map(|(file, model)| (file.name.clone(), StoredPattern::new(model.clone()).key));
        let held = held.collect();
        let known = patterns.into_iter().map(|(file, _)| (file.name, file.text)).collect();
        Self {
            engine,
            sessions,
            printer,
            files,
            directories,
            held,
            known,
            unreadable: HashMap::new(),
            sessions_refused: None,
        }
    }

    /// Takes patterns that are in the store but in no file out of use.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn forget_others(&self) -> Result<(), EngineError> {
        let held: HashSet<_> = self.held.values().map(|key| &key.id).collect();
        for stored in self.engine.storage().patterns().await? {
            let id = &stored.key.id;
            if !held.contains(id) {
                self.engine.remove_pattern(id).await?;
                say(&format!("{id} is out of use: no file holds it"));
            }
        }
        Ok(())
    }

    /// Watches the files, until it is dropped. The store's own files are none of them.
    pub(super) async fn run(mut self, store: Option<PathBuf>) {
        let sessions = self.sessions.path().map(Path::to_owned);
        let files: Vec<_> = self.files.iter().cloned().chain(sessions).collect();
        if files.is_empty() && self.directories.is_empty() {
            return;
        }
        let except: Vec<_> = store.into_iter().collect();
        let mut changes = match Changes::watch(&files, &self.directories, &except) {
            Ok(changes) => changes,
            Err(error) => {
                eprintln!("warning: cannot watch the files: {error}; changes need a new start");
                return;
            }
        };
        // What has changed between the reading and the watching.
        let mut done = self.look().await;
        loop {
            if done {
                changes.next().await
            } else {
                tokio::time::sleep(Self::PAUSE).await
            }
            done = self.look().await;
        }
    }

    /// Looks at all files; says whether all is done that follows.
    async fn look(&mut self) -> bool {
        let sessions = self.look_at_sessions().await;
        let (files, unreadable) = pattern_files_left(&self.files, &self.directories);
        let plan = self.plan(&files, unreadable);
        self.carry_out(plan).await && sessions
    }

    async fn look_at_sessions(&mut self) -> bool {
        let Some(path) = self.sessions.path().map(|path| path.display().to_string()) else {
            return true;
        };
        let directory = match self.sessions.read_again() {
            Ok(directory) => directory,
            Err(unreadable) => {
                let reason = format!("{}: {}", unreadable.name, unreadable.reason);
                if self.sessions_refused.replace(reason.clone()) != Some(reason) {
                    Printer::unreadable(&unreadable);
                    say("the sessions stay as they were");
                }
                return true;
            }
        };
        self.sessions_refused = None;
        let Some(directory) = directory else { return true };
        match self.sessions.take(directory).await {
            Ok(()) => {
                say(&format!("the sessions of {path} are in use"));
                true
            }
            Err(error) => {
                eprintln!("error: {}: {}", printable(&path), printable(&error.to_string()));
                false
            }
        }
    }

    /// Compares the files with what is in use. What is wrong with those that have changed is
    /// printed.
    fn plan(&mut self, files: &[SourceFile], unreadable: Vec<Unreadable>) -> Plan {
        let checked = validate::check(files);
        let mut plan = Plan::default();
        let mut kept: Vec<&str> = Vec::new();
        let mut err = io::stderr().lock();
        for file in &checked {
            let name = &file.source.name;
            let changed = self.known.get(name) != Some(&file.source.text);
            if changed {
                // Standard error that cannot be written to has nobody who reads it.
                let _ = validate::print(
                    &mut err,
                    std::slice::from_ref(file),
                    self.printer,
                    Severity::Warning,
                );
            }
            let model = serde_json::from_str::<PatternModel>(&file.source.text);
            match model.ok().filter(|_| file.report.is_valid()) {
                Some(model) => {
                    let key = StoredPattern::new(model.clone()).key;
                    if self.held.values().all(|held| *held != key) {
                        plan.put.push((name.clone(), model));
                    }
                    plan.held.insert(name.clone(), key);
                }
                None => {
                    kept.push(name);
                    if changed {
                        let _ = writeln!(err, "{}", refusal(name, self.held.get(name)));
                    }
                }
            }
        }
        drop(err);
        // A directory that cannot be read stands for all that was below it.
        let below = |name: &str, root: &Unreadable| Path::new(name).starts_with(&root.name);
        for root in &unreadable {
            if self.unreadable.get(&root.name) != Some(&root.reason) {
                Printer::unreadable(root);
                say("what it held stays in use");
            }
        }
        let reasons = unreadable.iter().map(|root| (root.name.clone(), root.reason.clone()));
        self.unreadable = reasons.collect();
        let taken: HashSet<_> = plan.held.values().map(|key| key.id.clone()).collect();
        for (name, key) in &self.held {
            let stays =
                kept.contains(&name.as_str()) || unreadable.iter().any(|root| below(name, root));
            if stays && !taken.contains(&key.id) {
                plan.held.insert(name.clone(), key.clone());
            }
        }
        let left: HashSet<_> = plan.held.values().map(|key| &key.id).collect();
        let gone = self.held.iter().filter(|(_, key)| !left.contains(&key.id));
        plan.remove = gone.map(|(name, key)| (name.clone(), key.clone())).collect();
        self.known = files.iter().map(|file| (file.name.clone(), file.text.clone())).collect();
        plan
    }

    /// Says whether all is done; what failed for want of the store is to be tried again.
    async fn carry_out(&mut self, plan: Plan) -> bool {
        let Plan { put, remove, mut held } = plan;
        let mut done = true;
        for (name, model) in put {
            let key = StoredPattern::new(model.clone()).key;
            match self.engine.put_patterns(vec![model]).await {
                Ok(()) => {
                    let PatternKey { id, revision } = &key;
                    say(&format!("{id} is in use, revision {revision:016x} ({name})"));
                }
                Err(error) => {
                    // A pattern that the engine refuses will not do later either.
                    done &= matches!(error, EngineError::Load(_));
                    complain(&name, &error);
                    match self.held.get(&name) {
                        Some(before) => held.insert(name, before.clone()),
                        None => held.remove(&name),
                    };
                }
            }
        }
        for (name, key) in remove {
            match self.engine.remove_pattern(&key.id).await {
                Ok(()) => {
                    say(&format!("{} is out of use ({name} does not hold it)", key.id));
                }
                Err(error) => {
                    done = false;
                    complain(&name, &error);
                    held.insert(name, key);
                }
            }
        }
        self.held = held;
        done
    }
}

fn complain(name: &str, error: &EngineError) {
    eprintln!("error: {}: {}", printable(name), printable(&Unanswered::because(error).0));
}

/// A line about the patterns.
fn say(text: &str) {
    eprintln!("reload: {}", printable(text));
}

fn refusal(name: &str, held: Option<&PatternKey>) -> String {
    let name = printable(name);
    match held {
        Some(key) => format!(
            "error: {name} is refused; revision {:016x} of {} stays in use",
            key.revision,
            printable(key.id.as_str())
        ),
        None => format!("error: {name} is refused"),
    }
}
