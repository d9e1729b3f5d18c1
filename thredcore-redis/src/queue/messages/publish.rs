//! Publishing: each topic by itself, in order, as far as there is room.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use thredcore::port::{PortError, PortErrorKind, Routed};
use thredlib::Topic;

use super::{Shared, topic::TopicLane};
use crate::{
    Error, Request,
    queue::{by_lane, lock, publish::portion},
};

const OPERATION: &str = "publish messages";
const EARLIER: &str = "an earlier message of the topic could not be published";

/// A publisher's first pause before it looks for room again.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

impl Shared {
    pub(super) async fn publish(&self, messages: Vec<Routed>) -> Vec<Result<(), PortError>> {
        let mut answers: Vec<Result<(), PortError>> = messages.iter().map(|_| Ok(())).collect();
        let lanes: Vec<_> = messages.iter().map(|message| self.lane(&message.topic)).collect();
        let parts = by_lane(0..messages.len(), |place| lanes[*place].number);
        let messages = &messages;
        let publishing = parts.into_values().map(|places| {
            let topic = lanes[places[0]].clone();
            async move {
                let texts = places.iter().map(|place| serde_json::to_vec(&messages[*place]));
                let (done, error) = match texts.collect::<Result<Vec<_>, _>>() {
                    Ok(texts) => self.publish_to(&topic, texts.into()).await,
                    Err(error) => (0, Some((Error::Malformed(error.to_string()), places.len()))),
                };
                (places, done, error)
            }
        });
        for (places, done, error) in join_all(publishing).await {
            let Some(error) = error else { continue };
            for (number, place) in places.into_iter().enumerate().skip(done) {
                // What follows the portion that failed was not sent.
                answers[place] = Err(match number < done + error.1 {
                    true => error.0.clone().of(OPERATION),
                    false => PortError::new(OPERATION, PortErrorKind::Unavailable, EARLIER),
                });
            }
        }
        answers
    }

    /// Says how many were published; with an error, of how many more that is not known.
    async fn publish_to(
        &self,
        topic: &TopicLane,
        texts: Arc<Vec<Vec<u8>>>,
    ) -> (usize, Option<(Error, usize)>) {
        if let Err(error) = self.list(&topic.name).await {
            return (0, Some((error, texts.len())));
        }
        let mut done = 0;
        let mut pause = FIRST_PAUSE;
        while done < texts.len() {
            let some = portion(&texts, done);
            let (count, capacity) = (some.len(), Some(self.config.capacity));
            match topic.items.publish(&self.connection, capacity, &texts, some).await {
                Ok(0) if self.is_closed() => {
                    let error = Error::NotNow("the topic is full and the queue is closed".into());
                    return (done, Some((error, texts.len())));
                }
                Ok(0) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.config.room_pause);
                }
                Ok(count) => {
                    done += count;
                    pause = FIRST_PAUSE;
                }
                Err(error) => return (done, Some((error, count))),
            }
        }
        (done, None)
    }

    /// Has a topic among those that are looked through for dead letters, before it has messages.
    async fn list(&self, topic: &Topic) -> Result<(), Error> {
        if lock(&self.listed).contains(topic) {
            return Ok(());
        }
        let mut command = redis::cmd("SADD");
        command.arg(&self.names).arg(topic.as_str());
        self.connection.ask::<usize>(Request::write(&self.tag, command)).await?;
        lock(&self.listed).insert(topic.clone());
        Ok(())
    }
}
