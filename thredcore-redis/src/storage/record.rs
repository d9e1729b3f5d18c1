//! How threds, outboxes and steps are written.
//!
//! Lines, so that scripts find what they need by plain search: JSON as serde_json writes it has no
//! raw newline, and ids are escaped.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thredcore::{
    port::{Commit, History, OutboxEntry, Outgoing},
    state::{PatternKey, Status, ThredState},
};
use thredlib::{
    EventId, MessageId, ParticipantId, PatternId, ThredId,
    expr::{Locals, no_locals},
};

use crate::error::Error;

/// A commit as its script takes it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) thred: ThredId,
    pub(super) expected: u64,
    /// Upper case if the record has a timer or a place.
    pub(super) status: char,
    /// The line of the consumed event in an inbox, with the newline before it.
    pub(super) consumed: String,
    pub(super) record: String,
    pub(super) start: i64,
    pub(super) outbox: String,
    /// When the oldest entry was made, and the ids.
    pub(super) unpublished: String,
    pub(super) step: String,
}

impl Written {
    /// Writes a commit; without `with_step`, its step is left out.
    pub(super) fn new(commit: &Commit, with_step: bool) -> Result<Self, Error> {
        let state = &*commit.state;
        let status = match state.status {
            Status::Active => 'a',
            Status::Finished => 'f',
            Status::Terminated => 't',
        };
        let timer = state.timer().map(|(at, entry)| format!("{at}:{entry}")).unwrap_or_default();
        let place = match state.listening && state.status == Status::Active {
            true => place(&state.pattern, &state.reaction),
            false => String::new(),
        };
        let head = format!("{}\t{status}\t{timer}\t{place}\n", state.version);
        let mut outbox = String::new();
        let mut unpublished = String::new();
        if let Some(oldest) = commit.outbox.iter().map(|entry| entry.at).min() {
            push_line(&mut unpublished, &oldest.to_string());
        }
        for OutboxEntry { id, at, outgoing } in &commit.outbox {
            push_line(&mut unpublished, &escape(id.as_str()));
            push_line(&mut outbox, &format!("{at}\t{}", json(outgoing)?));
        }
        let plain = timer.is_empty() && place.is_empty();
        Ok(Self {
            thred: state.id.clone(),
            expected: commit.expected,
            status: if plain { status } else { status.to_ascii_uppercase() },
            consumed: format!("\n{}\n", escape(commit.consumed.as_str())),
            record: record(head, state)?,
            start: state.started_at,
            outbox,
            unpublished,
            step: if with_step { json(&step(commit))? } else { String::new() },
        })
    }
}

/// A state as it is stored: there may be millions, so names are short, and what stands elsewhere
/// in the record is left out.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(rename = "p")]
    pattern: PatternId,
    #[serde(rename = "v")]
    revision: u64,
    #[serde(rename = "r")]
    reaction: Arc<str>,
    #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
    listening: u8,
    #[serde(rename = "e")]
    entry: u64,
    #[serde(rename = "t")]
    entered_at: i64,
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    #[serde(rename = "s")]
    started_at: i64,
    #[serde(rename = "m")]
    modified_at: i64,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    locals: Option<Locals>,
    #[serde(rename = "a", default, skip_serializing_if = "Vec::is_empty")]
    participants: Vec<ParticipantId>,
    #[serde(rename = "o", default, skip_serializing_if = "<[u16]>::is_empty")]
    matched: Vec<u16>,
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
fn record(mut record: String, state: &ThredState) -> Result<String, Error> {
    // Whoever adds a field to the state is to find this place.
    let ThredState {
        id: _,
        version: _,
        status: _,
        inbox,
        pattern,
        reaction,
        listening,
        entry,
        entered_at,
        expires_at,
        started_at,
        modified_at,
        locals,
        participants,
        matched,
        label,
        description,
        display,
        parent,
        children,
    } = state;
    for id in inbox {
        push_line(&mut record, &escape(id.as_str()));
    }
    record.push_str(&json(&Stored {
        pattern: pattern.id.clone(),
        revision: pattern.revision,
        reaction: reaction.clone(),
        listening: u8::from(*listening),
        entry: *entry,
        entered_at: *entered_at,
        expires_at: *expires_at,
        started_at: *started_at,
        modified_at: *modified_at,
        locals: (!locals.is_empty()).then(|| locals.clone()),
        participants: participants.clone(),
        matched: matched.to_vec(),
        label: label.clone(),
        description: description.clone(),
        display: display.clone(),
        parent: parent.clone(),
        children: children.to_vec(),
    })?);
    Ok(record)
}

