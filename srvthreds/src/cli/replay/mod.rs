//! `srvthreds replay`.

mod args;
mod compare;
mod difference;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::Arc,
};

use serde_json::json;
use thredcore::{
    EngineConfig,
    pattern::Pattern,
    port::{Loaded, ThredQuery},
    state::{PatternKey, Status, ThredState},
};
use thredlib::ThredId;

use super::{
    Outcome, diagnostics::printable, progress::Progress, store::Trouble, text::count,
    threds::no_thred,
};
use crate::query::Queries;

pub(crate) use args::ReplayArgs;
use compare::{Verdict, compare};

pub(crate) fn run(args: &ReplayArgs) -> io::Result<Outcome> {
    let mut out = io::stdout().lock();
    args.store.ask(async |asked| replay(args, &*asked.queries, &mut out).await)
}

async fn replay(
    args: &ReplayArgs,
    queries: &dyn Queries,
    out: &mut impl Write,
) -> Result<Outcome, Trouble> {
    let mut run = Run::new(queries, args.json);
    match &args.thred {
        Some(id) => {
            let id = ThredId::from(id.as_str());
            match queries.load(&id).await? {
                Some(Loaded { state, .. }) => run.thred(&state, out).await?,
                None => {
                    no_thred(id.as_str());
                    return Ok(Outcome::Unable);
                }
            }
        }
        None => run.all(out).await?,
    }
    run.finish(out)
}

/// What has been compared so far.
struct Run<'q> {
    queries: &'q dyn Queries,
    json: bool,
    config: EngineConfig,
    patterns: HashMap<Arc<PatternKey>, Result<Arc<Pattern>, String>>,
    progress: Progress,
    equal: usize,
    different: usize,
    incomparable: usize,
    steps: usize,
}

impl<'q> Run<'q> {
    fn new(queries: &'q dyn Queries, json: bool) -> Self {
        Self {
            queries,
            json,
            config: EngineConfig::default(),
            patterns: HashMap::new(),
            progress: Progress::new("threds computed again"),
            equal: 0,
            different: 0,
            incomparable: 0,
            steps: 0,
        }
    }

    async fn all(&mut self, out: &mut impl Write) -> Result<(), Trouble> {
        const PAGE: usize = 200;
        let status = vec![Status::Active, Status::Finished, Status::Terminated];
        let mut query = ThredQuery { status, limit: PAGE, ..ThredQuery::default() };
        loop {
            let page = self.queries.threds(query.clone()).await?;
            for state in &page.threds {
                self.thred(state, out).await?;
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Computes a thred again.
    async fn thred(&mut self, state: &ThredState, out: &mut impl Write) -> Result<(), Trouble> {
        self.progress.tick();
        let verdict = match self.pattern(&state.pattern).await? {
            Ok(pattern) => {
                // An engine may go on meanwhile: what came after the state was read is left out.
                let mut history = self.queries.history(&state.id, None, usize::MAX).await?;
                history.retain(|step| step.version <= state.version);
                self.steps += history.len();
                compare(&pattern, state, &history, &self.config.react_limits)
            }
            Err(why) => Verdict::Incomparable(why),
        };
        match &verdict {
            Verdict::Equal => self.equal += 1,
            Verdict::Different(_) => self.different += 1,
            Verdict::Incomparable(_) => self.incomparable += 1,
        }
        self.report(&state.id, &verdict, out)
    }

    fn report(
        &self,
        thred: &ThredId,
        verdict: &Verdict,
        out: &mut impl Write,
    ) -> Result<(), Trouble> {
        if self.json {
            let line = match verdict {
                Verdict::Equal => return Ok(()),
                Verdict::Different(differences) => {
                    json!({ "thred": thred, "differences": differences })
                }
                Verdict::Incomparable(why) => json!({ "thred": thred, "incomparable": why }),
            };
            writeln!(out, "{line}")?;
            return Ok(());
        }
        let thred = printable(thred.as_str());
        match verdict {
            Verdict::Equal => {}
            Verdict::Different(differences) => {
                for difference in differences {
                    writeln!(out, "thred {thred}, {difference}")?;
                }
            }
            Verdict::Incomparable(why) => {
                writeln!(out, "thred {thred} cannot be compared: {}", printable(why))?;
            }
        }
        Ok(())
    }

    /// The revision that a thred runs.
    async fn pattern(
        &mut self,
        key: &Arc<PatternKey>,
    ) -> Result<Result<Arc<Pattern>, String>, Trouble> {
        if let Some(known) = self.patterns.get(key) {
            return Ok(known.clone());
        }
        let compiled = match self.queries.pattern(key).await? {
            Some(stored) => match Pattern::compile(&stored, &self.config.expr_limits) {
                Ok(pattern) => Ok(Arc::new(pattern)),
                Err(error) => Err(error.to_string()),
            },
            None => Err(format!("the revision of `{}` that it runs is not stored", key.id)),
        };
        self.patterns.insert(key.clone(), compiled.clone());
        Ok(compiled)
    }

    fn finish(self, out: &mut impl Write) -> Result<Outcome, Trouble> {
        let Self { equal, different, incomparable, steps, json, progress, .. } = self;
        drop(progress);
        if json {
            let summary = json!({
                "equal": equal, "different": different, "incomparable": incomparable,
                "steps": steps,
            });
            writeln!(out, "{summary}")?;
        } else {
            let threds = count(equal + different + incomparable, "thred");
            let steps = count(steps, "step");
            let mut line = format!("{threds}, {steps}: {equal} equal, {different} different");
            if incomparable > 0 {
                line.push_str(&format!(", {incomparable} not comparable"));
            }
            writeln!(out, "{line}")?;
        }
        Ok(match (different, incomparable) {
            (0, 0) => Outcome::Good,
            (0, _) => Outcome::Unable,
            _ => Outcome::Bad,
        })
    }
}
