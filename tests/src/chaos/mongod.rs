//! A MongoDB of a test's own: to be killed, and to step down.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use mongodb::{
    Client,
    bson::{Document, doc},
    options::ClientOptions,
};
use tokio::process::Command;

use super::services::{Node, START, Services};

/// A replica set of one server.
#[derive(Debug)]
pub struct Mongod {
    url: String,
    own: Option<Own>,
}

/// A server of a test's own.
#[derive(Debug)]
struct Own {
    services: Services,
    program: PathBuf,
}

impl Mongod {
    /// Starts it.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Self {
        let services = Services::start("mongodb", "MONGODB_URL").await;
        let pid = services.nodes()[0].pid();
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).expect("the program");
        Self { url: services.url().to_owned(), own: Some(Own { services, program }) }
    }

    /// One that is not to be broken: the one that `MONGODB_URL` names, or a new one.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn usual() -> Self {
        match std::env::var("MONGODB_URL") {
            Ok(url) => Self { url, own: None },
            Err(_) => Self::start().await,
        }
    }

    /// How it is reached.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn own(&self) -> &Own {
        self.own.as_ref().expect("only a MongoDB of a test's own is broken")
    }

    fn node(&self) -> &Node {
        &self.own().services.nodes()[0]
    }

    /// Deletes the database of a run.
    ///
    /// # Panics
    /// When MongoDB cannot be reached.
    pub async fn clear(&self, name: &str) {
        let client = Client::with_uri_str(&self.url).await.expect("an address of MongoDB");
        client.database(name).drop().await.expect("the database is deleted");
    }

    /// Kills it with SIGKILL.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn kill(&self) {
        self.node().end("KILL").await;
    }

    /// Starts it again, with what it has stored, and waits until it takes writes.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_again(&self) {
        let mut start = Command::new(&self.own().program);
        start.arg("--config").arg(self.node().dir.join("mongod.conf"));
        start.stdin(Stdio::null()).stdout(Stdio::null());
        assert!(start.status().await.expect("mongod").success(), "mongod does not start");
        self.primary().await;
    }

    /// Has the primary step down for so many seconds, and waits until there is one again.
    ///
    /// # Panics
    /// When it does not do so.
    pub async fn step_down(&self, seconds: u32) {
        let command =
            doc! { "replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 0, "force": true };
        self.ask(command).await.expect("the primary steps down");
        assert!(!self.is_primary().await, "the primary is none for a while");
        self.primary().await;
    }

    async fn primary(&self) {
        let begin = Instant::now();
        while !self.is_primary().await {
            assert!(begin.elapsed() < START, "MongoDB takes no writes");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn is_primary(&self) -> bool {
        let hello = self.ask(doc! { "hello": 1 }).await;
        hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false))
    }

    /// Asks the server, whatever its part in the replica set.
    async fn ask(&self, command: Document) -> mongodb::error::Result<Document> {
        let url = format!("mongodb://127.0.0.1:{}/?directConnection=true", self.node().port);
        let mut options = ClientOptions::parse(url).await?;
        options.server_selection_timeout = Some(Duration::from_secs(1));
        let client = Client::with_options(options)?;
        client.database("admin").run_command(command).await
    }
}
