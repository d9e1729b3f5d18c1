//! How states and steps are written.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thredcore::{
    format::{StateFields, StateForm, StateText},
    port::{
        Command, Commit, Facts, History, LogRecord, OutboxEntry, Outgoing, PortError,
        PortErrorKind, Unmoved,
    },
    state::{Consumed, PatternKey, Status, ThredState, WaitKey},
};
use thredlib::{Event, EventKey, Message, MessageId, ParticipantId, PatternId, ThredId, Topic};

use crate::{
    error::RedbError,
    json::{self, Unwritable},
    segments::Body,
};

/// What is known of a state without reading its text: all that indexes need.
#[derive(Debug, PartialEq)]
pub(crate) struct Header {
    pub(crate) id: ThredId,
    pub(crate) status: Status,
    pub(crate) started_at: i64,
    pub(crate) modified_at: i64,
    pub(crate) pattern: PatternKey,
    pub(crate) reaction: Arc<str>,
    /// When it expires, and the entry that armed the timer.
    pub(crate) timer: Option<(i64, u64)>,
    /// Hashes of who takes part.
    pub(crate) participants: Vec<u64>,
    pub(crate) waits: Vec<WaitKey>,
    pub(crate) inbox: Vec<Consumed>,
}

/// What a participant is indexed by. Two may share it: whoever looks compares the states too.
pub(crate) fn participant_hash(id: &ParticipantId) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id.as_str().as_bytes())
}

