//! A broker of a test's own, started by `scripts/services`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A broker of one node in a directory that is deleted in the end.
pub(crate) struct Broker {
    dir: tempfile::TempDir,
}

impl Broker {
    pub(crate) fn start() -> Self {
        let broker = Self { dir: tempfile::tempdir().expect("a directory") };
        broker.services("up");
        broker
    }

    fn services(&self, command: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/services");
        let output = Command::new(script)
            .args([command, "rabbitmq"])
            .env("THRED_SERVICES_DIR", self.dir.path())
            // While it is dead nobody else's is to take its port.
            .env("THRED_SERVICES_OFFSET", (2_000 + 10 * (std::process::id() % 200)).to_string())
            .env_remove("AMQP_URL")
            .stderr(Stdio::inherit())
            .output()
            .expect("scripts/services");
        assert!(output.status.success(), "scripts/services {command} rabbitmq failed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn url(&self) -> String {
        let environment = self.services("env");
        let url = environment.lines().find_map(|line| line.strip_prefix("export AMQP_URL="));
        url.expect("AMQP_URL").trim_matches('\'').to_owned()
    }

    pub(crate) fn node(&self) -> PathBuf {
        let service = self.dir.path().join("rabbitmq");
        let mut nodes = std::fs::read_dir(service).expect("a service").filter_map(Result::ok);
        let is_node = |path: &PathBuf| path.join("rabbitmq.conf").exists();
        nodes.find_map(|entry| Some(entry.path()).filter(is_node)).expect("a node")
    }

    pub(crate) fn control(&self, arguments: &[&str]) {
        let done = Command::new(self.node().join("ctl")).args(arguments).output().expect("ctl");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Starts the node again with more lines in its configuration.
    pub(crate) fn configure(&self, lines: &[String]) {
        let path = self.node().join("rabbitmq.conf");
        let before = std::fs::read_to_string(&path).expect("a configuration");
        std::fs::write(&path, format!("{before}{}\n", lines.join("\n"))).expect("it is written");
        self.kill_and_start();
    }

    /// Kills the node without a warning, and starts it again.
    pub(crate) fn kill_and_start(&self) {
        let pid = std::fs::read_to_string(self.node().join("pid")).expect("a process id");
        let killed = Command::new("kill").args(["-KILL", pid.trim()]).status().expect("kill");
        assert!(killed.success());
        let log = std::fs::File::create(self.node().join("out")).expect("a log");
        let started = Command::new("setsid")
            .arg("--fork")
            .arg(self.node().join("start"))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .status();
        assert!(started.expect("setsid").success());
    }
}

impl Broker {
    /// Stops the node where it stands, until what is returned is dropped.
    pub(crate) fn freeze(&self) -> Frozen {
        let pid = std::fs::read_to_string(self.node().join("pid")).expect("a process id");
        let pid = pid.trim().to_owned();
        signal("-STOP", &pid);
        Frozen(pid)
    }
}

/// A node that does nothing.
pub(crate) struct Frozen(String);

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn signal(signal: &str, pid: &str) {
    let sent = Command::new("kill").args([signal, pid]).status().expect("kill");
    assert!(sent.success(), "kill {signal} {pid}");
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.services("down");
    }
}
