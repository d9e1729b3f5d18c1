//! Live on Redis: many processes, one deployment.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

use crate::program::{
    FAILING, HELLO, LATE, Program, TALK, answer, event, patterns, srvthreds, text, thred, title,
};

/// A namespace on a server, which nobody else uses.
struct Store {
    url: String,
    namespace: String,
}

impl Store {
    fn new(variable: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let url = std::env::var(variable).unwrap_or_else(|_| {
            panic!(
                r#"{variable} is not set; run: scripts/services up && eval "$(scripts/services env)""#
            )
        });
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("live-{}-{count}-{}", std::process::id(), since.as_nanos());
        Self { url, namespace }
    }

    fn args<'a>(&'a self, first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        let store = ["--redis", &self.url, "--namespace", &self.namespace];
        [first, &store, more].concat()
    }

    /// An engine on it.
    fn live(&self, directory: &Path, more: &[&str]) -> Program {
        let mut program = Program::start(directory, &self.args(&["run"], more));
        program.says("ready: ");
        program
    }

    /// What a command prints about it.
    fn ask(&self, directory: &Path, command: &[&str], more: &[&str]) -> String {
        let output = srvthreds(directory, &self.args(command, more));
        assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

#[test]
fn engines_share_the_work_and_one_may_die() {
    for variable in ["REDIS_URL", "REDIS_CLUSTER_URL"] {
        share_the_work(&Store::new(variable));
    }
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
    let mut received = vec![first.message(), second.message()];
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
    let store = Store::new("REDIS_URL");
    let to_group = HELLO.replace("$xpr($event.source.id)", "@ops");
    let directory = patterns(&[("hello.json", &to_group), ("failing.json", FAILING)]);
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

    fs::write(directory.join("patterns/hello.json"), to_group.replace("Hello, ", "Bye, ")).unwrap();
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
    while !letters(&["list"]).contains("f, fail from erp") {}
    assert_eq!(letters(&["drop", "--all"]), "dropped: 1 event, 0 messages\n");
    second.stop();
    first.stop();
}

#[test]
fn timers_fire_whoever_armed_them() {
    let store = Store::new("REDIS_URL");
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
