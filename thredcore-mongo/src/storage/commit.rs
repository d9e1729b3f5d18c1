//! Commits: a batch is one command for new threds and one for the others.

use std::{collections::HashMap, sync::Arc};

use futures::future::join_all;
use mongodb::bson::{Document, doc, oid::ObjectId};
use serde::Deserialize;
use thredcore::{
    port::{Commit, Committed, PortError, PortErrorKind},
    state::{Status, ThredState},
};

use super::{MongoStorage, PAST_LIMIT};
use crate::{
    archive::chunks,
    connection::{Write, wall_clock, write_error},
    documents::{EntryDocument, Step, THREDS, listening_text, signed, state_fields},
    error::DUPLICATE_KEY,
};

const COMMIT: &str = "commit";

type Answer = Result<Committed, PortError>;

impl MongoStorage {
    pub(super) async fn commit_all(&self, commits: &[Arc<Commit>]) -> Vec<Answer> {
        if let Err(error) = self.filer.room().await {
            return commits.iter().map(|_| Err(copy(&error))).collect();
        }
        // Tells the documents that this call has written.
        let token = ObjectId::new();
        let mut answers: Vec<Option<Answer>> = commits.iter().map(|_| None).collect();
        let mut portions = Vec::new();
        let (mut new, mut known) = (Vec::new(), Vec::new());
        let mut steps = Vec::with_capacity(commits.len());
        for (place, commit) in commits.iter().enumerate() {
            let statement = Step::of(commit).and_then(|step| {
                Ok((self.statement(commit, &step, token)?, step))
            });
            match statement {
                Ok((statement, step)) => {
                    let list = if commit.expected == 0 { &mut new } else { &mut known };
                    list.push((place, statement));
                    steps.push(Some(step));
                }
                Err(error) => {
                    answers[place] = Some(Err(error));
                    steps.push(None);
                }
            }
        }
        for (write, list) in [(Write::Insert, new), (Write::Update, known)] {
            let (places, statements): (Vec<usize>, Vec<Document>) = list.into_iter().unzip();
            let mut places = places.into_iter();
            for statements in chunks(statements) {
                let places: Vec<_> = places.by_ref().take(statements.len()).collect();
                portions.push((write, places, statements));
            }
        }
        let sent = portions.into_iter().map(|(write, places, statements)| async move {
            let portion: Vec<_> = places.iter().map(|place| &commits[*place]).collect();
            (self.commit_portion(write, &portion, statements, token).await, places)
        });
        for (portion, places) in join_all(sent).await {
            for (place, answer) in places.into_iter().zip(portion) {
                answers[place] = Some(answer);
            }
        }
        let missing = || Err(PortError::new(COMMIT, PortErrorKind::Unknown, "no answer"));
        let answers: Vec<_> =
            answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect();
        for (answer, step) in answers.iter().zip(steps) {
            if let (Ok(Committed::Applied), Some(step)) = (answer, step) {
                self.filer.add(step);
            }
        }
        answers
    }

    async fn commit_portion(
        &self,
        write: Write,
        commits: &[&Arc<Commit>],
        statements: Vec<Document>,
        token: ObjectId,
    ) -> Vec<Answer> {
        let written = match self.mongo.write(COMMIT, THREDS, write, statements).await {
            Ok(written) => written,
            Err(error) => return commits.iter().map(|_| Err(copy(&error))).collect(),
        };
        if written.count == commits.len() {
            return commits.iter().map(|_| Ok(Committed::Applied)).collect();
        }
        let failed: HashMap<usize, (i32, String)> =
            written.errors.into_iter().map(|(place, code, text)| (place, (code, text))).collect();
        let probes = self.probe(commits).await;
        let probes = match &probes {
            Ok(probes) => probes,
            // Those that were written are; sent again, they are duplicates.
            Err(error) => {
                let unknown =
                    || Err(PortError::new(COMMIT, PortErrorKind::Unknown, error.to_string()));
                return commits.iter().map(|_| unknown()).collect();
            }
        };
        let answer = |(place, commit): (usize, &&Arc<Commit>)| match failed.get(&place) {
            Some((code, text)) if *code != DUPLICATE_KEY => {
                Err(write_error(COMMIT, *code, text.clone()))
            }
            failure => {
                let stored = probes.get(commit.state.id.as_str());
                self.outcome(commit, stored, failure.is_some(), token)
            }
        };
        commits.iter().enumerate().map(answer).collect()
    }

