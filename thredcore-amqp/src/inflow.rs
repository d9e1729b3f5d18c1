//! What a process holds of one queue.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
};

use futures::{
    FutureExt,
    future::{join_all, select},
};
use lapin::{Channel, options::BasicAckOptions, types::ShortString};
use parking_lot::Mutex;
use thredcore::port::{Delivery, DeliveryTag, Returned};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Duration, Instant, sleep_until},
};

use crate::{AmqpError, cargo::Cargo, counts::Counts};

/// The items of a queue that a process holds: ready to be handed out, handed out, or waiting for
/// their time. A [pump](crate::pump) fills it.
///
/// All of it belongs to one channel. When that is lost all is forgotten, since the broker delivers
/// it again: a tag of that time is not out any more, and no acknowledgement of a former channel
/// can be sent.
pub(crate) struct Inflow<T> {
    number: u64,
    pub(crate) queue: ShortString,
    state: Mutex<State<T>>,
    told: Notify,
    asks: mpsc::UnboundedSender<Ask>,
    /// Whether the queue is to be consumed at all.
    wanted: watch::Sender<bool>,
}

struct State<T> {
    channel: Option<Channel>,
    /// How many channels were lost.
    generation: u64,
    /// Sorted by tag.
    ready: VecDeque<Held<T>>,
    out: HashMap<u64, Held<T>>,
    delayed: BTreeMap<(Instant, u64), Held<T>>,
    /// The channel's tags that are not acknowledged.
    unsettled: BTreeSet<u64>,
    hand_outs: u64,
    /// How many calls wait for items.
    waiters: usize,
    /// Whether this channel has brought anything.
    is_active: bool,
    is_releasing: bool,
    is_closed: bool,
}

/// An item that this process has and the broker keeps.
pub(crate) struct Held<T> {
    /// The channel's tag, which tells the order.
    pub(crate) tag: u64,
    pub(crate) payload: T,
    /// How often it went back to the queue, as the broker counts.
    returned: u32,
    /// What it had been through before it came to the queue.
    before: Counts,
    /// How often this process handed it out.
    handed: u32,
    /// How often it was given back here because it failed.
    failed: u32,
    /// How many processes have ended with it in hand, once it is known.
    others: Option<u32>,
    /// When it goes to the dead letters, unless it is handed out or delayed.
    expires: Option<Instant>,
}

/// What the pump is asked.
pub(crate) enum Ask {
    /// To answer when all that has come is taken in.
    Settle(oneshot::Sender<()>),
    /// To let another process have the queue.
    Release,
}

/// What there is to hand out.
pub(crate) enum Taken<T> {
    Batch(Vec<Delivery<T>>),
    /// The next item has come back more than once, and it is not known yet what its part in that
    /// was.
    Suspect {
        tag: u64,
        generation: u64,
        key: String,
    },
    /// Nothing before then.
    Nothing(Option<Instant>),
}

/// So many returns make an item suspect. The engine's count is the same: from the third attempt on
/// it takes an event by itself.
pub(crate) const SUSPECT: u32 = 2;

impl<T: Cargo> Held<T> {
    pub(crate) fn new(tag: u64, payload: T, returned: u32, before: Counts) -> Self {
        Self { tag, payload, returned, before, handed: 0, failed: 0, others: None, expires: None }
    }

    fn is_suspect(&self) -> bool {
        self.deaths() >= SUSPECT
    }

    /// What it is known by among the tries.
    fn key(&self) -> String {
        format!("{}#{}", self.payload.key(), self.before.failures)
    }

    /// How many processes ended with it in hand. The broker counts returns of what was merely held.
    /// So they count up to where the item is handed out singly; from there on it is noted who had
    /// it.
    fn deaths(&self) -> u32 {
        let here = self.returned.min(SUSPECT) + self.others.unwrap_or(0);
        self.before.deaths.saturating_add(here)
    }

    /// It expires if it is ready then.
    pub(crate) fn expiring(mut self, at: Instant) -> Self {
        self.expires = Some(at);
        self
    }

    /// When it is handed out again, it is asked again who had it.
    fn forget_tries(&mut self) {
        self.others = None;
    }

    fn failures(&self) -> u32 {
        self.before.failures.saturating_add(self.failed)
    }

    /// How often it was handed out, if it is not now.
    pub(crate) fn attempts_before(&self) -> u32 {
        if T::COUNTS_HAND_OUTS { self.attempt() } else { self.attempt() - 1 }
    }

