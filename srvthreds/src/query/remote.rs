//! Answers from the process that owns a store.

use std::{io, path::Path, time::Duration};

use async_trait::async_trait;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Mutex,
    time::{sleep, timeout},
};

use super::{Answer, Queries, Question, Unanswered, serve::socket_path};

/// How long an answer may take; and a connection, which a process that hangs takes no more of once
/// some wait.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a socket that takes nobody now is tried.
const LOOK: Duration = Duration::from_millis(50);

/// Asks the process that runs on a directory, by its socket: a line of JSON for a question, a line
/// for the answer.
pub(crate) struct Remote(
    /// `None` once an answer did not come: it could come in place of the next one.
    Mutex<Option<Connection>>,
);

struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Remote {
    /// Connects; `None` when nobody serves the directory.
    pub(crate) async fn connect(directory: &Path) -> io::Result<Option<Self>> {
        use io::ErrorKind::{ConnectionRefused, InvalidInput, NotADirectory, NotFound, WouldBlock};
        let path = socket_path(directory);
        let connecting = async {
            loop {
                match UnixStream::connect(&path).await {
                    // Nobody takes those that wait already.
                    Err(error) if error.kind() == WouldBlock => sleep(LOOK).await,
                    connected => return connected,
                }
            }
        };
        let connected = timeout(PATIENCE, connecting).await;
        match connected.unwrap_or_else(|_| Err(io::Error::other(silent()))) {
            Ok(stream) => {
                let (reader, writer) = stream.into_split();
                let connection = Connection { reader: BufReader::new(reader), writer };
                Ok(Some(Self(Mutex::new(Some(connection)))))
            }
            // A path that is too long for a socket is invalid input: nobody serves it.
            Err(error) => match error.kind() {
                NotFound | ConnectionRefused | NotADirectory | InvalidInput => Ok(None),
                _ => Err(error),
            },
        }
    }
}

fn silent() -> String {
    let seconds = PATIENCE.as_secs();
    format!("the process that owns the store is silent for {seconds} s; is it stopped?")
}

impl Connection {
    async fn exchange(&mut self, question: &Question) -> io::Result<Answer> {
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        self.writer.write_all(&line).await?;
        line.clear();
        self.reader.read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(serde_json::from_slice(&line)?)
        }
    }
}

#[async_trait]
impl Queries for Remote {
    async fn ask(&self, question: Question) -> Result<Answer, Unanswered> {
        let mut place = self.0.lock().await;
        let gone = || Unanswered("the process that owns the store has ended".to_owned());
        let Some(mut connection) = place.take() else { return Err(gone()) };
        let answer = timeout(PATIENCE, connection.exchange(&question)).await;
        match answer.map_err(|_| Unanswered(silent()))? {
            Ok(answer) => {
                *place = Some(connection);
                Ok(answer)
            }
            Err(error) => Err(match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionReset => gone(),
                _ => Unanswered(format!("the process that owns the store: {error}")),
            }),
        }
    }
}
