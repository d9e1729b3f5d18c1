//! Live on servers: many processes, one deployment.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use thredcore::port::FixedDirectory;
use thredcore_mongo::{Mongo, MongoConfig, MongoDirectory, User};

use crate::freezer::Freezer;
use crate::program::{
    FAILING, HELLO, LATE, Program, TALK, answer, event, patterns, srvthreds, text, thred, title,
    until,
};

/// A namespace on servers, which nobody else uses.
pub(crate) struct Store {
    args: Vec<String>,
}

impl Store {
    /// On servers that variables name, each with the argument that takes it.
    fn new(servers: &[(&str, &str)]) -> Self {
        Self::reached(servers, |variable| url(variable))
    }

    /// The same with something in between.
    pub(crate) fn by_way_of(servers: &[(&str, &str)], freezer: &Freezer) -> Self {
        Self::reached(servers, |variable| {
            let url = freezer.before(&url(variable));
            match *variable {
                // Else the driver goes to where the server says that it is.
                "MONGODB_URL" => format!("{url}&directConnection=true"),
                _ => url,
            }
        })
    }

    /// On servers at addresses, each with the argument that takes it.
    pub(crate) fn at(servers: &[(&str, String)]) -> Self {
        Self::reached(servers, String::clone)
    }

    fn reached<U>(servers: &[(&str, U)], url: impl Fn(&U) -> String) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("live-{}-{count}-{}", std::process::id(), since.as_nanos());
        let mut args = vec!["--namespace".to_owned(), namespace];
        for (argument, server) in servers {
            args.extend([format!("--{argument}"), url(server)]);
        }
        Self { args }
    }

    /// Threds on Redis, events and messages over a broker of the test's own.
    pub(crate) fn on_broker(amqp: &str) -> Self {
        Self::at(&[("redis", url("REDIS_URL")), ("amqp", amqp.to_owned())])
    }

    pub(crate) fn redis() -> Self {
        Self::new(&[("redis", "REDIS_URL")])
    }

    /// Events and messages over RabbitMQ, threds on Redis, their past in MongoDB.
    pub(crate) fn full() -> Self {
        Self::new(&[("redis", "REDIS_URL"), ("amqp", "AMQP_URL"), ("mongo", "MONGODB_URL")])
    }

    /// The name that everything on its servers begins with.
    pub(crate) fn namespace(&self) -> &str {
        &self.args[1]
    }

    pub(crate) fn args<'a>(&'a self, first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        let store: Vec<_> = self.args.iter().map(String::as_str).collect();
        [first, &store, more].concat()
    }

    /// An engine on it.
    pub(crate) fn live(&self, directory: &Path, more: &[&str]) -> Program {
        let mut program = Program::start(directory, &self.args(&["run"], more));
        program.says("ready: ");
        program
    }

    /// What a command prints about it.
    pub(crate) fn ask(&self, directory: &Path, command: &[&str], more: &[&str]) -> String {
        let output = srvthreds(directory, &self.args(command, more));
        assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

pub(crate) fn url(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            r#"{variable} is not set; run: scripts/services up && eval "$(scripts/services env)""#
        )
    })
}

#[test]
fn engines_on_redis_share_the_work_and_one_may_die() {
    share_the_work(&Store::redis());
    share_the_work(&Store::new(&[("redis", "REDIS_CLUSTER_URL")]));
}

#[test]
fn engines_on_all_servers_share_the_work_and_one_may_die() {
    share_the_work(&Store::full());
}

#[test]
fn engines_without_redis_share_the_work_and_one_may_die() {
    share_the_work(&Store::new(&[("amqp", "AMQP_URL"), ("mongo", "MONGODB_URL")]));
}