    fn attempt(&self) -> u32 {
        if T::COUNTS_HAND_OUTS {
            self.deaths().saturating_add(self.handed)
        } else {
            self.deaths().saturating_add(self.failures()).saturating_add(1)
        }
    }
}

impl<T: Cargo> Inflow<T> {
    pub(crate) fn new(
        number: u64,
        queue: ShortString,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Ask>) {
        let (asks, asked) = mpsc::unbounded_channel();
        let state = State {
            channel: None,
            generation: 0,
            ready: VecDeque::new(),
            out: HashMap::new(),
            delayed: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            hand_outs: 0,
            waiters: 0,
            is_active: false,
            is_releasing: false,
            is_closed: false,
        };
        let (state, told, wanted) = (Mutex::new(state), Notify::new(), watch::Sender::new(true));
        (Arc::new(Self { number, queue, state, told, asks, wanted }), asked)
    }

    /// Hands out up to `max` items. A suspect is handed out by itself, and none at all if it would
    /// not be `alone`.
    ///
    /// # Errors
    /// [`AmqpError::Closed`].
    pub(crate) fn take(&self, max: usize, alone: bool) -> Result<Taken<T>, AmqpError> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(AmqpError::Closed);
        }
        if state.is_releasing {
            return Ok(Taken::Nothing(None));
        }
        state.wake_delayed();
        let mut batch = Vec::new();
        while batch.len() < max.max(1)
            && let Some(next) = state.ready.front()
        {
            let is_suspect = next.is_suspect();
            if is_suspect && !(batch.is_empty() && alone) {
                break;
            }
            if is_suspect && next.others.is_none() {
                let (tag, key) = (next.tag, next.key());
                return Ok(Taken::Suspect { tag, generation: state.generation, key });
            }
            batch.extend(state.hand_out(self.number));
            if is_suspect {
                break;
            }
        }
        if batch.is_empty() {
            Ok(Taken::Nothing(state.delayed.first_key_value().map(|((due, _), _)| *due)))
        } else {
            Ok(Taken::Batch(batch))
        }
    }

    /// Says of a suspect how many processes ended with it in hand.
    pub(crate) fn judge(&self, tag: u64, generation: u64, others: u32) {
        let mut state = self.state.lock();
        if state.generation == generation
            && let Some(next) = state.ready.front_mut()
            && next.tag == tag
        {
            next.others = Some(others);
        }
    }

    /// Waits until something may have changed since `told` was enabled, or for a time.
    pub(crate) async fn wait(
        told: Pin<&mut tokio::sync::futures::Notified<'_>>,
        until: Option<Instant>,
    ) {
        match until {
            None => told.await,
            Some(until) => _ = select(told, pin!(sleep_until(until))).await,
        }
    }

    pub(crate) fn told(&self) -> tokio::sync::futures::Notified<'_> {
        self.told.notified()
    }

    /// A handed-out item and its attempts, as long as it is out.
    pub(crate) fn peek(&self, tag: DeliveryTag) -> Option<(T, u32)> {
        let state = self.state.lock();
        let held = state.out.get(&tag.1)?;
        Some((held.payload.clone(), held.attempt()))
    }

    /// A handed-out item, and what it has been through, as long as it is out.
    pub(crate) fn counts(&self, tag: DeliveryTag) -> Option<(T, Counts)> {
        let state = self.state.lock();
        let held = state.out.get(&tag.1)?;
        let counts = Counts { failures: held.failures(), deaths: held.deaths(), due: None };
        Some((held.payload.clone(), counts))
    }

    /// What items are known by whose tries were noted, of some that are out.
    pub(crate) fn noted(&self, tags: &[DeliveryTag]) -> Vec<String> {
        let state = self.state.lock();
        let held = tags.iter().filter_map(|tag| state.out.get(&tag.1));
        held.filter(|held| held.others.is_some()).map(Held::key).collect()
    }

    /// Acknowledges what is out; other tags are ignored.
    ///
    /// # Errors
    /// When the channel is lost on the way.
    pub(crate) async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), AmqpError> {
        let sent = {
            let mut state = self.state.lock();
            let mut done = Vec::with_capacity(tags.len());
            done.extend(tags.iter().filter_map(|tag| state.out.remove(&tag.1)).map(|it| it.tag));
            if state.out.is_empty() && state.is_releasing {
                self.told.notify_waiters();
            }
            state.settle(done)
        };
        sent.await
    }

    /// Acknowledges all that is not handed out; says how many items.
    ///
    /// # Errors
    /// When the channel is lost on the way.
    pub(crate) async fn purge(&self) -> Result<u64, AmqpError> {
        let (count, sent) = {
            let mut state = self.state.lock();
            let delayed = std::mem::take(&mut state.delayed).into_values();
            let tags: Vec<u64> = delayed.map(|held| held.tag).collect();
            let ready = std::mem::take(&mut state.ready);
            let tags: Vec<u64> = ready.iter().map(|held| held.tag).chain(tags).collect();
            (tags.len() as u64, state.settle(tags))
        };
        sent.await.map(|()| count)
    }

    /// Acknowledges an item that was never handed out, and came in a generation.
    pub(crate) async fn drop_unread(&self, tag: u64, generation: u64) -> Result<(), AmqpError> {
        let sent = {
            let mut state = self.state.lock();
            if state.generation != generation {
                return Ok(());
            }
            state.settle(vec![tag])
        };
        sent.await
    }

    /// Puts back what is out, to its old place.
    pub(crate) fn give_back(&self, tags: &[DeliveryTag], after: Duration, why: Returned) {
        let mut state = self.state.lock();
        let due = (!after.is_zero()).then(|| later(after));
        for tag in tags {
            let Some(mut held) = state.out.remove(&tag.1) else { continue };
            held.failed += u32::from(why == Returned::Failed);
            // Its tries are noted anew.
            held.forget_tries();
            match due {
                Some(due) => _ = state.delayed.insert((due, held.tag), held),
                None => state.put_back(held),
            }
        }
        self.told.notify_waiters();
    }

    /// The queue is to be consumed from now on, and as long as the guard is there somebody waits for
    /// what comes.
    pub(crate) fn want(self: &Arc<Self>) -> Waiting<T> {
        self.state.lock().waiters += 1;
        self.wanted.send_if_modified(|wanted| !std::mem::replace(wanted, true));
        Waiting(self.clone())
    }

    /// Lets go of the queue if nobody here waits for what comes and nothing is in hand; says whether
    /// that is so.
    pub(crate) fn let_go(&self) -> bool {
        let state = self.state.lock();
        let is_unused = state.waiters == 0 && state.out.is_empty();
        if is_unused {
            self.wanted.send_if_modified(|wanted| std::mem::replace(wanted, false));
        }
        is_unused
    }

    /// Whether the queue is to be consumed.
    pub(crate) fn wanted(&self) -> watch::Receiver<bool> {
        self.wanted.subscribe()
    }

    /// Takes what is ready and has expired; it is held all the same.
    pub(crate) fn take_expired(&self) -> (Vec<Held<T>>, u64) {
        let mut state = self.state.lock();
        let now = Instant::now();
        let ready = std::mem::take(&mut state.ready);
        let is_late = |held: &Held<T>| held.expires.is_some_and(|at| at <= now);
        let (late, ready): (Vec<_>, Vec<_>) = ready.into_iter().partition(is_late);
        state.ready = ready.into();
        (late, state.generation)
    }

    /// Puts back all that is out.
    pub(crate) fn give_back_all(&self) {
        let out: Vec<_> =
            self.state.lock().out.keys().map(|tag| DeliveryTag(self.number, *tag)).collect();
        self.give_back(&out, Duration::ZERO, Returned::Untried);
    }

    /// How many items the process holds.
    pub(crate) fn held(&self) -> usize {
        self.state.lock().unsettled.len()
    }

    /// Whether the broker has chosen this process for the queue, as far as can be seen.
    pub(crate) fn is_active(&self) -> bool {
        let state = self.state.lock();
        state.is_active && !state.is_releasing
    }

    pub(crate) fn channel(&self) -> Option<Channel> {
        self.state.lock().channel.clone()
    }

    pub(crate) fn ask(&self, ask: Ask) {
        // Without a pump there is nobody who could have taken anything in.
        _ = self.asks.send(ask);
    }

    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.told.notify_waiters();
    }

    /// Whether nothing is received any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// A channel brings items from now on.
    pub(crate) fn opened(&self, channel: Channel) {
        self.state.lock().channel = Some(channel);
    }

    /// The channel is gone, and all that came by it.
    pub(crate) fn lost(&self) {
        let mut state = self.state.lock();
        state.generation += 1;
        state.channel = None;
        state.ready.clear();
        state.out.clear();
        state.delayed.clear();
        state.unsettled.clear();
        (state.is_active, state.is_releasing) = (false, false);
        self.told.notify_waiters();
    }

    /// An item has come. `None` is one that is not handed out; it is held all the same. Says the
    /// generation.
    pub(crate) fn came(&self, tag: u64, held: Option<Held<T>>) -> u64 {
        let mut state = self.state.lock();
        state.unsettled.insert(tag);
        state.is_active = true;
        let was_idle = state.ready.is_empty();
        state.ready.extend(held);
        if was_idle && !state.ready.is_empty() {
            self.told.notify_waiters();
        }
        state.generation
    }

    /// An item that came before is handed out later, if it is still of this generation.
    pub(crate) fn delay(&self, held: Held<T>, generation: u64, due: Instant) {
        let mut state = self.state.lock();
        if state.generation == generation {
            state.delayed.insert((due, held.tag), held);
            self.told.notify_waiters();
        }
    }

    /// Hands out nothing more, and waits until nothing is out, or for a time.
    pub(crate) async fn hold_back(&self, limit: Duration) {
        let until = Instant::now() + limit;
        self.state.lock().is_releasing = true;
        while Instant::now() < until {
            let mut told = pin!(self.told());
            told.as_mut().enable();
            if self.state.lock().out.is_empty() {
                return;
            }
            Self::wait(told, Some(until)).await;
        }
    }
}

