//! How threds and steps are written.
//!
//! Lines, so that scripts find what they need by plain search: JSON as serde_json writes it has no
//! raw newline, and ids are escaped. What the indexes are made of stands before the inbox and the
//! state: a script can tell what changes in them.

use std::{borrow::Cow, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use thredcore::{
    format::{StateFields, StateForm, StateText},
    port::{Commit, History},
    state::{Consumed, PatternKey, Status, ThredState, WaitKey},
};
use thredlib::{EventKey, ParticipantId, ThredId};

use super::{outbox, text};
use crate::error::Error;

/// A commit as its script takes it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) thred: ThredId,
    pub(super) expected: u64,
    /// The new version and the thred.
    pub(super) name: String,
    pub(super) indexed: Indexed,
    /// How the line of the consumed event in an inbox begins, with the newline before it.
    pub(super) consumed: String,
    pub(super) record: String,
    pub(super) outbox: outbox::Written,
    pub(super) step: String,
}

impl Written {
    /// Writes a commit as a format has it; without `with_step`, its step is left out.
    pub(super) fn new(commit: &Commit, format: u32, with_step: bool) -> Result<Self, Error> {
        let state = &*commit.state;
        let indexed = Indexed::of(state);
        Ok(Self {
            thred: state.id.clone(),
            expected: commit.expected,
            name: format!("{}\t{}", state.version, state.id),
            consumed: format!("\n={}", text::encode(commit.consumed.key.as_bytes())),
            record: record(state, &indexed, format)?,
            indexed,
            outbox: outbox::Written::new(state.version, &commit.outbox)?,
            step: if with_step { json(&step(commit))? } else { String::new() },
        })
    }

    /// How many bytes are sent for it.
    pub(super) fn bytes(&self) -> usize {
        let outbox = self.outbox.lines.len() + self.outbox.entries.len();
        self.thred.as_str().len() + self.record.len() + outbox + self.step.len()
    }
}

/// What the indexes are made of, as it stands in the head of a record.
#[derive(Debug)]
pub(super) struct Indexed {
    pub(super) timer: String,
    /// Start and thred.
    pub(super) tail: String,
    pub(super) place: String,
    pub(super) participants: String,
    pub(super) waits: String,
}

impl Indexed {
    fn of(state: &ThredState) -> Self {
        let timer = |(at, entry)| format!("{}:{entry}", text::sortable(at));
        let mut participants = String::new();
        for participant in &state.participants {
            participants.push('\t');
            participants.push_str(&text::escape(participant.as_str()));
        }
        let mut waits = String::new();
        if state.is_listening() {
            state.waits.iter().for_each(|key| waits.push_str(&text::encode(key.as_bytes())));
        }
        Self {
            timer: state.timer().map(timer).unwrap_or_default(),
            tail: format!("{}\t{}", text::sortable(state.started_at), state.id),
            place: Place::of(state).to_string(),
            participants,
            waits,
        }
    }
}

/// Where a thred is, as the indexes call it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) pattern: PatternKey,
    pub(super) reaction: Arc<str>,
    pub(super) status: Status,
    /// Whether it waits for unbound events.
    pub(super) listening: bool,
}

