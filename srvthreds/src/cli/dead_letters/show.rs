//! `srvthreds dead-letters show`.

use std::io::Write;

use serde_json::json;

use super::{Chosen, args::ChosenArgs, documents, missing, read, tell_missing};
use crate::{
    cli::{Outcome, diagnostics::printable, store::Trouble, text},
    query::{Item, Letter, Queries, Submission},
};

pub(super) async fn show(
    args: &ChosenArgs,
    chosen: Chosen,
    queries: &dyn Queries,
    out: &mut impl Write,
) -> Result<Outcome, Trouble> {
    let missing = missing(args, &chosen, queries).await?;
    let letters = read(chosen, queries).await?;
    if args.json {
        writeln!(out, "{:#}", json!({ "deadLetters": documents(&letters) }))?;
    }
    if !args.json {
        for (number, letter) in letters.iter().enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            in_full(letter, out)?;
        }
    }
    Ok(tell_missing(args, &missing, letters.len()))
}

fn in_full(letter: &Letter, out: &mut impl Write) -> Result<(), Trouble> {
    writeln!(out, "id        {}", printable(&letter.name()))?;
    writeln!(out, "what      {}, {}", printable(&letter.item_id()), printable(&letter.what()))?;
    writeln!(out, "since     {}", text::time(letter.at))?;
    writeln!(out, "tries     {}", letter.attempts)?;
    writeln!(out, "reason    {}", printable(&letter.reason))?;
    let payload = match &letter.item {
        Item::Event(event) => json!(event),
        Item::Command(command) => json!(command),
        Item::Routed(routed) => json!(routed),
        Item::Submission(submission) => return body(submission, out),
    };
    for line in format!("{payload:#}").lines() {
        writeln!(out, "  {}", printable(line))?;
    }
    Ok(())
}

/// What was submitted: an event as JSON, or whatever it is.
fn body(submission: &Submission, out: &mut impl Write) -> Result<(), Trouble> {
    let Submission { queue, user, message_id, bytes, body } = submission;
    writeln!(out, "queue     {}", printable(queue))?;
    writeln!(out, "user      {}", user.as_deref().map_or("-".into(), printable))?;
    writeln!(out, "message   {}", message_id.as_deref().map_or("-".into(), printable))?;
    let text = match serde_json::from_str::<serde_json::Value>(body) {
        Ok(value) => format!("{value:#}"),
        Err(_) => body.clone(),
    };
    for line in text.lines() {
        writeln!(out, "  {}", printable(line))?;
    }
    if body.len() < *bytes {
        writeln!(out, "  … of {bytes} bytes")?;
    }
    Ok(())
}
