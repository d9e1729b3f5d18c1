//! A store with something of each kind in it: how it is filled, read whole, and goes on. The fixtures
//! of older formats were made by this.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::select_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use thredcore::{
    Engine, EngineConfig, FiredTimers, Ports,
    conformance::samples,
    memory::{MemoryEventQ, MemoryMessageQ, MemoryMessageQConfig},
    port::{
        Accepted, DeadLetter, DeadLetterFilter, Death, Delivery, Directory, EventQ, FixedDirectory,
        History, Inbound, MessageQ, OutboxEntry, ParkedTopic, Receipt, Routed, Storage,
        StoredPattern, ThredCount, ThredQuery, Unmoved,
    },
    state::{Consumed, Status, ThredState, WaitKey},
    testing::ManualClock,
};
use thredlib::{Event, EventKey, PatternModel, ThredId};

/// The time at which a store is filled, milliseconds since the Unix epoch.
pub const TIME: i64 = 1_767_225_600_000;
const HOUR: i64 = 3_600_000;
/// More than there is.
const MANY: usize = 10_000;
/// Whom the messages go to.
const ANN: &str = "ann";
const DEAD: &str = "org.wt.dead";
const WAITING: &str = "org.wt.waiting";

/// All that a storage holds.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    threds: Vec<ThredState>,
    histories: BTreeMap<ThredId, Vec<History>>,
    outboxes: BTreeMap<ThredId, Vec<OutboxEntry>>,
    parked: Vec<ParkedTopic>,
    timers: Vec<(i64, ThredId, u64)>,
    waiting: Vec<(ThredId, Vec<ThredId>)>,
    counts: Vec<ThredCount>,
    unmoved: Vec<Unmoved>,
    receipts: Vec<(EventKey, Receipt)>,
    patterns: Vec<StoredPattern>,
    places: BTreeMap<String, Vec<ThredId>>,
}

/// All that queues hold.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queued {
    events: usize,
    messages: usize,
    dead_events: Vec<DeadLetter<Inbound>>,
    dead_messages: Vec<DeadLetter<Routed>>,
}

/// An order that waits to be paid, one that ends by itself, and one that always fails.
fn patterns() -> Vec<PatternModel> {
    let publish = json!({ "to": ANN });
    let transform = json!({ "eventDataTemplate": { "title": "$xpr('Order ' & $local('order'))" } });
    let order = json!({ "name": "order", "maxInstances": 100, "reactions": [
        { "name": "start", "condition": {
            "type": "filter", "xpr": "$event.type = 'order'", "transform": transform, "publish": publish,
            "onTrue": { "setLocal": { "order": "$xpr($event.id)", "event": "$xpr($event)" } } } },
        { "name": "pay", "allowUnboundEvents": true,
          "expiry": { "interval": HOUR, "transition": { "name": "late" } },
          "condition": { "type": "filter", "transform": transform, "publish": publish,
            "xpr": "$event.type = 'paid' and $valueNamed('order') = $local('order')",
            "transition": { "name": "ship" } } },
        { "name": "ship", "condition": { "type": "and", "transition": { "name": "$terminate" }, "operands": [
            { "type": "filter", "xpr": "$event.type = 'packed'" },
            { "type": "filter", "xpr": "$event.type = 'sent'" } ] } },
        { "name": "late", "condition": { "type": "filter", "xpr": "$event.type = 'paid late'",
            "transform": transform, "publish": publish } }
    ] });
    let hello = json!({ "name": "hello", "reactions": [
        { "name": "hello", "condition": { "type": "filter", "xpr": "$event.type = 'hello'",
            "transform": { "eventDataTemplate": { "title": "Hello" } }, "publish": publish } }
    ] });
    let failing = json!({ "name": "failing", "reactions": [
        { "name": "fail", "condition": { "type": "filter", "xpr": "$event.type = 'fail'",
            "transform": { "eventDataTemplate": { "title": "$xpr($number('x'))" } }, "publish": publish } }
    ] });
    let model = |json| serde_json::from_value(json).expect("a pattern");
    [order, hello, failing].map(model).into()
}

fn event(id: &str, kind: &str) -> Event {
    Event::builder(kind, "erp").id(id).timestamp(TIME).build()
}

fn paid(id: &str, order: &str) -> Event {
    let paid = Event::builder("paid", "bank").id(id).timestamp(TIME);
    paid.values(json!({ "order": order })).build()
}