    /// What became of a commit, after the command did not apply all of them.
    fn outcome(
        &self,
        commit: &Commit,
        stored: Option<&Probe>,
        failed: bool,
        token: ObjectId,
    ) -> Answer {
        let Some(stored) = stored else {
            return match commit.expected {
                0 => Err(unavailable("the thred's former state was just removed".to_owned())),
                _ => Ok(Committed::Conflict),
            };
        };
        // If another commit has replaced the token since, it is told as a duplicate, which it is.
        if !failed && stored.by == token {
            return Ok(Committed::Applied);
        }
        if stored.inbox.iter().any(|id| *id == *commit.consumed.as_str()) {
            return Ok(Committed::Duplicate);
        }
        let full = self.mongo.config.outbox_limit;
        if stored.v == signed(commit.expected) && stored.outbox >= i64::from(full) {
            let id = &commit.state.id;
            return Err(unavailable(format!(
                "thred {id} has {full} unpublished entries; is the message queue running?"
            )));
        }
        if stored.v == signed(commit.expected) && stored.past >= PAST_LIMIT as i64 {
            let id = &commit.state.id;
            return Err(unavailable(format!("thred {id} has {PAST_LIMIT} steps to be archived")));
        }
        Ok(Committed::Conflict)
    }

    async fn probe(&self, commits: &[&Arc<Commit>]) -> Result<HashMap<String, Probe>, PortError> {
        let ids: Vec<_> = commits.iter().map(|commit| commit.state.id.as_str()).collect();
        let threds = self.mongo.collection::<Probe>(THREDS);
        let find = threds.find(doc! { "_id": { "$in": ids } }).projection(doc! {
            "v": 1, "by": 1, "inbox": 1,
            "outbox": { "$size": "$outbox" }, "past": { "$size": "$past" },
        });
        let probes = self.mongo.all("look for commits", find.batch_size(1_000)).await?;
        Ok(probes.into_iter().map(|probe| (probe.id.clone(), probe)).collect())
    }

    fn statement(
        &self,
        commit: &Commit,
        step: &Step,
        token: ObjectId,
    ) -> Result<Document, PortError> {
        let state = &*commit.state;
        let mut set = state_fields(state)?;
        set.insert("by", token);
        let (present, absent) = conditional_fields(state);
        set.extend(present);
        let entries = commit.outbox.iter().map(EntryDocument::of);
        let entries = entries.collect::<Result<Vec<Document>, _>>()?;
        let oldest = commit.outbox.iter().map(|entry| entry.at).min();
        let now = wall_clock();
        if commit.expected == 0 {
            let mut new = doc! { "_id": state.id.as_str() };
            new.extend(set);
            new.insert("outbox", entries);
            new.insert("past", vec![step.inside()]);
            new.insert("unfiled", now);
            new.extend(oldest.map(|at| ("oldest".to_owned(), at.into())));
            return Ok(new);
        }
        let outbox_full = format!("outbox.{}", self.mongo.config.outbox_limit.saturating_sub(1));
        let past_full = format!("past.{}", PAST_LIMIT - 1);
        let mut least = doc! { "unfiled": now };
        least.extend(oldest.map(|at| ("oldest".to_owned(), at.into())));
        let mut change = doc! {
            "$set": set,
            "$push": { "outbox": { "$each": entries }, "past": step.inside() },
            "$min": least,
        };
        if !absent.is_empty() {
            change.insert("$unset", absent);
        }
        let unchanged = doc! {
            "_id": state.id.as_str(),
            "v": signed(commit.expected),
            "inbox": { "$ne": commit.consumed.as_str() },
            outbox_full: { "$exists": false },
            past_full: { "$exists": false },
        };
        Ok(doc! { "q": unchanged, "u": change })
    }
}

/// The fields that only some threds have, so that only those are in the indexes; and those that this
/// one does not have.
fn conditional_fields(state: &ThredState) -> (Document, Document) {
    let (mut present, mut absent) = (Document::new(), Document::new());
    match state.timer() {
        Some((due, entry)) => present.extend(doc! { "due": due, "entry": signed(entry) }),
        None => absent.extend(doc! { "due": "", "entry": "" }),
    }
    match state.listening && state.status == Status::Active {
        true => present.extend(doc! {
            "listens": listening_text(&state.pattern), "reaction": &*state.reaction
        }),
        false => absent.extend(doc! { "listens": "", "reaction": "" }),
    }
    match state.status.is_live() {
        true => absent.extend(doc! { "closed": "" }),
        false => present.extend(doc! { "closed": wall_clock() }),
    }
    (present, absent)
}

/// What is looked at when not all of a batch was applied.
#[derive(Debug, Deserialize)]
struct Probe {
    #[serde(rename = "_id")]
    id: String,
    v: i64,
    by: ObjectId,
    inbox: Vec<String>,
    /// How many entries it has.
    outbox: i64,
    /// How many steps it has.
    past: i64,
}

fn unavailable(cause: String) -> PortError {
    PortError::new(COMMIT, PortErrorKind::Unavailable, cause)
}

/// The same failure, for each commit that it befell.
fn copy(error: &PortError) -> PortError {
    let cause = std::error::Error::source(error).map_or_else(String::new, ToString::to_string);
    PortError::new(COMMIT, error.kind(), cause)
}
