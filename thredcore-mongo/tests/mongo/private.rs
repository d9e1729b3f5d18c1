//! A server of a test's own, to be killed and stepped down.

use std::{path::Path, process::Command};

use mongodb::{Client, bson::doc};

/// Started when made, stopped when dropped.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    pub(crate) url: String,
    /// Others wait: one that starts would take the port of one that was killed.
    _alone: std::fs::File,
}

impl Server {
    pub(crate) fn start() -> Self {
        let alone = std::fs::File::create(std::env::temp_dir().join("thredcore-mongo-server.lock"));
        let alone = alone.expect("a file can be made");
        alone.lock().expect("a file can be locked");
        let directory = tempfile::tempdir().expect("a directory can be made");
        services(directory.path(), "up");
        let named = services(directory.path(), "env");
        let url = named.lines().find_map(|line| line.strip_prefix("export MONGODB_URL='"));
        let url = url.expect("a URL").trim_end_matches('\'').to_owned();
        Self { directory, url, _alone: alone }
    }

    /// Kills the server and starts it again on the same data.
    pub(crate) fn kill_and_restart(&self) {
        let nodes = std::fs::read_dir(self.directory.path().join("mongodb")).expect("a directory");
        let node = nodes.flatten().map(|entry| entry.path()).find(|path| path.is_dir());
        let node = node.expect("the server's directory");
        let pid = std::fs::read_to_string(node.join("pid")).expect("a process id");
        let pid = pid.trim();
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).expect("a running server");
        assert!(Command::new("kill").args(["-KILL", pid]).status().expect("kill").success());
        while Path::new(&format!("/proc/{pid}")).exists() {
            std::thread::yield_now();
        }
        let mut start = Command::new(program);
        let start = start.arg("--config").arg(node.join("mongod.conf"));
        let started = start.output().expect("the server can be started");
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stdout));
    }

    /// Has the primary step down; being alone, it is elected again.
    pub(crate) async fn step_down(&self) {
        let client = Client::with_uri_str(&self.url).await.expect("a URL");
        let down = doc! { "replSetStepDown": 1, "force": true };
        // The connection may be closed before the answer.
        let _ = client.database("admin").run_command(down).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        services(self.directory.path(), "down");
    }
}

fn services(directory: &Path, command: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/services");
    let run = Command::new(script)
        .args([command, "mongodb"])
        .env("THRED_SERVICES_DIR", directory)
        .env_remove("MONGODB_URL")
        .output()
        .expect("scripts/services can be run");
    let text = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "scripts/services {command} mongodb: {text}");
    String::from_utf8_lossy(&run.stdout).into_owned()
}
