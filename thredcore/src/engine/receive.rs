//! Receiving: one loop for each partition.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use super::{Engine, Stopped, batch::Batch};
use crate::port::{Delivery, Inbound, Lease, PortErrorKind};

/// The names of the leases of trials.
const TRIAL: &str = "trial/";
/// How long a trial that ended the engine is remembered, milliseconds: a day.
const TRIAL_MEMORY: i64 = 24 * 3_600_000;

impl Engine {
    /// Receives and processes a partition's events until the engine stops.
    pub(super) async fn work(self, partition: u16) {
        let partitions = usize::from(self.event_q().partitions().max(1));
        let most = (self.config().max_in_flight / partitions).max(1);
        let mut stop = self.0.stop.subscribe();
        let mut pauses = self.pauses();
        loop {
            let received = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                received = self.event_q().receive(partition, most) => received,
            };
            match received {
                Ok(deliveries) => {
                    pauses = self.pauses();
                    let is_full = deliveries.len() >= most;
                    if self.take_in(deliveries).await.is_err() {
                        return;
                    }
                    if is_full {
                        // With backends in memory nothing here ever waits while more is there, and
                        // whom it wakes runs on this thread, when it lets go.
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) if error.kind() == PortErrorKind::Closed => return,
                Err(error) => {
                    if self.pause(&error, &mut pauses).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Processes what was received. An event that has been handed out repeatedly, so that the
    /// engine may have died over it, is tried alone.
    async fn take_in(&self, deliveries: Vec<Delivery<Inbound>>) -> Result<(), Stopped> {
        const SUSPECT: u32 = 3;
        if deliveries.iter().all(|delivery| delivery.attempt < SUSPECT) {
            return self.process_or_return(deliveries).await.map(drop);
        }
        for delivery in deliveries {
            if delivery.attempt < SUSPECT {
                _ = self.process_or_return(vec![delivery]).await?
            } else {
                self.try_alone(delivery).await?
            }
        }
        Ok(())
    }

    /// Processes deliveries. Should the engine panic over them, a defect, they are given back, and
    /// tried alone when they have come a third time; says whether it has.
    async fn process_or_return(&self, deliveries: Vec<Delivery<Inbound>>) -> Result<bool, Stopped> {
        let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
        match AssertUnwindSafe(self.process(deliveries)).catch_unwind().await {
            Ok(processed) => processed.map(|()| false),
            Err(_) => {
                tracing::error!(count = tags.len(), "the engine panicked over events; a defect");
                self.rest(self.config().first_pause).await?;
                self.insist(|| self.event_q().nack(&tags)).await?;
                Ok(true)
            }
        }
    }

    /// Tries an event that the engine may have died over, one at a time in this process, and at
    /// last dead-letters it.
    ///
    /// What was in flight beside a deadly event was handed out as often as that: the queue's count
    /// does not tell them apart. So each trial is written down as a lease, which a death leaves
    /// behind, and only those count.
    async fn try_alone(&self, delivery: Delivery<Inbound>) -> Result<(), Stopped> {
        let Ok(_alone) = self.0.trial.acquire().await else { return Err(Stopped) };
        let prefix = format!("{TRIAL}{}/", delivery.payload.id());
        let now = self.now();
        let trials = self.insist(|| self.storage().leases(&prefix, now)).await?;
        let deaths = trials.len();
        if deaths >= self.config().max_attempts as usize {
            let reason = format!("the engine has ended {deaths} times while it was tried alone");
            self.bury(delivery, reason).await?;
        } else {
            let owner = thredlib::new_event_id().to_string();
            let name = format!("{prefix}{owner}");
            let trial = Lease { name, owner, until: now.saturating_add(TRIAL_MEMORY) };
            self.insist(|| self.storage().acquire(&trial, now)).await?;
            let processed = self.process_or_return(vec![delivery]).await;
            if processed == Ok(true) {
                // A panic is as good as a death: it stays on record.
                return Ok(());
            }
            // Also when the engine has been told to stop: that is no death.
            self.insist(|| self.storage().give_back(&trial.name, &trial.owner)).await?;
            processed?;
        }
        // It has come to an end: if it comes again, it begins anew.
        for trial in trials {
            self.insist(|| self.storage().give_back(&trial.name, &trial.owner)).await?;
        }
        Ok(())
    }
}

impl Engine {
    /// Puts an event among the dead letters without trying it.
    async fn bury(&self, delivery: Delivery<Inbound>, reason: String) -> Result<(), Stopped> {
        let mut batch = Batch::open(self, vec![delivery]).await?;
        for case in batch.cases.iter_mut().filter(|case| !case.settled) {
            case.taken = true;
            case.failures.push(reason.clone());
        }
        self.acknowledge(batch).await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::Arc,
        time::Duration,
    };

    use thredlib::{ConditionBuilder, Event, PatternBuilder, ReactionBuilder};
    use tokio::time::timeout;

    use super::*;
    use crate::{
        engine::EngineConfig,
        memory::{MemoryEventQ, MemoryEventQConfig, MemoryStorage},
        port::{Accepted, DeadLetterFilter, DeliveryTag, EventQ, LeaseStore},
        testing::fault::{Commits, Fault, FaultKind, Faulty},
    };

    /// An event whose commit is never answered stands for one that ends the process.
    #[tokio::test]
    async fn only_the_deadly_event_is_dead_lettered() {
        let event_q = Arc::new(MemoryEventQ::new(MemoryEventQConfig::default().partitions(1)));
        let hanging = Commits::new(Arc::new(MemoryStorage::default()), |commit| {
            let poison = commit.event.as_ref().is_some_and(|event| event.id.as_str() == "poison");
            if poison { pending().boxed() } else { ready(None).boxed() }
        });
        let tell = ConditionBuilder::filter("$event.type = 'tell'");
        let pattern =
            PatternBuilder::new("tell").reaction(ReactionBuilder::new("tell").condition(tell));
        let engine = Engine::builder()
            .event_q(event_q.clone())
            .storage(Arc::new(hanging))
            .pattern(pattern.build())
            .build();
        let engine = engine.await.unwrap();
        let ids = ["before", "poison", "after", "last"];
        let events = ids.iter().map(|id| Event::builder("tell", "ann").id(*id).build());
        engine.accept(events.collect()).await.unwrap();

        let mut deaths = 0;
        while event_q.depth().await.unwrap() > 0 {
            let received = event_q.receive(0, 10).await.unwrap();
            let tags: Vec<_> = received.iter().map(|delivery| delivery.tag).collect();
            if timeout(Duration::from_millis(50), engine.take_in(received)).await.is_err() {
                deaths += 1;
                assert!(deaths < 50, "it never ends");
                event_q.nack(&tags).await.unwrap();
            }
        }
        let dead = event_q.dead_letters(&DeadLetterFilter::all()).await.unwrap();
        let dead: Vec<_> = dead.iter().map(|letter| letter.payload.id().to_string()).collect();
        assert_eq!(dead, ["poison"]);
        // Twice among the others, and then alone.
        assert_eq!(deaths, 2 + engine.config().max_attempts);
        assert!(engine.storage().leases(TRIAL, engine.now()).await.unwrap().is_empty());
    }

    /// A trial that the engine's end interrupts is no death of the engine.
    #[tokio::test]
    async fn a_stop_during_a_trial_is_no_death() {
        const HOUR: Duration = Duration::from_secs(3_600);
        let condition = ConditionBuilder::filter("$event.type = 'start'");
        let pattern =
            PatternBuilder::new("any").reaction(ReactionBuilder::new("only").condition(condition));
        let storage = Arc::new(MemoryStorage::default());
        let fault = Fault::at_operation("commit", 1, FaultKind::Before);
        // After the failed commit the engine pauses until it is stopped.
        let mut config = EngineConfig::default();
        (config.first_pause, config.longest_pause) = (HOUR, HOUR);
        let engine = Engine::builder()
            .storage(Arc::new(Faulty::new(storage.clone(), fault.clone())))
            .config(config)
            .pattern(pattern.build())
            .build();
        let engine = engine.await.unwrap();
        let event = Event::builder("start", "ann").build();
        let payload = Inbound::Event(Accepted::new(event, 0));
        let delivery = Delivery { tag: DeliveryTag(0, 0), attempt: 3, failures: 0, payload };
        let trial = tokio::spawn({
            let engine = engine.clone();
            async move { engine.take_in(vec![delivery]).await }
        });
        while !fault.has_struck() {
            tokio::task::yield_now().await;
        }
        engine.stop();
        assert_eq!(trial.await.unwrap(), Err(Stopped));
        assert!(storage.leases(TRIAL, engine.now()).await.unwrap().is_empty());
    }
}