fn share_the_work(store: &Store) {
    const EVENTS: usize = 300;
    let talk = TALK.replace("1500", "3600000");
    let directory = patterns(&[("hello.json", HELLO), ("talk.json", &talk)]);
    let directory = directory.path();
    let mut first = store.live(directory, &["--patterns", "patterns"]);
    // The others have what is in the store.
    let mut second = store.live(directory, &[]);
    let third = store.live(directory, &["--print", "none"]);
    let kind = |number: usize| ["hello", "ask"][number % 2];
    let lines = |range: std::ops::Range<usize>| -> String {
        range.map(|n| event(&format!("e{n}"), kind(n))).collect()
    };
    first.send(&lines(0..EVENTS / 2));
    second.send(&lines(EVENTS / 2..EVENTS));
    // Whichever of the two takes a message prints it.
    let mut received: Vec<Value> = Vec::new();
    while received.len() < 20 {
        for program in [&mut first, &mut second] {
            let line = program.line_within(Duration::from_millis(10));
            received.extend(line.map(|line| serde_json::from_str::<Value>(&line).unwrap()));
        }
    }
    let rest = second.kill();
    received.extend(rest.lines().filter_map(|line| serde_json::from_str(line).ok()));
    // Whoever was not told that its events were accepted sends them again.
    first.send(&lines(EVENTS / 2..EVENTS));
    let ids = |received: &[Value]| -> BTreeSet<String> {
        received.iter().map(|message| message["id"].to_string()).collect()
    };
    while ids(&received).len() < EVENTS {
        received.push(first.message());
    }
    assert_eq!(third.stop(), "");

    let asked = received.iter().find(|message| title(message).starts_with("First ")).unwrap();
    first.send(&answer("answer", &thred(asked)));
    let answered = loop {
        let message = first.message();
        if title(&message).starts_with("Second ") {
            break message;
        }
    };
    assert_eq!(thred(&answered), thred(asked));
    let shown = store.ask(directory, &["threds", "show"], &[&thred(asked)]);
    assert!(shown.contains("MATCH wait -> end"), "{shown}");
    let listed = store.ask(directory, &["threds", "list"], &["--limit", "1000"]);
    assert!(listed.ends_with(&format!("{} threds\n", EVENTS / 2)), "{listed}");
    let replayed = store.ask(directory, &["replay"], &[]);
    assert!(replayed.contains(&format!("{EVENTS} equal, 0 different")), "{replayed}");
    first.stop();
}

#[test]
fn patterns_and_sessions_are_those_of_all() {
    patterns_and_sessions_are_shared(&Store::redis());
    patterns_and_sessions_are_shared(&Store::full());
}

