//! The queue of what goes out: prints every message, and keeps those that somebody here answers.

use std::{
    collections::{HashSet, VecDeque},
    io::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use async_trait::async_trait;
use thredcore::{
    memory::{MemoryMessageQ, MemoryMessageQConfig},
    port::{DeadLetter, DeadLetterFilter, Delivery, DeliveryTag, MessageQ, PortError, Routed},
};
use thredlib::{MessageId, Topic};
use tokio::sync::{Mutex, mpsc, oneshot};

/// Prints messages as JSON lines, each once. A reader that is slow slows the engine down.
pub(super) struct Outlet {
    /// Held while a message is printed and forwarded, so that a repetition cannot overtake it.
    seen: Mutex<Seen>,
    chunks: mpsc::Sender<Chunk>,
    /// Topics with somebody behind them.
    answered: Vec<Topic>,
    waiting: MemoryMessageQ,
    published: AtomicU64,
    forwarded: AtomicU64,
}

/// The ids of the latest messages. An engine publishes a message twice when the next event of a
/// thred comes before the outbox is cleared; to a reader of lines that would be two messages.
#[derive(Default)]
struct Seen {
    ids: HashSet<MessageId>,
    order: VecDeque<MessageId>,
}

impl Seen {
    const WINDOW: usize = 1 << 16;

    /// Says whether the message is new.
    fn insert(&mut self, id: &MessageId) -> bool {
        let new = self.ids.insert(id.clone());
        if new {
            self.order.push_back(id.clone());
        }
        if self.order.len() > Self::WINDOW
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        new
    }
}

enum Chunk {
    Lines(Vec<u8>),
    End,
}

/// The end of the thread that writes to standard output.
pub(super) struct Writer(oneshot::Receiver<io::Result<()>>);

impl Writer {
    /// Waits until all is written.
    pub(super) async fn finish(self, outlet: &Outlet) -> io::Result<()> {
        // Without a receiver the writer has ended already.
        let _ = outlet.chunks.send(Chunk::End).await;
        self.0.await.unwrap_or_else(|_| Err(io::Error::other("the writer panicked")))
    }
}

impl Outlet {
    /// Chunks that wait for standard output.
    const AHEAD: usize = 256;

    /// Starts to print; messages of the answered topics can be received as well.
    pub(super) fn open(answered: Vec<Topic>) -> (Self, Writer) {
        let (chunks, receiver) = mpsc::channel(Self::AHEAD);
        let (done, end) = oneshot::channel();
        thread::spawn(|| done.send(write(receiver, io::stdout().lock())));
        let writer = Writer(end);
        let outlet = Self {
            seen: Mutex::default(),
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

    /// Fails when nobody reads any more.
    async fn print(&self, mut messages: Vec<Routed>) -> Result<(), ()> {
        let mut seen = self.seen.lock().await;
        messages.retain(|routed| seen.insert(&routed.message.id));
        if messages.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::with_capacity(512 * messages.len());
        for routed in &messages {
            // Text and JSON values; writing them to memory cannot fail.
            serde_json::to_writer(&mut lines, &routed.message).map_err(drop)?;
            lines.push(b'\n');
        }
        self.chunks.send(Chunk::Lines(lines)).await.map_err(drop)?;
        self.published.fetch_add(messages.len() as u64, Ordering::SeqCst);
        messages.retain(|routed| self.answered.contains(&routed.topic));
        if !messages.is_empty() {
            self.forwarded.fetch_add(messages.len() as u64, Ordering::SeqCst);
            self.waiting.publish(messages).await;
        }
        Ok(())
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
        match self.print(messages).await {
            Ok(()) => (0..count).map(|_| Ok(())).collect(),
            Err(()) => (0..count).map(|_| Err(PortError::closed("print"))).collect(),
        }
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
