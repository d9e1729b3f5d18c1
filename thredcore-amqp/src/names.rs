//! What exchanges and queues are called.

use lapin::types::ShortString;
use thredlib::Topic;

use crate::AmqpError;

/// The names as templates. `{namespace}` is filled in first, then `{partition}`, `{topic}` or
/// `{minutes}`.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) namespace: String,
    pub(crate) event_exchange: String,
    pub(crate) event_queue: String,
    pub(crate) tries_queue: String,
    pub(crate) topic_tries_queue: String,
    pub(crate) engines_queue: String,
    pub(crate) message_exchange: String,
    pub(crate) message_queue: String,
    pub(crate) topics_queue: String,
    pub(crate) ingresses_queue: String,
    pub(crate) delay_queue: String,
    pub(crate) dead_exchange: String,
    pub(crate) dead_events: String,
    pub(crate) dead_messages: String,
    pub(crate) dropped_queue: String,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            namespace: "thredcore".into(),
            event_exchange: "{namespace}.events".into(),
            event_queue: "{namespace}.events.{partition}".into(),
            tries_queue: "{namespace}.tries.{partition}".into(),
            topic_tries_queue: "{namespace}.tries.of.{topic}".into(),
            engines_queue: "{namespace}.engines".into(),
            message_exchange: "{namespace}.messages".into(),
            message_queue: "{namespace}.messages.{topic}".into(),
            topics_queue: "{namespace}.topics".into(),
            ingresses_queue: "{namespace}.ingresses".into(),
            delay_queue: "{namespace}.delayed.{minutes}.{topic}".into(),
            dead_exchange: "{namespace}.dead".into(),
            dead_events: "{namespace}.dead.events".into(),
            dead_messages: "{namespace}.dead.messages".into(),
            dropped_queue: "{namespace}.dead.dropped".into(),
        }
    }
}

/// The names, filled in.
impl Names {
    pub(crate) fn event_exchange(&self) -> Result<ShortString, AmqpError> {
        self.fill(&self.event_exchange, &[])
    }

    pub(crate) fn event_queue(&self, partition: u16) -> Result<ShortString, AmqpError> {
        self.fill(&self.event_queue, &[("{partition}", &partition.to_string())])
    }

    /// Where it is noted who tries the suspects of a partition.
    pub(crate) fn tries_queue(&self, partition: u16) -> Result<ShortString, AmqpError> {
        self.fill(&self.tries_queue, &[("{partition}", &partition.to_string())])
    }

    /// Where it is noted who tries the suspects of a topic.
    pub(crate) fn topic_tries_queue(&self, topic: &Topic) -> Result<ShortString, AmqpError> {
        self.fill(&self.topic_tries_queue, &[("{topic}", topic.as_str())])
    }

    pub(crate) fn engines_queue(&self) -> Result<ShortString, AmqpError> {
        self.fill(&self.engines_queue, &[])
    }

    pub(crate) fn message_exchange(&self) -> Result<ShortString, AmqpError> {
        self.fill(&self.message_exchange, &[])
    }

    pub(crate) fn message_queue(&self, topic: &Topic) -> Result<ShortString, AmqpError> {
        self.fill(&self.message_queue, &[("{topic}", topic.as_str())])
    }

    /// The list of the topics.
    pub(crate) fn topics_queue(&self) -> Result<ShortString, AmqpError> {
        self.fill(&self.topics_queue, &[])
    }

    /// The list of the ingress queues.
    pub(crate) fn ingresses_queue(&self) -> Result<ShortString, AmqpError> {
        self.fill(&self.ingresses_queue, &[])
    }

    /// Where messages of a topic wait for some minutes.
    pub(crate) fn delay_queue(
        &self,
        topic: &Topic,
        minutes: u32,
    ) -> Result<ShortString, AmqpError> {
        let minutes = minutes.to_string();
        self.fill(&self.delay_queue, &[("{minutes}", &minutes), ("{topic}", topic.as_str())])
    }

    pub(crate) fn dead_exchange(&self) -> Result<ShortString, AmqpError> {
        self.fill(&self.dead_exchange, &[])
    }

    pub(crate) fn dead_events(&self) -> Result<ShortString, AmqpError> {
        self.fill(&self.dead_events, &[])
    }

    pub(crate) fn dead_messages(&self) -> Result<ShortString, AmqpError> {
        self.fill(&self.dead_messages, &[])
    }

    /// The dead letters that are dropped, to be counted.
    pub(crate) fn dropped_queue(&self) -> Result<ShortString, AmqpError> {
        self.fill(&self.dropped_queue, &[])
    }

    /// Whoever has declared a queue of this name, which belongs to its connection, is the only one
    /// that does something.
    pub(crate) fn lock(&self, what: &str) -> Result<ShortString, AmqpError> {
        self.fill("{namespace}.lock.", &[]).and_then(|front| short(&format!("{front}{what}")))
    }

    /// The queues of a deployment but those of its topics.
    pub(crate) fn own(&self, partitions: u16) -> Result<Vec<ShortString>, AmqpError> {
        let mut own = vec![
            self.engines_queue()?,
            self.dead_events()?,
            self.dead_messages()?,
            self.dropped_queue()?,
            self.topics_queue()?,
            self.ingresses_queue()?,
        ];
        for partition in 0..partitions {
            own.push(self.event_queue(partition)?);
            own.push(self.tries_queue(partition)?);
        }
        Ok(own)
    }

    /// Whether a queue is one of the deployment's: commands, messages or notes travel there.
    pub(crate) fn is_own(&self, queue: &str, partitions: u16) -> Result<bool, AmqpError> {
        // With a topic for whatever follows.
        let of_topics = self.message_queue(&Topic::from(""))?;
        let is_of_topic = !of_topics.as_str().is_empty() && queue.starts_with(of_topics.as_str());
        Ok(is_of_topic || self.own(partitions)?.iter().any(|own| own.as_str() == queue))
    }

    fn fill(&self, template: &str, holes: &[(&str, &str)]) -> Result<ShortString, AmqpError> {
        let mut name = template.replace("{namespace}", &self.namespace);
        for (hole, with) in holes {
            name = name.replace(hole, with);
        }
        short(&name)
    }
}

pub(crate) fn short(name: &str) -> Result<ShortString, AmqpError> {
    ShortString::try_new(name).map_err(|_| AmqpError::Name(name.to_owned()))
}
