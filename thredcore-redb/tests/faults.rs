//! Loss of power, a full disk, a failing one.
//!
//! Each run does a random sequence of operations on a disk of ours and keeps account of what must
//! be there: after each answer that promises durability, all that was done until then. What came
//! later may be there or not. `THRED_CHAOS=long` makes ten times as many runs; a failure prints its
//! seed, and `THRED_SEED` runs that one alone.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc},
    time::Duration,
};

use common::{
    disk::{Disk, Random, Torn},
    samples::{self, TOPIC, inbound, routed, unborn},
};
use thredcore::{
    port::{
        Cleared, Committed, DeadLetterFilter, Death, DeliveryTag, EventQ, LimitStore, MessageQ,
        Outgoing, PortError, PortErrorKind, Receipt, RecordStore, Reservation, Settlement,
        ThredQuery, ThredStore,
    },
    state::{Status, ThredState},
};
use thredcore_redb::{RedbBackends, RedbConfig};
use thredlib::EventKey;

fn seeds(short: u64) -> Vec<u64> {
    if let Ok(seed) = std::env::var("THRED_SEED") {
        return vec![seed.parse().expect("THRED_SEED is a number")];
    }
    let long = std::env::var("THRED_CHAOS").is_ok_and(|chaos| chaos == "long");
    (0..if long { 10 * short } else { short }).collect()
}

