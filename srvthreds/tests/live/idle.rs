//! What a program that has nothing to do costs, by the counters of servers of its own, and whether its
//! timers are punctual all the same.

use std::{
    fs,
    time::{Duration, Instant},
};

use mongodb::bson::doc;
use thred_tests::chaos::{broker::Broker, mongod::Mongod, redis_server::RedisServer, scale};

use crate::{
    program::{Program, event, patterns, title},
    servers::Store,
};

/// Most requests a second to any server.
const REQUESTS: f64 = 10.0;

/// Most of a core, in percent; a debug build takes more than a release build, for which it is meant.
const CORE: f64 = 0.5;

/// How late a timer may be on a machine with other things to do.
const LATE: Duration = Duration::from_secs(2);

const SOON: Duration = Duration::from_millis(1_200);
const LATER: Duration = Duration::from_secs(7);

/// Says that a time is up, so many milliseconds after an event of a type.
fn timed(kind: &str, after: Duration) -> String {
    let say = |title: &str| {
        format!(
            r#""transform": {{ "eventDataTemplate": {{ "title": "{title}" }} }}, "publish": {{ "to": "ann" }}"#
        )
    };
    let (armed, fired) = (say(&format!("{kind} armed")), say(&format!("{kind} fired")));
    let interval = after.as_millis();
    format!(
        r#"{{ "name": "{kind}", "reactions": [
          {{ "name": "arm", "condition": {{ "type": "filter", "xpr": "$event.type = '{kind}'",
            "onTrue": {{ "setLocal": {{ "it": "$xpr($event)" }} }}, {armed} }} }},
          {{ "name": "wait", "condition": {{ "type": "filter", "xpr": "false" }},
            "expiry": {{ "interval": {interval},
              "transition": {{ "name": "fire", "input": "local", "localName": "it" }} }} }},
          {{ "name": "fire", "condition": {{ "type": "filter", "xpr": "true", {fired} }} }}
        ] }}"#
    )
}

/// The servers of a deployment.
#[derive(Default)]
struct Servers {
    redis: Option<RedisServer>,
    broker: Option<Broker>,
    mongod: Option<Mongod>,
}

impl Servers {
    fn store(&self) -> Store {
        let redis = self.redis.iter().map(|redis| ("redis", redis.url()));
        let broker = self.broker.iter().map(|broker| ("amqp", broker.url().to_owned()));
        let mongod = self.mongod.iter().map(|mongod| ("mongo", mongod.url().to_owned()));
        Store::at(&redis.chain(broker).chain(mongod).collect::<Vec<_>>())
    }

    /// How often each server was asked until now, as it says itself.
    async fn asked(&self) -> Vec<(&'static str, u64)> {
        let mut asked = Vec::new();
        if let Some(redis) = &self.redis {
            asked.push(("redis", redis.info("total_reads_processed").await));
            asked.push(("redis, commands, also within scripts", commands(redis).await));
        }
        if let Some(broker) = &self.broker {
            let packets = broker.control(&["--silent", "list_connections", "recv_cnt"]).await;
            let packets = packets.lines().filter_map(|line| line.trim().parse::<u64>().ok());
            asked.push(("rabbitmq", packets.sum()));
        }
        if let Some(mongod) = &self.mongod {
            let status = mongod.ask(doc! { "serverStatus": 1 }).await.expect("a status");
            let network = status.get_document("network").expect("network");
            let requests = network.get_i64("numRequests").expect("a count");
            asked.push(("mongodb", u64::try_from(requests).unwrap_or(0)));
        }
        asked
    }
}

async fn commands(redis: &RedisServer) -> u64 {
    redis.info("total_commands_processed").await
}

/// Processor time of a process until now, seconds.
fn cpu(pid: u32) -> f64 {
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a Linux system");
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<_> = rest.split_whitespace().collect();
    let ticks = |place: usize| fields[place].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / TICKS
}

