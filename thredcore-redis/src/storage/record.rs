//! How threds, outboxes and steps are written.
//!
//! Lines, so that scripts find what they need by plain search: JSON as serde_json writes it has no
//! raw newline, and ids are escaped.

use std::{borrow::Cow, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use thredcore::{
    port::{Commit, History, OutboxEntry, Outgoing},
    state::{Status, ThredState},
};
use thredlib::{EventId, MessageId};

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
        for entry in &commit.outbox {
            let OutboxEntry { id, at, outgoing } = entry;
            outbox.push_str(&format!("{}\t{at}\t{}\n", escape(id.as_str()), json(outgoing)?));
        }
        Ok(Self {
            consumed: format!("\n{}\n", escape(commit.consumed.as_str())),
            head: format!("{}\t{status}\t", state.version),
            status,
            timer,
            due,
            place,
            tail: tail(state)?,
            outbox,
            step: if with_step { json(&commit.history())? } else { String::new() },
        })
    }
}

/// Inbox and state: the ids stand before the state, not in it too.
fn tail(state: &ThredState) -> Result<String, Error> {
    let mut tail = String::new();
    for id in &state.inbox {
        tail.push_str(&escape(id.as_str()));
        tail.push('\n');
    }
    // Lists and texts are shared or short; the inbox is what is long.
    let bare = ThredState { inbox: vec![], ..shallow(state) };
    tail.push_str(&json(&bare)?);
    Ok(tail)
}

/// A copy without the inbox.
fn shallow(state: &ThredState) -> ThredState {
    ThredState {
        id: state.id.clone(),
        pattern: state.pattern.clone(),
        version: state.version,
        status: state.status,
        reaction: state.reaction.clone(),
        listening: state.listening,
        entry: state.entry,
        entered_at: state.entered_at,
        expires_at: state.expires_at,
        started_at: state.started_at,
        modified_at: state.modified_at,
        locals: state.locals.clone(),
        participants: state.participants.clone(),
        matched: state.matched.clone(),
        inbox: vec![],
        label: state.label.clone(),
        description: state.description.clone(),
        display: state.display.clone(),
        parent: state.parent.clone(),
        children: state.children.clone(),
    }
}

/// Reads a record.
pub(super) fn state(record: &str) -> Result<Arc<ThredState>, Error> {
    let mut lines = record.split('\n');
    let (_head, text) = (lines.next(), lines.next_back());
    let mut state: ThredState = parse(text.unwrap_or_default())?;
    state.inbox = lines.map(|id| EventId::new(unescape(id).into_owned())).collect();
    Ok(Arc::new(state))
}

/// Reads an outbox.
pub(super) fn outbox(text: &str) -> Result<Vec<OutboxEntry>, Error> {
    let entry = |line: &str| {
        let malformed = || Error::Malformed(format!("an outbox has the line `{line}`"));
        let (id, rest) = line.split_once('\t').ok_or_else(malformed)?;
        let (at, outgoing) = rest.split_once('\t').ok_or_else(malformed)?;
        Ok(OutboxEntry {
            id: MessageId::new(unescape(id).into_owned()),
            at: at.parse().map_err(|_| malformed())?,
            outgoing: parse(outgoing)?,
        })
    };
    text.split_terminator('\n').map(entry).collect()
}

/// The ids of published entries, as a script takes them.
pub(super) fn published(ids: &[MessageId]) -> String {
    let mut text = String::with_capacity(ids.len() * 37);
    for id in ids {
        text.push_str(&escape(id.as_str()));
        text.push('\n');
    }
    text
}

/// Where threds of a pattern's revision wait in a reaction.
pub(super) fn place(pattern: &thredcore::state::PatternKey, reaction: &str) -> String {
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