/// A state with something in each field.
fn full() -> ThredState {
    let mut inbox: Vec<_> = (1..=70).map(|n| samples::consumed(&format!("full#{n}"))).collect();
    inbox[3].partition = Consumed::NO_RECEIPT;
    inbox[4].at = u32::MAX;
    let locals = [("foreign".into(), json!(samples::FOREIGN)), ("big".into(), json!(u64::MAX))];
    ThredState {
        version: 1,
        waits: samples::wait_keys(&["a", "b", "c"]),
        entered_at: TIME - 5,
        started_at: TIME - 7,
        modified_at: TIME + 9,
        // After all that a test lets pass.
        expires_at: Some(TIME + 1_000 * HOUR),
        locals: Arc::new(locals.into_iter().collect()),
        participants: ["erp", "ann", "Gr\u{fc}\u{df}e\t\n"].map(Into::into).into(),
        errors: 3,
        matched: [1_u16, 2, 500].into_iter().collect(),
        label: Some("a label".into()),
        description: Some("what \"last\" happened".into()),
        display: Some("icon".into()),
        parent: Some("parent".into()),
        children: ["child 1".into(), "child 2".into()].into_iter().collect(),
        inbox,
        ..samples::thred("full")
    }
}

/// One that is past waiting, with odd times.
fn finished() -> ThredState {
    ThredState {
        status: Status::Finished,
        waits: samples::wait_keys(&["late"]),
        started_at: i64::MIN,
        entered_at: i64::MAX,
        modified_at: -1,
        expires_at: Some(i64::MIN),
        ..samples::thred("finished")
    }
}

fn ports(
    storage: Arc<dyn Storage>,
    event_q: Arc<dyn EventQ>,
    message_q: Arc<dyn MessageQ>,
    at: i64,
) -> (Ports, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(at));
    let mut directory = Directory::new();
    directory.add_session(ANN, "org.wt.session");
    let resolver = Arc::new(FixedDirectory::new(directory));
    (Ports { event_q, message_q, storage, resolver, clock: clock.clone() }, clock)
}

async fn engine(ports: Ports) -> Engine {
    let built = Engine::builder().ports(ports).config(EngineConfig::default()).build();
    built.await.expect("an engine")
}

async fn received(event_q: &dyn EventQ) -> Vec<Delivery<Inbound>> {
    let each = (0..event_q.partitions()).map(|partition| event_q.receive(partition, 64));
    select_all(each).await.0.expect("received")
}

async fn settle(engine: &Engine) {
    let event_q = engine.event_q().clone();
    while event_q.depth().await.expect("a depth") > 0 {
        engine.process(received(&*event_q).await).await.expect("processed");
    }
}

/// Fills an empty storage.
pub async fn fill(storage: Arc<dyn Storage>) {
    // Nearly everything waits in outboxes, under the full topic.
    let message_q = Arc::new(MemoryMessageQ::new(MemoryMessageQConfig::default().capacity(1)));
    let event_q = Arc::new(MemoryEventQ::with_partitions(4));
    let (ports, _) = ports(storage.clone(), event_q, message_q, TIME);
    let engine = engine(ports).await;
    engine.put_patterns(patterns()).await.expect("the patterns run");
    for events in [
        vec![event("o1", "order"), event("o2", "order"), event("o3", "order")],
        vec![event("h1", "hello"), event("f1", "fail"), event("n1", "nothing")],
        vec![paid("p2", "o2")],
    ] {
        engine.accept(events).await.expect("accepted");
        settle(&engine).await;
    }
    let thred = of_order(&*storage, "o2").await;
    let packed = Event::builder("packed", "erp").id("k2").thred(thred.id).timestamp(TIME);
    engine.accept(vec![packed.build()]).await.expect("accepted");
    settle(&engine).await;
    let first = samples::with_outbox(samples::commit(full()), &["m1", "m2"], TIME);
    samples::applied(storage.commit(&[Arc::new(first)]).await);
    samples::store(&*storage, [finished()]).await;
}

