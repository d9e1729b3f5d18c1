//! How large a commit is.

use std::{collections::HashSet, io};

use serde::Serialize;

use super::{Commit, Outgoing};

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
