//! Answering the questions of other processes of the same user.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use super::{Answer, Queries, Question, Unanswered};

/// Questioners at one time; further ones wait.
const QUESTIONERS: usize = 32;
/// How long a questioner may take for the next question, and to take an answer; then its place is
/// another's.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest question, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// Where the process that runs on a directory answers.
pub(super) fn socket_path(directory: &Path) -> PathBuf {
    directory.join("control.sock")
}

/// A socket that is being served; dropping it ends that, and removes the socket.
pub(crate) struct Served {
    path: PathBuf,
    _tasks: JoinSet<()>,
}

impl Served {
    /// Serves a directory that this process owns. Only the owner of the files may connect.
    pub(crate) fn start(directory: &Path, queries: Arc<dyn Queries>) -> io::Result<Self> {
        let path = socket_path(directory);
        // Nobody can connect before the permissions are set: the name comes last, and takes the
        // place of what a process that was killed has left.
        let unnamed = path.with_extension("new");
        let _ = fs::remove_file(&unnamed);
        let listener = UnixListener::bind(&unnamed)?;
        fs::set_permissions(&unnamed, fs::Permissions::from_mode(0o600))?;
        fs::rename(&unnamed, &path)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, queries));
        Ok(Self { path, _tasks: tasks })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, queries: Arc<dyn Queries>) {
    let places = Arc::new(Semaphore::new(QUESTIONERS));
    let mut sessions = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot answer by the socket");
                // Too many open files, most likely: that passes.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let queries = queries.clone();
        sessions.spawn(async move {
            // A questioner that leaves is no failure.
            let _ = answer_all(stream, &*queries).await;
            drop(place);
        });
        while sessions.try_join_next().is_some() {}
    }
}

async fn answer_all(stream: UnixStream, queries: &dyn Queries) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        timeout(PATIENCE, (&mut reader).take(LONGEST).read_until(b'\n', &mut line)).await??;
        let answer = match line.last() {
            None => return Ok(()),
            Some(b'\n') => match serde_json::from_slice::<Question>(&line) {
                Ok(question) => queries.ask(question).await.unwrap_or_else(Answer::Failed),
                Err(error) => Answer::Failed(Unanswered(format!("not understood: {error}"))),
            },
            Some(_) => {
                Answer::Failed(Unanswered(format!("a question is at most {LONGEST} bytes long")))
            }
        };
        let over = line.last() != Some(&b'\n');
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        timeout(PATIENCE, writer.write_all(&text)).await??;
        if over {
            return Ok(());
        }
    }
}