fn patterns_and_sessions_are_shared(store: &Store) {
    // Those who are named have sessions, unless the file lists others.
    let to_all = HELLO.replace("$xpr($event.source.id)", "*");
    let directory = patterns(&[("hello.json", &to_all), ("failing.json", FAILING)]);
    let directory = directory.path();
    let sessions = |text: &str| fs::write(directory.join("sessions.json"), text).unwrap();
    sessions(r#"{ "groups": { "ops": ["ann"] } }"#);
    let files = ["--patterns", "patterns", "--sessions", "sessions.json", "--print", "none"];
    let mut first = store.live(directory, &files);
    let mut second = store.live(directory, &[]);
    let tell = |second: &mut Program, id: &str| {
        second.send(&event(id, "hello"));
        let message = second.message();
        (title(&message), message["to"].clone())
    };
    assert_eq!(tell(&mut second, "1"), ("Hello, erp".to_owned(), serde_json::json!(["ann"])));

    fs::write(directory.join("patterns/hello.json"), to_all.replace("Hello, ", "Bye, ")).unwrap();
    first.says("reload: hello is in use");
    sessions(r#"{ "groups": { "ops": ["bob"] } }"#);
    first.says("reload: the sessions of sessions.json are in use");
    let mut number = 1;
    // The other process is told, soon.
    while tell(&mut second, &format!("more{number}"))
        != ("Bye, erp".to_owned(), serde_json::json!(["bob"]))
    {
        number += 1;
        assert!(number < 1000, "it never hears of it");
    }

    second.send(&event("f", "fail"));
    let letters = |args: &[&str]| {
        text(&srvthreds(directory, &store.args(&["dead-letters", args[0]], &args[1..])).stdout)
    };
    until(|| letters(&["list"]), |answer| answer.contains("f, fail from erp"));
    assert_eq!(letters(&["drop", "--all"]), "dropped: 1 event, 0 messages\n");
    second.stop();
    first.stop();
}

#[test]
fn timers_fire_whoever_armed_them() {
    let store = Store::redis();
    let directory = patterns(&[("late.json", LATE)]);
    let mut first = store.live(directory.path(), &["--patterns", "patterns"]);
    first.send(&event("1", "late"));
    assert_eq!(title(&first.message()), "asked");
    first.kill();
    let mut second = store.live(directory.path(), &[]);
    while title(&second.message()) != "too late" {}
    second.stop();
}

#[test]
fn what_cannot_be_read_is_counted_and_moved_out() {
    let store = Store::redis();
    let directory = patterns(&[("hello.json", HELLO)]);
    let directory = directory.path();
    store.live(directory, &["--patterns", "patterns"]).stop();
    let check = |more: &[&str]| srvthreds(directory, &store.args(&["store", "check"], more));
    assert_eq!(text(&check(&[]).stdout), "redis: format 3\neverything can be read\n");
    // Behind its back.
    let server = url("REDIS_URL");
    let server = server.rsplit_once('@').map_or(&*server, |(_, server)| server);
    let server = server.trim_start_matches("redis://").trim_end_matches('/');
    let mut server = std::net::TcpStream::connect(server).unwrap();
    for id in ["evil", "worse"] {
        write!(server, "HSET {{{}:p0}}:t {id} nonsense\r\n", store.args[1]).unwrap();
        let mut answer = [0; 4];
        server.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b":1\r\n");
    }
    let output = check(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("2 records cannot be read"), "{}", text(&output.stdout));
    // They stop nobody.
    let mut program = store.live(directory, &[]);
    program.send(&event("1", "hello"));
    assert_eq!(title(&program.message()), "Hello, erp");
    program.stop();
    let output = check(&["--repair", "--to", "unreadable.jsonl"]);
    assert!(text(&output.stdout).contains("moved 2 records"), "{}", text(&output.stdout));
    let kept = fs::read_to_string(directory.join("unreadable.jsonl")).unwrap();
    assert_eq!(kept.lines().count(), 2, "{kept}");
    assert_eq!(text(&check(&[]).stdout), "redis: format 3\neverything can be read\n");
}

/// What is stored in MongoDB besides threds: records, users, and threds that have ended.
#[test]
fn mongodb_keeps_records_users_and_the_past() {
    let store = Store::full();
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let directory = patterns(&[]);
    let directory = directory.path();
    for name in ["contact.pattern.json", "uav.pattern.json"] {
        let text = fs::read(format!("{examples}/patterns/{name}")).unwrap();
        fs::write(directory.join("patterns").join(name), text).unwrap();
    }
    let sessions = r#"{ "groups": { "uav-operators": ["ann"] }, "roles": { "admin": ["root"] },
        "services": ["org.wt.persistence"], "sessions": ["ann", "carol", "dave"] }"#;
    fs::write(directory.join("sessions.json"), sessions).unwrap();
    let events = fs::read_to_string(format!("{examples}/uav.events.jsonl")).unwrap();
    let line = |id: &str| {
        let line = events.lines().find(|line| line.contains(&format!(r#""id":"{id}""#)));
        line.unwrap_or_else(|| panic!("no event {id}")).to_owned() + "\n"
    };
    let files = ["--patterns", "patterns", "--sessions", "sessions.json"];
    let mut first = store.live(directory, &files);
    first.send(&line("contact-1"));
    // The task to the agent, which has done it before this program ends.
    assert_eq!(title(&first.message()), "Contact of north");
    let listed = until(
        || store.ask(directory, &["threds", "list"], &["--status", "terminated"]),
        |listed| listed.ends_with("1 thred\n"),
    );
    first.stop();

    // Another process, which keeps nothing of its own, and a user whom MongoDB alone knows.
    let mut second = store.live(directory, &files);
    let (namespace, mongodb) = (&store.args[1], url("MONGODB_URL"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = MongoConfig::new(mongodb).default_database(namespace);
        let mongo = Mongo::connect(config).await.unwrap();
        let users = MongoDirectory::open(&mongo, Arc::new(FixedDirectory::default())).await;
        users.unwrap().put_user(&User::new("dave").group("uav-operators")).await.unwrap();
    });
    let mut number = 0;
    let told = loop {
        number += 1;
        assert!(number < 100, "dave is never told");
        second.send(&line("uav-1").replace("uav-1", &format!("uav-{number}-again")));
        let told = loop {
            let message = second.message();
            if title(&message) == "UAV detected at north" {
                break message;
            }
        };
        // The change has a short way to go.
        if told["to"].as_array().is_some_and(|to| to.contains(&"dave".into())) {
            break told;
        }
    };
    // The contact was stored by the first process.
    let to = told["to"].as_array().unwrap();
    assert!(to.contains(&"carol".into()), "{told}");
    let id = listed.lines().nth(1).unwrap().split_whitespace().next().unwrap();
    let shown = store.ask(directory, &["threds", "show"], &[id]);
    assert!(shown.contains("MATCH confirm"), "{shown}");
    // The same by control events.
    let ask = |id: &str, kind: &str, content: &str| {
        format!(
            r#"{{"id":"{id}","type":"org.wt.control.{kind}","thredId":"SYSTEM","source":{{"id":"root"}},
                "data":{{"content":{content}}}}}"#
        )
        .replace('\n', "")
            + "\n"
    };
    let mut answer = |id: &str, kind: &str, content: &str| {
        second.send(&ask(id, kind, content));
        loop {
            let message = second.message();
            if message["event"]["re"] == id {
                return message["event"]["data"].to_string();
            }
        }
    };
    let ended =
        answer("ended", "sysControl", r#"{"values":{"op":"getThreds","status":"terminated"}}"#);
    assert!(ended.contains(id), "{ended}");
    let records = format!(
        r#"{{"tasks":[{{"op":"get","params":{{"type":"EventRecord","matcher":{{"thredId":"{id}"}}}}}}]}}"#
    );
    let records = answer("records", "dataControl", &records);
    assert!(records.contains("contact-1"), "{records}");
    second.stop();
}

#[test]
fn who_forgets_the_archive_is_told() {
    let store = Store::full();
    let directory = patterns(&[("hello.json", HELLO)]);
    let program = store.live(directory.path(), &["--patterns", "patterns"]);
    let namespace = &store.args[1];
    let redis = url("REDIS_URL");
    let output = srvthreds(
        directory.path(),
        &["run", "--redis", &redis, "--namespace", namespace, "--patterns", "patterns"],
    );
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("archived in MongoDB; add --mongo URL"), "{stderr}");
    program.stop();
}

#[test]
fn partitions_are_the_same_for_all() {
    let store = Store::redis();
    let directory = patterns(&[("hello.json", HELLO)]);
    let files = ["--patterns", "patterns", "--partitions", "3"];
    let mut program = store.live(directory.path(), &files);
    program.send(&event("1", "hello"));
    assert_eq!(title(&program.message()), "Hello, erp");
    let output = srvthreds(directory.path(), &store.args(&["run"], &["--patterns", "patterns"]));
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("has 3 partitions, not 16; ask for 3"), "{stderr}");
    program.stop();
}

