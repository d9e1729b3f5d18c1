//! `srvthreds threds count`.

use std::io::Write;

use serde_json::json;

use super::args::CountArgs;
use crate::{
    cli::{
        Outcome,
        store::Trouble,
        text::{self, Table},
    },
    query::Queries,
};

pub(super) async fn count(
    args: &CountArgs,
    queries: &dyn Queries,
    out: &mut impl Write,
) -> Result<Outcome, Trouble> {
    let counts = queries.counts().await?;
    if args.json {
        writeln!(out, "{:#}", json!(counts))?;
        return Ok(Outcome::Good);
    }
    let mut table = Table::new(["PATTERN", "REVISION", "REACTION", "STATUS", "THREDS"]);
    for it in &counts {
        table.row([
            it.pattern.id.to_string(),
            it.pattern.revision.to_string(),
            it.reaction.to_string(),
            it.status.as_str().to_owned(),
            it.threds.to_string(),
        ]);
    }
    table.write(out)?;
    let all: u64 = counts.iter().map(|it| it.threds).sum();
    writeln!(out, "{}", text::count(usize::try_from(all).unwrap_or(usize::MAX), "live thred"))?;
    Ok(Outcome::Good)
}
