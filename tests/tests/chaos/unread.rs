//! A topic that nobody reads, past its capacity and past what may wait for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use thred_tests::{
    chaos::{
        backend::BackendSpec,
        broker::Broker,
        fleet::{Fleet, FleetSpec},
        load::{Load, PATIENCE},
        mongod::Mongod,
        patterns::{ABSENT, gossip, recorder, word_event, word_of},
        scale,
    },
    seed::Dice,
};
use thredcore::port::{DeadLetter, DeadLetterFilter, MessageQ, Routed};
use thredlib::Topic;
use tokio::time::timeout;

use crate::{
    deployment::{DRAINED, Deployment, ENGINES, Threds, all, judged, limit},
    support::{dice, run},
};

/// Messages that a topic takes.
const CAPACITY: usize = 100;

/// Messages that may wait for it beyond that.
const QUOTA: usize = 400;

/// Threds that talk to nobody.
const TALKERS: u32 = 10;

/// How often others are measured beside a full topic, at most: what else the machine does may have
/// hit one of them.
const MEASURED: u32 = 6;

/// What the talkers have said.
struct Talk {
    fleet: Arc<Fleet>,
    words: u32,
}

impl Talk {
    /// Each talker says so many words more.
    async fn go_on(&mut self, count: u32) {
        for number in self.words..self.words + count {
            let words = (0..TALKERS).map(|thred| word_event(thred, number)).collect();
            self.fleet.accept(words).await;
            if number == 0 {
                // What comes before its thred finds nobody.
                self.fleet.drain(DRAINED).await;
            }
        }
        self.words += count;
    }

    fn total(&self) -> usize {
        (self.words * TALKERS) as usize
    }

    async fn waiting(&self) -> u64 {
        let parked = self.fleet.ports().storage.parked_topics().await.unwrap_or_default();
        parked.iter().filter(|it| it.topic == ABSENT).map(|it| it.messages).sum()
    }

