//! What the parts of an event's path cost on one core, in memory:
//! `cargo bench -p thredcore --bench micro`.
//!
//! Of the columns, look at `fastest` and `median`: on a machine with other work, the rest is noise.

use std::sync::Arc;

use divan::{Bencher, black_box};
use futures::FutureExt;
use serde_json::{Value, json};
use thredcore::{
    Engine,
    memory::{MemoryEventQ, MemoryMessageQ, MemoryStorage},
    pattern::{Library, Pattern},
    port::{
        Accepted, Cleared, Commit, Directory, EventQ, Inbound, MessageQ, Outgoing, Receipt,
        RecordStore, Routed, Settlement, StoredPattern, ThredStore,
    },
    state::{Consumed, WaitKey},
    thred::{self, Input, Outcome, ReactLimits, World},
};
use thredlib::{
    ConditionBuilder, Event, EventKey, ExprLimits, ExpressionLanguage, Message, PatternBuilder,
    PatternModel, ReactionBuilder, Template, ThredId, derive_id,
    expr::{self, Scope},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// An event as a client sends it.
const EVENT: &str = r#"{"id":"0198f2c4-7a5e-7cc3-a4b1-1f0d5be2c9a7","type":"bench.start","source":{"id":"erp","name":"ERP"},"timestamp":1767225600000,"data":{"title":"Order 4711","content":{"values":{"n":4711,"customer":"ACME","amount":129.5,"lines":[{"item":"bolt","count":100},{"item":"nut","count":100}]}}}}"#;

fn event() -> Arc<Event> {
    Arc::new(serde_json::from_str(EVENT).expect("the sample is an event"))
}

fn numbered(n: u64) -> Arc<Event> {
    let event = event();
    Arc::new(Event { id: format!("event-{n}").as_str().into(), ..(*event).clone() })
}

fn message() -> Message {
    let data = json!({ "title": "only", "content": { "values": { "n": 4711 } } });
    let data = data.as_object().cloned().unwrap_or_default();
    let event = Event::builder("org.wt.tell", "SYSTEM").thred("t-1").id("m-1").data(data).build();
    Message { id: "m-1".into(), event: Arc::new(event), to: vec!["client".into()], timestamp: 1 }
}

/// An event starts a thred, which sends one message; then it ends, or waits in a second reaction.
fn pattern(last: &str) -> PatternModel {
    let step = |name: &str, event_type: &str, next: &str| {
        let condition = ConditionBuilder::filter(format!("$event.type = '{event_type}'"))
            .transform(answer())
            .publish("client")
            .transition(next);
        ReactionBuilder::new(name).condition(condition)
    };
    let pattern = PatternBuilder::new("bench");
    pattern
        .reaction(step("first", "bench.start", last))
        .reaction(step("second", "bench.start", "second"))
        .build()
}

fn answer() -> Value {
    json!({ "title": "only", "content": { "values": { "n": "$xpr($valueNamed('n'))" } } })
}

/// One of many patterns: most want a type of their own, some a value, a source, or JSONPath.
fn other(n: usize) -> PatternModel {
    let filter = match n % 4 {
        0 => format!("$event.type = 'bench.other.{}' and $valueNamed('device') = 'd{n}'", n % 100),
        1 => format!("$event.type in ['bench.open.{n}', 'bench.close.{n}']"),
        2 => format!("$event.source.id = 'sensor-{n}' and $valueNamed('alarm') > 3"),
        _ => format!("$event.type = 'bench.kind.{n}' or $event.type = 'bench.sort.{n}'"),
    };
    let first = ConditionBuilder::filter(filter).transform(answer()).publish("client");
    let second = ConditionBuilder::and([
        ConditionBuilder::filter("$event.type = 'org.wt.client.tell' and $isResponseFor('ask')"),
        ConditionBuilder::filter("$valueNamed('confirmed') = true"),
    ]);
    PatternBuilder::new(format!("other {n}"))
        .reaction(ReactionBuilder::new("first").condition(first))
        .reaction(
            ReactionBuilder::new("second")
                .condition(second.transition("$terminate"))
                .expiry(60_000, "$terminate"),
        )
        .build()
}

fn compiled(model: PatternModel) -> Arc<Pattern> {
    let pattern = Pattern::compile(&StoredPattern::new(model), &ExprLimits::default());
    Arc::new(pattern.expect("the sample runs"))
}

const NOW: i64 = 1_767_225_600_000;

/// What an inbox keeps of an event.
fn consumed(event: &Arc<Event>) -> Consumed {
    Consumed::new(Accepted::new(event.clone(), NOW).key(), NOW, 0)
}

/// All that a decision needs.
#[derive(Default)]
struct Surroundings {
    directory: Directory,
    library: Library,
    limits: ReactLimits,
}

impl Surroundings {
    fn new() -> Self {
        let mut surroundings = Self::default();
        surroundings.directory.add_session("client", "org.wt.session");
        surroundings
    }

    fn world(&self) -> World<'_> {
        let Self { directory, library, limits } = self;
        World { now: NOW, seed: 0, directory, library, limits, watchers: &[], settled: &[] }
    }

    fn start(&self, pattern: &Pattern, event: Arc<Event>) -> Commit {
        let consumed = consumed(&event);
        let mut scope = Scope::new(event, NOW, 0);
        let started = thred::start(pattern, &mut scope, consumed, &self.world());
        started.expect("the step succeeds").expect("the pattern starts")
    }
}

