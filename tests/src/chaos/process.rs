//! An engine process, as the test holds it.

use std::{
    collections::HashMap,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Mutex as AsyncMutex, oneshot, watch},
    task::JoinHandle,
};

use super::{
    ledger::Ledger,
    protocol::{NodeSpec, Reply, Request},
};

/// The process has died; whether it did what was asked is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Reply>>>>;

/// An engine process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    child: AsyncMutex<Child>,
    input: AsyncMutex<Option<ChildStdin>>,
    waiting: Waiting,
    tickets: AtomicU64,
    state: watch::Receiver<State>,
    reader: AsyncMutex<Option<JoinHandle<()>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    Gone,
}

impl Process {
    /// Starts a process. Its messages go into the ledger.
    ///
    /// # Panics
    /// When there is no such program.
    pub async fn spawn(program: &Path, spec: &NodeSpec, ledger: Arc<Ledger>) -> Self {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let pid = child.id().expect("it has just been started");
        let input = child.stdin.take();
        let output = child.stdout.take().expect("it is piped");
        let waiting = Waiting::default();
        let (tell, state) = watch::channel(State::Starting);
        let reader = tokio::spawn(read(output, waiting.clone(), tell, ledger));
        let process = Self {
            pid,
            child: AsyncMutex::new(child),
            input: AsyncMutex::new(input),
            waiting,
            tickets: AtomicU64::new(0),
            state,
            reader: AsyncMutex::new(Some(reader)),
        };
        let _ = process.write(spec).await;
        process
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it works.
    ///
    /// # Errors
    /// It died before.
    pub async fn ready(&self) -> Result<(), Gone> {
        let mut state = self.state.clone();
        match state.wait_for(|state| *state != State::Starting).await.as_deref() {
            Ok(State::Ready) => Ok(()),
            _ => Err(Gone),
        }
    }

    /// Whether it lives.
    pub fn is_alive(&self) -> bool {
        *self.state.borrow() != State::Gone
    }

    /// Waits until it is dead.
    pub async fn gone(&self) {
        let _ = self.state.clone().wait_for(|state| *state == State::Gone).await;
    }

    /// Asks for something.
    ///
    /// # Errors
    /// It died before it answered.
    pub async fn ask(&self, request: impl FnOnce(u64) -> Request) -> Result<Reply, Gone> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let (tell, answer) = oneshot::channel();
        self.waiting.lock().insert(ticket, tell);
        if *self.state.borrow() == State::Gone || self.write(&request(ticket)).await.is_err() {
            self.waiting.lock().remove(&ticket);
            return Err(Gone);
        }
        answer.await.map_err(|_| Gone)
    }

    /// Kills it with SIGKILL, and waits until all that it had said is heard.
    pub async fn kill(&self) {
        let mut child = self.child.lock().await;
        let _ = child.start_kill();
        let _ = child.wait().await;
        self.hear_out().await;
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When its end cannot be waited for.
    pub async fn wait(&self) -> std::io::Result<ExitStatus> {
        let status = self.child.lock().await.wait().await?;
        self.hear_out().await;
        Ok(status)
    }

    /// Has it stop in good order.
    ///
    /// # Errors
    /// When its end cannot be waited for.
    pub async fn stop(&self) -> std::io::Result<ExitStatus> {
        self.input.lock().await.take();
        self.wait().await
    }

    /// Sends a signal by its name, as `STOP`.
    ///
    /// # Panics
    /// When there is no `kill` command.
    pub async fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.pid);
        let status = Command::new("sh").args(["-c", &command]).status().await;
        assert!(status.expect("a shell").success(), "{command} failed");
    }

    /// Its resident memory, bytes.
    ///
    /// # Panics
    /// When there is no `/proc`.
    pub fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid);
        let status = std::fs::read_to_string(path).expect("a Linux system and a live process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap();
        kib * 1024
    }

    async fn write(&self, line: &impl serde::Serialize) -> std::io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        match &mut *self.input.lock().await {
            Some(input) => input.write_all(&bytes).await,
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    async fn hear_out(&self) {
        if let Some(reader) = self.reader.lock().await.take() {
            let _ = reader.await;
        }
    }
}

/// Reads what the process says, to its end. A last line that is cut off was not said: nothing is
/// acknowledged before its line is written.
async fn read(
    output: ChildStdout,
    waiting: Waiting,
    state: watch::Sender<State>,
    ledger: Arc<Ledger>,
) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while let Ok(1..) = output.read_until(b'\n', &mut line).await {
        if line.last() != Some(&b'\n') {
            break;
        }
        let reply: Reply = serde_json::from_slice(&line).expect("an engine says replies only");
        line.clear();
        match reply {
            Reply::Ready => {
                state.send_replace(State::Ready);
            }
            Reply::Message(message) => ledger.receive(message),
            Reply::Done { ticket }
            | Reply::Failed { ticket, .. }
            | Reply::Backlog { ticket, .. } => {
                if let Some(asker) = waiting.lock().remove(&ticket) {
                    let _ = asker.send(reply);
                }
            }
        }
    }
    state.send_replace(State::Gone);
    waiting.lock().clear();
}
