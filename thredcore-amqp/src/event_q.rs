//! The queue of what comes in.

use std::{
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::join_all;
use thredcore::port::{
    Backlog, DeadLetter, DeadLetterFilter, Death, Delivery, DeliveryTag, EventQ, Inbound,
    PortError, PortErrorKind, Quarantine, Returned, Unreadable,
};
use tokio::{sync::mpsc, time::sleep};

use crate::{
    AmqpError, QueueDepth,
    balance::Balance,
    cargo::Cargo,
    dead_letters::DeadLetters,
    declare::Declaring,
    depth::Sounding,
    gauge::Gauge,
    inflow::{Ask, Inflow, Taken},
    letter::Obituary,
    publisher::Parcel,
    pump::{Pump, Source, Works},
    queues::Wires,
};

/// An [`EventQ`] on RabbitMQ: a quorum queue with a single active consumer for each partition.
///
/// A process consumes a partition from its first [`receive`](EventQ::receive) on, until it is
/// closed or dropped. It holds up to its prefetch of each.
///
/// [`Delivery::attempt`] counts how many processes ended with the item in hand. The broker's own
/// count goes up for all that such a process merely held; it serves for the first two attempts
/// alone. From the third on an item is handed out by itself, and it is noted to whom.
///
/// What is in a partition and is no item, or was not put there by an
/// [engine](crate::AmqpConfig::engine_users), is set aside among the dead letters: see
/// [`Quarantine`].
///
/// [`depth`](EventQ::depth) and [`room`](EventQ::room) do not see what other processes have
/// received and not acknowledged yet.
pub struct AmqpEventQ {
    wires: Wires,
    dead: Arc<DeadLetters<Inbound>>,
    sounding: Sounding,
    gauge: Gauge,
    partitions: Box<[Partition]>,
    balance: OnceLock<Balance>,
}

struct Partition {
    inflow: Arc<Inflow<Inbound>>,
    pump: OnceLock<Pump>,
    asks: parking_lot::Mutex<Option<mpsc::UnboundedReceiver<Ask>>>,
}

impl std::fmt::Debug for AmqpEventQ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmqpEventQ").field("config", &self.wires.config).finish_non_exhaustive()
    }
}

impl AmqpEventQ {
    pub(crate) fn new(wires: Wires) -> Result<Self, AmqpError> {
        let count = wires.config.partitions;
        let partition = |number| {
            let queue = wires.config.names.event_queue(number)?;
            let (inflow, asks) = Inflow::new(u64::from(number), queue);
            let asks = parking_lot::Mutex::new(Some(asks));
            Ok(Partition { inflow, pump: OnceLock::new(), asks })
        };
        let partitions = (0..count).map(partition).collect::<Result<_, AmqpError>>()?;
        let dead = Arc::new(wires.dead_letters(wires.config.names.dead_events()?));
        let sounding = Sounding::new(wires.consuming.clone());
        let (gauge, balance) = (Gauge::default(), OnceLock::new());
        Ok(Self { wires, dead, sounding, gauge, partitions, balance })
    }

