//! The servers that tests use: those of `scripts/services`, and some of their own.

#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;
use thredcore_redis::RedisConfig;

/// The single server.
pub(crate) fn one() -> RedisConfig {
    RedisConfig::new(url("REDIS_URL"))
}

/// The cluster.
pub(crate) fn cluster() -> RedisConfig {
    RedisConfig::new(url("REDIS_CLUSTER_URL"))
}

/// With a namespace that nobody else uses.
pub(crate) fn own_namespace(config: RedisConfig) -> RedisConfig {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since.expect("a clock after 1970").as_nanos();
    config.namespace(format!("test-{}-{nanos}-{count}", std::process::id()))
}

fn url(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(r#"{name} is not set; run: scripts/services up && eval "$(scripts/services env)""#)
    })
}

/// A server of a test's own; it ends with the value.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    args: Vec<String>,
    pub(crate) dir: TempDir,
}

impl Server {
    /// Starts a fit server with more arguments on a free port.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::on(free_port(), args)
    }

    /// Starts a server on a port.
    pub(crate) fn on(port: u16, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let args: Vec<_> = args.iter().map(ToString::to_string).collect();
        let child = spawn(port, dir.path(), &args);
        Self { child, port, args, dir }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn config(&self) -> RedisConfig {
        RedisConfig::new(self.url())
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a running server");
        self.child.wait().expect("an ended server");
    }

    /// Starts it again on the same port and data.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, self.dir.path(), &self.args);
    }

    /// Stops its process for a while, without ending it.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([format!("-{name}"), id]).status();
        assert!(status.expect("kill").success());
    }

    /// Runs a command on it.
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(args).output();
        let output = output.expect("redis-cli");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, dir: &std::path::Path, args: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    let sentinel = args.first().is_some_and(|arg| arg.ends_with(".conf"));
    if !sentinel {
        command.args(["--port", &port.to_string(), "--appendonly", "yes", "--save", ""]);
        command.args(["--appendfsync", "everysec", "--repl-diskless-sync-delay", "0"]);
    }
    let child = command.args(args).current_dir(dir).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| {
        panic!("redis-server cannot be started ({error}); run: scripts/services up")
    });
    let lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut seen = String::new();
    let ready = |line: &str| line.contains("Ready to accept") || line.contains("Sentinel ID is");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // To the end: a server whose pipe is full or closed would stop.
        for line in lines.lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
    while let Ok(line) = told.recv() {
        seen.push_str(&line);
        seen.push('\n');
        if ready(&line) {
            return child;
        }
    }
    let status = child.wait();
    panic!("redis-server has ended ({status:?}):\n{seen}");
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    // A cluster's own port is 10,000 above.
    let port = listener.local_addr().expect("an address").port();
    if port > 55_000 { free_port() } else { port }
}

/// Waits until something holds; panics with what it is after half a minute.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !holds().await {
        assert!(std::time::Instant::now() < limit, "does not come to be: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
