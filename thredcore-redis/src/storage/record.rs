//! How threds, outboxes and steps are written.
//!
//! Lines, so that scripts find what they need by plain search: JSON as serde_json writes it has no
//! raw newline, and ids are escaped.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thredcore::{
    port::{Commit, OutboxEntry},
    state::{PatternKey, Status, ThredState},
};
use thredlib::{
    EventId, MessageId, ParticipantId, PatternId, ThredId,
    expr::{Locals, no_locals},
};

use crate::error::Error;

/// A commit as its script takes it.
pub(super) struct Written {
    /// The line of the consumed event in an inbox, with the newline before it.
    pub(super) consumed: String,
    /// Version and status.
    pub(super) head: String,
    pub(super) status: char,
    /// When the timer is due, and the entry that armed it; empty without.
    pub(super) timer: String,
    pub(super) due: String,
    /// Where it waits for unbound events; empty if it does not.
    pub(super) place: String,
    /// Inbox and state.
    pub(super) tail: String,
    pub(super) outbox: String,
    /// When the oldest entry was made.
    pub(super) made: i64,
    pub(super) outbox_ids: String,
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
        let (timer, due) = match state.timer() {
            Some((at, entry)) => (format!("{at}:{entry}"), at.to_string()),
            None => Default::default(),
        };
        let place = match state.listening && state.status == Status::Active {
            true => place(&state.pattern, &state.reaction),
            false => String::new(),
        };
        let mut outbox = String::new();
        let mut outbox_ids = String::new();
        for OutboxEntry { id, at, outgoing } in &commit.outbox {
            push_line(&mut outbox_ids, &escape(id.as_str()));
            push_line(&mut outbox, &format!("{at}\t{}", json(outgoing)?));
        }
        let made = commit.outbox.iter().map(|entry| entry.at).min().unwrap_or_default();
        Ok(Self {
            consumed: format!("\n{}\n", escape(commit.consumed.as_str())),
            head: format!("{}\t{status}\t", state.version),
            status,
            timer,
            due,
            place,
            tail: tail(state)?,
            outbox,
            made,
            outbox_ids,
            step: if with_step { json(&commit.history())? } else { String::new() },
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

/// Inbox and state.
fn tail(state: &ThredState) -> Result<String, Error> {
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
    let mut tail = String::new();
    for id in inbox {
        push_line(&mut tail, &escape(id.as_str()));
    }
    tail.push_str(&json(&Stored {
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
    Ok(tail)
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
