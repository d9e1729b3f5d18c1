//! Both queues over one broker.

use std::sync::Arc;

use lapin::types::ShortString;

use crate::{
    AmqpConfig, AmqpError, AmqpEventQ, AmqpMessageQ, QueueDepth, cargo::Cargo,
    dead_letters::DeadLetters, link::Link, publisher::Publisher, topology::Topology,
};

/// The queues of a broker. Clones are the same queues.
///
/// Two connections are made: one publishes, the other consumes and asks. When one breaks it is
/// made again, with any of the nodes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AmqpQueues {
    /// What comes in.
    pub event_q: Arc<AmqpEventQ>,
    /// What goes out.
    pub message_q: Arc<AmqpMessageQ>,
    wires: Wires,
}

/// What both queues share.
#[derive(Clone)]
pub(crate) struct Wires {
    pub(crate) config: Arc<AmqpConfig>,
    pub(crate) publishing: Arc<Link>,
    pub(crate) consuming: Arc<Link>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) topology: Arc<Topology>,
}

impl std::fmt::Debug for Wires {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wires").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Wires {
    pub(crate) fn dead_letters<T: Cargo>(&self, queue: ShortString) -> Arc<DeadLetters<T>> {
        let (config, topology) = (self.config.clone(), self.topology.clone());
        let (publisher, link) = (self.publisher.clone(), self.consuming.clone());
        Arc::new(DeadLetters::new(queue, config, topology, publisher, link))
    }
}

impl AmqpQueues {
    /// Connects, and makes what both queues need or looks whether it is there. Must be called
    /// within a tokio runtime, which the connections stay with.
    ///
    /// # Errors
    /// When no node can be connected to, or the exchanges and queues are not what they should be.
    pub async fn connect(config: AmqpConfig) -> Result<Self, AmqpError> {
        let config = Arc::new(config);
        let publishing = Arc::new(Link::new("publishing", config.clone()));
        let consuming = Arc::new(Link::new("consuming", config.clone()));
        let publisher = Arc::new(Publisher::new(config.clone(), publishing.clone()));
        let topology = Arc::new(Topology::new(config.clone(), consuming.clone()));
        topology.events().await?;
        topology.messages().await?;
        let wires = Wires { config, publishing, consuming, publisher, topology };
        Ok(Self {
            event_q: Arc::new(AmqpEventQ::new(wires.clone())?),
            message_q: Arc::new(AmqpMessageQ::new(wires.clone())?),
            wires,
        })
    }

    /// How much is in each queue that this process knows of: all partitions, the topics that it
    /// has published to or received from, and the dead letters.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn depths(&self) -> Result<Vec<QueueDepth>, AmqpError> {
        let mut depths = self.event_q.depths().await?;
        depths.extend(self.message_q.depths().await?);
        Ok(depths)
    }

    /// Deletes the exchanges and queues, with all that is in them, and closes. Of the messages'
    /// queues those whose topics this process has published to or received from. For tests and
    /// benchmarks.
    ///
    /// # Errors
    /// Some may be left.
    pub async fn remove(&self) -> Result<(), AmqpError> {
        self.event_q.close();
        self.message_q.close();
        self.wires.topology.remove().await?;
        self.close().await;
        Ok(())
    }

    /// Gives back all that is not acknowledged, and closes the connections. Later calls fail as
    /// [closed](thredcore::port::PortErrorKind::Closed).
    pub async fn close(&self) {
        self.event_q.close();
        self.message_q.close();
        self.wires.publishing.close().await;
        self.wires.consuming.close().await;
    }
}
