//! `srvthreds threds show`.

use std::io::{self, Write};

use serde_json::json;
use thredcore::{
    port::{History, Loaded, OutboxEntry, Outgoing},
    state::ThredState,
};
use thredlib::ThredId;

use super::{args::ShowArgs, no_thred, timeline};
use crate::{
    cli::{Outcome, diagnostics::printable, store::Trouble, text},
    query::Queries,
};

pub(super) async fn show(
    args: &ShowArgs,
    queries: &dyn Queries,
    out: &mut impl Write,
) -> Result<Outcome, Trouble> {
    let id = ThredId::from(args.id.as_str());
    let Some(Loaded { state, outbox }) = queries.load(&id).await? else {
        return Ok(no_thred(&args.id));
    };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let history = queries.history(&id, None, limit).await?;
    if args.json {
        let document = json!({ "state": state, "unpublished": outbox, "history": history });
        writeln!(out, "{document:#}")?;
        return Ok(Outcome::Good);
    }
    where_it_stands(out, &state, &outbox)?;
    writeln!(out, "\nhistory")?;
    if let Some(missing) = before(&state, &history) {
        writeln!(out, "  {missing}")?;
    }
    for step in &history {
        timeline::step(out, step)?;
    }
    Ok(Outcome::Good)
}

/// What is not shown of the past.
fn before(state: &ThredState, history: &[History]) -> Option<String> {
    let first = history.first().map_or(state.version + 1, |step| step.version);
    match first {
        0 | 1 => None,
        2 => Some("(step 1 is not shown, or no longer kept)".to_owned()),
        first => Some(format!("(steps 1 to {} are not shown, or no longer kept)", first - 1)),
    }
}

/// The state as names and values.
pub(super) fn where_it_stands(
    out: &mut impl Write,
    state: &ThredState,
    outbox: &[OutboxEntry],
) -> io::Result<()> {
    let mut line = |name: &str, value: &str| match value {
        "" => Ok(()),
        value => writeln!(out, "{name:<13} {}", printable(value)),
    };
    let list = |ids: &mut dyn Iterator<Item = &str>| ids.collect::<Vec<_>>().join(", ");
    line("thred", state.id.as_str())?;
    let key = &state.pattern;
    line("pattern", &format!("{}, revision {:016x}", key.id, key.revision))?;
    let listening = if state.is_listening() { ", waits for unbound events too" } else { "" };
    line("status", &format!("{}{listening}", state.status.as_str()))?;
    line("reaction", &format!("{}, since {}", state.reaction, text::time(state.entered_at)))?;
    line("next timer", &text::time(state.timer().map(|(at, _)| at)))?;
    line("version", &state.version.to_string())?;
    line("started", &text::time(state.started_at))?;
    line("changed", &text::time(state.modified_at))?;
    line("label", state.label.as_deref().unwrap_or_default())?;
    line("last", state.description.as_deref().unwrap_or_default())?;
    line("participants", &list(&mut state.participants.iter().map(|id| id.as_str())))?;
    line("parent", state.parent.as_ref().map_or("", ThredId::as_str))?;
    line("children", &list(&mut state.children.iter().map(ThredId::as_str)))?;
    if !state.locals.is_empty() {
        writeln!(out, "locals")?;
        for (name, value) in state.locals.iter() {
            writeln!(out, "  {} = {}", printable(name), text::value(value))?;
        }
    }
    if !outbox.is_empty() {
        writeln!(out, "unpublished")?;
        for entry in outbox {
            writeln!(out, "  {}  {}", text::time(entry.at), printable(&unpublished(entry)))?;
        }
    }
    Ok(())
}

fn unpublished(entry: &OutboxEntry) -> String {
    match &entry.outgoing {
        Outgoing::Message { topic, message } => {
            format!("{}, by {topic}", timeline::message(message))
        }
        Outgoing::Command(command) => timeline::command(command),
        Outgoing::Release(pattern) => format!("the end of an instance of {pattern}"),
    }
}