/// Reads a thred's record.
pub(super) fn state(id: ThredId, record: &str) -> Result<Arc<ThredState>, Error> {
    let malformed = || Error::Malformed(format!("the record of thred {id} is `{record}`"));
    let mut lines = record.split('\n');
    let head = lines.next().unwrap_or_default();
    let stored: Stored = parse(lines.next_back().ok_or_else(malformed)?)?;
    let mut head = head.split('\t');
    let version = head.next().and_then(|version| version.parse().ok()).ok_or_else(malformed)?;
    let status = match head.next() {
        Some("a") => Status::Active,
        Some("f") => Status::Finished,
        Some("t") => Status::Terminated,
        _ => return Err(malformed()),
    };
    Ok(Arc::new(ThredState {
        id,
        pattern: Arc::new(PatternKey { id: stored.pattern, revision: stored.revision }),
        version,
        status,
        reaction: stored.reaction,
        listening: stored.listening != 0,
        entry: stored.entry,
        entered_at: stored.entered_at,
        expires_at: stored.expires_at,
        started_at: stored.started_at,
        modified_at: stored.modified_at,
        locals: stored.locals.unwrap_or_else(no_locals),
        participants: stored.participants,
        matched: stored.matched.into(),
        inbox: lines.map(|id| EventId::new(unescape(id).into_owned())).collect(),
        label: stored.label,
        description: stored.description,
        display: stored.display,
        parent: stored.parent,
        children: stored.children.into(),
    }))
}

/// Reads an outbox: the ids, and the entries.
pub(super) fn outbox(ids: &str, entries: &str) -> Result<Vec<OutboxEntry>, Error> {
    let entry = |(id, line): (&str, &str)| {
        let malformed = || Error::Malformed(format!("an outbox has the line `{line}`"));
        let (at, outgoing) = line.split_once('\t').ok_or_else(malformed)?;
        Ok(OutboxEntry {
            id: MessageId::new(unescape(id).into_owned()),
            at: at.parse().map_err(|_| malformed())?,
            outgoing: parse(outgoing)?,
        })
    };
    ids.split_terminator('\n').zip(entries.split_terminator('\n')).map(entry).collect()
}

/// The ids of published entries, as a script takes them.
pub(super) fn published(ids: &[MessageId]) -> String {
    let mut text = String::with_capacity(ids.len() * 37);
    ids.iter().for_each(|id| push_line(&mut text, &escape(id.as_str())));
    text
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// What the history keeps of a commit beside its outbox, in which the messages are.
fn step(commit: &Commit) -> History {
    History {
        version: commit.state.version,
        event: commit.event.clone(),
        command: commit.command.clone(),
        log: commit.log.clone(),
        messages: vec![],
        facts: commit.facts.clone(),
    }
}

/// Reads a step and the outbox that was made with it.
pub(super) fn history(step: &str, outbox: &str) -> Result<History, Error> {
    let mut history: History = parse(step)?;
    for line in outbox.split_terminator('\n') {
        let (_, outgoing) = line.split_once('\t').unwrap_or_default();
        if let Outgoing::Message { message, .. } = parse(outgoing)? {
            history.messages.push(message);
        }
    }
    Ok(history)
}

/// Where threds of a pattern's revision wait in a reaction.
pub(super) fn place(pattern: &PatternKey, reaction: &str) -> String {
    format!("{}\t{}\t{}", escape(pattern.id.as_str()), pattern.revision, escape(reaction))
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Malformed(error.to_string()))
}

pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Malformed(error.to_string()))
}

/// Without tabs and newlines, which separate.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    match text.contains(['\\', '\t', '\n']) {
        false => Cow::Borrowed(text),
        true => text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").into(),
    }
}

pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(one) = rest.next() {
        plain.push(match one {
            '\\' => match rest.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                other => other.unwrap_or('\\'),
            },
            one => one,
        });
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_separates_and_comes_back() {
        for text in ["", "plain", "a\tb\nc\\d", "\\t", "\\\\n", "\n\n", "\u{fc}\u{0}"] {
            let escaped = escape(text);
            assert!(!escaped.contains(['\t', '\n']), "{escaped:?}");
            assert_eq!(unescape(&escaped), text);
        }
    }
}
