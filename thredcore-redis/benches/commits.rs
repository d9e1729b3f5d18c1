//! What commits cost: `cargo bench -p thredcore-redis` with `REDIS_URL` set.
//!
//! Prints commits a second, the server's processor time for each, and its memory for each thred.

use std::{sync::Arc, time::Instant};

use thredcore::{
    port::{Cleared, Commit, Committed, LogRecord, LogType, OutboxEntry, Outgoing, ThredStore},
    state::{Consumed, PatternKey, Status, ThredState},
};
use thredcore_redis::{Connection, RedisConfig, RedisStorage, Request, Tag};
use thredlib::{Event, EventId, EventKey, Message, ThredId, derive_id};

const THREDS: usize = 20_000;
const BATCH: usize = 64;
const AT_ONCE: usize = 4;

#[tokio::main]
async fn main() {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| {
        panic!(
            r#"REDIS_URL is not set; run: scripts/services up && eval "$(scripts/services env)""#
        )
    });
    for partitions in [4, 16, 64] {
        for steps in [100_000, 0] {
            let namespace = format!("bench-{}-{partitions}-{steps}", std::process::id());
            let config = RedisConfig::new(&url).namespace(namespace).partitions(partitions);
            let storage = RedisStorage::open(config.history_steps(steps)).await.expect("a storage");
            println!("{partitions} partitions, history of {steps}:");
            measure(&storage).await;
        }
    }
}

async fn measure(storage: &RedisStorage) {
    let before = usage(storage.connection()).await;
    let mut states: Vec<_> = (0..THREDS).map(|number| Arc::new(thred(number))).collect();
    for (round, what) in ["start", "move", "move", "end", "once"].into_iter().enumerate() {
        let start = Instant::now();
        let processor = usage(storage.connection()).await.0;
        let mut commits: Vec<_> = states.iter().map(|state| Arc::new(commit(state))).collect();
        let mut running = tokio::task::JoinSet::new();
        while !commits.is_empty() {
            let batch = commits.split_off(commits.len().saturating_sub(BATCH));
            let storage = storage.clone();
            if running.len() == AT_ONCE {
                running.join_next().await.expect("one").expect("a batch");
            }
            running.spawn(async move {
                for answer in storage.commit(&batch).await {
                    assert_eq!(answer.expect("a commit"), Committed::Applied);
                }
                let published = |commit: &Arc<Commit>| Cleared {
                    thred: commit.state.id.clone(),
                    published: commit.outbox.iter().map(|entry| entry.id.clone()).collect(),
                    parked: vec![],
                };
                let published: Vec<_> = batch.iter().map(published).collect();
                storage.clear_outbox(&published).await.expect("cleared");
            });
        }
        while running.join_next().await.is_some() {}
        let spent = start.elapsed().as_secs_f64();
        let (processor, memory) = {
            let after = usage(storage.connection()).await;
            (after.0 - processor, after.1 - before.1)
        };
        println!(
            "  {what:5} {:7.0} commits/s, {:5.1} us of the server each, {:5.0} bytes a thred",
            THREDS as f64 / spent,
            processor / THREDS as f64 * 1e6,
            memory / THREDS as f64,
        );
        let last = round == 2;
        states = match what {
            // Others start and end with one commit.
            "end" => (THREDS..2 * THREDS)
                .map(|number| Arc::new(ThredState { status: Status::Terminated, ..thred(number) }))
                .collect(),
            _ => states.iter().map(|state| Arc::new(next(state, last))).collect(),
        };
    }
}

/// Seconds of processor time, and bytes of memory.
async fn usage(connection: &Connection) -> (f64, f64) {
    let tag = Tag::new("bench", "usage");
    let mut command = redis::cmd("INFO");
    command.arg("cpu").arg("memory");
    let info: String = connection.ask(Request::read(&tag, command)).await.expect("INFO");
    let value = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.trim_start_matches(':').trim().parse::<f64>().expect("a number")
    };
    let seconds = value("used_cpu_user:") + value("used_cpu_sys:");
    (seconds, value("used_memory:"))
}

fn thred(number: usize) -> ThredState {
    let id = ThredId::new(derive_id("bench", &[&number.to_string()]));
    let consumed = consumed(&id, 1);
    let locals = serde_json::json!({ "orderId": number, "customer": "somebody", "total": 12.5 });
    ThredState {
        id,
        pattern: Arc::new(PatternKey { id: "order".into(), revision: 12_345_678_901_234_567 }),
        version: 1,
        status: Status::Active,
        reaction: "awaitPayment".into(),
        waits: Default::default(),
        entry: 1,
        entered_at: 1_700_000_000_000,
        expires_at: Some(1_800_000_000_000),
        started_at: 1_700_000_000_000 + number as i64,
        modified_at: 1_700_000_000_000,
        locals: Arc::new(locals.as_object().cloned().unwrap_or_default()),
        participants: vec!["org.example.shop".into(), "ann".into()],
        errors: 0,
        matched: Default::default(),
        inbox: vec![consumed],
        label: None,
        description: None,
        display: None,
        parent: None,
        children: Default::default(),
    }
}

fn input(id: &ThredId, version: u64) -> EventId {
    EventId::new(derive_id("event", &[id.as_str(), &version.to_string()]))
}

fn consumed(id: &ThredId, version: u64) -> Consumed {
    let key = EventKey::of("org.example.shop", input(id, version).as_str());
    Consumed::new(key, 1_700_000_000_000, 0)
}

fn next(state: &ThredState, last: bool) -> ThredState {
    let version = state.version + 1;
    let mut next = ThredState { version, ..state.clone() };
    next.inbox.push(consumed(&state.id, version));
    if last {
        next.status = Status::Terminated;
    }
    next
}

fn commit(state: &Arc<ThredState>) -> Commit {
    let consumed = *state.inbox.last().expect("an event");
    let input = input(&state.id, state.version);
    let values = serde_json::json!({ "orderId": 7, "customer": "somebody", "total": 12.5 });
    let event = Event::builder("org.example.order", "org.example.shop")
        .id(input.as_str())
        .timestamp(1_700_000_000_000)
        .thred(state.id.clone())
        .values(values)
        .build();
    let event = Arc::new(event);
    let id = derive_id("message", &[input.as_str()]);
    let message = Message {
        id: (&*id).into(),
        event: event.clone(),
        to: vec!["ann".into()],
        timestamp: 1_700_000_000_000,
    };
    let outgoing = Outgoing::Message { topic: "org.wt.session".into(), message: Arc::new(message) };
    let log = LogRecord {
        log_type: LogType::Match,
        event: input.clone(),
        thred_id: Some(state.id.clone()),
        pattern_id: Some("order".into()),
        from: Some("awaitPayment".into()),
        to: Some("awaitPayment".into()),
        timestamp: 1_700_000_000_000,
        detail: None,
    };
    Commit {
        expected: state.version - 1,
        consumed,
        state: state.clone(),
        outbox: vec![OutboxEntry { id: (&*id).into(), at: 1_700_000_000_000, outgoing }],
        log: vec![log],
        event: Some(event),
        command: None,
        facts: None,
    }
}