/// The memory backends answer at once.
fn ready<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing to wait for")
}

mod wire {
    use super::*;

    #[divan::bench(sample_size = 256)]
    fn parse_event() -> Event {
        serde_json::from_str(black_box(EVENT)).expect("the sample is an event")
    }

    #[divan::bench(sample_size = 256)]
    fn write_message(bencher: Bencher<'_, '_>) {
        let message = message();
        let mut out = Vec::with_capacity(1024);
        bencher.bench_local(|| {
            out.clear();
            serde_json::to_writer(&mut out, black_box(&message)).expect("a message is JSON");
            out.len()
        });
    }

    #[divan::bench(sample_size = 256)]
    fn derive_thred_id() -> Arc<str> {
        derive_id("thred", black_box(&["0198f2c4-7a5e-7cc3-a4b1-1f0d5be2c9a7", "bench_single"]))
    }
}

mod expression {
    use super::*;

    fn test(bencher: Bencher<'_, '_>, source: &str) {
        let xpr = expr::compile(ExpressionLanguage::Jsonata, source, &ExprLimits::default());
        let xpr = xpr.expect("the sample compiles");
        let event = event();
        bencher
            .with_inputs(|| Scope::new(event.clone(), 0, 0))
            .bench_local_refs(|scope| assert!(xpr.test(scope).expect("the filter succeeds")));
    }

    #[divan::bench(sample_size = 256)]
    fn filter_native(bencher: Bencher<'_, '_>) {
        test(bencher, "$event.type = 'bench.start' and $valueNamed('amount') > 100");
    }

    #[divan::bench(sample_size = 256)]
    fn filter_interpreted(bencher: Bencher<'_, '_>) {
        test(bencher, "$event.type = 'bench.start' and $contains($valueNamed('customer'), 'CM')");
    }

    #[divan::bench(sample_size = 256)]
    fn render_template(bencher: Bencher<'_, '_>) {
        let template = json!({
            "title": "$xpr('Order of ' & $valueNamed('customer'))",
            "content": { "values": { "n": "$xpr($valueNamed('n'))", "kind": "order" } }
        });
        let limits = ExprLimits::default();
        let template = Template::compile(&template, ExpressionLanguage::Jsonata, &limits);
        let template = template.expect("the sample compiles");
        let event = event();
        bencher
            .with_inputs(|| Scope::new(event.clone(), 0, 0))
            .bench_local_refs(|scope| template.render(scope).expect("the template renders"));
    }
}

mod index {
    use super::*;

    const PATTERNS: [usize; 3] = [0, 100, 10_000];

    fn library(others: usize) -> Library {
        Library::new((0..others).map(|n| compiled(other(n))), [])
    }

    /// An event that none of so many patterns wants.
    #[divan::bench(args = PATTERNS, sample_size = 4096)]
    fn candidates_none(bencher: Bencher<'_, '_>, others: usize) {
        let library = library(others);
        let event = event();
        bencher.bench_local(|| library.candidates(black_box(&event)).count());
    }

