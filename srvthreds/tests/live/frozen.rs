//! Servers that do not answer any more while a run ends.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    freezer::Freezer,
    program::{HELLO, event, patterns, title},
    servers::Store,
};

/// What is promised of a signal.
const PROMISED: Duration = Duration::from_secs(10);

/// The deployments, each by way of a freezer.
fn deployments() -> Vec<(Store, Freezer)> {
    let all = [
        &[("redis", "REDIS_URL")][..],
        &[("redis", "REDIS_URL"), ("amqp", "AMQP_URL")],
        &[("redis", "REDIS_URL"), ("amqp", "AMQP_URL"), ("mongo", "MONGODB_URL")],
        &[("amqp", "AMQP_URL"), ("mongo", "MONGODB_URL")],
    ];
    let behind = |servers: &&[(&str, &str)]| {
        let freezer = Freezer::default();
        (Store::by_way_of(servers, &freezer), freezer)
    };
    all.iter().map(behind).collect()
}

fn summary(stderr: &str) -> Value {
    let last = stderr.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("no summary:\n{stderr}"))
}

#[test]
fn a_signal_ends_it_in_time_though_the_servers_are_frozen() {
    for (store, freezer) in deployments() {
        let directory = patterns(&[("hello.json", HELLO)]);
        let mut program = store.live(directory.path(), &["--patterns", "patterns", "--json"]);
        program.send(&event("1", "hello"));
        assert_eq!(title(&program.message()), "Hello, erp");
        freezer.freeze();
        program.send(&event("2", "hello"));
        let since = Instant::now();
        program.signal("TERM");
        let (status, _, stderr) = program.ended();
        let took = since.elapsed();
        freezer.thaw();
        assert!(took < PROMISED, "{took:?}: {stderr}");
        assert_eq!(status.code(), Some(1), "{stderr}");
        let summary = summary(&stderr);
        assert_eq!(summary["deadLetters"], "unknown", "{stderr}");
        assert_eq!(summary["left"], "unknown", "{stderr}");
        assert_eq!(summary["written"], true, "its reader has read all: {stderr}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once_though_the_servers_are_frozen() {
    for (store, freezer) in deployments() {
        let directory = patterns(&[("hello.json", HELLO)]);
        let mut program = store.live(directory.path(), &["--patterns", "patterns"]);
        program.send(&event("1", "hello"));
        assert_eq!(title(&program.message()), "Hello, erp");
        freezer.freeze();
        program.send(&event("2", "hello"));
        program.signal("TERM");
        program.signal("INT");
        let since = Instant::now();
        let (_, _, stderr) = program.ended();
        let took = since.elapsed();
        freezer.thaw();
        assert!(took < Duration::from_secs(3), "{took:?}: {stderr}");
        assert!(stderr.contains("unknown: the store did not say"), "{stderr}");
        assert!(!stderr.contains("output    broken off"), "its reader has read all: {stderr}");
    }
}

#[test]
fn a_script_whose_server_went_away_has_failed() {
    for vanish in [false, true] {
        let freezer = Freezer::default();
        let store = Store::by_way_of(&[("redis", "REDIS_URL")], &freezer);
        let directory = patterns(&[("hello.json", HELLO)]);
        let args = ["--patterns", "patterns", "--json", "--until-idle"];
        let mut program = store.live(directory.path(), &args);
        program.send(&event("1", "hello"));
        assert_eq!(title(&program.message()), "Hello, erp");
        freezer.freeze();
        if vanish {
            freezer.vanish();
            freezer.thaw();
        }
        // The input ends.
        let (status, _, stderr) = program.ended();
        freezer.thaw();
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("error: the store has not answered for 15 s"), "{stderr}");
        let summary = summary(&stderr);
        assert_eq!(summary["drained"], false, "{stderr}");
        assert_eq!(summary["events"]["accepted"], 1, "{stderr}");
    }
}

#[test]
fn what_may_have_been_accepted_is_told() {
    let freezer = Freezer::default();
    let store = Store::by_way_of(&[("redis", "REDIS_URL")], &freezer);
    let directory = patterns(&[("hello.json", HELLO)]);
    let mut program = store.live(directory.path(), &["--patterns", "patterns", "--json"]);
    program.send(&event("1", "hello"));
    assert_eq!(title(&program.message()), "Hello, erp");
    program.send("no event\n");
    program.says("not an event");
    freezer.freeze();
    program.send(&(event("2", "hello") + &event("3", "hello")));
    // After the time limit of a call.
    program.says("trying again");
    program.signal("TERM");
    let (_, _, stderr) = program.ended();
    freezer.thaw();
    let events = &summary(&stderr)["events"];
    let (accepted, unknown) = (&events["accepted"], events["unknown"].as_u64().unwrap());
    assert_eq!((accepted, &events["rejected"]), (&json!(1), &json!(1)), "{stderr}");
    assert!((1..=2).contains(&unknown), "{stderr}");
    assert_eq!(events["lastLine"], 1, "the last line that was accepted: {stderr}");
}

#[test]
fn an_orderly_end_warns_of_nothing() {
    for (store, _freezer) in deployments() {
        let directory = patterns(&[("hello.json", HELLO)]);
        let mut program = store.live(directory.path(), &["--patterns", "patterns"]);
        program.send(&event("1", "hello"));
        assert_eq!(title(&program.message()), "Hello, erp");
        program.signal("TERM");
        let (status, _, stderr) = program.ended();
        assert_eq!(status.code(), Some(0), "{stderr}");
        let noise = stderr.lines().find(|line| line.contains("WARN") || line.contains("ERROR"));
        assert_eq!(noise, None, "{stderr}");
    }
}