/// Fills empty queues.
pub async fn fill_queues(event_q: &dyn EventQ, message_q: &dyn MessageQ) {
    event_q.publish(vec![samples::unbound("dead", "erp")]).await.expect("published");
    let received = received(event_q).await;
    let death = Death { reason: "it fails".into(), times: 1, ..Death::default() };
    event_q.dead_letter(received[0].tag, &death).await.expect("a dead letter");
    let accepted = |id: &str| Inbound::Event(Accepted::new(event(id, "order"), TIME));
    event_q.publish(["q1", "q2"].map(accepted).into()).await.expect("published");
    let publish = async |topic: &str, id: &str| {
        for published in message_q.publish(vec![samples::routed(topic, id)]).await {
            published.expect("published");
        }
    };
    publish(DEAD, "d1").await;
    let dead = message_q.receive(&[DEAD.into()], 1).await.expect("received");
    message_q.dead_letter(dead[0].tag, "it fails").await.expect("a dead letter");
    publish(WAITING, "w1").await;
    publish(WAITING, "w2").await;
}

/// The thred of an order.
async fn of_order(storage: &dyn Storage, order: &str) -> ThredState {
    let threds = all_threds(storage).await;
    let found = threds
        .into_iter()
        .find(|state| state.locals.get("order").is_some_and(|value| *value == json!(order)));
    found.unwrap_or_else(|| panic!("no thred of {order}"))
}

async fn all_threds(storage: &dyn Storage) -> Vec<ThredState> {
    let status = vec![Status::Active, Status::Finished, Status::Terminated];
    let query = ThredQuery { status, limit: MANY, ..ThredQuery::default() };
    let page = storage.threds(&query).await.expect("threds");
    let ids: Vec<_> = page.threds.iter().map(|state| state.id.clone()).collect();
    // By key too: it is read another way.
    let loaded = storage.load(&ids).await.expect("loaded");
    let loaded = loaded.into_iter().map(|it| it.expect("it was listed").state);
    let mut threds: Vec<_> = loaded.map(|state| (*state).clone()).collect();
    let listed: Vec<_> = page.threds.iter().map(|state| (**state).clone()).collect();
    assert_eq!(listed, threds);
    threds.sort_by(|a, b| a.id.cmp(&b.id));
    threds
}

impl Contents {
    /// How many threds it holds, ended ones included.
    pub fn threds(&self) -> usize {
        self.threds.len()
    }

    /// Reads all that a storage holds.
    ///
    /// # Panics
    /// When something cannot be read.
    pub async fn of(storage: &dyn Storage) -> Self {
        assert_eq!(storage.unreadable(MANY).await.expect("asked"), []);
        let mut found = Self { threds: all_threds(storage).await, ..Self::default() };
        let mut keys: Vec<EventKey> = vec![];
        for state in &found.threds {
            let history = storage.history(&state.id, None, MANY).await.expect("a history");
            keys.extend(history.iter().filter_map(|step| Some(step.consumed?.key)));
            found.histories.insert(state.id.clone(), history);
            let loaded = storage.load(std::slice::from_ref(&state.id)).await.expect("loaded");
            let outbox = loaded.into_iter().flatten().flat_map(|it| it.outbox).collect::<Vec<_>>();
            if !outbox.is_empty() {
                found.outboxes.insert(state.id.clone(), outbox);
            }
        }
        found.unmoved = storage.unmoved(None, MANY).await.expect("records").records;
        found.unmoved.sort_by_key(|unmoved| unmoved.key);
        keys.extend(found.unmoved.iter().map(|unmoved| unmoved.key));
        keys.sort_unstable();
        keys.dedup();
        let waits: Vec<(ThredId, Vec<WaitKey>)> =
            found.threds.iter().map(|state| (state.id.clone(), state.waits.to_vec())).collect();
        for partition in 0..storage.partitions() {
            let due = storage.due(partition, i64::MAX, None, MANY).await.expect("timers");
            found.timers.extend(due.timers.into_iter().map(|it| (it.at, it.thred_id, it.entry)));
            let receipts = storage.receipts(partition, &keys).await.expect("receipts");
            let receipts = keys.iter().copied().zip(receipts);
            found.receipts.extend(receipts.filter_map(|(key, receipt)| Some((key, receipt?))));
        }
        for (id, waits) in waits.into_iter().filter(|(_, waits)| !waits.is_empty()) {
            let met = storage.waiting(&waits, None, MANY).await.expect("waiting");
            found.waiting.push((id, met));
        }
        found.timers.sort();
        found.receipts.sort_unstable();
        found.parked = storage.parked_topics().await.expect("topics");
        found.counts = storage.counts().await.expect("counts");
        found.patterns = storage.patterns().await.expect("patterns");
        found.patterns.sort_by(|a, b| a.key.cmp(&b.key));
        for pattern in &found.patterns {
            let places = storage.reserved(&pattern.key.id, None, MANY).await.expect("places");
            found.places.insert(pattern.key.id.to_string(), places);
        }
        found
    }
}