/// A time from now, or when nobody will ask any more.
pub(crate) fn later(after: Duration) -> Instant {
    const AGES: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
    Instant::now() + after.min(AGES)
}

/// Somebody waits for what comes.
pub(crate) struct Waiting<T: Cargo>(Arc<Inflow<T>>);

impl<T: Cargo> Drop for Waiting<T> {
    fn drop(&mut self) {
        self.0.state.lock().waiters -= 1;
    }
}

impl<T: Cargo> State<T> {
    fn hand_out(&mut self, number: u64) -> Option<Delivery<T>> {
        let mut held = self.ready.pop_front()?;
        held.handed += 1;
        self.hand_outs += 1;
        let delivery = Delivery {
            payload: held.payload.clone(),
            tag: DeliveryTag(number, self.hand_outs),
            attempt: held.attempt(),
            failures: if T::COUNTS_HAND_OUTS { 0 } else { held.failures() },
        };
        self.out.insert(self.hand_outs, held);
        Some(delivery)
    }

    fn put_back(&mut self, held: Held<T>) {
        let place = self.ready.partition_point(|other| other.tag < held.tag);
        self.ready.insert(place, held);
    }

    fn wake_delayed(&mut self) {
        while let Some(first) = self.delayed.first_entry()
            && first.key().0 <= Instant::now()
        {
            let held = first.remove();
            self.put_back(held);
        }
    }

