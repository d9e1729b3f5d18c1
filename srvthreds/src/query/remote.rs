//! Answers from the process that owns a store.

use std::{io, path::Path};

use async_trait::async_trait;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Mutex,
};

use super::{Answer, Queries, Question, Unanswered, serve::socket_path};

/// Asks the process that runs on a directory, by its socket: a line of JSON for a question, a line
/// for the answer.
pub(crate) struct Remote(Mutex<Connection>);

struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Remote {
    /// Connects; `None` when nobody serves the directory.
    pub(crate) async fn connect(directory: &Path) -> io::Result<Option<Self>> {
        use io::ErrorKind::{ConnectionRefused, InvalidInput, NotADirectory, NotFound};
        match UnixStream::connect(socket_path(directory)).await {
            Ok(stream) => {
                let (reader, writer) = stream.into_split();
                Ok(Some(Self(Mutex::new(Connection { reader: BufReader::new(reader), writer }))))
            }
            // A path that is too long for a socket is invalid input: nobody serves it.
            Err(error) => match error.kind() {
                NotFound | ConnectionRefused | NotADirectory | InvalidInput => Ok(None),
                _ => Err(error),
            },
        }
    }
}

impl Connection {
    async fn exchange(&mut self, question: &Question) -> io::Result<Answer> {
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        self.writer.write_all(&line).await?;
        line.clear();
        self.reader.read_until(b'\n', &mut line).await?;
        match line.is_empty() {
            true => Err(io::ErrorKind::UnexpectedEof.into()),
            false => Ok(serde_json::from_slice(&line)?),
        }
    }
}

#[async_trait]
impl Queries for Remote {
    async fn ask(&self, question: Question) -> Result<Answer, Unanswered> {
        let answer = self.0.lock().await.exchange(&question).await;
        answer.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => {
                Unanswered("the process that owns the store has ended".to_owned())
            }
            _ => Unanswered(format!("the process that owns the store: {error}")),
        })
    }
}
