//! The queue of what goes out: prints every message, and keeps those that somebody here answers.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
    thread::{self, JoinHandle},
};

use async_trait::async_trait;
use thredcore::{
    memory::{MemoryMessageQ, MemoryMessageQConfig},
    port::{
        DeadLetter, DeadLetterFilter, Delivery, DeliveryTag, MessageQ, PortError, PortErrorKind,
        Routed,
    },
};
use thredlib::Topic;
use tokio::sync::mpsc;

/// Prints messages as JSON lines. A reader that is slow slows the engine down.
pub(super) struct Outlet {
    chunks: mpsc::Sender<Chunk>,
    /// Topics with somebody behind them.
    answered: Vec<Topic>,
    waiting: MemoryMessageQ,
    published: AtomicU64,
    forwarded: AtomicU64,
}

enum Chunk {
    Lines(Vec<u8>),
    End,
}

/// The thread that writes to standard output.
pub(super) struct Writer(JoinHandle<io::Result<()>>);

impl Writer {
    /// Waits until all is written.
    pub(super) fn join(self) -> io::Result<()> {
        self.0.join().unwrap_or_else(|_| Err(io::Error::other("the writer panicked")))
    }
}

impl Outlet {
    /// Chunks that wait for standard output.
    const AHEAD: usize = 256;

    /// Starts to print; messages of the answered topics can be received as well.
    pub(super) fn open(answered: Vec<Topic>) -> (Self, Writer) {
        let (chunks, receiver) = mpsc::channel(Self::AHEAD);
        let writer = Writer(thread::spawn(|| write(receiver, io::stdout().lock())));
        let outlet = Self {
            chunks,
            answered,
            // The feed bounds what is under way; a bound here could only block engine and agent
            // upon each other.
            waiting: MemoryMessageQ::new(MemoryMessageQConfig::default().capacity(usize::MAX)),
            published: AtomicU64::new(0),
            forwarded: AtomicU64::new(0),
        };
        (outlet, writer)
    }

    /// How many messages have been published.
    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::SeqCst)
    }

    /// How many of them were handed on.
    pub(super) fn forwarded(&self) -> u64 {
        self.forwarded.load(Ordering::SeqCst)
    }

    /// How many messages wait or are being handled.
    pub(super) async fn under_way(&self) -> usize {
        let mut count = 0;
        for topic in &self.answered {
            count += self.waiting.depth(topic).await.unwrap_or_default();
        }
        count
    }

    /// Messages that were given up.
    pub(super) async fn dead(&self) -> Vec<DeadLetter<Routed>> {
        self.waiting.dead_letters(&DeadLetterFilter::all()).await.unwrap_or_default()
    }

    /// Waits until nobody reads standard output any more.
    pub(super) async fn reader_gone(&self) {
        self.chunks.closed().await;
    }

    /// Has the writer end when it has written what is there.
    pub(super) async fn finish(&self) {
        // Without a receiver the writer has ended already.
        let _ = self.chunks.send(Chunk::End).await;
    }
}

fn write(mut chunks: mpsc::Receiver<Chunk>, out: impl Write) -> io::Result<()> {
    let mut out = io::BufWriter::with_capacity(1 << 16, out);
    loop {
        let chunk = match chunks.try_recv() {
            Ok(chunk) => Some(chunk),
            Err(_) => {
                out.flush()?;
                chunks.blocking_recv()
            }
        };
        match chunk {
            Some(Chunk::Lines(lines)) => out.write_all(&lines)?,
            Some(Chunk::End) | None => return out.flush(),
        }
    }
}

#[async_trait]
impl MessageQ for Outlet {
    async fn publish(&self, messages: Vec<Routed>) -> Vec<Result<(), PortError>> {
        let count = messages.len();
        let fail = |error: &dyn Fn() -> PortError| (0..count).map(|_| Err(error())).collect();
        let mut lines = Vec::with_capacity(512 * count);
        for routed in &messages {
            if let Err(error) = serde_json::to_writer(&mut lines, &routed.message) {
                let text = error.to_string();
                return fail(&|| PortError::new("print", PortErrorKind::Rejected, text.as_str()));
            }
            lines.push(b'\n');
        }
        if self.chunks.send(Chunk::Lines(lines)).await.is_err() {
            return fail(&|| PortError::closed("print"));
        }
        let handed_on = |routed: &Routed| self.answered.contains(&routed.topic);
        let forward: Vec<_> = messages.into_iter().filter(handed_on).collect();
        self.published.fetch_add(count as u64, Ordering::SeqCst);
        if !forward.is_empty() {
            self.forwarded.fetch_add(forward.len() as u64, Ordering::SeqCst);
            self.waiting.publish(forward).await;
        }
        (0..count).map(|_| Ok(())).collect()
    }

    async fn receive(
        &self,
        topics: &[Topic],
        max: usize,
    ) -> Result<Vec<Delivery<Routed>>, PortError> {
        self.waiting.receive(topics, max).await
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        self.waiting.ack(tags).await
    }

    async fn nack(&self, tag: DeliveryTag, delay_ms: u64) -> Result<(), PortError> {
        self.waiting.nack(tag, delay_ms).await
    }

    async fn dead_letter(&self, tag: DeliveryTag, reason: &str) -> Result<(), PortError> {
        self.waiting.dead_letter(tag, reason).await
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Routed>>, PortError> {
        self.waiting.dead_letters(filter).await
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.waiting.redrive(filter).await
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.waiting.discard(filter).await
    }

    async fn depth(&self, topic: &Topic) -> Result<usize, PortError> {
        self.waiting.depth(topic).await
    }
}