    /// Sends acknowledgements: one for all tags below the first that stays, one for each other.
    /// They are put in line here, under the lock; what is returned waits for them to leave.
    fn settle(
        &mut self,
        mut done: Vec<u64>,
    ) -> impl Future<Output = Result<(), AmqpError>> + Send + use<T> {
        type Ack = Pin<Box<dyn Future<Output = lapin::Result<()>> + Send>>;
        done.retain(|tag| self.unsettled.remove(tag));
        done.sort_unstable();
        let first_open = self.unsettled.first().copied().unwrap_or(u64::MAX);
        let below = done.partition_point(|tag| *tag < first_open);
        let many = below.checked_sub(1).map(|last| (done[last], below > 1));
        let single = done[below..].iter().map(|tag| (*tag, false));
        let mut acks: Vec<Ack> = Vec::new();
        let mut failure = None;
        for (tag, multiple) in many.into_iter().chain(single) {
            let Some(channel) = self.channel.clone() else { break };
            let options = BasicAckOptions { multiple };
            let mut ack: Ack = Box::pin(async move { channel.basic_ack(tag, options).await });
            match ack.as_mut().now_or_never() {
                Some(Ok(())) => {}
                Some(Err(error)) => failure = Some(error),
                None => acks.push(ack),
            }
        }
        async move {
            let left = join_all(acks).await.into_iter().find_map(Result::err);
            failure.or(left).map_or(Ok(()), |error| Err(error.into()))
        }
    }
}
