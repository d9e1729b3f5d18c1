//! The queue of what goes out: prints every message, and hands on those that somebody here answers.

use std::{
    collections::{HashSet, VecDeque},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use thredcore::port::{
    DeadLetter, DeadLetterFilter, Delivery, DeliveryTag, MessageQ, PortError, PortErrorKind,
    Returned, Routed, TopicBacklog,
};
use thredlib::{MessageId, Topic};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
};

use super::writer::{Chunk, Writer};
use crate::{backend::Backends, cli::args::Print};

/// Stands before the queue of a store. What is received from the store is printed, as JSON lines;
/// a message is acknowledged when it is written and flushed, and one for an agent of this process
/// when the agent says so. A reader that is slow slows the engine down.
pub(super) struct Outlet {
    store: Arc<dyn MessageQ>,
    /// Topics with somebody behind them.
    answered: Vec<Topic>,
    /// The topics whose messages leave here. Of a store that is this process's alone, all that a
    /// message has been on; of one that others share, those that were given.
    topics: watch::Sender<Arc<Vec<Topic>>>,
    /// Whether other processes take messages from the store.
    shared: bool,
    /// Messages for the agent.
    handed: tokio::sync::Mutex<mpsc::UnboundedReceiver<Delivery<Routed>>>,
    published: AtomicU64,
    printed: AtomicU64,
    /// Deliveries that wait to be written.
    unwritten: AtomicUsize,
    stop: Notify,
    chunks: mpsc::WeakSender<Chunk>,
}

/// The tasks behind an outlet.
pub(super) struct Printing {
    printer: JoinHandle<()>,
    confirmer: JoinHandle<()>,
    writer: Writer,
}

impl Outlet {
    /// Most messages received at one time.
    const BATCH: usize = 512;

    /// Starts to print what leaves a store; messages of the answered topics can be received here.
    /// Of a store that others share, those of `topics` leave.
    pub(super) fn open(
        backends: &Backends,
        answered: Vec<Topic>,
        mut topics: Vec<Topic>,
        print: Print,
    ) -> (Arc<Self>, Printing) {
        let (writer, chunks, written) = Writer::start();
        let (agent, handed) = mpsc::unbounded_channel();
        topics.extend_from_slice(&answered);
        let outlet = Arc::new(Self {
            store: backends.message_q(),
            shared: backends.is_shared(),
            answered,
            topics: watch::Sender::new(Arc::new(topics)),
            handed: handed.into(),
            published: AtomicU64::new(0),
            printed: AtomicU64::new(0),
            unwritten: AtomicUsize::new(0),
            stop: Notify::new(),
            chunks: chunks.downgrade(),
        });
        let printer = Printer {
            outlet: outlet.clone(),
            backends: backends.clone(),
            seen: Seen::default(),
            print,
            chunks,
            agent,
        };
        let printer = tokio::spawn(printer.run());
        let confirmer = tokio::spawn(outlet.clone().confirm(written));
        (outlet, Printing { printer, confirmer, writer })
    }

    /// Adds topics whose messages leave.
    pub(super) fn also(&self, topics: Vec<Topic>) {
        if topics.is_empty() {
            return;
        }
        self.topics.send_if_modified(|known| {
            let before = known.len();
            let known = Arc::make_mut(known);
            for topic in topics {
                if !known.contains(&topic) {
                    known.push(topic);
                }
            }
            known.len() > before
        });
    }

    /// Messages are on these topics: of a store of its own the process prints all.
    fn meet<'t>(&self, topics: impl Iterator<Item = &'t Topic>) {
        if self.shared {
            return;
        }
        let new: Vec<_> = {
            let known = self.topics.borrow();
            topics.filter(|topic| !known.contains(topic)).cloned().collect()
        };
        self.also(new);
    }

    /// How many messages have been published.
    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::SeqCst)
    }

    /// How many messages have been printed.
    pub(super) fn printed(&self) -> u64 {
        self.printed.load(Ordering::SeqCst)
    }

    /// How many messages wait to be printed or are being handled; those that only wait for
    /// standard output do not count.
    pub(super) async fn under_way(&self) -> Result<usize, PortError> {
        self.waiting(|_| true).await
    }

    async fn waiting(&self, meant: impl Fn(&Topic) -> bool) -> Result<usize, PortError> {
        let topics = self.topics.borrow().clone();
        let mut depth = 0;
        for topic in topics.iter().filter(|topic| meant(topic)) {
            depth += self.store.depth(topic).await?;
        }
        // Read last: what is handed over meanwhile counts for too little, never for too much.
        Ok(depth.saturating_sub(self.unwritten.load(Ordering::SeqCst)))
    }

    /// Messages that were given up.
    pub(super) async fn dead(&self) -> Result<Vec<DeadLetter<Routed>>, PortError> {
        self.store.dead_letters(&DeadLetterFilter::all()).await
    }

    /// Waits until nobody reads standard output any more.
    pub(super) async fn reader_gone(&self) {
        if let Some(chunks) = self.chunks.upgrade() {
            chunks.closed().await;
        }
    }

    /// Acknowledges what is written.
    async fn confirm(self: Arc<Self>, mut written: mpsc::UnboundedReceiver<Vec<DeliveryTag>>) {
        let mut groups = Vec::new();
        while written.recv_many(&mut groups, Self::BATCH).await > 0 {
            let tags: Vec<_> = groups.drain(..).flatten().collect();
            if tags.is_empty() {
                continue;
            }
            // In this order, so that what waits is never told too low.
            self.unwritten.fetch_sub(tags.len(), Ordering::SeqCst);
            if let Err(error) = self.store.ack(&tags).await {
                tracing::warn!(%error, "written messages may be printed again");
            }
        }
    }
}

