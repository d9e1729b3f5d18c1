//! How large a commit is.

use std::{collections::HashSet, io};

use serde::Serialize;
use thredlib::Event;

use super::{Commit, Facts, Outgoing};
use crate::port::Command;

/// The bytes that a value takes as JSON.
pub(crate) fn json_size(value: &impl Serialize) -> usize {
    struct Counter(usize);

    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut counter = Counter(0);
    match serde_json::to_writer(&mut counter, value) {
        Ok(()) => counter.0,
        // What cannot be written is too large for any storage.
        Err(_) => usize::MAX / 2,
    }
}

/// What the parts of an entry, a record and the frame take beyond their own JSON, at most.
const FRAME: usize = 256;

/// More bytes than a commit can take, where that is known without writing it: most steps are small by
/// far, and need not be measured.
pub(super) fn bound_of_commit(commit: &Commit) -> Option<usize> {
    let state = &*commit.state;
    let command = commit.command.as_deref();
    let carries_events = matches!(command, Some(Command::Start(_) | Command::Offer { .. }));
    if carries_events || commit.outbox.len() > FEW {
        return None;
    }
    let texts = [&state.label, &state.description, &state.display];
    let mut size =
        PLAIN + texts.into_iter().flatten().map(|text| bound_of_text(text)).sum::<usize>();
    size += state.participants.iter().map(|it| bound_of_text(it.as_str())).sum::<usize>();
    size += state.children.iter().map(|it| bound_of_text(it.as_str())).sum::<usize>();
    if !state.locals.is_empty() {
        size += json_size(&state.locals);
    }
    if let Some(facts) = &commit.facts {
        let Facts { seed: _, directory, patterns, settled, watchers } = &**facts;
        size += PLAIN + KEY * settled.len() + json_size(directory) + json_size(patterns);
        size += watchers.iter().map(|it| bound_of_text(it.as_str())).sum::<usize>();
    }
    size += PLAIN * commit.log.len() + KEY * (state.inbox.len() + state.waits.len());
    let details = commit.log.iter().filter_map(|record| record.detail.as_ref());
    size += 6 * details.map(|detail| detail.len()).sum::<usize>();
    size += commit.event.as_ref().map_or(Some(0), |event| bound_of_event(event))?;
    for entry in &commit.outbox {
        size += PLAIN;
        match &entry.outgoing {
            Outgoing::Message { message, .. } if message.to.len() <= FEW => {
                size += PLAIN * message.to.len() + bound_of_event(&message.event)?;
            }
            Outgoing::Release(_) => {}
            _ => return None,
        }
    }
    Some(size)
}

/// What has more parts than this is measured.
const FEW: usize = 64;
/// More bytes than the key of an event takes, with what an inbox keeps beside it.
const KEY: usize = 64;
/// More bytes than ids and names take together, of one part.
const PLAIN: usize = 4_096;

/// Each byte of a text may be written as six.
fn bound_of_text(text: &str) -> usize {
    6 * text.len() + 3
}

fn bound_of_event(event: &Event) -> Option<usize> {
    if event.trace.is_some() || event.extra != Default::default() {
        return None;
    }
    let data = event.data.as_ref().map_or(Some(0), |data| data.max_json_bytes())?;
    Some(PLAIN + json_size(&event.source) + data)
}

pub(super) fn of_commit(commit: &Commit) -> usize {
    let mut size = json_size(&commit.state) + FRAME;
    size += commit.event.as_ref().map_or(0, json_size);
    size += commit.command.as_ref().map_or(0, json_size);
    size += commit.facts.as_ref().map_or(0, json_size);
    size += json_size(&commit.log);
    // The nodes of one message share its event.
    let mut events = HashSet::new();
    for entry in &commit.outbox {
        size += FRAME;
        match &entry.outgoing {
            Outgoing::Message { message, .. } => {
                size += json_size(&message.to);
                if events.insert(message.event.id.clone()) {
                    size += json_size(&message.event);
                }
            }
            Outgoing::Command(command) => size += json_size(command),
            Outgoing::Release(_) => {}
        }
    }
    size
}

#[cfg(all(test, feature = "conformance"))]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use thredlib::Event;

    use super::*;
    use crate::{conformance::samples, port::Commit};

    #[test]
    fn the_bound_is_above_the_size() {
        for data in [
            json!({}),
            json!({ "a": 1.7976931348623157e308, "b": "\u{1}\u{2}\u{3}\"\\" }),
            json!({ "list": [1, 2, [3, null, true]], "deep": { "a": { "b": "\u{0}".repeat(500) } } }),
        ] {
            let text = json!({ "id": "e", "type": "t", "source": { "id": "s" }, "data": data });
            let event: Event = serde_json::from_value(text).unwrap();
            let event: Event =
                serde_json::from_slice(&serde_json::to_vec(&event).unwrap()).unwrap();
            let mut state = samples::thred("a");
            let names = || (0..1_000).map(|number| format!("\u{1}{number}\"").as_str().into());
            state.participants = names().collect();
            state.children =
                (0..1_000).map(|number| format!("\t{number}").as_str().into()).collect();
            state.inbox = (0..1_000).map(|number| samples::consumed(&number.to_string())).collect();
            state.locals =
                Arc::new([("a".to_owned(), json!("\u{1}".repeat(9_000)))].into_iter().collect());
            let mut facts = Facts { seed: u64::MAX, ..Facts::default() };
            facts.watchers = names().collect();
            facts.settled = state.inbox.iter().map(|consumed| consumed.key).collect();
            let sample = samples::commit(state);
            let facts = Some(facts.into());
            let commit = Commit { event: Some(Arc::new(event)), facts, ..sample };
            let bound = bound_of_commit(&commit).expect("no command carries an event");
            assert!(bound >= of_commit(&commit), "{bound}: {}", of_commit(&commit));
        }
    }
}