impl Place {
    fn of(state: &ThredState) -> Self {
        Self {
            pattern: (*state.pattern).clone(),
            reaction: state.reaction.clone(),
            status: state.status,
            listening: state.is_listening(),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('\t');
        let (id, revision, reaction) = (parts.next()?, parts.next()?, parts.next()?);
        let (status, listening) = match parts.next()? {
            "l" => (Status::Active, true),
            "a" => (Status::Active, false),
            "f" => (Status::Finished, false),
            "t" => (Status::Terminated, false),
            _ => return None,
        };
        let id = text::unescape(id).into_owned().into();
        let pattern = PatternKey { id, revision: revision.parse().ok()? };
        Some(Self { pattern, reaction: (*text::unescape(reaction)).into(), status, listening })
            .filter(|_| parts.next().is_none())
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = match (self.status, self.listening) {
            (Status::Active, true) => 'l',
            (Status::Active, false) => 'a',
            (Status::Finished, _) => 'f',
            (Status::Terminated, _) => 't',
        };
        let id = text::escape(self.pattern.id.as_str());
        write!(f, "{id}\t{}\t{}\t{status}", self.pattern.revision, text::escape(&self.reaction))
    }
}

/// A record: its head, then inbox and state.
fn record(state: &ThredState, indexed: &Indexed, format: u32) -> Result<String, Error> {
    use std::fmt::Write;

    let Indexed { timer, tail: _, place, participants, waits } = indexed;
    let (version, start) = (state.version, text::sortable(state.started_at));
    let mut record = format!("{version}\t{timer}\t{start}\t{place}\na{participants}\nw{waits}\n");
    for Consumed { key, at, partition } in &state.inbox {
        let _ = writeln!(record, "={}{at:x}/{partition:x}", text::encode(key.as_bytes()));
    }
    let form = if format < 3 { StateForm::Short } else { StateForm::Compact };
    // The index must not have the keys of a thred that is past waiting.
    let text = StateText::new(state, form).with_waits_if(!state.is_listening());
    record.push_str(&json(&text)?);
    Ok(record)
}

/// Reads a thred's record.
pub(super) fn state(id: ThredId, record: &[u8]) -> Result<Arc<ThredState>, Error> {
    let record = str::from_utf8(record).map_err(|error| Error::Malformed(error.to_string()))?;
    let (before, json) = record.rsplit_once('\n').ok_or_else(malformed)?;
    let head = Head::parse(before).ok_or_else(malformed)?;
    let fields = StateFields {
        id,
        pattern: Arc::new(head.place.pattern),
        version: Some(head.version),
        status: head.place.status,
        reaction: head.place.reaction,
        started_at: head.started_at,
        participants: head.participants,
        waits: head.waits.into(),
        inbox: head.inbox,
    };
    let state = fields.with_text(json.as_bytes());
    state.map(Arc::new).map_err(|error| Error::Malformed(error.to_string()))
}

/// The inbox of a record without its state.
pub(super) fn inbox(lines: &[u8]) -> Result<Vec<Consumed>, Error> {
    let lines = str::from_utf8(lines).ok().and_then(|lines| lines.strip_suffix('\n'));
    Ok(lines.and_then(Head::parse).ok_or_else(malformed)?.inbox)
}

fn malformed() -> Error {
    Error::Malformed("it is not what this version writes".into())
}

/// What stands before the state.
struct Head {
    version: u64,
    started_at: i64,
    place: Place,
    participants: Vec<ParticipantId>,
    waits: Vec<WaitKey>,
    inbox: Vec<Consumed>,
}

impl Head {
    fn parse(lines: &str) -> Option<Self> {
        let mut lines = lines.split('\n');
        let mut head = lines.next()?.splitn(4, '\t');
        let version = head.next()?.parse().ok()?;
        let _timer = head.next()?;
        let started_at = text::from_sortable(head.next()?)?;
        let place = Place::parse(head.next()?)?;
        let mut names = lines.next()?.strip_prefix('a')?.split('\t');
        names.next().filter(|before| before.is_empty())?;
        let participants = names.map(|name| ParticipantId::new(text::unescape(name).into_owned()));
        let keys = lines.next()?.strip_prefix('w')?.as_bytes();
        let (keys, rest) = keys.as_chunks::<{ text::ENCODED }>();
        let waits = keys.iter().map(|key| Some(WaitKey::from_bytes(text::decode(key)?)));
        let waits = waits.collect::<Option<_>>().filter(|_| rest.is_empty())?;
        let participants = participants.collect();
        let inbox = lines.map(consumed).collect::<Option<_>>()?;
        Some(Self { version, started_at, place, participants, waits, inbox })
    }
}

fn consumed(line: &str) -> Option<Consumed> {
    let (key, rest) = line.strip_prefix('=')?.split_at_checked(text::ENCODED)?;
    let key = EventKey::from_bytes(text::decode(key.as_bytes().try_into().ok()?)?);
    let (at, partition) = rest.split_once('/')?;
    let at = u32::from_str_radix(at, 16).ok()?;
    Some(Consumed { key, at, partition: u16::from_str_radix(partition, 16).ok()? })
}

/// What the history keeps of a commit beside its outbox, in which the messages are.
fn step(commit: &Commit) -> History {
    History {
        version: commit.state.version,
        consumed: Some(commit.consumed),
        event: commit.event.clone(),
        command: commit.command.clone(),
        log: commit.log.clone(),
        messages: vec![],
        facts: commit.facts.clone(),
    }
}

/// Reads a step and the outbox that was made with it.
pub(super) fn history(step: &[u8], lines: &[u8]) -> Result<History, Error> {
    let mut history: History = parse(step)?;
    history.messages = outbox::messages(lines)?;
    Ok(history)
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Malformed(error.to_string()))
}

pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|error| Error::Malformed(error.to_string()))
}

/// For a warning: what is there, cut short.
pub(super) fn lossy(text: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&text[..text.len().min(200)])
}
