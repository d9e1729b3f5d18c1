//! Reading events, a line at a time.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal},
    path::Path,
    thread,
};

use thredlib::EventLimits;
use tokio::sync::mpsc;

use crate::cli::files::{Unreadable, refused};

/// A line of the input.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    pub(super) text: Text,
}

/// What a line holds.
#[derive(Debug, PartialEq)]
pub(super) enum Text {
    /// Its bytes, without the end of the line.
    Whole(Vec<u8>),
    /// Longer than any event may be; this is its beginning.
    TooLong(Vec<u8>),
    /// The input broke off here.
    Unreadable(String),
}

/// The lines of a file or of standard input, read ahead by a thread of their own.
pub(super) struct Input {
    /// What to call it in messages.
    pub(super) name: String,
    pub(super) lines: mpsc::Receiver<Line>,
}

impl Input {
    /// How many lines are read ahead.
    const AHEAD: usize = 1024;

    /// Starts to read; `-` is standard input.
    pub(super) fn open(path: &Path) -> Result<Self, Unreadable> {
        if path.as_os_str() == "-" {
            if io::stdin().is_terminal() {
                eprintln!("reading events from the terminal, one JSON object a line; ctrl-d ends");
            }
            return Ok(Self::read("stdin".to_owned(), BufReader::new(io::stdin())));
        }
        let file = File::open(path).and_then(|file| {
            if file.metadata()?.is_dir() {
                Err(io::Error::from(io::ErrorKind::IsADirectory))
            } else {
                Ok(file)
            }
        });
        let file = file.map_err(|error| refused(path, &error))?;
        Ok(Self::read(path.display().to_string(), BufReader::with_capacity(1 << 16, file)))
    }

    fn read(name: String, mut reader: impl BufRead + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel(Self::AHEAD);
        thread::spawn(move || {
            for number in 1.. {
                let text = match read_line(&mut reader, EventLimits::default().bytes) {
                    Ok(None) => return,
                    Ok(Some(text)) => text,
                    Err(error) => Text::Unreadable(error.to_string()),
                };
                let last = matches!(text, Text::Unreadable(_));
                if sender.blocking_send(Line { number, text }).is_err() || last {
                    return;
                }
            }
        });
        Self { name, lines }
    }
}

/// Reads a line without keeping more of it than is allowed.
fn read_line(reader: &mut impl BufRead, most: usize) -> io::Result<Option<Text>> {
    let (mut line, mut any, mut too_long) = (Vec::new(), false, false);
    loop {
        let buffer = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            buffer => buffer?,
        };
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let found = &buffer[..end.unwrap_or(buffer.len())];
        any |= !buffer.is_empty();
        let room = most.saturating_sub(line.len()).min(found.len());
        too_long |= room < found.len();
        line.extend_from_slice(&found[..room]);
        let (over, used) = (end.is_some() || buffer.is_empty(), found.len());
        reader.consume(used + usize::from(end.is_some()));
        if over {
            break;
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(any.then_some(if too_long { Text::TooLong(line) } else { Text::Whole(line) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_where_they_end_and_where_they_are_too_long() {
        let mut reader = BufReader::with_capacity(3, &b"ab\r\n\nabcdefghij\nabcde\nlast"[..]);
        let mut next = || read_line(&mut reader, 5).unwrap();
        assert_eq!(next(), Some(Text::Whole(b"ab".into())));
        assert_eq!(next(), Some(Text::Whole(b"".into())));
        assert_eq!(next(), Some(Text::TooLong(b"abcde".into())));
        assert_eq!(next(), Some(Text::Whole(b"abcde".into())));
        assert_eq!(next(), Some(Text::Whole(b"last".into())));
        assert_eq!(next(), None);
    }
}
