//! `srvthreds threds list`.

use std::io::Write;

use serde_json::{Value, json};
use thredcore::{port::ThredQuery, state::ThredState, thred::summary};

use super::args::ListArgs;
use crate::{
    cli::{
        Outcome,
        store::Trouble,
        text::{self, Table, count},
    },
    query::Queries,
};

pub(super) async fn list(
    args: &ListArgs,
    queries: &dyn Queries,
    out: &mut impl Write,
) -> Result<Outcome, Trouble> {
    // Pages that are small enough for an answer, whatever the limit.
    const PAGE: usize = 500;
    let wanted = args.query();
    let mut table = Table::new(["ID", "PATTERN", "REACTION", "STATUS", "SINCE", "NEXT TIMER"]);
    let mut summaries: Vec<Value> = Vec::new();
    let (mut found, mut after) = (0, wanted.after.clone());
    let next = loop {
        let limit = (wanted.limit - found).min(PAGE);
        let query = ThredQuery { after, limit, ..wanted.clone() };
        let page = queries.threds(query).await?;
        found += page.threds.len();
        for thred in &page.threds {
            if args.json { summaries.push(in_short(thred)) } else { table.row(row(thred)) }
        }
        after = page.next;
        if after.is_none() || found >= wanted.limit {
            break after;
        }
    };
    if args.json {
        writeln!(out, "{:#}", json!({ "threds": summaries, "next": next }))?;
        return Ok(Outcome::Good);
    }
    if found == 0 {
        writeln!(out, "no threds")?;
        return Ok(Outcome::Good);
    }
    table.write(out)?;
    let shown = count(found, "thred");
    match next {
        Some(next) => writeln!(out, "{shown}, and there are more: --after '{next}'")?,
        None => writeln!(out, "{shown}")?,
    }
    Ok(Outcome::Good)
}

fn row(thred: &ThredState) -> [String; 6] {
    [
        thred.id.to_string(),
        thred.pattern.id.to_string(),
        thred.reaction.to_string(),
        thred.status.as_str().to_owned(),
        text::time(thred.entered_at),
        text::time(thred.timer().map(|(at, _)| at)),
    ]
}

fn in_short(thred: &ThredState) -> Value {
    let mut fields = summary(thred);
    fields["enteredAt"] = thred.entered_at.into();
    fields
}