    async fn dead(&self) -> Vec<DeadLetter<Routed>> {
        let message_q: &dyn MessageQ = &*self.fleet.ports().message_q;
        message_q.dead_letters(&DeadLetterFilter::all()).await.unwrap_or_default()
    }
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

#[test]
fn a_topic_that_nobody_reads_stops_nobody_else() {
    run(limit(), async {
        let mut dice = dice("unread");
        let deployment = Deployment::new(Threds::Redis, Broker::usual(), Mongod::usual()).await;
        let backend = BackendSpec { messages: CAPACITY, ..deployment.backend() };
        let spec = FleetSpec {
            topic_quota: Some(QUOTA as u64),
            ..all(backend, vec![recorder(), gossip()])
        };
        let fleet = Arc::new(Fleet::start(spec).await);
        let mut talk = Talk { fleet: fleet.clone(), words: 0 };
        // Fewer than a topic takes are under way.
        let load = Load { ahead: CAPACITY / 2, ..Load::new(scale(20, 100), 20) };
        load.run(fleet.clone(), &mut dice).await;
        let load = load.from(load.threds);
        let usual = took(&fleet, load, &mut dice).await;

        talk.go_on(30).await;
        until("messages wait", async || talk.waiting().await > 0).await;
        let mut beside = Duration::MAX;
        for number in 1..=MEASURED {
            let load = load.from(load.first + number * load.threds);
            beside = beside.min(took(&fleet, load, &mut dice).await);
            if beside <= 2 * usual {
                break;
            }
        }
        println!("{usual:?} without a full topic, {beside:?} beside one");
        assert!(beside <= 2 * usual, "a full topic slows others: {beside:?}, usual is {usual:?}");
        assert_eq!(talk.dead().await, [], "as many may wait");
        assert!(talk.waiting().await > 0, "it is still full");

        beyond_the_quota(&mut talk, &mut dice).await;
        let load = load.from(load.first + (MEASURED + 1) * load.threds);
        let killed = async {
            for _ in 0..scale(2, 20) {
                tokio::time::sleep(Duration::from_millis(200 + dice.below(500))).await;
                fleet.kill(dice.pick(ENGINES)).await;
            }
        };
        let mut of_load = Dice::new(load.first.into());
        tokio::join!(load.run(fleet.clone(), &mut of_load), talk.go_on(5), killed);

        let dead = read(&talk).await;
        println!("{} of {} words were dead-lettered", dead.len(), talk.total());
        // Somebody reads: nothing is given up any more.
        talk.go_on(2).await;
        assert_eq!(read(&talk).await.len(), dead.len());
        check(&talk, &dead);
        // What became of them is known.
        dead.into_iter().for_each(|letter| fleet.ledger.receive(letter.payload));
        fleet.drain(DRAINED).await;
        judged(&fleet).await;
        deployment.clear().await;
    });
}

/// How long a load takes.
async fn took(fleet: &Arc<Fleet>, load: Load, dice: &mut Dice) -> Duration {
    let begin = Instant::now();
    load.run(fleet.clone(), dice).await;
    begin.elapsed()
}

/// Says more than may wait, until far more words are given up than any engine alone would; nobody
/// counts all the time, so that a little more waits.
async fn beyond_the_quota(talk: &mut Talk, dice: &mut Dice) {
    let mut dead = 0;
    while dead < 2 * QUOTA {
        talk.go_on(5).await;
        tokio::time::sleep(Duration::from_millis(dice.below(200))).await;
        let waiting = talk.waiting().await;
        dead = talk.dead().await.len();
        assert!(waiting < 2 * QUOTA as u64, "{waiting} wait, where {QUOTA} may; {dead} are dead");
    }
}

/// Reads the topic until each word was read or is dead; gives the dead.
async fn read(talk: &Talk) -> Vec<DeadLetter<Routed>> {
    let message_q: &dyn MessageQ = &*talk.fleet.ports().message_q;
    let mut last = Instant::now();
    let mut dead = talk.dead().await;
    loop {
        match timeout(Duration::from_secs(1), message_q.receive(&[Topic::new(ABSENT)], 16)).await {
            Ok(Ok(batch)) => {
                last = Instant::now();
                let tags: Vec<_> = batch.iter().map(|delivery| delivery.tag).collect();
                for delivery in batch {
                    talk.fleet.ledger.receive(delivery.payload);
                }
                // What cannot be given up comes again.
                let _ = message_q.ack(&tags).await;
            }
            Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(_) => dead = talk.dead().await,
        }
        let read = talk.fleet.ledger.received();
        let dead_messages = dead.iter().map(|letter| &letter.payload);
        let words: BTreeSet<_> = (read.iter().chain(dead_messages))
            .filter_map(|routed| word_of(&routed.message.event))
            .collect();
        if words.len() == talk.total() {
            return dead;
        }
        let missing = talk.total() - words.len();
        assert!(last.elapsed() < PATIENCE, "{missing} words are nowhere");
    }
}

/// Words of each thred came in order, and only such are dead that too many waited before.
fn check(talk: &Talk, dead: &[DeadLetter<Routed>]) {
    assert!(!dead.is_empty());
    for letter in dead {
        assert!(letter.reason.starts_with("TOPIC_FULL"), "{}", letter.reason);
        assert_eq!(letter.payload.topic, ABSENT, "of the full topic alone");
    }
    let mut seen = BTreeSet::new();
    let mut last: BTreeMap<u32, u32> = BTreeMap::new();
    for routed in talk.fleet.ledger.received() {
        let Some((thred, word)) = word_of(&routed.message.event) else { continue };
        // What a dead engine had published comes again, under its id.
        if !seen.insert((thred, word)) {
            continue;
        }
        if let Some(before) = last.insert(thred, word) {
            assert!(before < word, "thred {thred}: word {word} came after {before}");
        }
    }
}
