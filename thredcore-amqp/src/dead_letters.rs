//! Items taken out of circulation.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use lapin::{message::Delivery, types::ShortString};
use thredcore::port::{DeadLetter, DeadLetterFilter, DeliveryTag, Unreadable};
use thredlib::Topic;
use tokio::sync::Mutex;

use crate::{
    AmqpConfig, AmqpError,
    browse::{Browsing, Purpose},
    cargo::Cargo,
    delays::Delays,
    inflow::Inflow,
    letter::{self, Obituary, Published},
    link::Link,
    publisher::{Parcel, Publisher},
    topology::{Topology, close, waiting},
};

/// The queue of dead letters of one kind.
///
/// The broker drops what is too old or too much. To look at some of the letters is to
/// [browse](Browsing) the queue, which fetches all of them.
pub(crate) struct DeadLetters<T> {
    pub(crate) queue: ShortString,
    config: Arc<AmqpConfig>,
    topology: Arc<Topology>,
    publisher: Arc<Publisher>,
    link: Arc<Link>,
    looking: Mutex<()>,
    /// How many letters came from where, when there were so many.
    origins: Mutex<Option<(usize, HashMap<String, u64>)>>,
    /// The queue that they go back to, where it is one for all of them.
    home: ShortString,
    /// Makes the topics that letters go back to.
    topics: Option<Arc<Delays>>,
    kind: std::marker::PhantomData<fn() -> T>,
}

/// What is done with the letters that are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Redriven,
    Discarded,
}

/// Letters that are meant, with their tags.
type Found<T> = Vec<(DeadLetter<T>, u64)>;

impl<T: Cargo> DeadLetters<T> {
    pub(crate) fn new(
        queue: ShortString,
        config: Arc<AmqpConfig>,
        topology: Arc<Topology>,
        publisher: Arc<Publisher>,
        link: Arc<Link>,
    ) -> Self {
        let (looking, origins) = (Mutex::new(()), Mutex::new(None));
        let (home, topics, kind) = ("".into(), None, std::marker::PhantomData);
        Self { queue, config, topology, publisher, link, looking, origins, home, topics, kind }
    }

    /// Letters go back to one queue.
    pub(crate) fn of_queue(mut self, home: ShortString) -> Self {
        self.home = home;
        self
    }

    /// Letters go back to topics, which may have to be made.
    pub(crate) fn of_topics(mut self, topics: Arc<Delays>) -> Self {
        self.topics = Some(topics);
        self
    }

    /// Adds letters; they are confirmed.
    pub(crate) async fn bury(&self, items: &[(T, Obituary)]) -> Result<(), AmqpError> {
        let letter = |(item, obituary): &(T, Obituary)| {
            let (at, origin) = (self.config.clock.now(), item.origin().to_owned());
            let obituary = Obituary { at, origin, ..obituary.clone() };
            let (body, headers) = letter::enveloped(&obituary, item.parcel(&self.topology)?.body)?;
            self.parcel(body, headers)
        };
        self.send(&items.iter().map(letter).collect::<Result<Vec<_>, _>>()?).await
    }

    /// Sets bytes aside that are no item.
    pub(crate) async fn bury_bytes(
        &self,
        body: Vec<u8>,
        obituary: Obituary,
        published: Published<'_>,
    ) -> Result<(), AmqpError> {
        let obituary = Obituary { at: self.config.clock.now(), ..obituary };
        self.send(&[self.parcel(body, letter::raw(&obituary, published))?]).await
    }

    fn parcel(
        &self,
        body: Vec<u8>,
        headers: lapin::types::FieldTable,
    ) -> Result<Parcel, AmqpError> {
        Ok(Parcel {
            exchange: self.topology.names().dead_exchange()?,
            key: self.queue.clone(),
            id: letter::new_key(),
            headers: Some(headers),
            body,
        })
    }

    async fn send(&self, letters: &[Parcel]) -> Result<(), AmqpError> {
        let answers = self.publisher.publish(letters).await;
        let sent: Result<(), AmqpError> = answers.into_iter().collect();
        if sent.as_ref().is_err_and(AmqpError::is_missing) {
            self.topology.forget().await;
        }
        sent
    }

