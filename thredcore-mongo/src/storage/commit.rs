//! Commits: a batch is one command for new threds and one for the others.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::future::join_all;
use mongodb::bson::{Binary, Bson, Document, RawDocumentBuf, doc, oid::ObjectId};
use serde::Deserialize;
use thredcore::{
    port::{Commit, Committed, PortError, PortErrorKind},
    state::ThredState,
};

use super::{MongoStorage, PAST_LIMIT};
use crate::{
    archive::chunks,
    config::MongoConfig,
    connection::{Write, wall_clock, write_error},
    documents::{
        Packed, Step, THREDS, binary, bytes_of, listening_text, signed, state_fields, wait_keys,
    },
    error::{DUPLICATE_KEY, TOO_LARGE},
    unreadable::{decoded, id_of},
};

const COMMIT: &str = "commit";

type Answer = Result<Committed, PortError>;

/// A commit on its way.
struct Sent<'c> {
    commit: &'c Commit,
    step: Step,
    /// Tells its write from all others.
    token: ObjectId,
}

impl MongoStorage {
    pub(super) async fn commit_all(&self, commits: &[Arc<Commit>]) -> Vec<Answer> {
        if let Err(error) = self.filer.room().await {
            return commits.iter().map(|_| Err(copy(&error))).collect();
        }
        let mut answers: Vec<Option<Answer>> = commits.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..commits.len()).collect();
        // Commits of one thred go one after the other, should there be several.
        while !open.is_empty() {
            let mut threds = HashSet::new();
            let distinct = |place: &usize| threds.insert(&commits[*place].state.id);
            let (round, later): (Vec<_>, Vec<_>) = open.into_iter().partition(distinct);
            self.commit_round(commits, round, &mut answers).await;
            open = later;
        }
        let missing = || Err(PortError::new(COMMIT, PortErrorKind::Unknown, "no answer"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect()
    }

    /// Commits of different threds, all together.
    async fn commit_round(
        &self,
        commits: &[Arc<Commit>],
        round: Vec<usize>,
        answers: &mut [Option<Answer>],
    ) {
        let (mut new, mut known) = (Vec::new(), Vec::new());
        for place in round {
            match self.sending(&commits[place]) {
                Ok((sent, statement)) if sent.commit.expected == 0 => {
                    new.push(((place, sent), statement));
                }
                Ok((sent, statement)) => known.push(((place, sent), statement)),
                Err(error) => answers[place] = Some(Err(error)),
            }
        }
        let mut portions = Vec::new();
        for (write, list) in [(Write::Insert, new), (Write::Update, known)] {
            let (sent, statements): (Vec<_>, Vec<Document>) = list.into_iter().unzip();
            let mut sent = sent.into_iter();
            for statements in chunks(statements) {
                let sent: Vec<_> = sent.by_ref().take(statements.len()).collect();
                portions.push((write, sent, statements));
            }
        }
        let portions = portions.into_iter().map(|(write, sent, statements)| async move {
            let (places, sent): (Vec<usize>, Vec<Sent<'_>>) = sent.into_iter().unzip();
            (places, self.commit_portion(write, &sent, statements).await, sent)
        });
        for (places, portion, sent) in join_all(portions).await {
            for ((place, answer), sent) in places.into_iter().zip(portion).zip(sent) {
                if matches!(answer, Ok(Committed::Applied)) {
                    self.filer.add(sent.step);
                }
                answers[place] = Some(answer);
            }
        }
    }

    /// A commit with its statement; refused if no document can hold it, so that it does not fail the
    /// others of its command.
    fn sending<'c>(&self, commit: &'c Commit) -> Result<(Sent<'c>, Document), PortError> {
        let packed = Packed::of(commit)?;
        let sent = Sent { commit, step: Step::of(commit, &packed)?, token: ObjectId::new() };
        let statement = self.statement(&sent, &packed)?;
        let (bytes, most) = (bytes_of(&statement), MongoConfig::MAX_DOCUMENT_BYTES);
        if bytes > most {
            let id = &commit.state.id;
            let cause = format!(
                "the step of thred {id} takes {bytes} bytes; MongoDB takes {most} in one document"
            );
            return Err(PortError::new(COMMIT, PortErrorKind::Rejected, cause));
        }
        Ok((sent, statement))
    }

    async fn commit_portion(
        &self,
        write: Write,
        sent: &[Sent<'_>],
        statements: Vec<Document>,
    ) -> Vec<Answer> {
        let written = match self.mongo.write(COMMIT, THREDS, write, statements).await {
            Ok(written) => written,
            Err(error) => return sent.iter().map(|_| Err(copy(&error))).collect(),
        };
        if written.count == sent.len() {
            return sent.iter().map(|_| Ok(Committed::Applied)).collect();
        }
        if written.errors.iter().any(|error| TOO_LARGE.contains(&error.1)) {
            self.filer.hurry();
        }
        let failed: HashMap<usize, (i32, String)> =
            written.errors.into_iter().map(|(place, code, text)| (place, (code, text))).collect();
        let probes = self.probe(sent).await;
        let probes = match &probes {
            Ok(probes) => probes,
            // Those that were written are; sent again, they are duplicates.
            Err(error) => {
                let unknown =
                    || Err(PortError::new(COMMIT, PortErrorKind::Unknown, error.to_string()));
                return sent.iter().map(|_| unknown()).collect();
            }
        };
        let answer = |(place, sent): (usize, &Sent<'_>)| match failed.get(&place) {
            // By itself it would fit.
            Some((code, _)) if TOO_LARGE.contains(code) && sent.commit.expected > 0 => {
                let id = &sent.commit.state.id;
                Err(unavailable(format!(
                    "thred {id} has too much to be published and archived; are the message queue \
                     and the archive running?"
                )))
            }
            Some((code, text)) if *code != DUPLICATE_KEY => {
                Err(write_error(COMMIT, *code, text.clone()))
            }
            failure => {
                let stored = probes.get(sent.commit.state.id.as_str());
                self.outcome(sent, stored, failure.is_some())
            }
        };
        sent.iter().enumerate().map(answer).collect()
    }

    /// What became of a commit, after the command did not apply all of them.
    fn outcome(
        &self,
        Sent { commit, token, .. }: &Sent<'_>,
        stored: Option<&Option<Probe>>,
        failed: bool,
    ) -> Answer {
        let stored = match (stored, commit.expected) {
            (Some(Some(stored)), _) => stored,
            (None, 0) => {
                return Err(unavailable("the thred's former state was just removed".to_owned()));
            }
            // What is there cannot be read.
            (None | Some(None), _) => return Ok(Committed::Conflict),
        };
        // If another commit has replaced the token since, it is told as a duplicate, which it is.
        if !failed && stored.by == *token {
            return Ok(Committed::Applied);
        }
        if stored.inbox.iter().any(|key| key.bytes == commit.consumed.key.as_bytes()) {
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

    /// What is stored of the threds; nothing for one that cannot be read.
    async fn probe(&self, sent: &[Sent<'_>]) -> Result<HashMap<String, Option<Probe>>, PortError> {
        let ids: Vec<_> = sent.iter().map(|sent| sent.commit.state.id.as_str()).collect();
        let count = |list: &str| doc! { "$cond": [{ "$isArray": list }, { "$size": list }, 0] };
        let threds = self.mongo.collection::<RawDocumentBuf>(THREDS);
        let find = threds.find(doc! { "_id": { "$in": ids } }).projection(doc! {
            "v": 1, "by": 1, "inbox": 1, "outbox": count("$outbox"), "past": count("$past"),
        });
        let found = self.mongo.all("look for commits", find.batch_size(1_000)).await?;
        let probes = found.iter().filter_map(|document| match id_of(document)? {
            Bson::String(id) => Some((id, decoded(document).ok())),
            _ => None,
        });
        Ok(probes.collect())
    }

    fn statement(&self, sent: &Sent<'_>, packed: &Packed) -> Result<Document, PortError> {
        let Sent { commit, step, token } = sent;
        let state = &*commit.state;
        let mut set = state_fields(state, self.mongo.format())?;
        set.insert("by", token);
        let (present, absent) = conditional_fields(state, step.seq);
        set.extend(present);
        let entries = packed.entries(commit)?;
        let events = packed.documents();
        let step = step.inside(packed.keys());
        let oldest = commit.outbox.iter().map(|entry| entry.at).min();
        let now = wall_clock();
        if commit.expected == 0 {
            let mut new = doc! { "_id": state.id.as_str() };
            new.extend(set);
            new.extend(
                doc! { "outbox": entries, "events": events, "past": [step], "unfiled": now },
            );
            new.extend(oldest.map(|at| ("oldest".to_owned(), at.into())));
            return Ok(new);
        }
        let outbox_full = format!("outbox.{}", self.mongo.config.outbox_limit.saturating_sub(1));
        let past_full = format!("past.{}", PAST_LIMIT - 1);
        let mut least = doc! { "unfiled": now };
        least.extend(oldest.map(|at| ("oldest".to_owned(), at.into())));
        let mut push = doc! { "past": step };
        if !entries.is_empty() {
            push.insert("outbox", doc! { "$each": entries });
        }
        if !events.is_empty() {
            push.insert("events", doc! { "$each": events });
        }
        let mut change = doc! { "$set": set, "$push": push, "$min": least };
        if !absent.is_empty() {
            change.insert("$unset", absent);
        }
        let unchanged = doc! {
            "_id": state.id.as_str(),
            "v": signed(commit.expected),
            "inbox": { "$ne": binary(commit.consumed.key.as_bytes()) },
            outbox_full: { "$exists": false },
            past_full: { "$exists": false },
        };
        Ok(doc! { "q": unchanged, "u": change, "hint": "_id_" })
    }
}

/// The fields that only some threds have, so that only those are in the indexes; and those that this
/// one does not have.
fn conditional_fields(state: &ThredState, seq: i64) -> (Document, Document) {
    let (mut present, mut absent) = (Document::new(), Document::new());
    match state.timer() {
        Some((due, entry)) => present.extend(doc! { "due": due, "entry": signed(entry) }),
        None => absent.extend(doc! { "due": "", "entry": "" }),
    }
    if state.is_listening() {
        let listens = listening_text(&state.pattern);
        present.extend(doc! { "listens": listens, "waits": wait_keys(state) });
    } else {
        absent.extend(doc! { "listens": "", "waits": "" });
    }
    if state.status.is_live() {
        absent.insert("closed", "");
    } else {
        // In the order of the ends.
        present.insert("closed", seq);
    }
    (present, absent)
}

/// What is looked at when not all of a batch was applied.
#[derive(Debug, Deserialize)]
struct Probe {
    v: i64,
    by: ObjectId,
    inbox: Vec<Binary>,
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