    /// An event that one of so many patterns wants, by a value.
    #[divan::bench(args = &PATTERNS[1..], sample_size = 4096)]
    fn candidates_one(bencher: Bencher<'_, '_>, others: usize) {
        let library = library(others);
        let event = Event::builder("bench.other.8", "erp")
            .values(json!({ "n": 1, "place": { "hall": 2, "device": "d8" } }))
            .build();
        assert_eq!(library.candidates(&event).count(), 1);
        bencher.bench_local(|| library.candidates(black_box(&event)).count());
    }

    /// So many patterns into an empty engine.
    #[divan::bench(args = &PATTERNS[1..], sample_count = 5, sample_size = 1)]
    fn load(bencher: Bencher<'_, '_>, others: usize) {
        let empty = || ready(Engine::builder().build()).expect("an engine in memory");
        bencher
            .with_inputs(|| (empty(), (0..others).map(other).collect::<Vec<_>>()))
            .bench_local_values(|(engine, models)| {
                ready(engine.put_patterns(models)).expect("the patterns run");
                engine
            });
    }

    /// One more pattern beside so many.
    #[divan::bench(args = PATTERNS, sample_count = 20, sample_size = 1)]
    fn load_one_more(bencher: Bencher<'_, '_>, others: usize) {
        let engine = ready(Engine::builder().build()).expect("an engine in memory");
        ready(engine.put_patterns((0..others).map(other).collect())).expect("the patterns run");
        let mut next = others;
        bencher
            .with_inputs(|| {
                next += 1;
                vec![other(next)]
            })
            .bench_local_values(|models| ready(engine.put_patterns(models)).expect("it runs"));
    }
}

mod step {
    use super::*;

    /// The entry of a pattern: one message, and the thred ends.
    #[divan::bench(sample_size = 256)]
    fn start(bencher: Bencher<'_, '_>) {
        let surroundings = Surroundings::new();
        let pattern = compiled(pattern("$terminate"));
        let event = event();
        bencher.bench_local(|| surroundings.start(&pattern, black_box(event.clone())));
    }

    /// A thred that meets a bound event, sends one message and enters its reaction anew.
    #[divan::bench(sample_size = 256)]
    fn react(bencher: Bencher<'_, '_>) {
        let surroundings = Surroundings::new();
        let pattern = compiled(pattern("second"));
        let thred = surroundings.start(&pattern, numbered(0)).state;
        let event = Arc::new(Event { thred_id: Some(thred.id.clone()), ..(*event()).clone() });
        let (world, consumed) = (surroundings.world(), consumed(&event));
        bencher.bench_local(|| {
            let input = Input::Bound(black_box(&event));
            let outcome = thred::react(&pattern, &thred, input, consumed, &world);
            assert!(matches!(outcome, Ok(Outcome::Commit(_))));
            outcome
        });
    }
}

mod memory {
    use super::*;

    /// A thred that starts, sends and ends, stored, and its outbox cleared.
    #[divan::bench(sample_size = 256)]
    fn commit_and_clear(bencher: Bencher<'_, '_>) {
        let surroundings = Surroundings::new();
        let pattern = compiled(pattern("$terminate"));
        let storage = MemoryStorage::default();
        let mut n = 0;
        bencher
            .with_inputs(|| {
                n += 1;
                let commit = surroundings.start(&pattern, numbered(n));
                let published = commit.outbox.iter().map(|entry| entry.id.clone()).collect();
                let thred = commit.state.id.clone();
                ([Arc::new(commit)], [Cleared { thred, published, parked: vec![] }])
            })
            .bench_local_refs(|(commit, cleared)| {
                let answers = ready(storage.commit(commit));
                ready(storage.clear_outbox(cleared)).expect("the outbox is cleared");
                answers
            });
    }

