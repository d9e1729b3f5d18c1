//! What goes on beside the work: changed files, other processes' questions.

use std::{sync::Arc, time::Duration};

use thredcore::Engine;
use tokio::task::JoinSet;

use super::{outlet::Outlet, reload::Reload, sessions::Sessions, setup::refuse};
use crate::{
    backend::{Backends, Place},
    cli::{
        Outcome,
        args::RunArgs,
        diagnostics::{Printer, printable},
        files::SourceFile,
    },
};

/// Ends when it is dropped.
#[derive(Default)]
pub(super) struct Attendance {
    #[cfg(unix)]
    served: Option<crate::query::Served>,
    tasks: JoinSet<()>,
}

impl Attendance {
    /// Starts to attend to a live run. In memory nothing is attended to.
    pub(super) async fn start(
        args: &RunArgs,
        printer: Printer,
        backends: &Backends,
        engine: &Engine,
        outlet: &Arc<Outlet>,
        sessions: &Arc<Sessions>,
        patterns: Vec<(SourceFile, thredlib::PatternModel)>,
    ) -> Result<Self, Outcome> {
        let mut this = Self::default();
        if !backends.is_durable() {
            return Ok(this);
        }
        let place = args.place();
        let reload =
            Reload::new(engine.clone(), sessions.clone(), printer, &args.patterns, patterns);
        if !args.patterns.is_empty() {
            reload.forget_others().await.map_err(|error| refuse(Outcome::Unable, error))?;
        }
        let store = place.directory().map(std::path::Path::to_owned);
        this.tasks.spawn(reload.run(store));
        if backends.is_shared() {
            this.tasks.spawn(follow_topics(sessions.clone(), outlet.clone(), args.print()));
            let (backends, engine) = (backends.clone(), engine.clone());
            this.tasks.spawn(async move { backends.follow_patterns(&engine).await });
        }
        this.serve(&place, backends);
        Ok(this)
    }

    #[cfg(unix)]
    fn serve(&mut self, place: &Place, backends: &Backends) {
        let Some(directory) = place.directory() else { return };
        match crate::query::Served::start(directory, Arc::new(backends.queries())) {
            Ok(served) => self.served = Some(served),
            Err(error) => {
                let name = directory.display().to_string();
                eprintln!(
                    "warning: no socket in {}: {error}; `srvthreds threds` and `dead-letters` \
                     cannot ask this process",
                    printable(&name)
                );
            }
        }
    }

    #[cfg(not(unix))]
    fn serve(&mut self, _place: &Place, _backends: &Backends) {}
}

/// Has the messages of newcomers printed too.
async fn follow_topics(
    sessions: Arc<Sessions>,
    outlet: Arc<Outlet>,
    print: crate::cli::args::Print,
) {
    const LOOK: Duration = Duration::from_secs(1);
    loop {
        tokio::time::sleep(LOOK).await;
        match sessions.topics(print).await {
            Ok(topics) => outlet.also(topics),
            Err(error) => tracing::warn!(%error, "cannot look for new sessions"),
        }
    }
}
