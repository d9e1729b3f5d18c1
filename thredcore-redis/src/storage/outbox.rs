//! How outboxes are written: a line for each entry, and before those the events that messages share,
//! each once.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};
use thredcore::port::{OutboxEntry, Outgoing};
use thredlib::{Event, EventId, Message, MessageId, ParticipantId, Topic};

use super::{
    record::{json, parse},
    text,
};
use crate::error::Error;

/// What a commit puts out, as its script takes it.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Events, `E` token TAB JSON; messages, `M` token TAB JSON; and the rest, `C` TAB JSON.
    pub(super) lines: String,
    /// A line for each entry: `-` for "not parked", id TAB time TAB topic.
    pub(super) entries: String,
    /// When the oldest was made.
    pub(super) oldest: i64,
}

/// A message without its event.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(rename = "p")]
    topic: Topic,
    #[serde(rename = "i")]
    id: MessageId,
    #[serde(rename = "t")]
    to: Vec<ParticipantId>,
    #[serde(rename = "s")]
    timestamp: i64,
}

impl Written {
    /// Writes what the commit to a version puts out: the version makes the tokens of events unlike
    /// those of others in the same outbox.
    pub(super) fn new(version: u64, outbox: &[OutboxEntry]) -> Result<Self, Error> {
        let (mut events, mut lines, mut entries) = (String::new(), String::new(), String::new());
        let mut seen: HashMap<&EventId, Vec<(&Arc<Event>, String)>> = HashMap::new();
        let mut count = 0;
        for OutboxEntry { id, at, outgoing } in outbox {
            let topic = match outgoing {
                Outgoing::Message { topic, .. } => text::escape(topic.as_str()),
                Outgoing::Command(_) | Outgoing::Release(_) => "".into(),
            };
            entries.push_str(&format!("-{}\t{at}\t{topic}\n", text::escape(id.as_str())));
            let Outgoing::Message { topic, message } = outgoing else {
                lines.push_str(&format!("C\t{}\n", json(outgoing)?));
                continue;
            };
            let Message { id: message_id, event, to, timestamp } = &**message;
            let same = seen.entry(&event.id).or_default();
            let known = same.iter().find(|(it, _)| Arc::ptr_eq(it, event) || **it == *event);
            let token = match known {
                Some((_, token)) => token.clone(),
                None => {
                    let token = format!("{version}.{count}");
                    count += 1;
                    events.push_str(&format!("E{token}\t{}\n", json(event)?));
                    same.push((event, token.clone()));
                    token
                }
            };
            let stored = Stored {
                topic: topic.clone(),
                id: message_id.clone(),
                to: to.clone(),
                timestamp: *timestamp,
            };
            lines.push_str(&format!("M{token}\t{}\n", json(&stored)?));
        }
        events.push_str(&lines);
        let oldest = outbox.iter().map(|entry| entry.at).min().unwrap_or_default();
        Ok(Self { lines: events, entries, oldest })
    }
}

/// What a line of an outbox was.
enum Line<'l> {
    Message(Stored, Arc<Event>),
    Other(&'l [u8]),
}

/// Reads the lines of an outbox.
fn read(lines: &[u8]) -> impl Iterator<Item = Result<Line<'_>, Error>> {
    let mut events: HashMap<&[u8], Arc<Event>> = HashMap::new();
    let read = move |line| -> Result<Option<Line<'_>>, Error> {
        let malformed = || Error::Malformed("a line of an outbox is not what we write".into());
        let (kind, rest) = <[u8]>::split_first(line).ok_or_else(malformed)?;
        let tab = rest.iter().position(|byte| *byte == b'\t').ok_or_else(malformed)?;
        let (token, json) = (&rest[..tab], &rest[tab + 1..]);
        match kind {
            b'E' => {
                events.insert(token, parse(json)?);
                Ok(None)
            }
            b'M' => {
                let event = events.get(token).ok_or_else(malformed)?;
                Ok(Some(Line::Message(parse(json)?, event.clone())))
            }
            b'C' => Ok(Some(Line::Other(json))),
            _ => Err(malformed()),
        }
    };
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(read).filter_map(Result::transpose)
}

/// Reads an outbox.
pub(super) fn outbox(entries: &[u8], lines: &[u8]) -> Result<Vec<OutboxEntry>, Error> {
    let entries = entries.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut lines = read(lines);
    let lost = || Err(Error::Malformed("an outbox has fewer lines than entries".into()));
    entries.map(|entry| entry_of(entry, lines.next().unwrap_or_else(lost)?)).collect()
}

/// The messages among what a step has put out.
pub(super) fn messages(lines: &[u8]) -> Result<Vec<Arc<Message>>, Error> {
    let message = |line| match line {
        Ok(Line::Message(stored, event)) => Some(Ok(message(stored, event).1)),
        Ok(Line::Other(_)) => None,
        Err(error) => Some(Err(error)),
    };
    read(lines).filter_map(message).collect()
}

fn entry_of(entry: &[u8], line: Line<'_>) -> Result<OutboxEntry, Error> {
    let entry = str::from_utf8(entry).map_err(|error| Error::Malformed(error.to_string()))?;
    let mut parts = entry.get(1..).unwrap_or_default().split('\t');
    let id = parts.next().map(|id| MessageId::new(text::unescape(id).into_owned()));
    let at = parts.next().and_then(|at| at.parse().ok());
    let (Some(id), Some(at)) = (id, at) else {
        return Err(Error::Malformed(format!("an outbox has the entry `{entry}`")));
    };
    let outgoing = match line {
        Line::Message(stored, event) => {
            let (topic, message) = message(stored, event);
            Outgoing::Message { topic, message }
        }
        Line::Other(json) => parse(json)?,
    };
    Ok(OutboxEntry { id, at, outgoing })
}

fn message(stored: Stored, event: Arc<Event>) -> (Topic, Arc<Message>) {
    let Stored { topic, id, to, timestamp } = stored;
    (topic, Arc::new(Message { id, event, to, timestamp }))
}

/// The ids of entries, as a script takes them.
pub(super) fn ids(ids: &[MessageId]) -> String {
    let mut lines = String::with_capacity(ids.len() * 37);
    for id in ids {
        lines.push_str(&text::escape(id.as_str()));
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, topic: &str, event: &Arc<Event>) -> OutboxEntry {
        let message =
            Message { id: id.into(), event: event.clone(), to: vec!["ann".into()], timestamp: 5 };
        let outgoing = Outgoing::Message { topic: topic.into(), message: message.into() };
        OutboxEntry { id: id.into(), at: 7, outgoing }
    }

    #[test]
    fn an_outbox_comes_back_and_holds_each_event_once() {
        let event = |text: &str| {
            let event = Event::builder("a", "erp").id("e").title(text.repeat(1_000));
            Arc::new(event.build())
        };
        let (one, two) = (event("x"), event("y"));
        let mut entries: Vec<_> =
            (0..100).map(|node| entry(&format!("a\t{node}"), &format!("n{node}"), &one)).collect();
        let release = Outgoing::Release("p".into());
        entries.push(OutboxEntry { id: "r".into(), at: 9, outgoing: release });
        entries.push(entry("other", "n\n", &two));
        let written = Written::new(3, &entries).unwrap();
        assert!(written.lines.len() < 15_000, "{}", written.lines.len());
        let read = outbox(written.entries.as_bytes(), written.lines.as_bytes());
        assert_eq!(read.unwrap(), entries);
        assert_eq!(messages(written.lines.as_bytes()).unwrap().len(), 101);
    }
}
