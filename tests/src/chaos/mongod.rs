//! A MongoDB of a test's own: to be killed, and to step down.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use mongodb::{
    Client,
    bson::{Document, doc, oid::ObjectId},
    options::ClientOptions,
};
use tempfile::TempDir;
use tokio::process::Command;

use super::{
    redis_server::free_port,
    services::{Frozen, Node, START, Services},
};

/// A replica set: of one server, or of three.
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
    /// The other two, if there are.
    others: Vec<Member>,
}

/// A server beside the first one.
#[derive(Debug)]
struct Member {
    node: Node,
    _dir: TempDir,
}

/// The server that takes writes, and which election has made it that.
#[derive(Clone, Copy, Debug)]
struct Primary {
    port: u16,
    election: ObjectId,
}

impl Drop for Member {
    fn drop(&mut self) {
        let pid = self.node.pid().to_string();
        let _ = std::process::Command::new("kill").args(["-KILL", &pid]).status();
    }
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
        Self {
            url: services.url().to_owned(),
            own: Some(Own { services, program, others: Vec::new() }),
        }
    }

    /// Starts a set of three.
    ///
    /// # Panics
    /// When it does not come together.
    pub async fn three() -> Self {
        let mut set = Self::start().await;
        for number in 1..=2 {
            let member = set.member().await;
            let host = format!("127.0.0.1:{}", member.node.port);
            set.url = set.url.replacen("/?", &format!(",{host}/?"), 1);
            let config = set.ask(doc! { "replSetGetConfig": 1 }).await.expect("a configuration");
            let mut config = config.get_document("config").expect("a configuration").clone();
            let version = config.get_i32("version").expect("a version");
            config.insert("version", version + 1);
            config.insert("protocolVersion", 1_i64);
            let members = config.get_array_mut("members").expect("members");
            members.push(doc! { "_id": number, "host": host, "priority": 1, "votes": 1 }.into());
            set.ask(doc! { "replSetReconfig": config }).await.expect("it takes the member");
            set.own.as_mut().expect("its own").others.push(member);
            let begin = Instant::now();
            while set.caught_up().await != number as usize + 1 {
                assert!(begin.elapsed() < START, "the set does not come together");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        set
    }

    /// One more server of the set, which it does not know yet.
    async fn member(&self) -> Member {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = self.node();
        let config = std::fs::read_to_string(first.dir.join("mongod.conf")).expect("a file");
        let port = free_port();
        let config = config
            .replace(&first.dir.display().to_string(), &dir.path().display().to_string())
            .replace(&first.port.to_string(), &port.to_string());
        std::fs::create_dir(dir.path().join("data")).expect("a directory");
        std::fs::write(dir.path().join("mongod.conf"), config).expect("a file");
        let node = Node { dir: dir.path().into(), port };
        run(&self.own().program, &node).await;
        Member { node, _dir: dir }
    }

    /// How many members have all that the primary has.
    async fn caught_up(&self) -> usize {
        let Ok(status) = self.ask(doc! { "replSetGetStatus": 1 }).await else { return 0 };
        let members = status.get_array("members").expect("members").iter();
        let state = members.filter_map(|member| member.as_document()?.get_i32("state").ok());
        state.filter(|state| [1, 2].contains(state)).count()
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

    /// Has it stand still.
    ///
    /// # Panics
    /// When it is gone.
    pub fn freeze(&self) -> Frozen {
        self.node().freeze()
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
        run(&self.own().program, self.node()).await;
        self.primary().await;
    }

    /// Has the primary step down for so many seconds, and waits until one has been elected since.
    ///
    /// # Panics
    /// When it does not do so.
    pub async fn step_down(&self, seconds: u32) {
        let command =
            doc! { "replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 0, "force": true };
        let former = self.primary().await;
        ask(former.port, command).await.expect("the primary steps down");
        // It may be the same server again, and that before anybody has looked.
        self.primary_that(|primary| primary.election != former.election).await;
    }

    /// Waits for a primary.
    async fn primary(&self) -> Primary {
        self.primary_that(|_| true).await
    }

    async fn primary_that(&self, is_meant: impl Fn(&Primary) -> bool) -> Primary {
        let begin = Instant::now();
        loop {
            let others = self.own().others.iter().map(|member| &member.node);
            for node in std::iter::once(self.node()).chain(others) {
                if let Some(primary) = primary_at(node.port).await.filter(&is_meant) {
                    return primary;
                }
            }
            assert!(begin.elapsed() < START, "MongoDB takes no writes");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks the first server, as its administrator.
    ///
    /// # Errors
    /// What it says.
    pub async fn ask(&self, command: Document) -> mongodb::error::Result<Document> {
        ask(self.node().port, command).await
    }
}

/// Starts a server, as its configuration says.
async fn run(program: &Path, node: &Node) {
    let mut start = Command::new(program);
    start.arg("--config").arg(node.dir.join("mongod.conf")).stdin(Stdio::null());
    let output = start.output().await.expect("mongod");
    if !output.status.success() {
        let log = std::fs::read_to_string(node.dir.join("log")).unwrap_or_default();
        let mut last: Vec<_> = log.lines().rev().take(10).collect();
        last.reverse();
        panic!("mongod on port {} does not start; its log:\n{}", node.port, last.join("\n"));
    }
}

/// The server at a port, if it is the primary.
async fn primary_at(port: u16) -> Option<Primary> {
    let hello = ask(port, doc! { "hello": 1 }).await.ok()?;
    let is_primary = hello.get_bool("isWritablePrimary").unwrap_or(false);
    let election = hello.get_object_id("electionId").ok()?;
    is_primary.then_some(Primary { port, election })
}

/// Asks a server, whatever its part in the replica set.
async fn ask(port: u16, command: Document) -> mongodb::error::Result<Document> {
    let url = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
    let mut options = ClientOptions::parse(url).await?;
    options.server_selection_timeout = Some(Duration::from_secs(1));
    let client = Client::with_options(options)?;
    client.database("admin").run_command(command).await
}
