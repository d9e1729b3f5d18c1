//! Receiving: one loop for each partition.

use super::{Engine, Stopped};
use crate::port::{Delivery, Inbound, PortErrorKind};

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
    /// engine may have died over it, is processed on its own; at last it is dead-lettered.
    async fn take_in(&self, deliveries: Vec<Delivery<Inbound>>) -> Result<(), Stopped> {
        const SUSPECT: u32 = 3;
        if deliveries.iter().all(|delivery| delivery.attempt < SUSPECT) {
            return self.process(deliveries).await;
        }
        for delivery in deliveries {
            let attempts = delivery.attempt - 1;
            if attempts >= self.config().max_attempts {
                let reason = format!("handed out {attempts} times without an end");
                self.insist(|| self.event_q().dead_letter(delivery.tag, &reason)).await?;
            } else {
                self.process(vec![delivery]).await?;
            }
        }
        Ok(())
    }
}
