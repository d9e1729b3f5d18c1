//! What a process holds of one queue.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt,
    future::{join_all, select},
};
use lapin::{Channel, options::BasicAckOptions, types::ShortString};
use thredcore::port::{Delivery, DeliveryTag};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Duration, Instant, sleep_until},
};

use crate::{AmqpError, cargo::Cargo};

/// The items of a queue that a process holds: ready to be handed out, handed out, or waiting for
/// their time. A [pump](crate::pump) fills it.
///
/// All of it belongs to one channel. When that is lost all is forgotten, since the broker delivers
/// it again: a tag of that time is not out any more, and no acknowledgement of a former channel
/// can be sent.
pub(crate) struct Inflow<T> {
    number: u64,
    pub(crate) queue: ShortString,
    /// Items that come back from the broker are suspected and handed out singly.
    suspicious: bool,
    state: Mutex<State<T>>,
    told: Notify,
    asks: mpsc::UnboundedSender<Ask>,
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
    pub(crate) returned: u32,
    /// How often this process handed it out.
    handed: u32,
    /// How many processes have ended with it in hand, once it is known.
    others: Option<u32>,
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
        id: String,
    },
    /// Nothing before then.
    Nothing(Option<Instant>),
}

/// So many returns make an item suspect. The engine's count is the same: from the third attempt on
/// it takes an event by itself.
const SUSPECT: u32 = 2;

impl<T: Cargo> Held<T> {
    pub(crate) fn new(tag: u64, payload: T, returned: u32) -> Self {
        Self { tag, payload, returned, handed: 0, others: None }
    }

    fn is_suspect(&self) -> bool {
        self.returned >= SUSPECT
    }

    /// The broker counts returns of what was merely held. So they count up to where the item is
    /// handed out singly; from there on it is noted who had it.
    fn attempt(&self, suspicious: bool) -> u32 {
        let before = match suspicious {
            true => self.returned.min(SUSPECT) + self.others.unwrap_or(0),
            false => self.returned.min(1),
        };
        before + self.handed
    }
}

impl<T: Cargo> Inflow<T> {
    pub(crate) fn new(
        number: u64,
        queue: ShortString,
        suspicious: bool,
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
            is_active: false,
            is_releasing: false,
            is_closed: false,
        };
        let (state, told) = (Mutex::new(state), Notify::new());
        (Arc::new(Self { number, queue, suspicious, state, told, asks }), asked)
    }

    /// Hands out up to `max` items.
    ///
    /// # Errors
    /// [`AmqpError::Closed`].
    pub(crate) fn take(&self, max: usize) -> Result<Taken<T>, AmqpError> {
        let mut state = self.lock();
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
            let is_suspect = self.suspicious && next.is_suspect();
            if is_suspect && !batch.is_empty() {
                break;
            }
            if is_suspect && next.others.is_none() {
                let (tag, id) = (next.tag, next.payload.id());
                return Ok(Taken::Suspect { tag, generation: state.generation, id });
            }
            batch.extend(state.hand_out(self.number, self.suspicious));
            if is_suspect {
                break;
            }
        }
        match batch.is_empty() {
            true => Ok(Taken::Nothing(state.delayed.first_key_value().map(|((due, _), _)| *due))),
            false => Ok(Taken::Batch(batch)),
        }
    }

    /// Says of a suspect how many processes ended with it in hand.
    pub(crate) fn judge(&self, tag: u64, generation: u64, others: u32) {
        let mut state = self.lock();
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
        let state = self.lock();
        let held = state.out.get(&tag.1)?;
        Some((held.payload.clone(), held.attempt(self.suspicious)))
    }

    /// Acknowledges what is out; other tags are ignored.
    ///
    /// # Errors
    /// When the channel is lost on the way.
    pub(crate) async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), AmqpError> {
        let sent = {
            let mut state = self.lock();
            let mut done = Vec::with_capacity(tags.len());
            done.extend(tags.iter().filter_map(|tag| state.out.remove(&tag.1)).map(|it| it.tag));
            if state.out.is_empty() && state.is_releasing {
                self.told.notify_waiters();
            }
            state.settle(done)
        };
        sent.await
    }

    /// Acknowledges an item that was never handed out.
    pub(crate) async fn drop_unread(&self, tag: u64) -> Result<(), AmqpError> {
        let sent = self.lock().settle(vec![tag]);
        sent.await
    }

    /// Puts back what is out, to its old place.
    pub(crate) fn give_back(&self, tags: &[DeliveryTag], after: Duration) {
        let mut state = self.lock();
        let due = Instant::now().checked_add(after).filter(|_| !after.is_zero());
        for tag in tags {
            let Some(held) = state.out.remove(&tag.1) else { continue };
            match due {
                Some(due) => _ = state.delayed.insert((due, held.tag), held),
                None => state.put_back(held),
            }
        }
        self.told.notify_waiters();
    }

    /// How many items the process holds.
    pub(crate) fn held(&self) -> usize {
        self.lock().unsettled.len()
    }

    /// Whether the broker has chosen this process for the queue, as far as can be seen.
    pub(crate) fn is_active(&self) -> bool {
        let state = self.lock();
        state.is_active && !state.is_releasing
    }

    pub(crate) fn channel(&self) -> Option<Channel> {
        self.lock().channel.clone()
    }

    pub(crate) fn ask(&self, ask: Ask) {
        // Without a pump there is nobody who could have taken anything in.
        _ = self.asks.send(ask);
    }

    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.told.notify_waiters();
    }

    /// Whether nothing is received any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// A channel brings items from now on.
    pub(crate) fn opened(&self, channel: Channel) {
        self.lock().channel = Some(channel);
    }

    /// The channel is gone, and all that came by it.
    pub(crate) fn lost(&self) {
        let mut state = self.lock();
        state.generation += 1;
        state.channel = None;
        state.ready.clear();
        state.out.clear();
        state.delayed.clear();
        state.unsettled.clear();
        (state.is_active, state.is_releasing) = (false, false);
        self.told.notify_waiters();
    }

    /// An item has come. `None` is one that cannot be read; it is held all the same.
    pub(crate) fn came(&self, tag: u64, held: Option<Held<T>>) {
        let mut state = self.lock();
        state.unsettled.insert(tag);
        state.is_active = true;
        let was_idle = state.ready.is_empty();
        state.ready.extend(held);
        if was_idle && !state.ready.is_empty() {
            self.told.notify_waiters();
        }
    }

    /// Hands out nothing more, and waits until nothing is out, or for a time.
    pub(crate) async fn hold_back(&self, limit: Duration) {
        let until = Instant::now() + limit;
        self.lock().is_releasing = true;
        while Instant::now() < until {
            let mut told = pin!(self.told());
            told.as_mut().enable();
            if self.lock().out.is_empty() {
                return;
            }
            Self::wait(told, Some(until)).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Cargo> State<T> {
    fn hand_out(&mut self, number: u64, suspicious: bool) -> Option<Delivery<T>> {
        let mut held = self.ready.pop_front()?;
        held.handed += 1;
        self.hand_outs += 1;
        let delivery = Delivery {
            payload: held.payload.clone(),
            tag: DeliveryTag(number, self.hand_outs),
            attempt: held.attempt(suspicious),
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