impl Queued {
    /// Reads all that queues hold.
    ///
    /// # Panics
    /// When something cannot be read.
    pub async fn of(event_q: &dyn EventQ, message_q: &dyn MessageQ) -> Self {
        assert_eq!(event_q.unreadable(MANY).await.expect("asked"), []);
        assert_eq!(message_q.unreadable(MANY).await.expect("asked"), []);
        let all = DeadLetterFilter::all();
        Self {
            events: event_q.depth().await.expect("a depth"),
            messages: message_q.depth(&WAITING.into()).await.expect("a depth"),
            dead_events: event_q.dead_letters(&all).await.expect("dead letters"),
            dead_messages: message_q.dead_letters(&all).await.expect("dead letters"),
        }
    }
}

/// Goes on with a filled storage, and with what waits in the event queue: events meet their threds, a
/// timer fires, outboxes are published. Everything that it writes begins with the round.
///
/// # Panics
/// When something is not as it must be.
pub async fn go_on(storage: Arc<dyn Storage>, event_q: Arc<dyn EventQ>, round: &str) {
    let message_q = Arc::new(MemoryMessageQ::default());
    let before = Contents::of(&*storage).await;
    let waiting = event_q.depth().await.expect("a depth");
    let (ports, clock) = ports(storage.clone(), event_q, message_q.clone(), TIME + 1);
    let engine = engine(ports).await;
    // What waited in the queue, and an event that is known by its receipt.
    let (new, paid_id) = (format!("{round} new"), format!("{round} paid"));
    engine.accept(vec![event(&new, "order"), event("h1", "hello")]).await.expect("accepted");
    settle(&engine).await;
    assert_eq!(of_order(&*storage, &new).await.reaction.as_ref(), "pay");
    let after = Contents::of(&*storage).await;
    assert_eq!(after.threds.len(), before.threds.len() + 1 + waiting);
    // Known by what it is about.
    engine.accept(vec![paid(&paid_id, &new)]).await.expect("accepted");
    settle(&engine).await;
    let thred = of_order(&*storage, &new).await;
    assert_eq!(thred.reaction.as_ref(), "ship");
    // Only half of what it waits for is here.
    let bound = |kind: &str, to: &ThredState| {
        let id = format!("{round} {kind} {}", to.id);
        Event::builder(kind, "erp").id(id).thred(to.id.clone()).timestamp(TIME).build()
    };
    let second = of_order(&*storage, "o2").await;
    engine.accept(vec![bound("sent", &thred), bound("sent", &second)]).await.expect("accepted");
    settle(&engine).await;
    let thred = of_order(&*storage, &new).await;
    assert_eq!((thred.status, thred.matched.len()), (Status::Active, 1));
    let second = of_order(&*storage, "o2").await;
    assert_eq!(second.status, Status::Terminated, "the other half was there before");
    // The time of all that were not paid is up.
    clock.set(TIME + 2 * HOUR);
    engine.fire_due(&mut FiredTimers::default()).await.expect("fired");
    settle(&engine).await;
    assert_eq!(of_order(&*storage, "o3").await.reaction.as_ref(), "late");
    engine.relay(TIME + 3 * HOUR).await.expect("published");
    engine.relay_parked().await.expect("published");
    assert_eq!(storage.parked_topics().await.expect("topics"), []);
    assert!(message_q.depth(&"org.wt.session".into()).await.expect("a depth") > 0);
    let after = Contents::of(&*storage).await;
    assert_eq!(after.outboxes, BTreeMap::new());
    for state in &before.threds {
        let now = after.threds.iter().find(|now| now.id == state.id).expect("it is there");
        assert!(now.version >= state.version);
        assert!(after.histories[&state.id].starts_with(&before.histories[&state.id]));
    }
}

/// One more thred, after all others.
pub async fn add_last(storage: &dyn Storage) {
    samples::store(storage, [samples::thred("last")]).await;
}