/// Runs a check for each seed, each on a runtime of its own.
fn each_seed<F: Future<Output = ()>>(short: u64, check: impl Fn(u64) -> F) {
    for seed in seeds(short) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be built");
        let run = std::panic::AssertUnwindSafe(|| {
            let limit = Duration::from_secs(60);
            let run = runtime.block_on(async { tokio::time::timeout(limit, check(seed)).await });
            assert!(run.is_ok(), "it hangs");
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("with seed {seed}: run it alone with THRED_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn open(disk: &Disk, config: RedbConfig) -> RedbBackends {
    let disk = disk.clone();
    let config = config.on_fatal(|_| {}).backend(move || disk.backend()).partitions(2);
    let config = config.event_partitions(1).cached_threds(4).cache_bytes(1 << 20);
    RedbBackends::open_with("a disk of ours", config).expect("the disk can be opened")
}

/// What is known, as words: each is a fact that is there or not.
type Facts = BTreeSet<String>;

/// What a run has done.
struct Run {
    random: Random,
    backends: RedbBackends,
    /// All that was done.
    now: Facts,
    /// All that must be there, whatever happens.
    sure: Facts,
    threds: BTreeMap<String, ThredState>,
    events: Vec<(String, DeliveryTag)>,
    messages: Vec<(String, DeliveryTag)>,
    /// The names of all receipts that were ever written.
    receipts: Vec<String>,
    made: u64,
}

impl Run {
    fn new(seed: u64, backends: RedbBackends) -> Self {
        Self {
            random: Random(seed),
            backends,
            now: Facts::new(),
            sure: Facts::new(),
            threds: BTreeMap::new(),
            events: vec![],
            messages: vec![],
            receipts: vec![],
            made: 0,
        }
    }

    fn name(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}{}", self.made)
    }

    /// One operation. The facts say what it means, whether it fails or not; an error means that
    /// what the operation waited for may or may not have happened.
    async fn act(&mut self) -> Result<(), PortError> {
        match self.random.below(14) {
            0..=3 => self.commit().await,
            4 | 5 => self.publish_events().await,
            6 => self.receive_event().await,
            7 => self.publish_message().await,
            8 => self.receive_message().await,
            9 => self.clear().await,
            10 => self.bury().await,
            11 => self.park().await,
            12 => self.settle().await,
            _ => self.reserve().await,
        }
    }

    async fn commit(&mut self) -> Result<(), PortError> {
        let mut commits = vec![];
        let count = 1 + self.random.below(4);
        for _ in 0..count {
            let id = format!("thred {}", self.random.below(12));
            if commits.iter().any(|commit: &Arc<thredcore::port::Commit>| commit.state.id == *id) {
                continue;
            }
            let event = samples::event(&self.name("e"), "erp");
            let from = self.threds.get(&id).cloned().unwrap_or_else(|| unborn(&id));
            let large = self.random.below(20) == 0;
            let mut from = from;
            if large {
                from.description = Some("x".repeat(20_000).into());
            }
            let messages = self.random.below(3) as usize;
            commits.push(Arc::new(samples::step(&from, &event, Status::Active, messages)));
        }
        let before = self.now.clone();
        for commit in &commits {
            let id = &commit.state.id;
            self.now.insert(format!("step {id} {}", commit.state.version));
            let entries = commit.outbox.iter();
            self.now.extend(entries.map(|entry| format!("outbox {id} {}", entry.id)));
        }
        let answers = self.backends.storage.commit(&commits).await;
        for (commit, answer) in commits.iter().zip(answers) {
            match answer {
                Ok(answer) => assert_eq!(answer, Committed::Applied),
                Err(error) => {
                    self.refused(&error, before);
                    return Err(error);
                }
            }
            self.threds.insert(commit.state.id.to_string(), (*commit.state).clone());
        }
        self.durable();
        Ok(())
    }

    /// A refusal for want of room means that nothing was done.
    fn refused(&mut self, error: &PortError, before: Facts) {
        if error.kind() == PortErrorKind::Unavailable {
            self.now = before;
        }
    }

    fn durable(&mut self) {
        self.sure = self.now.clone();
    }

    async fn publish_events(&mut self) -> Result<(), PortError> {
        let count = 1 + self.random.below(5);
        let names: Vec<_> = (0..count).map(|_| self.name("event")).collect();
        let before = self.now.clone();
        self.now.extend(names.iter().map(|name| format!("event {name}")));
        let items = names.iter().map(|name| inbound(name, "erp")).collect();
        let published = self.backends.event_q.publish(items).await;
        published.inspect_err(|error| self.refused(error, before))?;
        self.durable();
        Ok(())
    }

    async fn receive_event(&mut self) -> Result<(), PortError> {
        if self.events.len() < 8 && self.now.iter().any(|fact| fact.starts_with("event ")) {
            let received = self.backends.event_q.receive(0, 3);
            // All of them may be out.
            let received = tokio::time::timeout(Duration::from_millis(1), received).await;
            for delivery in received.unwrap_or(Ok(vec![]))? {
                self.events.push((delivery.payload.id().to_string(), delivery.tag));
            }
        }
        if let Some((name, tag)) = self.events.pop() {
            self.now.remove(&format!("event {name}"));
            self.backends.event_q.ack(&[tag]).await?;
        }
        Ok(())
    }

    async fn publish_message(&mut self) -> Result<(), PortError> {
        let names: Vec<_> = (0..1 + self.random.below(3)).map(|_| self.name("m")).collect();
        let messages = names.iter().map(|name| routed(name)).collect();
        let before = self.now.clone();
        self.now.extend(names.iter().map(|name| format!("message {name}")));
        for answer in self.backends.message_q.publish(messages).await {
            answer.inspect_err(|error| self.refused(error, before.clone()))?;
        }
        Ok(())
    }

    async fn receive_message(&mut self) -> Result<(), PortError> {
        let depth = self.backends.message_q.depth(&TOPIC.into()).await?;
        if depth > self.messages.len() {
            for delivery in self.backends.message_q.receive(&[TOPIC.into()], 3).await? {
                self.messages.push((delivery.payload.message.id.to_string(), delivery.tag));
            }
        }
        if let Some((name, tag)) = self.messages.pop() {
            self.now.remove(&format!("message {name}"));
            self.backends.message_q.ack(&[tag]).await?;
        }
        Ok(())
    }

    async fn clear(&mut self) -> Result<(), PortError> {
        let id = format!("thred {}", self.random.below(12));
        let prefix = format!("outbox {id} ");
        let facts = self.now.iter().filter(|fact| fact.starts_with(&prefix)).cloned();
        let mut facts: Vec<_> = facts.collect();
        if self.random.below(2) == 0 {
            facts.truncate(1);
        }
        let published = facts.iter().map(|fact| fact[prefix.len()..].into()).collect();
        facts.iter().for_each(|fact| _ = self.now.remove(fact));
        let cleared = Cleared { thred: id.as_str().into(), published, parked: vec![] };
        self.backends.storage.clear_outbox(&[cleared]).await
    }

    /// Parked or not, an entry is in its outbox.
    async fn park(&mut self) -> Result<(), PortError> {
        let id = format!("thred {}", self.random.below(12));
        let prefix = format!("outbox {id} ");
        let facts = self.now.iter().filter_map(|fact| fact.strip_prefix(&prefix));
        let parked = facts.map(Into::into).collect();
        let cleared = Cleared { thred: id.as_str().into(), published: vec![], parked };
        self.backends.storage.clear_outbox(&[cleared]).await
    }

    async fn settle(&mut self) -> Result<(), PortError> {
        let before = self.now.clone();
        let names: Vec<_> = (0..1 + self.random.below(4)).map(|_| self.name("r")).collect();
        self.now.extend(names.iter().map(|name| format!("receipt {name}")));
        self.receipts.extend(names.iter().cloned());
        let key = |name: &String| (EventKey::of("erp", name), Receipt::Settled);
        let receipts = names.iter().map(key).collect();
        let settlement = Settlement { receipts, now: self.made as i64, ..Settlement::default() };
        let settled = self.backends.storage.settle(1, &settlement).await;
        settled.inspect_err(|error| self.refused(error, before))
    }

    async fn bury(&mut self) -> Result<(), PortError> {
        let Some((name, tag)) = self.events.pop() else { return Ok(()) };
        self.now.remove(&format!("event {name}"));
        self.now.insert(format!("letter {name}"));
        let death = Death { reason: "bad".into(), times: 1, moved: vec![] };
        self.backends.event_q.dead_letter(tag, &death).await.map(drop)
    }

    async fn reserve(&mut self) -> Result<(), PortError> {
        let thred = self.name("t");
        let before = self.now.clone();
        self.now.insert(format!("place {thred}"));
        let place = Reservation {
            pattern: "p".into(),
            thred: thred.as_str().into(),
            max_instances: 0,
            interval: 0,
            now: 1,
        };
        let reserved = self.backends.storage.reserve(&place).await;
        reserved.inspect_err(|error| self.refused(error, before))?;
        self.durable();
        Ok(())
    }

    /// What is there, after an opening.
    async fn found(&mut self) -> Facts {
        let mut found = Facts::new();
        self.threds.clear();
        let storage = &self.backends.storage;
        let page = storage.threds(&ThredQuery::default()).await.expect("threds");
        for state in page.threds {
            let id = state.id.clone();
            let loaded = storage.load(std::slice::from_ref(&id)).await.expect("load");
            let loaded = loaded.into_iter().flatten().next().expect("a listed thred loads");
            assert_eq!(loaded.state, state);
            let entries = loaded.outbox.iter();
            found.extend(entries.map(|entry| format!("outbox {id} {}", entry.id)));
            let entry = |entry: &thredcore::port::OutboxEntry| match &entry.outgoing {
                Outgoing::Message { message, .. } => message.id == entry.id,
                _ => false,
            };
            assert!(loaded.outbox.iter().all(entry), "an outbox is as it was made");
            let history = storage.history(&id, None, 9999).await.expect("history");
            let versions: Vec<_> = history.iter().map(|step| step.version).collect();
            assert_eq!(versions, (1..=state.version).collect::<Vec<_>>(), "steps of {id}");
            found.extend(versions.iter().map(|version| format!("step {id} {version}")));
            let consumed: Vec<_> = history.iter().filter_map(|step| step.consumed).collect();
            assert!(consumed.ends_with(&state.inbox), "inbox and steps of {id}");
            self.threds.insert(id.to_string(), (*state).clone());
        }
        let places = storage.reserved(&"p".into(), None, 9999).await.expect("places");
        found.extend(places.iter().map(|thred| format!("place {thred}")));

        let keys: Vec<_> = self.receipts.iter().map(|name| EventKey::of("erp", name)).collect();
        let receipts = storage.receipts(1, &keys).await.expect("receipts");
        let known = self.receipts.iter().zip(receipts).filter(|(_, receipt)| receipt.is_some());
        found.extend(known.map(|(name, _)| format!("receipt {name}")));

        (self.events, self.messages) = (vec![], vec![]);
        let events = &self.backends.event_q;
        while events.depth().await.expect("depth") > self.events.len() {
            for delivery in events.receive(0, 99).await.expect("events") {
                found.insert(format!("event {}", delivery.payload.id()));
                self.events.push((delivery.payload.id().to_string(), delivery.tag));
            }
        }
        let letters = events.dead_letters(&DeadLetterFilter::all()).await.expect("letters");
        found.extend(letters.iter().map(|letter| format!("letter {}", letter.payload.id())));
        let messages = &self.backends.message_q;
        while messages.depth(&TOPIC.into()).await.expect("depth") > self.messages.len() {
            for delivery in messages.receive(&[TOPIC.into()], 99).await.expect("messages") {
                found.insert(format!("message {}", delivery.payload.message.id));
                let id = delivery.payload.message.id.to_string();
                self.messages.push((id, delivery.tag));
            }
        }
        found
    }

    /// Compares what is there with what may be.
    async fn check(&mut self) {
        let found = self.found().await;
        let must: Facts = self.sure.intersection(&self.now).cloned().collect();
        let may: Facts = self.sure.union(&self.now).cloned().collect();
        let lost: Vec<_> = must.difference(&found).take(20).collect();
        let risen: Vec<_> = found.difference(&may).take(20).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        assert!(risen.is_empty(), "there again: {risen:?}");
        self.now = found.clone();
        self.sure = found;
    }
}

/// Every answer holds after a loss of power at any moment, whatever the disk has kept of what was
/// not synced.
#[test]
fn what_was_answered_survives_a_loss_of_power() {
    each_seed(100, |seed| async move {
        let disk = Disk::default();
        let mut run = Run::new(seed, open(&disk, RedbConfig::default()));
        for _ in 0..3 {
            let changes = run.random.below(300);
            disk.die_in(changes);
            while run.act().await.is_ok() {}
            let torn = [Torn::Lost, Torn::Some, Torn::Sectors][run.random.below(3) as usize];
            let mut random = Random(run.random.next());
            disk.power_cycle(torn, &mut random);
            run.backends = open(&disk, RedbConfig::default());
            run.check().await;
        }
    });
}

/// A full disk refuses, loses nothing, and everything works again when there is room.
#[test]
fn a_full_disk_refuses_and_recovers() {
    each_seed(40, |seed| async move {
        let disk = Disk::default();
        let mut run = Run::new(seed, open(&disk, RedbConfig::default()));
        let mut refused = 0;
        for _ in 0..3 {
            for _ in 0..run.random.below(20) {
                run.act().await.expect("there is room");
            }
            let room = run.random.below(200_000);
            disk.set_room(Some(room));
            let mut failures = 0;
            for _ in 0..400 {
                if let Err(error) = run.act().await {
                    assert_eq!(error.kind(), PortErrorKind::Unavailable, "{error:?}");
                    failures += 1;
                    if failures == 5 {
                        break;
                    }
                }
            }
            refused += failures;
            disk.set_room(None);
            loop {
                match run.reserve().await {
                    Ok(()) => break,
                    Err(error) => {
                        assert_eq!(error.kind(), PortErrorKind::Unavailable);
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        }
        assert!(refused > 0, "the disk was never full");
        // Deferred operations that found no room were written before the last answer.
        disk.power_cycle(Torn::Lost, &mut Random(seed));
        run.backends = open(&disk, RedbConfig::default());
        assert_eq!(run.sure, run.now);
        run.check().await;
    });
}

/// After a failed sync nothing is acknowledged any more, and the process is told to end.
#[test]
fn a_failed_sync_ends_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(async {
        let disk = Disk::default();
        let (told, tells) = mpsc::channel();
        let config = RedbConfig::default().backend({
            let disk = disk.clone();
            move || disk.backend()
        });
        let config = config.on_fatal(move |why| _ = told.send(why.to_owned()));
        let backends = RedbBackends::open_with("a disk of ours", config).expect("it opens");
        backends.event_q.publish(vec![inbound("1", "erp")]).await.expect("all is well");
        disk.fail_syncs();
        let failed = backends.event_q.publish(vec![inbound("2", "erp")]).await;
        assert_eq!(failed.expect_err("not durable").kind(), PortErrorKind::Closed);
        assert_eq!(tells.recv().expect("told"), "cannot sync the database: the cable is loose");

        let event = samples::event("3", "erp");
        let commit = Arc::new(samples::step(&unborn("a"), &event, Status::Active, 0));
        let answer = backends.storage.commit(&[commit]).await.remove(0);
        assert_eq!(answer.expect_err("closed").kind(), PortErrorKind::Closed);
        let answer = backends.message_q.publish(vec![routed("4")]).await.remove(0);
        assert_eq!(answer.expect_err("closed").kind(), PortErrorKind::Closed);
        let received = backends.event_q.receive(0, 1).await;
        assert_eq!(received.expect_err("closed").kind(), PortErrorKind::Closed);
    });
}
