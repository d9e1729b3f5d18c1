//! Servers of a test's own that `scripts/services` starts, to be killed.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::process::Command;

/// The nodes of a service, with throw-away data. They end when this is dropped.
#[derive(Debug)]
pub struct Services {
    dir: TempDir,
    name: &'static str,
    url: String,
    nodes: Vec<Node>,
}

/// A server.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its files.
    pub dir: PathBuf,
    /// Its port.
    pub port: u16,
}

impl Services {
    /// Starts a service, as `scripts/services` calls it, whose address is in a variable.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(name: &'static str, variable: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut services = Self { dir, name, url: String::new(), nodes: Vec::new() };
        services.ask("up", variable).await;
        let environment = services.ask("env", variable).await;
        let named = format!("export {variable}=");
        let url = environment.lines().find_map(|line| line.strip_prefix(&*named));
        services.url = url.expect("an address").trim_matches('\'').to_owned();
        let found = std::fs::read_dir(services.dir.path().join(name)).expect("a service's files");
        let mut nodes: Vec<_> =
            found.filter_map(|entry| Node::in_dir(entry.ok()?.path())).collect();
        nodes.sort_by_key(|node| node.port);
        services.nodes = nodes;
        services
    }

    async fn ask(&self, command: &str, variable: &str) -> String {
        let output = Command::new(script())
            .args([command, self.name])
            .env("THRED_SERVICES_DIR", self.dir.path())
            .env("THRED_SERVICES_OFFSET", offset().to_string())
            .env_remove(variable)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output();
        let output = output.await.expect("scripts/services can be run");
        let name = self.name;
        assert!(output.status.success(), "scripts/services {command} {name} failed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// How it is reached.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its nodes, by port.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let mut down = std::process::Command::new(script());
        down.args(["down", self.name]).env("THRED_SERVICES_DIR", self.dir.path());
        let _ = down.stdin(Stdio::null()).stdout(Stdio::null()).status();
    }
}

impl Node {
    fn in_dir(dir: PathBuf) -> Option<Self> {
        let port = std::fs::read_to_string(dir.join("port")).ok()?.trim().parse().ok()?;
        // The daemon that the nodes find each other by has a port, too, and is none of them.
        dir.join("log").exists().then_some(())?;
        (dir.file_name()? != "epmd").then_some(Self { dir, port })
    }

    /// The id of its process.
    ///
    /// # Panics
    /// When it has not written it down.
    pub fn pid(&self) -> u32 {
        let pid = std::fs::read_to_string(self.dir.join("pid")).ok();
        let pid = pid.and_then(|pid| pid.trim().parse().ok());
        pid.unwrap_or_else(|| panic!("the server on port {} has no process id", self.port))
    }

    /// Has it stand still.
    ///
    /// # Panics
    /// When it is gone.
    pub fn freeze(&self) -> Frozen {
        Frozen::new(self.pid())
    }

    /// Sends it a signal by its name, as `KILL`, and waits until it has ended of it.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn end(&self, signal: &str) {
        let pid = self.pid();
        let process = PathBuf::from(format!("/proc/{pid}"));
        let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
        assert!(status.await.expect("a kill command").success(), "{} is gone", self.port);
        let ended = async {
            while process.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = tokio::time::timeout(END, ended).await;
        assert!(ended.is_ok(), "the server on port {} does not end by {signal}", self.port);
    }
}

/// A server that stands still: its connections stay, and nothing comes back. It goes on when this is
/// dropped.
#[derive(Debug)]
#[must_use = "the server goes on when this is dropped"]
pub struct Frozen {
    pid: u32,
}

impl Frozen {
    /// Stops a process.
    ///
    /// # Panics
    /// When it is gone.
    pub fn new(pid: u32) -> Self {
        assert!(send(pid, "STOP"), "the server with process id {pid} is gone");
        Self { pid }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        send(self.pid, "CONT");
    }
}

fn send(pid: u32, signal: &str) -> bool {
    let kill =
        std::process::Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    kill.expect("a kill command").success()
}

/// How long a server may take to end, with all it has to write.
const END: Duration = Duration::from_secs(60);

/// How long a server may take to start again, with all its data, on a busy machine.
pub const START: Duration = Duration::from_secs(90);

/// Where the ports begin: while a server is dead, nobody else's is to take its port. Tests are
/// processes of their own and start at different places.
fn offset() -> u32 {
    2_000 + 10 * (std::process::id() % 200)
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/services")
}