    /// How much is in the queue of each partition, and in that of the dead letters.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn depths(&self) -> Result<Vec<QueueDepth>, AmqpError> {
        self.wires.topology.events().await?;
        let queues: Vec<_> = self.partitions.iter().map(|it| it.inflow.queue.clone()).collect();
        let waiting = self.sounding.waiting(&queues).await?;
        let exact =
            join_all(self.partitions.iter().map(|it| it.inflow.depth(&self.wires.consuming))).await;
        let parts = self.partitions.iter().zip(waiting).zip(exact);
        let mut depths: Vec<_> = parts
            .map(|((partition, waiting), exact)| {
                let inflow = &partition.inflow;
                let (waiting, held) = exact.unwrap_or_else(|| (waiting, inflow.held()));
                QueueDepth { queue: inflow.queue.to_string(), waiting, held }
            })
            .collect();
        let (queue, waiting) = (self.dead.queue.to_string(), self.dead.count().await?);
        depths.push(QueueDepth { queue, waiting, held: 0 });
        Ok(depths)
    }

    pub(crate) fn close(&self) {
        self.partitions.iter().for_each(|partition| partition.inflow.close());
    }

    async fn try_publish(&self, items: &[Inbound]) -> Result<(), AmqpError> {
        self.wires.topology.events().await?;
        let parcels = items.iter().map(|item| item.parcel(&self.wires.topology));
        let parcels = parcels.collect::<Result<Vec<Parcel>, _>>()?;
        let limit = self.wires.config.max_item_bytes;
        if let Some(large) = parcels.iter().find(|parcel| parcel.body.len() > limit) {
            return Err(AmqpError::TooLarge { bytes: large.body.len(), limit });
        }
        self.gauge.added(parcels.len());
        let answers = self.wires.publisher.publish(&parcels).await;
        let Some(failure) = answers.into_iter().find_map(Result::err) else { return Ok(()) };
        if failure.is_missing() {
            self.wires.topology.forget().await;
        }
        Err(failure)
    }

    /// The depth without waiting for what is on its way.
    async fn measure(&self) -> Result<usize, AmqpError> {
        self.wires.topology.events().await?;
        let queues: Vec<_> = self.partitions.iter().map(|it| it.inflow.queue.clone()).collect();
        let waiting: usize = self.sounding.waiting(&queues).await?.iter().sum();
        let held: usize = self.partitions.iter().map(|it| it.inflow.held()).sum();
        self.gauge.measured(waiting + held);
        Ok(waiting + held)
    }

    async fn wait_for_room(&self) -> Result<(), AmqpError> {
        const LONGEST: Duration = Duration::from_millis(100);
        let is_enough = |depth: usize| depth < self.wires.config.event_capacity;
        if self.gauge.depth().is_some_and(is_enough) {
            return Ok(());
        }
        let mut pause = Duration::from_millis(5);
        while !is_enough(self.measure().await?) {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
        Ok(())
    }

    fn consumed(&self, number: u16) -> Option<&Partition> {
        let partition = self.partitions.get(usize::from(number))?;
        partition.pump.get_or_init(|| {
            let asks = partition.asks.lock();
            let asks = { asks }.take().unwrap_or_else(|| mpsc::unbounded_channel().1);
            let works = Works {
                inflow: partition.inflow.clone(),
                source: Source::Partitions,
                prefetch: self.wires.config.event_prefetch,
                topology: self.wires.topology.clone(),
                link: self.wires.consuming.clone(),
                dead: self.dead.clone(),
            };
            Pump::start(works, asks)
        });
        self.wires.count_dropped();
        self.balance.get_or_init(|| {
            let inflows = self.partitions.iter().map(|it| it.inflow.clone()).collect();
            Balance::start(&self.wires, inflows)
        });
        Some(partition)
    }

    async fn next(
        &self,
        number: u16,
        inflow: &Inflow<Inbound>,
        max: usize,
    ) -> Result<Vec<Delivery<Inbound>>, AmqpError> {
        loop {
            let mut told = pin!(inflow.told());
            told.as_mut().enable();
            match inflow.take(max, true)? {
                Taken::Batch(batch) => return Ok(batch),
                Taken::Suspect { tag, generation, key } => {
                    let notes = self.wires.config.names.tries_queue(number)?;
                    let others = self.wires.tries.note(&notes, &key).await?;
                    inflow.judge(tag, generation, others);
                }
                Taken::Nothing(until) => Inflow::<Inbound>::wait(told, until).await,
            }
        }
    }

    fn inflow(&self, tag: DeliveryTag) -> Option<&Inflow<Inbound>> {
        let partition = self.partitions.get(usize::try_from(tag.0).ok()?)?;
        Some(&partition.inflow)
    }
}

#[async_trait]
impl EventQ for AmqpEventQ {
    fn partitions(&self) -> u16 {
        self.wires.config.partitions
    }

    fn max_item_bytes(&self) -> usize {
        self.wires.config.max_item_bytes
    }

    async fn room(&self) -> Result<(), PortError> {
        self.wait_for_room().await.map_err(|error| error.at("look for room for events"))
    }

    async fn publish(&self, items: Vec<Inbound>) -> Result<(), PortError> {
        if items.is_empty() {
            Ok(())
        } else {
            self.try_publish(&items).await.map_err(|error| error.at("publish events"))
        }
    }