#[test]
fn servers_that_do_not_make_a_store_are_told() {
    let directory = patterns(&[("hello.json", HELLO)]);
    let refused = |servers: &[(&str, &str)]| {
        let store = Store::new(servers);
        let output =
            srvthreds(directory.path(), &store.args(&["run", "--patterns", "patterns"], &[]));
        assert_eq!(output.status.code(), Some(2));
        text(&output.stderr)
    };
    let stderr = refused(&[("amqp", "AMQP_URL")]);
    assert!(stderr.contains("add --redis URL or --mongo URL"), "{stderr}");
    let stderr = refused(&[("mongo", "MONGODB_URL")]);
    assert!(stderr.contains("add --amqp URL or --redis URL"), "{stderr}");
}

#[test]
fn a_server_that_is_not_there_or_not_fit_is_told() {
    let directory = patterns(&[("hello.json", HELLO)]);
    let args = ["run", "--redis", "redis://127.0.0.1:1", "--patterns", "patterns"];
    let output = srvthreds(directory.path(), &args);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("error: cannot reach redis at 127.0.0.1:1"), "{stderr}");
    let output = srvthreds(directory.path(), &["threds", "list", "--redis", "nonsense"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn who_only_looks_changes_nothing() {
    let directory = patterns(&[("hello.json", HELLO)]);
    let directory = directory.path();
    let list =
        |store: &Store, more: &[&str]| srvthreds(directory, &store.args(&["threds", "list"], more));
    // A deployment that is not there is not made by looking.
    let store = Store::redis();
    let looked = list(&store, &[]);
    assert_eq!(looked.status.code(), Some(2));
    let stderr = text(&looked.stderr);
    assert!(stderr.contains("nothing is stored in the namespace"), "{stderr}");
    let files = ["--patterns", "patterns", "--partitions", "3"];
    let mut program = store.live(directory, &files);
    program.send(&event("1", "hello"));
    program.message();
    program.stop();
    // An archive is not there because somebody looks with its variable set.
    let mongo = url("MONGODB_URL");
    let looked = list(&store, &["--partitions", "3", "--mongo", &mongo]);
    assert_eq!(text(&looked.stdout), "no threds\n", "{}", text(&looked.stderr));
    store.live(directory, &files).stop();
    // Where there is one, it is looked into, and without it the store is not.
    let store = Store::full();
    let mut program = store.live(directory, &files);
    program.send(&event("1", "hello"));
    program.message();
    program.stop();
    let looked = list(&store, &["--partitions", "3", "--status", "terminated"]);
    assert!(text(&looked.stdout).ends_with("1 thred\n"), "{}", text(&looked.stderr));
    let letters = store.ask(directory, &["dead-letters", "list"], &["--partitions", "3"]);
    assert_eq!(letters, "no dead letters\n");
}

/// Whom a file names no more has no session after a restart, as after a reload.
#[test]
fn what_a_sessions_file_has_no_more_is_gone_after_a_restart() {
    for store in [Store::redis(), Store::full()] {
        let to_all = HELLO.replace("$xpr($event.source.id)", "*");
        let directory = patterns(&[("hello.json", &to_all)]);
        let directory = directory.path();
        let files = ["--patterns", "patterns", "--sessions", "sessions.json"];
        let told = |number: u32, sessions: &str| {
            fs::write(directory.join("sessions.json"), sessions).unwrap();
            let mut program = store.live(directory, &files);
            program.send(&event(&number.to_string(), "hello"));
            let to = program.message()["to"].clone();
            program.stop();
            to
        };
        let both = r#"{ "groups": { "ops": ["bob"] }, "sessions": ["ann", "bob"] }"#;
        assert_eq!(told(1, both), serde_json::json!(["ann", "bob"]));
        assert_eq!(told(2, r#"{ "sessions": ["ann"] }"#), serde_json::json!(["ann"]));
    }
}
