//! `srvthreds dead-letters show`.

use std::io::Write;

use serde_json::json;

use super::{Chosen, args::ChosenArgs, documents, read};
use crate::{
    cli::{Outcome, diagnostics::printable, store::Trouble, text},
    query::{Item, Letter, Queries},
};

pub(super) async fn show(
    args: &ChosenArgs,
    chosen: Chosen,
    queries: &dyn Queries,
    out: &mut impl Write,
) -> Result<Outcome, Trouble> {
    let letters = read(chosen, queries).await?;
    if args.json {
        writeln!(out, "{:#}", json!({ "deadLetters": documents(&letters) }))?;
    }
    if letters.is_empty() {
        eprintln!("error: there is no such dead letter; `dead-letters list` shows all");
        return Ok(Outcome::Bad);
    }
    if !args.json {
        for (number, letter) in letters.iter().enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            in_full(letter, out)?;
        }
    }
    Ok(Outcome::Good)
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
    };
    for line in format!("{payload:#}").lines() {
        writeln!(out, "  {}", printable(line))?;
    }
    Ok(())
}