impl Printing {
    /// Ends the printing, with `all` once everything that has been published is printed. Gives how
    /// the writing has ended, and what still has to be acknowledged: that is up to the store, and not
    /// to the reader.
    pub(super) async fn finish(
        self,
        outlet: &Outlet,
        all: bool,
    ) -> (io::Result<()>, JoinHandle<()>) {
        let Self { printer, confirmer, writer } = self;
        while all
            && !printer.is_finished()
            && outlet
                .waiting(|topic| !outlet.answered.contains(topic))
                .await
                .is_ok_and(|waiting| waiting > 0)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        outlet.stop.notify_one();
        // Neither panics; and if one did, its messages would be delivered again.
        let _ = printer.await;
        (writer.ended().await, confirmer)
    }
}

/// The ids of the latest messages. An engine publishes a message twice when the next event of a
/// thred comes before the outbox is cleared, and an agent gives a message back; to a reader of
/// lines that would be two messages.
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

/// Takes messages from the store to standard output.
struct Printer {
    outlet: Arc<Outlet>,
    backends: Backends,
    seen: Seen,
    print: Print,
    chunks: mpsc::Sender<Chunk>,
    agent: mpsc::UnboundedSender<Delivery<Routed>>,
}

impl Printer {
    /// Prints until it is stopped, nobody reads any more, or the queue is closed.
    async fn run(mut self) {
        const PAUSE: Duration = Duration::from_millis(500);
        let outlet = self.outlet.clone();
        let mut topics = outlet.topics.subscribe();
        loop {
            let wanted = topics.borrow_and_update().clone();
            let received = tokio::select! {
                biased;
                () = outlet.stop.notified() => return,
                changed = topics.changed(), if outlet.shared => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                received = self.backends.receive(&wanted, Outlet::BATCH) => received,
            };
            match received {
                Ok(deliveries) => {
                    let mut chunk = self.take(deliveries);
                    let done = if self.backends.is_durable() {
                        vec![]
                    } else {
                        // What is in memory is lost with the process, written or not.
                        std::mem::take(&mut chunk.tags)
                    };
                    outlet.unwritten.fetch_add(chunk.tags.len(), Ordering::SeqCst);
                    if self.chunks.send(chunk).await.is_err() {
                        return;
                    }
                    if !done.is_empty() && outlet.store.ack(&done).await.is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == PortErrorKind::Closed => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot receive messages");
                    tokio::select! {
                        () = outlet.stop.notified() => return,
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                }
            }
        }
    }

    /// Makes lines of what is new, and hands on what somebody here answers.
    fn take(&mut self, deliveries: Vec<Delivery<Routed>>) -> Chunk {
        let outlet = &*self.outlet;
        let mut chunk = Chunk::default();
        let mut printed = 0;
        outlet.meet(deliveries.iter().map(|delivery| &delivery.payload.topic));
        for delivery in deliveries {
            let Routed { topic, message } = &delivery.payload;
            let answered = outlet.answered.contains(topic);
            if (self.print == Print::All || !answered) && self.seen.insert(&message.id) {
                // Text and JSON values; writing them to memory cannot fail.
                let _ = serde_json::to_writer(&mut chunk.lines, message);
                chunk.lines.push(b'\n');
                printed += 1;
            }
            if answered {
                // Without an agent any more it is delivered again, to the next one.
                _ = self.agent.send(delivery)
            } else {
                chunk.tags.push(delivery.tag)
            }
        }
        outlet.printed.fetch_add(printed, Ordering::SeqCst);
        chunk
    }
}

thredcore::forward_store!(Quarantine for Outlet => store);

#[async_trait]
impl MessageQ for Outlet {
    fn max_item_bytes(&self) -> usize {
        self.store.max_item_bytes()
    }

    async fn publish(&self, messages: Vec<Routed>) -> Vec<Result<(), PortError>> {
        self.meet(messages.iter().map(|routed| &routed.topic));
        self.published.fetch_add(messages.len() as u64, Ordering::SeqCst);
        self.store.publish(messages).await
    }

    async fn receive(
        &self,
        _topics: &[Topic],
        max: usize,
    ) -> Result<Vec<Delivery<Routed>>, PortError> {
        let mut received = Vec::new();
        match self.handed.lock().await.recv_many(&mut received, max.max(1)).await {
            0 => Err(PortError::closed("receive messages")),
            _ => Ok(received),
        }
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        self.store.ack(tags).await
    }

    async fn nack(&self, tag: DeliveryTag, delay_ms: u64, why: Returned) -> Result<(), PortError> {
        self.store.nack(tag, delay_ms, why).await
    }

    async fn dead_letter(&self, tag: DeliveryTag, reason: &str) -> Result<(), PortError> {
        self.store.dead_letter(tag, reason).await
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Routed>>, PortError> {
        self.store.dead_letters(filter).await
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.store.redrive(filter).await
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.store.discard(filter).await
    }

    async fn bury(&self, messages: Vec<(Routed, String)>) -> Result<(), PortError> {
        self.store.bury(messages).await
    }

    async fn depth(&self, topic: &Topic) -> Result<usize, PortError> {
        self.store.depth(topic).await
    }

    async fn backlog(&self) -> Result<Vec<TopicBacklog>, PortError> {
        self.store.backlog().await
    }

    async fn purge(&self, topic: &Topic) -> Result<u64, PortError> {
        self.store.purge(topic).await
    }

    async fn delete(&self, topic: &Topic) -> Result<u64, PortError> {
        self.store.delete(topic).await
    }
}