    async fn receive(
        &self,
        partition: u16,
        max: usize,
    ) -> Result<Vec<Delivery<Inbound>>, PortError> {
        let Some(consumed) = self.consumed(partition) else {
            let reason = "there is no such partition";
            return Err(PortError::new("receive events", PortErrorKind::Rejected, reason));
        };
        let next = self.next(partition, &consumed.inflow, max).await;
        next.map_err(|error| error.at("receive events"))
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        for run in tags.chunk_by(|a, b| a.0 == b.0) {
            let Some(inflow) = self.inflow(run[0]) else { continue };
            inflow.ack(run).await.map_err(|error| error.at("acknowledge events"))?;
        }
        Ok(())
    }

    async fn nack(&self, tags: &[DeliveryTag]) -> Result<(), PortError> {
        for run in tags.chunk_by(|a, b| a.0 == b.0) {
            let Some(inflow) = self.inflow(run[0]) else { continue };
            let noted = inflow.noted(run);
            inflow.give_back(run, Duration::ZERO, Returned::Untried);
            if let Ok(number) = u16::try_from(run[0].0) {
                self.wires.unnote(self.wires.config.names.tries_queue(number), noted).await;
            }
        }
        Ok(())
    }

    async fn dead_letter(&self, tag: DeliveryTag, death: &Death) -> Result<bool, PortError> {
        let Some(inflow) = self.inflow(tag) else { return Ok(false) };
        let Death { reason, times, moved } = death.clone();
        let obituary = Obituary { reason, times, moved, ..Obituary::default() };
        let buried = self.dead.bury_delivery(inflow, tag, obituary).await;
        buried.map_err(|error| error.at("dead-letter an event"))
    }

    async fn bury(&self, items: Vec<(Inbound, String)>) -> Result<(), PortError> {
        let bury = async {
            self.wires.topology.events().await?;
            let obituary = |reason| Obituary { reason, ..Obituary::default() };
            let letters = items.into_iter().map(|(it, reason)| (it, obituary(reason)));
            self.dead.bury(&letters.collect::<Vec<_>>()).await
        };
        bury.await.map_err(|error| error.at("dead-letter events"))
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Inbound>>, PortError> {
        self.wires.topology.events().await.map_err(|error| error.at("list dead events"))?;
        self.dead.list(filter).await.map_err(|error| error.at("list dead events"))
    }

    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.wires.topology.events().await.map_err(|error| error.at("redrive events"))?;
        self.dead.redrive(filter).await.map_err(|error| error.at("redrive events"))
    }

    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError> {
        self.wires.topology.events().await.map_err(|error| error.at("discard events"))?;
        self.dead.discard(filter).await.map_err(|error| error.at("discard events"))
    }

    async fn depth(&self) -> Result<usize, PortError> {
        let depths = self.depths().await.map_err(|error| error.at("count events"))?;
        let partitions = depths.iter().take(self.partitions.len());
        Ok(partitions.map(|depth| depth.waiting + depth.held).sum())
    }

    async fn backlog(&self) -> Result<Vec<Backlog>, PortError> {
        let look = async {
            self.wires.topology.events().await?;
            let mut declaring = Declaring::on(&self.wires.consuming);
            let mut backlogs = Vec::with_capacity(self.partitions.len());
            for partition in &self.partitions {
                let queue = &partition.inflow.queue;
                let (waiting, consumers) = declaring.look(queue).await?.unwrap_or_default();
                let depth = waiting + partition.inflow.held() as u64;
                backlogs.push(Backlog { depth, consumers: Some(consumers), ..Backlog::default() });
            }
            declaring.end().await;
            Ok::<_, AmqpError>(backlogs)
        };
        look.await.map_err(|error| error.at("look at the partitions"))
    }
}

#[async_trait]
impl Quarantine for AmqpEventQ {
    async fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        let found = self.dead.unreadable(limit, false).await;
        found.map_err(|error| error.at("look for unreadable events"))
    }

    async fn move_out(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        let found = self.dead.unreadable(limit, true).await;
        found.map_err(|error| error.at("move unreadable events out"))
    }
}