    /// Moves an item that is out to the letters. Until that is confirmed it stays out, so that it
    /// can be tried again.
    pub(crate) async fn bury_delivery(
        &self,
        inflow: &Inflow<T>,
        tag: DeliveryTag,
        obituary: Obituary,
    ) -> Result<bool, AmqpError> {
        let Some((payload, attempts)) = inflow.peek(tag) else { return Ok(false) };
        self.bury(&[(payload, Obituary { attempts, ..obituary })]).await?;
        inflow.ack(&[tag]).await?;
        Ok(true)
    }

    pub(crate) async fn list(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<T>>, AmqpError> {
        self.look(filter, Fate::Kept).await.map(|(letters, _)| letters)
    }

    pub(crate) async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, AmqpError> {
        self.look(filter, Fate::Redriven).await.map(|(_, count)| count)
    }

    pub(crate) async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, AmqpError> {
        self.look(filter, Fate::Discarded).await.map(|(_, count)| count)
    }

    /// How many letters there are, those that cannot be read included.
    pub(crate) async fn count(&self) -> Result<usize, AmqpError> {
        let channel = self.link.channel().await?;
        let count = waiting(&self.link, &channel, &self.queue).await?;
        close(&self.link, channel).await;
        Ok(count)
    }

    /// How many letters came from where. As long as their number stays, they are not looked at.
    pub(crate) async fn origins(&self) -> Result<HashMap<String, u64>, AmqpError> {
        let mut cached = self.origins.lock().await;
        let count = self.count().await?;
        if let Some((known, origins)) = &*cached
            && *known == count
        {
            return Ok(origins.clone());
        }
        let mut origins: HashMap<String, u64> = HashMap::new();
        self.visit(|letter, _| {
            if let Ok(letter) = letter {
                *origins.entry(letter.payload.origin().to_owned()).or_default() += 1;
            }
            true
        })
        .await?;
        *cached = Some((count, origins.clone()));
        Ok(origins)
    }

    /// The letters that cannot be read; they can be taken out.
    pub(crate) async fn unreadable(
        &self,
        limit: usize,
        take_out: bool,
    ) -> Result<Vec<Unreadable>, AmqpError> {
        let _alone = self.looking.lock().await;
        let mut found = Vec::new();
        let mut tags = Vec::new();
        let purpose = if take_out { Purpose::Removing } else { Purpose::Reading };
        let Some(mut browsing) = self.browse(purpose).await? else { return Ok(found) };
        let looked = async {
            while found.len() < limit
                && let Some(delivery) = browsing.next().await?
            {
                if let Err(reason) = self.read(&delivery) {
                    found.push(letter::unreadable(T::KIND, &delivery, reason));
                    tags.push(delivery.delivery_tag);
                }
            }
            if take_out { browsing.remove(tags).await } else { Ok(()) }
        };
        let looked = looked.await;
        browsing.end().await;
        looked.map(|()| found)
    }

    async fn browse(&self, purpose: Purpose) -> Result<Option<Browsing>, AmqpError> {
        let lock = self.topology.names().lock(&format!("look.{}", self.queue))?;
        Browsing::start(&self.link, &self.queue, lock, purpose).await
    }

    fn read(&self, delivery: &Delivery) -> Result<DeadLetter<T>, String> {
        let user = delivery.properties.user_id().as_ref().map(|user| user.as_str());
        let is_ours = self.config.vouches(user);
        let letter: DeadLetter<T> = letter::read(delivery, |user| self.config.is_engine(user))?;
        let payload = letter.payload.of_letter(self.home.as_str(), is_ours);
        Ok(DeadLetter { payload, ..letter })
    }

    /// Looks at letters, as long as it is wanted.
    async fn visit(
        &self,
        mut visit: impl FnMut(Result<DeadLetter<T>, String>, u64) -> bool,
    ) -> Result<(), AmqpError> {
        let _alone = self.looking.lock().await;
        let Some(mut browsing) = self.browse(Purpose::Reading).await? else { return Ok(()) };
        let looked = async {
            while let Some(delivery) = browsing.next().await? {
                if !visit(self.read(&delivery), delivery.delivery_tag) {
                    break;
                }
            }
            Ok(())
        };
        let looked = looked.await;
        browsing.end().await;
        looked
    }

    /// Finds letters, and does with them what is to be done: the letters if they are kept, and how
    /// many.
    async fn look(
        &self,
        filter: &DeadLetterFilter,
        fate: Fate,
    ) -> Result<(Vec<DeadLetter<T>>, usize), AmqpError> {
        let _alone = self.looking.lock().await;
        let purpose = if fate == Fate::Kept { Purpose::Reading } else { Purpose::Removing };
        let Some(mut browsing) = self.browse(purpose).await? else { return Ok((vec![], 0)) };
        let done = self.look_through(&mut browsing, filter, fate).await;
        browsing.end().await;
        done
    }

    async fn look_through(
        &self,
        browsing: &mut Browsing,
        filter: &DeadLetterFilter,
        fate: Fate,
    ) -> Result<(Vec<DeadLetter<T>>, usize), AmqpError> {
        // So many are held before they are done with.
        const AT_ONCE: usize = 256;
        let limit = filter.limit.unwrap_or(usize::MAX);
        let mut missing: Option<BTreeSet<&str>> =
            filter.ids.as_ref().map(|ids| ids.iter().map(String::as_str).collect());
        // While the last letter of the page before has not come: it may be gone.
        let mut after = filter.after.as_deref();
        let mut found: Found<T> = Vec::new();
        // What is removed in the end: not before, for then consumers get more, out of turn.
        let mut tags = Vec::new();
        let mut failure = Ok(());
        while tags.len() + found.len() < limit || after.is_some() {
            let Some(delivery) = browsing.next().await? else { break };
            let letter = self.read(&delivery);
            let id = letter.as_ref().map_or_else(|_| letter::key(&delivery), |it| it.id.clone());
            if after == Some(&*id) {
                after = None;
                found.clear();
                continue;
            }
            let Ok(letter) = letter else {
                tracing::debug!(id, queue = self.queue.as_str(), "a dead letter cannot be read");
                continue;
            };
            let is_meant = filter.matches(&letter) && after.is_none_or(|after| *id > *after);
            if is_meant && found.len() < limit {
                found.push((letter, delivery.delivery_tag));
            }
            if let Some(missing) = &mut missing {
                missing.remove(&*id);
                if missing.is_empty() && after.is_none() {
                    break;
                }
            }
            if fate != Fate::Kept && after.is_none() && found.len() >= AT_ONCE {
                failure = self.finish(std::mem::take(&mut found), fate, &mut tags).await;
                if failure.is_err() {
                    break;
                }
            }
        }
        if fate == Fate::Kept {
            let count = found.len();
            return Ok((found.into_iter().map(|(letter, _)| letter).collect(), count));
        }
        if failure.is_ok() {
            failure = self.finish(found, fate, &mut tags).await;
        }
        let done = tags.len();
        browsing.remove(tags).await?;
        failure.map(|()| (vec![], done))
    }

    /// Redrives letters, or does nothing; tells which are done with.
    async fn finish(
        &self,
        found: Found<T>,
        fate: Fate,
        done: &mut Vec<u64>,
    ) -> Result<(), AmqpError> {
        let tags = found.iter().map(|(_, tag)| *tag).collect::<Vec<_>>();
        if fate == Fate::Discarded {
            done.extend(tags);
            return Ok(());
        }
        if let Some(topics) = &self.topics {
            let names: BTreeSet<Topic> =
                found.iter().map(|(letter, _)| letter.payload.origin().into()).collect();
            topics.topics(&names.iter().collect::<Vec<_>>()).await?;
        }
        let revived = |(letter, _): (DeadLetter<T>, u64)| {
            letter.payload.revived(letter.times, letter.moved).parcel(&self.topology)
        };
        let parcels = found.into_iter().map(revived).collect::<Result<Vec<_>, _>>()?;
        let answers = self.publisher.publish(&parcels).await;
        if answers.iter().any(|answer| answer.as_ref().is_err_and(AmqpError::is_missing)) {
            self.topology.forget().await;
        }
        let sent = tags.into_iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        done.extend(sent.map(|(tag, _)| tag));
        answers.into_iter().collect()
    }
}
