//! Publishing: each topic by itself, in order, as far as there is room. Nobody waits for room.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use thredcore::port::{PortError, PortErrorKind, Routed};
use thredlib::Topic;

use super::{Shared, topic::TopicLane};
use crate::{
    Error, Request,
    queue::{by_lane, publish::portion},
};

const OPERATION: &str = "publish messages";
const EARLIER: &str = "an earlier message of the topic could not be published";
const FULL: &str = "the topic is full";

/// After how long a topic is listed again: it may have been deleted meanwhile.
const LISTED: Duration = Duration::from_secs(60);

/// Why messages of a topic were not published.
enum Failure {
    /// There is no room for them.
    Full,
    /// So many of them may have been published, and those behind them were not.
    Error(Error, usize),
}

impl Shared {
    pub(super) async fn publish(&self, messages: Vec<Routed>) -> Vec<Result<(), PortError>> {
        let mut answers: Vec<Result<(), PortError>> = messages.iter().map(|_| Ok(())).collect();
        let lanes: Vec<_> = messages.iter().map(|message| self.lane(&message.topic)).collect();
        let parts = by_lane(0..messages.len(), |place| lanes[*place].number);
        let messages = &messages;
        let publishing = parts.into_values().map(|places| {
            let topic = lanes[places[0]].clone();
            async move {
                let (mut sent, mut texts, mut refused) = (vec![], vec![], vec![]);
                for place in places {
                    match self.text(&messages[place]) {
                        Ok(text) => {
                            sent.push(place);
                            texts.push(text);
                        }
                        Err(error) => refused.push((place, error)),
                    }
                }
                let (done, failure) = if texts.is_empty() {
                    (0, None)
                } else {
                    self.publish_to(&topic, texts.into()).await
                };
                (sent, done, failure, refused)
            }
        });
        for (places, done, failure, refused) in join_all(publishing).await {
            for (place, error) in refused {
                answers[place] = Err(error.of(OPERATION));
            }
            let Some(failure) = failure else { continue };
            for (number, place) in places.into_iter().enumerate().skip(done) {
                answers[place] = Err(match &failure {
                    Failure::Full => PortError::new(OPERATION, PortErrorKind::Full, FULL),
                    Failure::Error(error, unsure) if number < done + unsure => {
                        error.clone().of(OPERATION)
                    }
                    Failure::Error(..) => {
                        PortError::new(OPERATION, PortErrorKind::Unavailable, EARLIER)
                    }
                });
            }
        }
        answers
    }

    pub(super) fn text(&self, message: &Routed) -> Result<Vec<u8>, Error> {
        let text =
            serde_json::to_vec(message).map_err(|error| Error::Malformed(error.to_string()))?;
        let (bytes, limit) = (text.len(), self.config.max_item_bytes);
        if bytes > limit {
            Err(Error::TooLarge { what: "a message", bytes, limit })
        } else {
            Ok(text)
        }
    }

    /// Says how many were published, and what kept the others from that.
    async fn publish_to(
        &self,
        topic: &TopicLane,
        texts: Arc<Vec<Vec<u8>>>,
    ) -> (usize, Option<Failure>) {
        if let Err(error) = self.list(&topic.name).await {
            return (0, Some(Failure::Error(error, texts.len())));
        }
        let mut done = 0;
        while done < texts.len() {
            let some = portion(&texts, done);
            let (count, capacity) = (some.len(), Some(self.config.capacity));
            match topic.items.publish(&self.connection, capacity, &texts, some).await {
                Ok(published) if published < count => {
                    return (done + published, Some(Failure::Full));
                }
                Ok(_) => done += count,
                Err(error) => return (done, Some(Failure::Error(error, count))),
            }
        }
        (done, None)
    }

    /// Puts messages among the dead letters that no topic has taken.
    pub(super) async fn bury(&self, messages: Vec<(Routed, String)>) -> Result<(), Error> {
        let lane = |(message, _): &(Routed, String)| self.lane(&message.topic).number;
        for messages in by_lane(messages, lane).into_values() {
            let topic = self.lane(&messages[0].0.topic);
            self.list(&topic.name).await?;
            self.count_dropped(topic.items.bury_new(&self.connection, &messages).await?);
        }
        self.trim_now_and_then().await;
        Ok(())
    }

    /// Has a topic among those that are looked through for dead letters, before it has messages.
    async fn list(&self, topic: &Topic) -> Result<(), Error> {
        let is_fresh = |at: &Instant| at.elapsed() < LISTED;
        if self.listed.lock().get(topic).is_some_and(is_fresh) {
            return Ok(());
        }
        let mut command = redis::cmd("SADD");
        command.arg(&self.names).arg(topic.as_str());
        self.connection.ask::<usize>(Request::write(&self.tag, command)).await?;
        self.listed.lock().insert(topic.clone(), Instant::now());
        Ok(())
    }
}
