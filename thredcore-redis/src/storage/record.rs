//! How threds and steps are written.
//!
//! Lines, so that scripts find what they need by plain search: JSON as serde_json writes it has no
//! raw newline, and ids are escaped. What the indexes are made of stands before the inbox and the
//! state: a script can tell what changes in them.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thredcore::{
    port::{Commit, History},
    state::{Consumed, PatternKey, Status, ThredState, WaitKey},
};
use thredlib::{
    EventKey, ParticipantId, ThredId,
    expr::{Locals, no_locals},
};

use super::{outbox, text};
use crate::error::Error;

/// A commit as its script takes it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) thred: ThredId,
    pub(super) expected: u64,
    /// How the line of the consumed event in an inbox begins, with the newline before it.
    pub(super) consumed: String,
    pub(super) record: String,
    pub(super) outbox: outbox::Written,
    pub(super) step: String,
}

impl Written {
    /// Writes a commit; without `with_step`, its step is left out.
    pub(super) fn new(commit: &Commit, with_step: bool) -> Result<Self, Error> {
        let state = &*commit.state;
        Ok(Self {
            thred: state.id.clone(),
            expected: commit.expected,
            consumed: format!("\n={}", text::encode(commit.consumed.key.as_bytes())),
            record: record(state)?,
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

/// A state as it is stored: there may be millions, so names are short, and what stands elsewhere
/// in the record is left out.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(rename = "e")]
    entry: u64,
    #[serde(rename = "t")]
    entered_at: i64,
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    #[serde(rename = "m")]
    modified_at: i64,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    locals: Option<Locals>,
    #[serde(rename = "r", default, skip_serializing_if = "is_zero")]
    errors: u8,
    #[serde(rename = "o", default, skip_serializing_if = "<[u16]>::is_empty")]
    matched: Vec<u16>,
    /// Of a thred that is past waiting: the index must not have it.
    #[serde(rename = "w", default, skip_serializing_if = "<[WaitKey]>::is_empty")]
    unused_waits: Vec<WaitKey>,
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    label: Option<Arc<str>>,
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    description: Option<Arc<str>>,
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    display: Option<Arc<str>>,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    parent: Option<ThredId>,
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    children: Vec<ThredId>,
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// A record: its head, then inbox and state.
fn record(state: &ThredState) -> Result<String, Error> {
    use std::fmt::Write;

    // Whoever adds a field to the state is to find this place.
    let ThredState {
        id: _,
        version,
        status: _,
        inbox,
        pattern: _,
        reaction: _,
        waits,
        entry,
        entered_at,
        expires_at,
        started_at,
        modified_at,
        locals,
        participants,
        errors,
        matched,
        label,
        description,
        display,
        parent,
        children,
    } = state;
    let mut record = format!("{version}\t");
    if let Some((at, entry)) = state.timer() {
        let _ = write!(record, "{}:{entry}", text::sortable(at));
    }
    let _ = write!(record, "\t{}\t{}\na", text::sortable(*started_at), Place::of(state));
    for participant in participants {
        record.push('\t');
        record.push_str(&text::escape(participant.as_str()));
    }
    record.push_str("\nw");
    let listening = state.is_listening();
    for key in waits.iter().filter(|_| listening) {
        record.push_str(&text::encode(key.as_bytes()));
    }
    record.push('\n');
    for Consumed { key, at, partition } in inbox {
        let _ = writeln!(record, "={}{at:x}/{partition:x}", text::encode(key.as_bytes()));
    }
    record.push_str(&json(&Stored {
        entry: *entry,
        entered_at: *entered_at,
        expires_at: *expires_at,
        modified_at: *modified_at,
        locals: (!locals.is_empty()).then(|| locals.clone()),
        errors: *errors,
        matched: matched.to_vec(),
        unused_waits: if listening { vec![] } else { waits.to_vec() },
        label: label.clone(),
        description: description.clone(),
        display: display.clone(),
        parent: parent.clone(),
        children: children.to_vec(),
    })?);
    Ok(record)
}

/// Reads a thred's record.
pub(super) fn state(id: ThredId, record: &[u8]) -> Result<Arc<ThredState>, Error> {
    let record = str::from_utf8(record).map_err(|error| Error::Malformed(error.to_string()))?;
    let (before, json) = record.rsplit_once('\n').ok_or_else(malformed)?;
    let stored: Stored = parse(json.as_bytes())?;
    let head = Head::parse(before).ok_or_else(malformed)?;
    let waits = match stored.unused_waits.is_empty() {
        true => head.waits,
        false => stored.unused_waits,
    };
    Ok(Arc::new(ThredState {
        id,
        pattern: Arc::new(head.place.pattern),
        version: head.version,
        status: head.place.status,
        reaction: head.place.reaction,
        waits: waits.into(),
        entry: stored.entry,
        entered_at: stored.entered_at,
        expires_at: stored.expires_at,
        started_at: head.started_at,
        modified_at: stored.modified_at,
        locals: stored.locals.unwrap_or_else(no_locals),
        participants: head.participants,
        errors: stored.errors,
        matched: stored.matched.into(),
        inbox: head.inbox,
        label: stored.label,
        description: stored.description,
        display: stored.display,
        parent: stored.parent,
        children: stored.children.into(),
    }))
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
