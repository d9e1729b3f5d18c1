//! Both queues over one broker.

use std::sync::Arc;

use lapin::types::ShortString;

use tokio::time::timeout;

use crate::{
    AmqpConfig, AmqpError, AmqpEventQ, AmqpIngress, AmqpMessageQ, IngressConfig, QueueDepth,
    cargo::Cargo, dead_letters::DeadLetters, dropped::Dropped, ingress::Known, link::Link,
    publisher::Publisher, topology::Topology, tries::Tries,
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
    pub(crate) tries: Arc<Tries>,
    dropped: Arc<Dropped>,
}

impl std::fmt::Debug for Wires {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wires").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Wires {
    pub(crate) fn dead_letters<T: Cargo>(&self, queue: ShortString) -> DeadLetters<T> {
        let (config, topology) = (self.config.clone(), self.topology.clone());
        let (publisher, link) = (self.publisher.clone(), self.consuming.clone());
        DeadLetters::new(queue, config, topology, publisher, link)
    }

    /// Starts to count the dead letters that are dropped.
    pub(crate) fn count_dropped(&self) {
        self.dropped.start(&self.topology, &self.consuming);
    }

    /// Notes of items that they were given back. If that cannot be noted, they count as had when
    /// this process ends.
    pub(crate) async fn unnote(&self, notes: Result<ShortString, AmqpError>, items: Vec<String>) {
        for item in items {
            let unnoted = match &notes {
                Ok(queue) => self.tries.unnote(queue, &item).await,
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = unnoted {
                tracing::debug!(%error, item, "it is not noted that an item was given back");
            }
        }
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
        let tries = Tries::new(topology.clone(), consuming.clone(), publisher.clone());
        let (tries, dropped) = (Arc::new(tries), Arc::default());
        let wires = Wires { config, publishing, consuming, publisher, topology, tries, dropped };
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

    /// A queue that other programs publish events to, made or adopted.
    ///
    /// # Errors
    /// When it cannot be made, or a name is too long.
    pub async fn ingress(&self, config: IngressConfig) -> Result<AmqpIngress, AmqpError> {
        AmqpIngress::open(self.wires.clone(), config).await
    }

    /// The ingress queues that processes of this namespace have opened. Who
    /// [opens](Self::ingress) one of them can look at it, and at its dead letters, without running it.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn ingresses(&self) -> Result<Vec<IngressConfig>, AmqpError> {
        Ok(Known::all(&self.wires).await?.into_iter().map(Known::config).collect())
    }

    /// How many dead letters this process has seen dropped, by the broker, for their age or for want
    /// of room. Processes with engines or agents count; what one has counted no other one has.
    pub fn dropped_dead_letters(&self) -> u64 {
        self.wires.dropped.count()
    }

    /// Deletes the exchanges and queues, with all that is in them, and closes. Of the messages'
    /// queues those in the list of topics. For tests and benchmarks.
    ///
    /// # Errors
    /// Some may be left.
    pub async fn remove(&self) -> Result<(), AmqpError> {
        self.event_q.close();
        self.message_q.close();
        let topics = self.message_q.known_topics().await?;
        self.wires.topology.remove(topics).await?;
        self.close().await;
        Ok(())
    }

    /// Gives back all that is not acknowledged, and closes the connections. Later calls fail as
    /// [closed](thredcore::port::PortErrorKind::Closed), and so do those under way. Ends within
    /// [`AmqpConfig::close_timeout`], whatever the broker does; one that does not answer gives back
    /// what this process had when it misses the heartbeat.
    pub async fn close(&self) {
        self.event_q.close();
        self.message_q.close();
        let limit = self.wires.config.close_timeout;
        let closing = futures::future::join(
            self.wires.publishing.close(limit),
            self.wires.consuming.close(limit),
        );
        _ = timeout(limit, closing).await;
    }
}
