//! A Redis server of a test's own, to be killed.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisResult};
use tempfile::TempDir;

use super::services::Frozen;

/// A Redis server on a free port, with throw-away data. It is killed when this is dropped.
#[derive(Debug)]
pub struct RedisServer {
    dir: TempDir,
    port: u16,
    options: Vec<String>,
    child: Child,
    /// Whether we killed it.
    killed: bool,
}

/// How long a server may take to start, with all its data.
const START: Duration = Duration::from_secs(20);

impl RedisServer {
    /// A single server that loses nothing it has confirmed: every write is synced.
    ///
    /// # Panics
    /// When there is no `redis-server`.
    pub async fn start() -> Self {
        Self::with(free_port(), &["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// A server on a port, with options of its own.
    ///
    /// # Panics
    /// When there is no `redis-server`, or it does not start.
    pub async fn with(port: u16, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let child = spawn(dir.path().into(), port, &options);
        let server = Self { dir, port, options, child, killed: false };
        server.answering().await;
        server
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How it is reached.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Has it stand still.
    ///
    /// # Panics
    /// When it is gone.
    pub fn freeze(&self) -> Frozen {
        Frozen::new(self.child.id())
    }

    /// Starts it again, on its port, with nothing of what it had.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn wipe(&mut self) {
        self.kill();
        let files = std::fs::read_dir(self.dir.path()).expect("its directory");
        for file in files.map_while(Result::ok).map(|file| file.path()) {
            let removed = if file.is_dir() {
                std::fs::remove_dir_all(&file)
            } else {
                std::fs::remove_file(&file)
            };
            removed.expect("its files can be removed");
        }
        self.restart().await;
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.killed = true;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, with the data that it had written, and waits until it has read them.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.dir.path().into(), self.port, &self.options);
        self.killed = false;
        self.answering().await;
    }

    /// Sends a command, as its words, and gives the answer.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let (first, others) = words.split_first().expect("a command");
        let limit = Duration::from_secs(5);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limit))
            .set_response_timeout(Some(limit));
        let client = Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        redis::cmd(first).arg(others).query_async(&mut connection).await
    }

    /// A number of `INFO`, as `used_memory`.
    ///
    /// # Panics
    /// When the server does not tell.
    pub async fn info(&self, name: &str) -> u64 {
        let value = self.info_text("ALL", name).await.and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("the server on port {} tells no {name}", self.port))
    }

    /// A line of a section of `INFO`, as `role`; `None` while the server does not answer.
    pub async fn info_text(&self, section: &str, name: &str) -> Option<String> {
        let info: String = self.ask(&["INFO", section]).await.ok()?;
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim().into())
    }

    async fn answering(&self) {
        let begin = Instant::now();
        while self.ask::<String>(&["PING"]).await.is_err() {
            assert!(begin.elapsed() < START, "redis-server on port {} does not answer", self.port);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for RedisServer {
    /// A server that ended by itself, or by somebody else's hand, explains a run that failed.
    fn drop(&mut self) {
        if let (Ok(Some(status)), false) = (self.child.try_wait(), self.killed) {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().take(20).collect();
            eprintln!("redis-server on port {} had ended: {status}; its log:", self.port);
            lines.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
        self.kill();
    }
}

/// A port that nobody listens on, nor on the one 10,000 above, which a cluster's nodes talk by.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const RANGE: u16 = 9_000;
    // Tests are processes of their own and start at different places.
    let start = u16::try_from(std::process::id() % u32::from(RANGE)).unwrap_or(0);
    for _ in 0..RANGE {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (start.wrapping_add(step.wrapping_mul(7))) % RANGE;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) {
            return port;
        }
    }
    panic!("no free port between 20000 and 29000");
}

fn spawn(dir: PathBuf, port: u16, options: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--maxmemory-policy", "noeviction", "--logfile", "log"]);
    command.arg("--dir").arg(&dir).args(options).current_dir(&dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap_or_else(|error| {
        panic!("cannot start redis-server ({error}); on Debian: apt-get install redis-server")
    })
}
