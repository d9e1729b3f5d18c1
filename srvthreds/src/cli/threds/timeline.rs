//! A thred's past, step by step.

use std::io::{self, Write};

use serde_json::Value;
use thredcore::port::{Command, History, LogRecord};
use thredlib::{Event, Message};

use crate::cli::{
    diagnostics::printable,
    text::{self, shortened},
};

/// Titles and lists are cut at so many characters.
const WIDTH: usize = 100;

/// Writes a step: what came in, what was decided, what went out.
pub(super) fn step(out: &mut impl Write, step: &History) -> io::Result<()> {
    let at = text::time(step.log.first().map(|record| record.timestamp));
    let came = match (&step.command, &step.event) {
        (Some(command), _) => self::command(command),
        (None, Some(event)) => self::event(event),
        (None, None) => "(nothing is on record about what came in)".to_owned(),
    };
    writeln!(out, "{:>4}  {at}  {}", step.version, printable(&came))?;
    for record in &step.log {
        writeln!(out, "        {}", printable(&decision(record)))?;
    }
    for message in &step.messages {
        writeln!(out, "        => {}", printable(&self::message(message)))?;
    }
    Ok(())
}

/// What was decided, in a line.
pub(super) fn decision(record: &LogRecord) -> String {
    let kind = serde_json::to_value(record.log_type).unwrap_or_default();
    let mut text = kind.as_str().unwrap_or_default().to_owned();
    for (sign, part) in [(" ", &record.from), (" -> ", &record.to)] {
        if let Some(part) = part {
            text.push_str(sign);
            text.push_str(part);
        }
    }
    if let Some(detail) = &record.detail {
        text.push_str(&format!(" ({})", shortened(detail, WIDTH)));
    }
    text
}

/// An event, in a line.
pub(super) fn event(event: &Event) -> String {
    let mut text = format!("{} from {}, event {}", event.event_type, event.source.id, event.id);
    if let Some(title) = event.title() {
        text.push_str(&format!(": {}", quoted(title)));
    }
    text
}

/// A command, in a line.
pub(super) fn command(command: &Command) -> String {
    match command {
        Command::Start(start) => match &start.parent {
            Some(parent) => format!("started by {parent}, which reacted to {}", start.cause.id),
            None => format!("started by a thred that reacted to {}", start.cause.id),
        },
        Command::Expire { .. } => "the time is up".to_owned(),
        Command::Offer { accepted, .. } => {
            format!("offered, since there was no place: {}", event(&accepted.event))
        }
        Command::Transition { to, cause, .. } => format!("told to go to {to}, event {cause}"),
        Command::Terminate { cause, .. } => format!("told to end, because of {cause}"),
        Command::Disown { child, .. } => format!("the child {child} has ended"),
    }
}

/// A message, in a line.
pub(super) fn message(message: &Message) -> String {
    let to: Vec<_> = message.to.iter().map(|id| id.as_str()).collect();
    let to = shortened(&to.join(", "), WIDTH);
    let what = match message.event.title() {
        Some(title) => quoted(title),
        None => message.event.event_type.to_string(),
    };
    format!("to {to}: {what}, message {}", message.id)
}

fn quoted(title: &str) -> String {
    Value::from(shortened(title, WIDTH)).to_string()
}