/// Waits until one of the programs prints a message; gives when it came.
fn comes(programs: &mut [&mut Program], wanted: &str) -> Instant {
    let begin = Instant::now();
    loop {
        for program in &mut *programs {
            if let Some(line) = program.line_within(Duration::from_millis(5))
                && title(&serde_json::from_str(&line).expect("a message")) == wanted
            {
                return Instant::now();
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "`{wanted}` does not come");
    }
}

#[track_caller]
fn is_punctual(what: &str, armed: Instant, fired: Instant, after: Duration) {
    // The message that it was armed took a moment.
    let took = fired - armed;
    println!("{what}: fired after {took:?} of {after:?}");
    assert!(took + Duration::from_millis(500) > after, "{what} is early: {took:?}");
    assert!(took < after + LATE, "{what} is late: {took:?}");
}

fn costs_little_and_is_punctual(start: impl AsyncFnOnce() -> Servers) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let servers = runtime.block_on(start());
    let store = servers.store();
    let (soon, later) = (timed("soon", SOON), timed("later", LATER));
    let directory = patterns(&[("soon.json", &soon), ("later.json", &later)]);
    let directory = directory.path();
    let mut idle = store.live(directory, &["--patterns", "patterns"]);
    // It has had something to do.
    idle.send(&event("first", "soon"));
    comes(&mut [&mut idle], "soon fired");
    // What was done is looked after for some seconds.
    std::thread::sleep(Duration::from_secs(6));
    let (begin, before, used) =
        (Instant::now(), runtime.block_on(servers.asked()), cpu(idle.pid()));
    std::thread::sleep(scale(Duration::from_secs(10), Duration::from_secs(60)));
    let (after, used) = (runtime.block_on(servers.asked()), cpu(idle.pid()) - used);
    let seconds = begin.elapsed().as_secs_f64();
    let mut wrong = Vec::new();
    for ((server, before), (_, after)) in before.into_iter().zip(after) {
        // The test's own are among them.
        let rate = (after - before) as f64 / seconds;
        println!("{server}: {rate:.1} a second");
        if rate > REQUESTS && !server.contains("commands") {
            wrong.push(format!("{server} is asked {rate:.1} times a second"));
        }
    }
    let core = 100.0 * used / seconds;
    println!("{core:.2} % of a core");
    if core > CORE {
        wrong.push(format!("{core:.2} % of a core are used"));
    }
    assert!(wrong.is_empty(), "an idle program costs too much: {}", wrong.join(", "));

    // Another process arms timers, is there when the first one fires, and gone when the second does.
    let mut other = store.live(directory, &[]);
    other.send(&event("soon", "soon"));
    let armed = comes(&mut [&mut idle, &mut other], "soon armed");
    let fired = comes(&mut [&mut idle, &mut other], "soon fired");
    is_punctual("a timer of another process", armed, fired, SOON);
    other.send(&event("later", "later"));
    let armed = comes(&mut [&mut idle, &mut other], "later armed");
    other.signal("TERM");
    let (status, _, stderr) = other.ended();
    assert_eq!(status.code(), Some(0), "{stderr}");
    let fired = comes(&mut [&mut idle], "later fired");
    is_punctual("a timer of a process that has ended", armed, fired, LATER);
    idle.stop();
}

#[test]
fn an_idle_program_on_redis_costs_little_and_is_punctual() {
    costs_little_and_is_punctual(async || Servers {
        redis: Some(RedisServer::start().await),
        ..Servers::default()
    });
}

#[test]
fn an_idle_program_on_redis_and_rabbitmq_costs_little_and_is_punctual() {
    costs_little_and_is_punctual(async || Servers {
        redis: Some(RedisServer::start().await),
        broker: Some(Broker::start().await),
        ..Servers::default()
    });
}

#[test]
fn an_idle_program_on_mongodb_and_rabbitmq_costs_little_and_is_punctual() {
    costs_little_and_is_punctual(async || Servers {
        broker: Some(Broker::start().await),
        mongod: Some(Mongod::start().await),
        ..Servers::default()
    });
}

#[test]
fn an_idle_program_on_all_servers_costs_little_and_is_punctual() {
    costs_little_and_is_punctual(async || Servers {
        redis: Some(RedisServer::start().await),
        broker: Some(Broker::start().await),
        mongod: Some(Mongod::start().await),
    });
}