fn status_byte(status: Status) -> u8 {
    match status {
        Status::Active => 0,
        Status::Finished => 1,
        Status::Terminated => 2,
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

fn put_list<const N: usize>(bytes: &mut Vec<u8>, items: impl ExactSizeIterator<Item = [u8; N]>) {
    bytes.extend((items.len() as u32).to_le_bytes());
    items.for_each(|item| bytes.extend(item));
}

fn consumed_bytes(consumed: &Consumed) -> [u8; 22] {
    let mut bytes = [0; 22];
    bytes[..16].copy_from_slice(consumed.key.as_bytes());
    bytes[16..20].copy_from_slice(&consumed.at.to_le_bytes());
    bytes[20..].copy_from_slice(&consumed.partition.to_le_bytes());
    bytes
}

/// A state: a [`Header`], then the rest as JSON, as a format has it.
pub(crate) fn state_body(state: &ThredState, format: u32) -> Result<Body, Unwritable> {
    let timer = state.timer();
    let mut bytes = Vec::with_capacity(640 + 22 * state.inbox.len());
    bytes.push(status_byte(state.status));
    bytes.push(u8::from(timer.is_some()));
    let (at, entry) = timer.unwrap_or_default();
    bytes.extend(at.to_le_bytes());
    bytes.extend(entry.to_le_bytes());
    bytes.extend(state.started_at.to_le_bytes());
    bytes.extend(state.modified_at.to_le_bytes());
    bytes.extend(state.pattern.revision.to_le_bytes());
    put_text(&mut bytes, state.id.as_str());
    put_text(&mut bytes, state.pattern.id.as_str());
    put_text(&mut bytes, &state.reaction);
    put_list(&mut bytes, state.participants.iter().map(|id| participant_hash(id).to_le_bytes()));
    put_list(&mut bytes, state.waits.iter().map(|key| *key.as_bytes()));
    put_list(&mut bytes, state.inbox.iter().map(consumed_bytes));
    let form = if format < 3 { StateForm::Full } else { StateForm::Compact };
    // Of participants the header has hashes alone.
    json::append(&mut bytes, &StateText::new(state, form).with_version().with_participants())?;
    Ok(Body::new(bytes))
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_le_bytes(self.take()?) as usize;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn list<const N: usize, T>(&mut self, item: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
        let count = u32::from_le_bytes(self.take()?) as usize;
        let (bytes, rest) = self.0.split_at_checked(count.checked_mul(N)?)?;
        self.0 = rest;
        Some(bytes.as_chunks().0.iter().map(|bytes| item(*bytes)).collect())
    }
}

fn consumed_from(bytes: [u8; 22]) -> Option<Consumed> {
    let mut cursor = Cursor(&bytes);
    Some(Consumed {
        key: EventKey::from_bytes(cursor.take()?),
        at: u32::from_le_bytes(cursor.take()?),
        partition: u16::from_le_bytes(cursor.take()?),
    })
}

fn split(body: &[u8]) -> Option<(Header, &[u8])> {
    let mut cursor = Cursor(body);
    let [status, timed] = cursor.take()?;
    let (at, entry) = (cursor.number()?, cursor.take().map(u64::from_le_bytes)?);
    let (started_at, modified_at) = (cursor.number()?, cursor.number()?);
    let revision = u64::from_le_bytes(cursor.take()?);
    let id = cursor.text()?.into();
    let pattern = PatternKey { id: PatternId::from(cursor.text()?), revision };
    let reaction = cursor.text()?.into();
    let participants = cursor.list(u64::from_le_bytes)?;
    let waits = cursor.list(WaitKey::from_bytes)?;
    let inbox = cursor.list(consumed_from)?.into_iter().collect::<Option<_>>()?;
    let status = match status {
        0 => Status::Active,
        1 => Status::Finished,
        2 => Status::Terminated,
        _ => return None,
    };
    let timer = (timed != 0).then_some((at, entry));
    let header = Header {
        id,
        status,
        started_at,
        modified_at,
        pattern,
        reaction,
        timer,
        participants,
        waits,
        inbox,
    };
    Some((header, cursor.0))
}

fn cut_off() -> RedbError {
    RedbError::damaged("state", "", "its header is cut off")
}

/// The header of a state.
pub(crate) fn header(body: &[u8]) -> Result<Header, RedbError> {
    split(body).map(|(header, _)| header).ok_or_else(cut_off)
}

/// A whole state.
pub(crate) fn state(body: &[u8]) -> Result<ThredState, RedbError> {
    let (header, text) = split(body).ok_or_else(cut_off)?;
    let id = header.id.clone();
    let fields = StateFields {
        id: header.id,
        pattern: Arc::new(header.pattern),
        version: None,
        status: header.status,
        reaction: header.reaction,
        started_at: header.started_at,
        participants: vec![],
        waits: header.waits.into(),
        inbox: header.inbox,
    };
    fields.with_text(text).map_err(|error| RedbError::damaged("thred", &id, error))
}

/// The part of a step that is neither an event nor about one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StepToWrite<'a> {
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumed: Option<&'a Consumed>,
    /// The number of the event that came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a Arc<Command>>,
    log: &'a [LogRecord],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    outbox: &'a [EntryToWrite<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<&'a Arc<Facts>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thred: Option<&'a ThredId>,
    /// Of an event that moved no thred, what it is known by.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<EventKey>,
}

#[derive(Serialize)]
struct EntryToWrite<'a> {
    id: &'a MessageId,
    at: i64,
    outgoing: OutgoingToWrite<'a>,
}

/// A message names its event by number: the nodes that it goes to share it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum OutgoingToWrite<'a> {
    Message(&'a Topic, &'a MessageId, usize, &'a [ParticipantId], i64),
    Command(&'a Arc<Command>),
    Release(&'a PatternId),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StepAsRead {
    version: u64,
    #[serde(default)]
    consumed: Option<Consumed>,
    #[serde(default)]
    event: Option<usize>,
    #[serde(default)]
    command: Option<Arc<Command>>,
    log: Vec<LogRecord>,
    #[serde(default)]
    outbox: Vec<EntryAsRead>,
    #[serde(default)]
    facts: Option<Arc<Facts>>,
    #[serde(default)]
    thred: Option<ThredId>,
    #[serde(default)]
    key: Option<EventKey>,
}

#[derive(Deserialize)]
struct EntryAsRead {
    id: MessageId,
    at: i64,
    outgoing: OutgoingAsRead,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum OutgoingAsRead {
    Message(Topic, MessageId, usize, Vec<ParticipantId>, i64),
    Command(Arc<Command>),
    Release(PatternId),
}

/// The events of a step, each once.
#[derive(Default)]
struct Events<'a>(Vec<&'a Arc<Event>>);

impl<'a> Events<'a> {
    fn number(&mut self, event: &'a Arc<Event>) -> usize {
        let same = |known: &&Arc<Event>| Arc::ptr_eq(known, event) || **known == *event;
        self.0.iter().position(same).unwrap_or_else(|| {
            self.0.push(event);
            self.0.len() - 1
        })
    }
}

/// Texts one after the other, each with its length before it: so nothing is nested deeper than it
/// was when it came in.
fn step_text(step: &StepToWrite<'_>, events: &Events<'_>) -> Result<Body, Unwritable> {
    let mut bytes = Vec::with_capacity(1024);
    append_text(&mut bytes, step)?;
    for event in &events.0 {
        append_text(&mut bytes, event)?;
    }
    Ok(Body::new(bytes))
}

fn append_text(bytes: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Unwritable> {
    let start = bytes.len();
    bytes.extend([0; 4]);
    json::append(bytes, value)?;
    let length = (bytes.len() - start - 4) as u32;
    bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// The step that a commit makes.
pub(crate) fn step_body(commit: &Commit) -> Result<Body, Unwritable> {
    let mut events = Events::default();
    let event = commit.event.as_ref().map(|event| events.number(event));
    let mut outbox = Vec::with_capacity(commit.outbox.len());
    for entry in &commit.outbox {
        let outgoing = match &entry.outgoing {
            Outgoing::Message { topic, message } => {
                let event = events.number(&message.event);
                let Message { id, to, timestamp, .. } = &**message;
                OutgoingToWrite::Message(topic, id, event, to, *timestamp)
            }
            Outgoing::Command(command) => OutgoingToWrite::Command(command),
            Outgoing::Release(pattern) => OutgoingToWrite::Release(pattern),
        };
        outbox.push(EntryToWrite { id: &entry.id, at: entry.at, outgoing });
    }
    let step = StepToWrite {
        version: commit.state.version,
        consumed: Some(&commit.consumed),
        event,
        command: commit.command.as_ref(),
        log: &commit.log,
        outbox: &outbox,
        facts: commit.facts.as_ref(),
        thred: Some(&commit.state.id),
        key: None,
    };
    step_text(&step, &events)
}

/// The step of an event that changed nothing.
pub(crate) fn unmoved_body(unmoved: &Unmoved) -> Result<Body, Unwritable> {
    let step = StepToWrite {
        version: 0,
        consumed: None,
        event: Some(0),
        command: None,
        log: std::slice::from_ref(&unmoved.record),
        outbox: &[],
        facts: None,
        thred: None,
        key: Some(unmoved.key),
    };
    step_text(&step, &Events(vec![&unmoved.event]))
}

/// A step as it was written.
pub(crate) struct StoredStep {
    version: u64,
    consumed: Option<Consumed>,
    event: Option<Arc<Event>>,
    command: Option<Arc<Command>>,
    pub(crate) log: Vec<LogRecord>,
    pub(crate) outbox: Vec<OutboxEntry>,
    facts: Option<Arc<Facts>>,
    pub(crate) thred: Option<ThredId>,
    key: Option<EventKey>,
}

/// A step.
pub(crate) fn step(body: &[u8]) -> Result<StoredStep, RedbError> {
    let wrong = |error| RedbError::damaged("step", "", error);
    let short = || RedbError::damaged("step", "", "it is cut off");
    let mut cursor = Cursor(body);
    let step: StepAsRead = json::read(cursor.bytes().ok_or_else(short)?).map_err(wrong)?;
    let mut events = vec![];
    while !cursor.0.is_empty() {
        let event: Event = json::read(cursor.bytes().ok_or_else(short)?).map_err(wrong)?;
        events.push(Arc::new(event));
    }
    let event = |number: usize| events.get(number).cloned().ok_or_else(short);
    let entry = |entry: EntryAsRead| {
        let outgoing = match entry.outgoing {
            OutgoingAsRead::Message(topic, id, number, to, timestamp) => {
                let message = Message { id, event: event(number)?, to, timestamp };
                Outgoing::Message { topic, message: Arc::new(message) }
            }
            OutgoingAsRead::Command(command) => Outgoing::Command(command),
            OutgoingAsRead::Release(pattern) => Outgoing::Release(pattern),
        };
        Ok::<_, RedbError>(OutboxEntry { id: entry.id, at: entry.at, outgoing })
    };
    Ok(StoredStep {
        version: step.version,
        consumed: step.consumed,
        event: step.event.map(event).transpose()?,
        command: step.command,
        log: step.log,
        outbox: step.outbox.into_iter().map(entry).collect::<Result<_, _>>()?,
        facts: step.facts,
        thred: step.thred,
        key: step.key,
    })
}

impl StoredStep {
    pub(crate) fn history(self) -> History {
        let messages = self.outbox.into_iter().filter_map(|entry| match entry.outgoing {
            Outgoing::Message { message, .. } => Some(message),
            _ => None,
        });
        History {
            version: self.version,
            consumed: self.consumed,
            messages: messages.collect(),
            event: self.event,
            command: self.command,
            log: self.log,
            facts: self.facts,
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// What it says of an event that changed nothing.
    pub(crate) fn unmoved(self) -> Option<Unmoved> {
        let record = self.log.into_iter().next()?;
        Some(Unmoved { key: self.key?, record, event: self.event? })
    }
}

/// A value that cannot be written now will not be the next time.
pub(crate) fn unwritable(operation: &'static str) -> impl Fn(Unwritable) -> PortError {
    move |error| PortError::new(operation, PortErrorKind::Rejected, error)
}