    /// 64 events of one partition, asked for and settled, beside as many receipts as are kept.
    /// Divide by 64.
    #[divan::bench(sample_size = 256)]
    fn receipts_64(bencher: Bencher<'_, '_>) {
        let storage = MemoryStorage::default();
        let mut n = 0_u64;
        let mut batch = move || {
            let partition = (n / 64 % 64) as u16;
            let keys: Vec<_> =
                (n..n + 64).map(|id| EventKey::of("client", &id.to_string())).collect();
            n += 64;
            (partition, keys)
        };
        let settle = |partition, keys: &[EventKey]| {
            let receipts = keys.iter().map(|key| (*key, Receipt::Settled)).collect();
            let settlement = Settlement { receipts, now: NOW, ..Settlement::default() };
            ready(storage.settle(partition, &settlement)).expect("they are written");
        };
        for _ in 0..25_000 {
            let (partition, keys) = batch();
            settle(partition, &keys);
        }
        bencher.with_inputs(batch).bench_local_refs(|(partition, keys)| {
            let known = ready(storage.receipts(*partition, keys)).expect("they are read");
            settle(*partition, keys);
            known
        });
    }

    /// Who waits under an event's key, of a million threds, in all partitions.
    #[divan::bench(sample_size = 16)]
    fn waiting_of_a_million(bencher: Bencher<'_, '_>) {
        let surroundings = Surroundings::new();
        let pattern = compiled(pattern("second"));
        let storage = MemoryStorage::default();
        let key = |number: u64| {
            WaitKey::from_bytes(*EventKey::of("wait", &number.to_string()).as_bytes())
        };
        let start = surroundings.start(&pattern, numbered(0));
        for number in 0..1_000_000 {
            let mut commit = start.clone();
            let state = Arc::make_mut(&mut commit.state);
            state.id = ThredId::from(number.to_string().as_str());
            state.waits = [key(number)].into();
            (commit.outbox, commit.log, commit.event) = (vec![], vec![], None);
            ready(storage.commit(&[Arc::new(commit)]));
        }
        let mut n = 0;
        let next = move || {
            n = (n + 7_919) % 1_000_000;
            [key(n)]
        };
        bencher
            .with_inputs(next)
            .bench_local_refs(|keys| ready(storage.waiting(keys, None, 99)).expect("read").len());
    }

    /// 64 events through the queue: published, received, acknowledged. Divide by 64.
    #[divan::bench(sample_size = 256)]
    fn event_q_64(bencher: Bencher<'_, '_>) {
        let queue = MemoryEventQ::default();
        let events: Vec<_> =
            (0..64).map(|n| Inbound::Event(Accepted::new(numbered(n), NOW))).collect();
        ready(queue.publish(events.clone())).expect("there is room");
        let received = (0..queue.partitions()).find_map(|partition| {
            let received = queue.receive(partition, 64).now_or_never()?;
            Some((partition, received.expect("the queue is open")))
        });
        let (partition, received) = received.expect("one source is one partition");
        let tags: Vec<_> = received.iter().map(|delivery| delivery.tag).collect();
        ready(queue.ack(&tags)).expect("they are out");
        bencher.with_inputs(|| events.clone()).bench_local_values(|events| {
            ready(queue.publish(events)).expect("there is room");
            let received = ready(queue.receive(partition, 64)).expect("the queue is open");
            let tags: Vec<_> = received.iter().map(|delivery| delivery.tag).collect();
            ready(queue.ack(&tags)).expect("they are out");
            received
        });
    }

    /// 64 messages of one topic. Divide by 64.
    #[divan::bench(sample_size = 256)]
    fn message_q_64(bencher: Bencher<'_, '_>) {
        let queue = MemoryMessageQ::default();
        let surroundings = Surroundings::new();
        let pattern = compiled(pattern("$terminate"));
        let routed = |n| {
            let commit = surroundings.start(&pattern, numbered(n));
            commit.outbox.into_iter().find_map(|entry| match entry.outgoing {
                Outgoing::Message { topic, message } => Some(Routed { topic, message }),
                _ => None,
            })
        };
        let messages: Vec<_> = (0..64).filter_map(routed).collect();
        assert_eq!(messages.len(), 64);
        let topics = [messages[0].topic.clone()];
        bencher.with_inputs(|| messages.clone()).bench_local_values(|messages| {
            ready(queue.publish(messages));
            let received = ready(queue.receive(&topics, 64)).expect("the queue is open");
            let tags: Vec<_> = received.iter().map(|delivery| delivery.tag).collect();
            ready(queue.ack(&tags)).expect("they are out");
            received
        });
    }
}
